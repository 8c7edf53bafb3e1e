import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from mseenet.config import FROZEN_LAYER, CellsConfig, RobustConfig
from mseenet.errors import UsageError
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.backend import keras
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.network import frozen_blocks
from mseenet.training import robust
from mseenet.training.checkpoint import Checkpoint
from mseenet.training.dataset import Sample
from mseenet.training.loop import run_phase
from mseenet.training.robust import FrozenFeatures, frozen_features, mix_styles

FEATURES = np.random.default_rng(0).normal(2, 3, (8, 14, 14, 5)).astype(np.float32)

# Found with version 0.2.0 before the recipe `cells` was added.
PINNED_DRAWS = "90f0cc2b4cd82c2b"
PINNED_MEANS = {
    0: (229.761, 228.586, 218.324, 236.816),
    1: (143.693, 254.350, 220.428, 231.006),
    2: (219.431, 226.436, 214.911, 125.789),
}
PINNED_STYLES = (2.1412, 1.9698, 1.9284, 2.1550, 2.0816, 1.9983, 2.0818, 1.9435)


def style(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features.mean(axis=(1, 2)), features.std(axis=(1, 2))], axis=1)


def test_mixed_styles_lie_between_those_of_the_batch_and_content_stays():
    features = FEATURES * np.arange(1, 9, dtype=np.float32)[:, None, None, None]
    mixed = mix_styles(features, 1.0, np.random.default_rng(1))
    before, after = style(features), style(mixed)
    assert mixed.dtype == np.float32
    assert (after >= before.min(axis=0) - 0.01).all()
    assert (after <= before.max(axis=0) + 0.01).all()
    assert np.abs(after - before).max() > 1
    for image, changed in zip(features, mixed, strict=True):
        correlation = np.corrcoef(image[..., 0].ravel(), changed[..., 0].ravel())[0, 1]
        assert correlation == pytest.approx(1, abs=1e-4)


def test_no_proportion_changes_nothing():
    mixed = mix_styles(FEATURES, 0.0, np.random.default_rng(1))
    np.testing.assert_allclose(mixed, FEATURES, atol=1e-4)


@pytest.mark.parametrize(("unchanged", "allowed"), [(1.0, {0}), (0.0, {1, 2})])
def test_batches_hold_the_chosen_images_of_random_copies(unchanged, allowed):
    # Copy c of image i holds the value 10 c + i everywhere.
    copies = tuple(
        np.broadcast_to(np.arange(4)[:, None, None, None] + 10 * c, (4, 2, 2, 3)).astype(np.float16)
        for c in range(3)
    )
    processed = tuple(np.full((4, 3), value, np.float16) for value in (7, 8))
    features = FrozenFeatures(copies, processed, unchanged, mixed=0.0)
    pooled = features.pooled()
    assert pooled.shape == (5, 4, 3)
    np.testing.assert_array_equal(pooled[:, 2, 0], [2, 12, 22, 7, 8])
    draw = features.draw(np.array([3, 1]))
    batch = draw(np.array([1, 0] * 20), np.random.default_rng(2))
    assert batch.shape == (40, 2, 2, 3)
    values = np.round(batch[:, 0, 0, 0]).astype(int)
    np.testing.assert_array_equal(values % 10, [1, 3] * 20)
    assert set(values // 10) == allowed


@pytest.fixture(scope="module")
def tiny():
    """A network with the names that the frozen features need, and its inputs."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, padding="same", name=FROZEN_LAYER)(inputs)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    samples = [Sample(f"Benign/{i}.png", Path(), 0, f"{i}", f"{i}") for i in range(5)]
    return keras.Model(inputs, x), samples, images


def test_features_are_computed_once_and_only_for_the_same_inputs(tiny, tmp_path):
    model, samples, images = tiny
    cache = tmp_path / "cache"
    config, backbone = RobustConfig(copies=1), {"weights": "random"}
    first = frozen_features(model, samples, images, config, backbone, cache)
    expected = frozen_blocks(model).predict_on_batch(images.astype(np.float32))
    np.testing.assert_allclose(first.copies[0], expected, rtol=1e-2, atol=0.2)
    assert len(first.files) == 4
    assert all(path.is_file() for path in first.files)

    def files(samples=samples, config=config, backbone=backbone):
        return frozen_features(model, samples, images, config, backbone, cache).files

    assert files() == first.files
    others = [
        files(config=replace(config, seed=1)),
        files(backbone={"weights": "imagenet"}),
        files(samples=[replace(samples[0], pixel_sha256="x"), *samples[1:]]),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "CORNER", 0.2)
        others.append(files())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "FEATURES_VERSION", 99)
        others.append(files())
    assert len({first.files, *others}) == 6


def test_a_foreign_folder_is_no_cache(tiny, tmp_path):
    model, samples, images = tiny
    (tmp_path / "mine.npy").write_text("mine")
    with pytest.raises(UsageError, match=r"it holds mine\.npy"):
        frozen_features(model, samples, images, RobustConfig(), {}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npy"]


# The shipped card describes the default recipe: what it does must not change by the way.


def test_the_shipped_weights_are_made_with_the_default_settings():
    training = read_card(DEFAULT_WEIGHTS).content["training"]
    assert training["recipe"] == "cells"
    assert training["settings"] == asdict(CellsConfig())


def test_what_is_drawn_of_images_and_their_copies_stays_the_same(tmp_path):
    # Copy c of image i holds the value 100 c + i everywhere.
    copies = tuple(
        (np.arange(40)[:, None, None, None] + 100 * c + np.zeros((1, 2, 2, 3))).astype(np.float16)
        for c in range(7)
    )
    config = RobustConfig()
    config = replace(config, batch_size=16, fine_tune=replace(config.fine_tune, epochs=2))
    features = FrozenFeatures(copies, (), config.unchanged, mixed=0.0)
    draw, drawn = features.draw(np.arange(40)[::-1]), []

    def record(rows, random):
        batch = draw(rows, random)
        drawn.append(np.round(batch[:, 0, 0, 0]).astype(np.int32))
        return batch

    inputs = keras.Input((2, 2, 3))
    dropped = keras.layers.Dropout(0.3)(keras.layers.Flatten()(inputs))  # is seeded first
    model = keras.Model(inputs, keras.layers.Dense(4)(dropped))
    checkpoint = Checkpoint(tmp_path / "c", {})
    run_phase("fine_tune", model, (record, np.arange(40) % 4), None, config, checkpoint)
    digest = hashlib.sha256(np.concatenate(drawn).tobytes()).hexdigest()[:16]
    assert digest == PINNED_DRAWS


def test_copies_and_styles_stay_the_same():
    fields = np.stack([render_field(style, seed=20 + k) for k, style in enumerate(STYLES)])
    for copy, means in PINNED_MEANS.items():
        changed = robust._copy(fields, 0, copy, 0)
        np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), means, atol=0.01)
    mixed = mix_styles(FEATURES, 0.5, np.random.default_rng(1)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mixed, PINNED_STYLES, atol=1e-3)
