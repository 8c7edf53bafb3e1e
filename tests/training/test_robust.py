from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mseenet.config import FROZEN_LAYER, RobustConfig
from mseenet.errors import UsageError
from mseenet.inference.backend import keras
from mseenet.inference.network import frozen_blocks
from mseenet.training import robust
from mseenet.training.dataset import Sample
from mseenet.training.robust import FrozenFeatures, frozen_features, mix_styles

FEATURES = np.random.default_rng(0).normal(2, 3, (8, 14, 14, 5)).astype(np.float32)


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
