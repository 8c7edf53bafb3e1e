import numpy as np
import pytest

from mseenet.training.augmentation import YIQ, _blur, augment, color_matrices


def test_the_same_generator_gives_the_same_images(fields):
    batch = np.stack(fields)
    first, again = (augment(batch, np.random.default_rng(3)) for _ in range(2))
    other = augment(batch, np.random.default_rng(4))
    assert first.shape == batch.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_change_independently_and_stay_plausible(fields):
    changed = augment(np.stack([fields[0]] * 8), np.random.default_rng(0)).astype(float)
    assert all(np.abs(changed[0] - other).mean() > 1 for other in changed[1:])
    assert changed.mean(axis=(1, 2, 3)).min() > 60
    assert changed.std(axis=(1, 2)).min() > 2


def test_grey_images_stay_grey_but_for_the_channels(fields):
    matrices = color_matrices(np.array([0.2, -0.1]), np.array([1.3, 0.5]))
    np.testing.assert_allclose(matrices @ np.ones(3), np.ones((2, 3)), atol=1e-9)


def test_no_turn_and_no_saturation_is_the_identity():
    (matrix,) = color_matrices(np.array([0.0]), np.array([1.0]))
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("degrees", [-30, 10, 90])
def test_hue_turns_by_its_angle_and_keeps_luma(degrees):
    (matrix,) = color_matrices(np.array([np.deg2rad(degrees)]), np.array([1.0]))
    before, after = (YIQ @ color for color in (np.array([0.5, 0.2, 0.8]), matrix @ [0.5, 0.2, 0.8]))
    assert after[0] == pytest.approx(before[0])
    turned = np.angle(complex(*after[1:]) / complex(*before[1:]), deg=True)
    assert turned == pytest.approx(degrees)


def test_blur_leaves_a_plain_image_as_it_is():
    plain = np.full((1, 32, 32, 3), 200, np.float32)
    np.testing.assert_allclose(np.asarray(_blur(plain)), plain, rtol=1e-5)
