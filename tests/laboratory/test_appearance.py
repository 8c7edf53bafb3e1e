"""How fields look, and how far a stated change of the colours is found and undone."""

import json
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.imaging.appearance import MEASURES, appearance_of
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.normalisation import Normalisation, zoomed
from mseenet.laboratory.color import describe, estimate, read_training_fields
from tools.simulated_site import Site, smaller

MILD = Site(
    stains=((0.72, 0.62, 0.31), (0.14, 0.94, 0.31)),
    amounts=(1.25, 0.85, 1.0),
    camera=((0.90, 0.07, -0.01), (0.04, 0.92, 0.02), (0.02, 0.10, 0.80)),
    gamma=0.88,
    vignetting=0.18,
    quality=80,
)
"""Milder than the simulated site itself, in which no nuclei were found in rendered fields."""


@pytest.fixture(scope="module")
def home():
    """Rendered fields as if each style were a class, and their labels."""
    labels = np.repeat(np.arange(len(CLASS_NAMES)), 4)
    images = [render_field(STYLES[label], 10 * label + i) for i, label in enumerate(labels)]
    return images, labels


@pytest.fixture(scope="module")
def training(home):
    return describe(*home, "0" * 64)[0]


def test_measures_move_the_way_the_field_does(fields):
    rgb = fields[2]
    before = appearance_of(rgb).measures
    assert set(before) == set(MEASURES)
    assert all(np.isfinite(value) for value in before.values())
    darker = appearance_of((rgb * 0.8).astype(np.uint8)).measures
    assert darker["light"] < 0.85 * before["light"]
    assert darker["stain"] == pytest.approx(before["stain"], abs=0.05)  # the lamp cancels out
    warm = (rgb * np.array([1, 1, 0.8])).astype(np.uint8)
    assert appearance_of(warm).measures["tint"] == pytest.approx(
        before["tint"] + np.log2(1.25), abs=0.05
    )
    assert appearance_of(smaller(rgb, 0.8)).measures["size"] < 0.9 * before["size"]
    blurred = np.asarray(Image.fromarray(rgb).resize((80, 80)).resize((224, 224)))
    assert appearance_of(blurred).measures["sharpness"] < before["sharpness"]


def test_a_field_without_cells_has_no_stain():
    plain = np.full((224, 224, 3), 240, np.uint8)
    look = appearance_of(plain)
    assert look.nuclei is None
    assert np.isnan([look.measures[name] for name in ("stain", "hue", "size")]).all()


def test_the_shipped_training_fields_are_those_of_the_shipped_weights():
    from mseenet.inference.card import DEFAULT_WEIGHTS, read_card

    shipped = read_training_fields()
    card = read_card(DEFAULT_WEIGHTS)
    assert shipped.weights == card.sha256
    assert shipped.n == -(-card.content["split"]["n"]["train"] // 5)
    for quantiles in shipped.quantiles.values():
        assert (np.diff(quantiles) >= 0).all()


def test_training_fields_survive_their_file_and_damage_is_told(training, tmp_path):
    path = tmp_path / "training.json"
    path.write_text(training.to_json())
    again = read_training_fields(path)
    assert again.light == pytest.approx(training.light, abs=1e-6)
    assert again.nuclei.covariance == pytest.approx(training.nuclei.covariance, abs=1e-7)
    content = json.loads(training.to_json())
    for damage in ({"light": [1, 2]}, {"quantiles": {}}, {"colours": None}):
        path.write_text(json.dumps(content | damage))
        with pytest.raises(UsageError, match=r"training\.json: expected"):
            read_training_fields(path)
    with pytest.raises(UsageError, match="expected what training fields look like"):
        read_training_fields(tmp_path / "none.json")


def test_a_simulated_laboratorys_colours_are_undone(home, training):
    images, labels = home
    taken = [np.asarray(Image.open(BytesIO(MILD.file(rgb)))) for rgb in images]
    found = estimate(taken, labels, training)

    def gap(pictures) -> float:
        looks = [appearance_of(rgb) for rgb in pictures]
        means = [np.mean([look.rest.mean for look in looks], axis=0)]
        means.append(np.mean([look.nuclei.mean for look in looks if look.nuclei], axis=0))
        known = (training.rest.mean, training.nuclei.mean)
        return float(np.abs(np.stack(means) - np.stack(known)).max())

    assert gap(taken) > 3 * gap([found.apply(rgb) for rgb in taken])


def test_fields_like_those_of_training_are_left_nearly_as_they_are(home, training):
    images, labels = home
    found = estimate(images, labels, training)
    differences = [found.recolored(rgb).astype(int) - rgb for rgb in images]
    assert np.abs(differences).mean() < 3


def test_maps_come_back_to_where_the_field_was(fields):
    identity = (np.zeros((5, 3), np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    spot = np.zeros((224, 224), np.float32)
    spot[60:80, 130:150] = 1
    for zoom in (0.8, 1.0, 1.25):
        change = Normalisation(*identity, zoom)
        seen = np.asarray(change.apply(np.repeat(spot[..., None] * 255, 3, 2).astype(np.uint8)))
        back = change.back(seen[..., 0].astype(np.float32) / 255)
        place = np.argwhere(back > 0.5).mean(axis=0)
        assert place == pytest.approx([69.5, 139.5], abs=1.5)
        assert (change.back(seen[..., 0] > 127) == (back > 0.5)).mean() > 0.99
    assert zoomed(fields[0], 1.0) is fields[0]


def test_a_change_that_is_none_is_refused():
    arrays = (np.zeros((5, 3)), np.eye(3), np.zeros(3))
    for bad in (
        (arrays[0], arrays[1] * np.nan, arrays[2], 1.0),
        (arrays[0][:4], arrays[1], arrays[2], 1.0),
        (*arrays, 3.0),
        (arrays[0] + 1e6, arrays[1], arrays[2], 1.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            Normalisation(*bad)


def test_more_fields_take_hardly_more_memory(home, training):
    images, labels = home

    def peak(times: int) -> int:
        tracemalloc.start()
        estimate(images * times, np.tile(labels, times), training)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(3) - peak(1) < 2 * len(images) * 60_000  # the pixels alone are 150,528 bytes each
