import numpy as np
import pytest

from mseenet.imaging.perturbations import (
    EOSIN,
    HAEMATOXYLIN,
    MAGNIFICATIONS,
    PERTURBATIONS,
    blur,
    brightness,
    contrast,
    gamma,
    hue,
    jpeg,
    magnified,
    mirror,
    noise,
    original_shape,
    stain,
    turn,
)
from mseenet.imaging.synthetic import STYLES, render_field

CASES = [
    pytest.param(function, id=f"{kind} {severity}")
    for kind, severities in PERTURBATIONS.items()
    for severity, function in severities.items()
]
GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


@pytest.fixture(scope="module")
def field(fields) -> np.ndarray:
    return fields[0]


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("function", CASES)
def test_every_entry_makes_another_field_and_always_the_same(function, field):
    before = field.copy()
    changed = function(field)
    assert changed.shape == (224, 224, 3)
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, field)
    np.testing.assert_array_equal(field, before)
    np.testing.assert_array_equal(function(field), changed)


@pytest.mark.parametrize(
    ("kind", "weak", "strong"),
    [
        ("brightness", "x0.8", "x0.6"),
        ("contrast", "x1.2", "x1.4"),
        ("gamma", "0.85", "0.7"),
        ("hue", "+10 degrees", "+20 degrees"),
        ("stain shift", "x0.85", "x0.7"),
        ("blur", "sigma 0.5 px", "sigma 2.0 px"),
        ("noise", "sd 5 grey levels", "sd 20 grey levels"),
        ("JPEG", "quality 80", "quality 20"),
    ],
)
def test_a_higher_severity_changes_more(kind, weak, strong, field):
    severities = PERTURBATIONS[kind]
    assert mean_difference(severities[strong](field), field) > 1.2 * mean_difference(
        severities[weak](field), field
    )


@pytest.mark.parametrize(
    "unchanged",
    [
        lambda x: brightness(x, 1),
        lambda x: contrast(x, 1),
        lambda x: gamma(x, 1),
        lambda x: hue(x, 0),
        lambda x: stain(x, 1),
        lambda x: noise(x, 0),
        lambda x: blur(x, 0),
        lambda x: turn(turn(turn(turn(x, 90), 90), 90), 90),
        lambda x: turn(turn(x, 90), 270),
        lambda x: mirror(mirror(x, 1), 1),
        lambda x: mirror(mirror(turn(x, 180), 1), 0),
    ],
)
def test_no_change_and_changes_undone_give_every_pixel_back(unchanged, field):
    np.testing.assert_array_equal(unchanged(field), field)


def test_brightness_multiplies_and_clips():
    np.testing.assert_array_equal(brightness(GREYS, 0.5), np.round(GREYS * 0.5))
    assert brightness(GREYS, 2)[8:].min() == 255


def test_contrast_keeps_the_mean_grey():
    for image in (GREYS // 4, GREYS // 4 + 128):
        halved = contrast(image, 0.5)
        assert halved.mean() == pytest.approx(image.mean(), abs=0.3)
        assert halved.std() == pytest.approx(image.std() / 2, rel=0.02)


def test_gamma_keeps_black_and_white_and_the_order():
    for exponent in (0.7, 1.4):
        changed = gamma(GREYS, exponent).astype(int)[..., 0].ravel()
        assert (changed[0], changed[-1]) == (0, 255)
        assert (np.diff(changed) >= 0).all()
    assert gamma(GREYS, 0.7).mean() > GREYS.mean() > gamma(GREYS, 1.4).mean()


def test_hue_keeps_greys_and_luma(field):
    np.testing.assert_allclose(hue(GREYS, 20), GREYS, atol=1)
    weights = np.array([0.299, 0.587, 0.114])
    muted = (field // 2 + 60).astype(np.uint8)  # no channel clips
    np.testing.assert_allclose(hue(muted, 20) @ weights, muted @ weights, atol=1)
    np.testing.assert_allclose(hue(hue(muted, 20), -20), muted, atol=2)


@pytest.mark.parametrize(("dye", "factor"), [(HAEMATOXYLIN, 1.3), (EOSIN, 1)])
def test_stain_scales_the_density_of_haematoxylin_only(dye, factor):
    density = 0.3 * np.array(dye)
    pixel = np.round(256 * 10**-density - 1).astype(np.uint8)[None, None]
    expected = 256 * 10 ** -(factor * density) - 1
    np.testing.assert_allclose(stain(pixel, 1.3)[0, 0], expected, atol=2)


def test_stain_leaves_white_white():
    white = np.full((4, 4, 3), 255, np.uint8)
    np.testing.assert_array_equal(stain(white, 1.3), white)


def test_blur_does_not_mix_channels():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:, 0] = 200
    blurred = blur(image, 2.0)
    assert 0 < blurred[16, 15, 0] < 200
    assert (blurred[:, :, 1:] == 0).all()


def test_noise_has_the_stated_deviation():
    grey = np.full((224, 224, 3), 128, np.uint8)
    for deviation in (5, 10, 20):
        difference = noise(grey, deviation).astype(float) - grey
        assert difference.std() == pytest.approx(deviation, rel=0.02)
        assert difference.mean() == pytest.approx(0, abs=0.1)


def test_turns_are_counter_clockwise_and_mirrors_follow_their_names():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 3] = 255  # top right
    corners = {
        "90 degrees": (0, 0),
        "180 degrees": (3, 0),
        "270 degrees": (3, 3),
        "left-right": (0, 0),
        "upside down": (3, 3),
    }
    assert list(corners) == list(PERTURBATIONS["turned"])
    for severity, corner in corners.items():
        assert PERTURBATIONS["turned"][severity](image)[corner].min() == 255


def test_the_original_shape_brings_nearly_the_same_field_back(field):
    for width, height in ((512, 384), (1024, 768), (2048, 1536)):
        assert mean_difference(original_shape(field, width, height), field) < 3
    assert mean_difference(jpeg(field, 90), field) < 4


@pytest.mark.parametrize("factor", MAGNIFICATIONS)
def test_magnified_fields_show_the_middle_larger_or_smaller(factor):
    field = render_field(STYLES[0], seed=4)
    before = field.copy()
    changed = magnified(field, factor)
    assert np.array_equal(field, before)
    assert (changed.shape, changed.dtype) == (field.shape, np.uint8)
    if factor == 1:
        assert np.array_equal(changed, field)
        return
    # Back to the usual size, the middle is the same again but for what the pixels could not hold.
    again = magnified(changed, 1 / factor)[60:-60, 60:-60].astype(float)
    middle = blur(field, 1.0)[60:-60, 60:-60].astype(float)
    assert np.abs(blur(again.astype(np.uint8), 1.0) - middle).mean() < 6


def test_the_scale_bar_is_not_repeated_around_a_reduced_field():
    field = np.full((224, 224, 3), 200, np.uint8)
    field[-37:, -37:] = (255, 0, 0)
    assert (magnified(field, 0.5) == 200).all()
