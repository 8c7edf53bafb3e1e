import numpy as np
import pytest

from mseenet.training.robust import FrozenFeatures, mix_styles

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


def test_no_share_changes_nothing():
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
