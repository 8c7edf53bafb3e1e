"""Random changes of training images: what a smear, a stain and a camera may change.

A smear has no up and no scale of its own, so fields are turned, mirrored, zoomed and
shifted. Light, exposure, stain and focus differ between laboratories, so brightness,
contrast, gamma, hue, saturation and the colour channels vary, and focus and sensor
noise too. Works with every Keras backend; everything random comes from one generator.
"""

import numpy as np

from mseenet.imaging.perturbations import YIQ
from mseenet.inference.backend import keras

TURN, ZOOM, STRETCH, SHIFT = 10.0, 0.1, 0.05, 8.0
"""Largest turn beside multiples of 90 degrees; largest zoom and change of the aspect
ratio, as logarithms; largest shift, in pixels. The size of cells is evidence, so that
more zoom costs accuracy on unseen slides."""

HUE, SATURATION, CHANNEL = 12.0, 0.4, 0.08
"""Largest rotation of the hue, in degrees, change of saturation, and of each channel."""

BRIGHTNESS, CONTRAST, GAMMA = 0.45, 0.45, 0.4
"""Largest change of brightness and contrast as shares; of gamma, as its logarithm."""

BLUR, NOISE = 1.5, 8.0
"""Standard deviations of the strongest blur, in pixels, and noise, in grey levels."""


def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Changes each image of a batch at random and independently.

    Args:
        images: RGB pixels, uint8 (B, H, W, 3) in [0, 255].
        random: Drawn from; the same state gives the same result.

    Returns:
        RGB pixels, uint8 (B, H, W, 3) in [0, 255].
    """
    ops = keras.ops
    count = len(images)

    def sometimes(proportion: float, low: float, high: float, otherwise: float) -> np.ndarray:
        values = np.where(
            random.random(count) < proportion, random.uniform(low, high, count), otherwise
        )
        return values.astype(np.float32)[:, None, None, None]

    x = ops.convert_to_tensor(images.astype(np.float32))
    x = ops.image.affine_transform(
        x,
        _transforms(images.shape[1:3], count, random),
        interpolation="bilinear",
        fill_mode="reflect",
        data_format="channels_last",
    )
    blurred = sometimes(0.3, 0, 1, 0)
    x = x * (1 - blurred) + _blur(x) * blurred

    turned = np.deg2rad(sometimes(0.6, -HUE, HUE, 0)).ravel()
    saturated = sometimes(0.6, 1 - SATURATION, 1 + SATURATION, 1).ravel()
    channels = np.where(
        random.random((count, 1)) < 0.5, random.uniform(1 - CHANNEL, 1 + CHANNEL, (count, 3)), 1
    )
    matrices = channels[:, :, None] * color_matrices(turned, saturated)
    x = ops.einsum("bhwc,bdc->bhwd", x, matrices.astype(np.float32))
    x = 255 * ops.power(ops.clip(x / 255, 1e-4, 1), np.exp(sometimes(0.3, -GAMMA, GAMMA, 0)))
    mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
    x = ops.clip((x - mean) * sometimes(0.5, 1 - CONTRAST, 1 + CONTRAST, 1) + mean, 0, 255)
    x = ops.clip(x * sometimes(0.6, 1 - BRIGHTNESS, 1 + BRIGHTNESS, 1), 0, 255)
    noise = random.standard_normal(images.shape, dtype=np.float32)
    x = ops.clip(x + sometimes(0.3, 0, NOISE, 0) * noise, 0, 255)
    return ops.convert_to_numpy(ops.round(x)).astype(np.uint8)


def color_matrices(turned: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """RGB -> RGB matrices that turn the hue and stretch the saturation; grey stays grey.

    Args:
        turned: Angles around the grey axis, in radians, (B,).
        saturated: Factors of the distance from the grey axis, (B,).

    Returns:
        float64 (B, 3, 3), to be applied to columns.
    """
    zero, one = np.zeros_like(turned), np.ones_like(turned)
    cos, sin = saturated * np.cos(turned), saturated * np.sin(turned)
    rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    return np.linalg.inv(YIQ) @ np.moveaxis(np.array(rows), -1, 0) @ YIQ


def _transforms(shape: tuple[int, int], count: int, random: np.random.Generator) -> np.ndarray:
    """Rows of affine maps from output to input positions, float32 (count, 8)."""
    height, width = shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    rows = np.zeros((count, 8), np.float32)
    for row in rows:
        angle = np.deg2rad(
            90 * random.integers(4) + random.uniform(-TURN, TURN) * random.integers(2)
        )
        zoom = np.exp(random.uniform(-ZOOM, ZOOM))
        stretch = np.exp(random.uniform(-STRETCH, STRETCH))
        mirror = random.choice((-1, 1))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.diag([mirror * zoom * stretch, zoom / stretch])
        offset = centre - linear @ centre + random.uniform(-SHIFT, SHIFT, 2)
        row[:6] = np.column_stack([linear, offset]).ravel()
    return rows


def _blur(x):
    """Gaussian blur of standard deviation `BLUR`, mirrored at the edges."""
    reach = np.arange(-4, 5)
    kernel = np.exp(-(reach**2) / (2 * BLUR**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    x = keras.ops.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for shape in ((9, 1, 1, 1), (1, 9, 1, 1)):
        weights = np.tile(kernel.reshape(shape), (1, 1, 3, 1))
        x = keras.ops.depthwise_conv(x, weights, padding="valid", data_format="channels_last")
    return x
