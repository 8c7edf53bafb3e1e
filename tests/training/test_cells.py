from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mseenet.config import CLASS_NAMES, FROZEN_LAYER, CellsConfig
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.backend import keras
from mseenet.training import cells
from mseenet.training.cells import DonatedFeatures, chances, donated_features, mixture
from mseenet.training.dataset import Sample
from mseenet.training.donors import KINDS
from mseenet.training.robust import FrozenFeatures

PLAIN = replace(
    CellsConfig(), unchanged=0.0, transplanted=0.0, scattered=0.0, emptied=0.0, mixed=0.0
)


def samples_of(labels) -> list[Sample]:
    return [
        Sample(f"{CLASS_NAMES[label]}/f{i}.png", Path(), label, f"{i}", f"{i}")
        for i, label in enumerate(labels)
    ]


def marked(value: float, count: int) -> np.ndarray:
    """Features of image i that hold `value` + i everywhere."""
    numbers = np.arange(count)[:, None, None, None] + value
    return np.broadcast_to(numbers, (count, 2, 2, 3)).astype(np.float16)


def features() -> FrozenFeatures:
    processed = tuple(np.full((4, 3), value, np.float16) for value in (7, 8))
    return FrozenFeatures(tuple(marked(10 * c, 4) for c in range(3)), processed, 0.0, 0.0)


SAMPLES = samples_of([0, 3, 1, 2])

NONE = DonatedFeatures({}, {})


def donated_once() -> DonatedFeatures:
    """One copy of each kind, with the next field of `SAMPLES` as donor."""
    copies = {name: (marked(100 * (k + 1), 4),) for k, name in enumerate(KINDS)}
    return DonatedFeatures(copies, {name: (np.roll(np.arange(4), -1),) for name in KINDS})


@pytest.mark.parametrize(("unchanged", "allowed"), [(1.0, {0}), (0.0, {1, 2})])
def test_batches_hold_the_chosen_images_of_random_copies(unchanged, allowed):
    config = replace(PLAIN, unchanged=unchanged)
    draw = mixture(features(), NONE, SAMPLES, np.array([3, 1]), config).draw
    batch, targets = draw(np.array([1, 0] * 20), np.random.default_rng(2))
    assert batch.shape == (40, 2, 2, 3)
    values = np.round(batch[:, 0, 0, 0]).astype(int)
    np.testing.assert_array_equal(values % 10, [1, 3] * 20)
    assert set(values // 10) == allowed
    np.testing.assert_array_equal(targets.argmax(axis=1), [3, 2] * 20)
    np.testing.assert_array_equal(targets.max(axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_own_copies_and_only_emptied_fields_no_class(kind):
    config = replace(PLAIN, **{kind: 1.0})
    draw = mixture(features(), donated_once(), SAMPLES, np.array([3, 0, 2, 1]), config).draw
    batch, targets = draw(np.array([1, 0, 3]), np.random.default_rng(3))
    first = 100 * (KINDS.index(kind) + 1)
    np.testing.assert_allclose(batch[:, 0, 0, 0], [first, first + 3, first + 1], rtol=1e-3)
    if kind == "emptied":
        np.testing.assert_array_equal(targets, np.full((3, 4), 0.25))
    else:
        np.testing.assert_array_equal(targets.argmax(axis=1), [0, 2, 3])


def test_nothing_of_a_field_that_does_not_train_is_drawn_not_even_its_ground():
    config = replace(PLAIN, transplanted=1.0)
    # The donor of field 1 is field 2, which is not trained with; that of field 0 is field 1.
    draw = mixture(features(), donated_once(), SAMPLES, np.array([0, 1]), config).draw
    batch, _ = draw(np.array([0, 1] * 20), np.random.default_rng(5))
    values = np.round(batch[:, 0, 0, 0]).astype(int).reshape(20, 2)
    assert set(values[:, 0]) == {100}
    assert set(values[:, 1]) == {11, 21}  # augmented copies instead


def test_kinds_are_drawn_as_often_as_their_proportions_say():
    config = replace(PLAIN, unchanged=0.1, transplanted=0.2, scattered=0.3, emptied=0.15)
    draw = mixture(features(), donated_once(), SAMPLES, np.arange(4), config).draw
    batch, targets = draw(np.zeros(4000, int), np.random.default_rng(4))
    values = np.round(batch[:, 0, 0, 0]).astype(int)
    found = [np.mean(values // 100 == k) for k in range(4)]
    np.testing.assert_allclose(found, [0.35, 0.2, 0.3, 0.15], atol=0.03)
    assert np.mean(values == 0) == pytest.approx(0.1, abs=0.02)
    np.testing.assert_array_equal(targets.max(axis=1) == 0.25, values // 100 == 3)


def test_proportions_beyond_one_are_refused():
    wrong = replace(PLAIN, unchanged=0.6, scattered=0.6)
    with pytest.raises(ValueError, match="sum to at most 1"):
        mixture(features(), NONE, SAMPLES, np.arange(4), wrong)


def test_classes_are_drawn_alike_and_rare_series_more_often():
    labels = np.array([0] * 50 + [1] * 110)
    series = ["a"] * 50 + ["b"] * 100 + ["c"] * 10
    even = chances(labels, series, 1.0)
    assert even.sum() == pytest.approx(1)
    assert even[:50].sum() == pytest.approx(0.5)
    assert even[150:].sum() == pytest.approx(0.25)
    np.testing.assert_allclose(chances(labels, series, 0.0)[50:], 0.5 / 110)


@pytest.fixture(scope="module")
def tiny():
    """A network with the names that the frozen features need, and rendered fields."""
    inputs = keras.Input((224, 224, 3))
    pooled = keras.layers.AveragePooling2D(56)(inputs)
    x = keras.layers.Conv2D(2, 1, name=FROZEN_LAYER)(pooled)
    fields = [render_field(style, seed=20 + k) for k, style in enumerate(STYLES)]
    return keras.Model(inputs, x), np.stack([*fields, fields[0]])


def donated(tiny, cache, **changes) -> DonatedFeatures:
    model, images = tiny
    given = {
        "samples": samples_of([0, 1, 2, 3, 0]),
        "images": images,
        "config": CellsConfig(donated=2),
        "backbone": {"weights": "random"},
    }
    return donated_features(model, cache=cache, **(given | changes))


def test_donated_features_are_kept_and_only_for_the_same_fields(tiny, tmp_path):
    first = donated(tiny, tmp_path / "cache")
    assert {kind: len(copies) for kind, copies in first.copies.items()} == {
        "transplanted": 2,
        "scattered": 2,
        "emptied": 1,
    }
    assert all(copy.shape == (5, 4, 4, 2) for copies in first.copies.values() for copy in copies)
    assert np.any(first.copies["scattered"][0] != first.copies["scattered"][1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells.donors, "prepare", None)  # nothing is made twice
        assert donated(tiny, tmp_path / "cache").files == first.files
    changed = [
        donated(tiny, tmp_path / "cache", samples=samples_of([0, 1, 2, 3, 1])),
        donated(tiny, tmp_path / "cache", config=CellsConfig(donated=2, seed=1)),
        donated(tiny, tmp_path / "cache", backbone={"weights": "imagenet"}),
    ]
    assert len({first.files, *(other.files for other in changed)}) == 4


def test_it_is_remembered_whose_ground_a_copy_shows(tiny, tmp_path, monkeypatch):
    class Grounds:
        def make(self, kind, i, donor, random):
            return np.full((224, 224, 3), 10 * donor + 7, np.uint8)

    monkeypatch.setattr(cells.donors, "prepare", lambda *_: Grounds())
    monkeypatch.setattr(cells, "_augmented", lambda images, _: images.astype(np.float32))
    model, _ = tiny
    made = donated(tiny, tmp_path / "cache")
    for kind in KINDS:
        for whose, copy in zip(made.donors[kind], made.copies[kind], strict=True):
            shown = np.stack([np.full((224, 224, 3), 10 * donor + 7, float) for donor in whose])
            expected = model.predict_on_batch(shown.astype(np.float32))
            np.testing.assert_allclose(copy, expected, rtol=2e-3)


def test_kinds_that_are_never_drawn_are_not_made(tiny, tmp_path):
    config = replace(PLAIN, scattered=0.5, donated=1)
    assert list(donated(tiny, tmp_path / "cache", config=config).copies) == ["scattered"]
