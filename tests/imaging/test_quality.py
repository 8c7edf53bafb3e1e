from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mseenet.imaging.perturbations import blur, brightness, contrast
from mseenet.imaging.quality import (
    SMALLEST_SIDE,
    TINY_SIDE,
    Thresholds,
    check_quality,
    measured,
)
from mseenet.imaging.synthetic import STYLES, render_field


def names(rgb: np.ndarray) -> list[str]:
    return [finding.name for finding in check_quality(rgb)]


def resized(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def test_rendered_fields_have_no_finding(fields):
    for field in fields:
        assert check_quality(field) == ()
        assert check_quality(resized(field, 1024, 768)) == ()


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)
@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_moderate_light_and_contrast_are_no_reason(style, factor):
    field = render_field(style, seed=3)
    assert names(brightness(field, factor)) == []
    assert names(contrast(field, factor)) == []


def test_each_cause_has_its_finding(fields):
    for field in fields:
        assert "out of focus" in names(blur(field, 4.0))
        assert "too dark" in names(brightness(field, 0.25))
        assert {"low contrast", "nothing stained"} & set(names(contrast(field, 0.2)))
        assert "low contrast" in names(contrast(field, 0.12))
        assert names(resized(field, 150, 300)) == ["low resolution"]


def test_a_field_burnt_out_down_to_its_cells_is_too_bright(fields):
    assert "too bright" in names(brightness(fields[3], 1.9))  # the palest of the four


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)
def test_plasma_and_red_cells_alone_are_nothing_to_classify_by(style):
    without = render_field(replace(style, nucleated_cells=0), seed=7)
    assert names(without) == ["nothing stained"]
    assert "nothing stained" not in names(render_field(style, seed=7))


def test_what_asks_for_review_is_not_refused(fields):
    for spoiled in (blur(fields[0], 4.0), brightness(fields[0], 0.25), contrast(fields[0], 0.2)):
        findings = check_quality(spoiled)
        assert findings
        assert not any(finding.severe for finding in findings)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (250, 200, 20)])
@pytest.mark.parametrize("deviation", [0, 5])
def test_a_plain_color_is_refused_with_and_without_noise(color, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, (300, 400, 3))
    frame = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    (finding,) = check_quality(frame)
    assert finding.severe
    assert finding.name == "low contrast"
    assert "plain colour" in finding.reason


def test_nearly_white_and_nearly_black_frames_are_refused(fields):
    white = (250 + 0.02 * fields[0]).astype(np.uint8)
    black = (0.02 * fields[0]).astype(np.uint8)
    for frame in (white, black):
        assert [finding.severe for finding in check_quality(frame)] == [True]


def test_the_scale_bar_is_no_content():
    frame = np.full((224, 224, 3), 250, np.uint8)
    frame[200:220, 190:220] = (220, 20, 60)
    (finding,) = check_quality(frame)
    assert finding.severe


def test_resolution_counts_on_the_shorter_side_of_the_upload(fields):
    assert names(resized(fields[0], 2000, SMALLEST_SIDE - 1)) == ["low resolution"]
    assert names(resized(fields[0], 300, SMALLEST_SIDE)) == []
    (finding,) = check_quality(resized(fields[0], 300, TINY_SIDE - 1))
    assert finding.name == "low resolution"
    assert finding.value == TINY_SIDE - 1
    assert finding.severe


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (2, 3), (32, 32), (223, 225)])
def test_no_shape_and_no_content_raises(shape):
    random = np.random.default_rng(0)
    for rgb in (
        random.integers(0, 256, (*shape, 3)).astype(np.uint8),
        np.zeros((*shape, 3), np.uint8),
        np.full((*shape, 3), 255, np.uint8),
    ):
        for finding in check_quality(rgb):
            assert finding.reason.strip() == finding.reason != ""
            assert np.isfinite(finding.value)


def test_the_image_is_not_changed(fields):
    before = fields[0].copy()
    check_quality(fields[0])
    np.testing.assert_array_equal(fields[0], before)


@pytest.mark.parametrize(
    ("spoil", "name", "finding"),
    [
        (lambda rgb: contrast(rgb, 0.12), "contrast", "low contrast"),
        (lambda rgb: brightness(rgb, 0.25), "dark", "too dark"),
        (lambda rgb: blur(rgb, 4.0), "sharpness", "out of focus"),
        (lambda rgb: contrast(rgb, 0.2), "stained", "nothing stained"),
    ],
)
def test_other_thresholds_flag_from_what_is_measured_on(fields, spoil, name, finding):
    rgb = spoil(fields[0])
    value = getattr(measured(rgb), name)
    low = Thresholds(contrast=0.0, dark=0.0, sharpness=0.0, stained=0.0)
    assert check_quality(rgb, None, low) == ()
    (found,) = check_quality(rgb, None, replace(low, **{name: np.nextafter(value, np.inf)}))
    assert (found.name, found.value) == (finding, value)
    assert check_quality(rgb, None, replace(low, **{name: value})) == ()
