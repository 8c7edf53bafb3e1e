"""A laboratory's change of colours and size, fitted to what the network sees."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_adapt import laboratory

from mseenet.inference.classifier import Observed
from mseenet.inference.normalisation import Normalisation
from mseenet.inference.novelty import Novelty
from mseenet.laboratory import alignment
from mseenet.laboratory.adapt import adapt, answers_with
from mseenet.laboratory.alignment import aligned, takes
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import Images, find_fields, read_fields
from mseenet.training.dataset import index_dataset
from mseenet.training.series import find_captures, part_names, read_captures
from tools.simulated_site import Site

SLIDES = (
    ("Benign", "Snap_NNN"),
    ("Benign", "Snap_NNN (2)"),
    ("Early Pre-B", "Sap_148 (k)"),
    ("Early Pre-B", "Snap_NNN"),
    ("Pre-B", "Snap_NNN", 2),
    ("Pre-B", "Snap_NNN", 3),
    ("Pro-B", "Snap_NNN", 1),
    ("Pro-B", "Snap_NNN", 3),
)


class Colours:
    """A network whose features are the mean colour, and the brightness away from the middle."""

    def __init__(self, means: np.ndarray):
        reference = Novelty(means.astype(np.float32), np.eye(4, dtype=np.float32) * 4)
        self.card = SimpleNamespace(novelty=SimpleNamespace(reference=reference))

    def features(self, pixels: np.ndarray) -> np.ndarray:
        density = pixels / 25.5
        border = density[:, :40].mean(axis=(1, 2, 3)) - density.mean(axis=(1, 2, 3))
        return np.column_stack([density.mean(axis=(1, 2)), 4 * border]).astype(np.float32)

    def observe(self, pixels: np.ndarray) -> Observed:
        frozen = self.features(pixels)
        return Observed(frozen, frozen, np.zeros((len(frozen), 4), np.float32), None)


def spot(grey: tuple[int, int, int]) -> np.ndarray:
    """A dark disc of a third of the field's width on a plain colour."""
    place = np.hypot(*np.mgrid[-112:112, -112:112])
    return np.where((place < 40)[..., None], 60, grey).astype(np.uint8)


def test_colours_and_size_are_brought_to_those_of_training():
    home = [spot((200 + 8 * k, 190 - 8 * k, 210)) for k in range(4)]
    labels = np.repeat(np.arange(4), 3)
    network = Colours(np.zeros((4, 4)))
    network = Colours(4 * network.features(np.stack(home)))
    seen = []
    site = Normalisation(
        np.zeros((5, 3), np.float32),
        np.diag([1.3, 0.8, 1.1]).astype(np.float32),
        np.array([0.05, 0.02, -0.03], np.float32),
        0.9,
    )
    taken = Images([site.apply(home[label]) for label in labels], lambda: seen.append(1))
    fields = laboratory(labels, [f"{i % 6}" for i in range(12)], taken)
    start = Normalisation(
        site.light, np.eye(3, dtype=np.float32), np.zeros(3, np.float32), site.zoom
    )
    found = aligned(network, start, fields)
    assert len(seen) == takes(12)

    def away(change: Normalisation) -> float:
        after = network.features(np.stack([change.apply(rgb) for rgb in taken]))
        return float(np.abs(4 * after - network.card.novelty.reference.means[labels]).mean())

    assert away(found) < 0.25 * away(start)


def test_slides_take_turns_where_there_are_many_fields(monkeypatch):
    monkeypatch.setattr(alignment, "MOST", 4)
    images = [spot((150 + i, 180, 200)) for i in range(9)]
    asked = []

    class Watched(Colours):
        def observe(self, pixels):
            asked.append(pixels)
            return super().observe(pixels)

    labels, slides = [0] * 9, ["long"] * 7 + ["short"] * 2
    identity = Normalisation(
        np.zeros((5, 3), np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0
    )
    aligned(Watched(np.zeros((4, 4))), identity, laboratory(labels, slides, Images(images)))
    unchanged = asked[alignment.SIZES.index(1.0)]
    assert unchanged[:, 0, 0, 0].tolist() == pytest.approx([150, 151, 157, 158], abs=1)


@pytest.mark.slow
@pytest.mark.skipif("MSEENET_DATA" not in os.environ, reason="needs the dataset")
def test_a_profile_brings_a_simulated_site_back_and_shuffled_labels_do_not(
    gated_classifier, tmp_path, monkeypatch
):
    # Two fields a slide, of which few are fitted to once: it is to take half a minute.
    monkeypatch.setattr(alignment, "MOST", 4)
    monkeypatch.setattr(alignment, "ROUNDS", 1)
    samples = index_dataset(Path(os.environ["MSEENET_DATA"], "Original")).samples
    names = part_names(
        [sample.label for sample in samples], find_captures(samples, read_captures())
    )
    for slide in SLIDES:
        folder = tmp_path / slide[0] / " ".join(map(str, slide[1:]))
        folder.mkdir(parents=True)
        mine = [sample for sample, name in zip(samples, names, strict=True) if name == slide]
        for sample in (mine[len(mine) // 3], mine[2 * len(mine) // 3]):
            rgb = np.asarray(Image.open(BytesIO(sample.path.read_bytes())).convert("RGB"))
            (folder / f"{sample.path.stem}.jpg").write_bytes(Site().file(rgb))
    fields = read_fields(*find_fields(tmp_path))
    training, now = read_training_fields(), datetime(2026, 11, 27, tzinfo=UTC)
    before = answers_with(gated_classifier, None, fields.images, fields.sizes)
    found = adapt(gated_classifier, fields, training, "site", now)
    assert found.profile is not None
    after = answers_with(gated_classifier, found.profile, fields.images, fields.sizes)
    assert before.named.sum() < 10
    assert after.named.sum() >= 14
    assert (after.predicted == fields.labels).mean() > 0.8

    mixed = np.random.default_rng(0).permutation(fields.labels)
    refused = adapt(gated_classifier, replace(fields, labels=mixed), training, "site", now)
    assert refused.profile is None
    assert refused.report["adaptation"]["verdict"] == "does not hold"
