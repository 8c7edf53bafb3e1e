import numpy as np
import pytest

from mseenet.inference.heatmaps import (
    COLOR_MAPS,
    NO_EVIDENCE,
    colormap,
    has_evidence,
    heatmaps_of,
    overlay,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)


def test_heatmaps_are_scaled_by_the_model_not_by_their_own_maximum():
    maps = np.zeros((3, 7, 7, 2), np.float32)
    maps[0, 3, 3, 1] = 1.0
    maps[1, 3, 3, 1] = 8.0
    maps[2, :, :, 1] = -5.0
    heat = np.asarray(heatmaps_of(maps, np.array([1, 1, 1], np.int32), scale=4.0))
    assert heat.shape == (3, 224, 224)
    assert heat.max(axis=(1, 2)) == pytest.approx([0.25, 1, 0], abs=0.04)
    assert not has_evidence(heat[2])
    assert (heat[2] == 0).all()


def test_heat_lies_over_the_cell_that_it_comes_from():
    maps = np.zeros((1, 7, 7, 1), np.float32)
    maps[0, 1, 5, 0] = 1
    heat = np.asarray(heatmaps_of(maps, np.array([0], np.int32), scale=1.0))[0]
    rows, columns = np.nonzero(heat > 0.9)
    assert rows.mean() == pytest.approx(1.5 * 32 - 0.5)  # the middle of cell 1: 32...63
    assert columns.mean() == pytest.approx(5.5 * 32 - 0.5)


def test_no_evidence_is_a_defined_result():
    heat = np.zeros((224, 224), np.float32)
    assert not has_evidence(heat)
    heat[0, 0] = NO_EVIDENCE
    assert has_evidence(heat)
    np.testing.assert_array_equal(overlay(IMAGE, np.zeros((224, 224), np.float32), 1.0), IMAGE)


def test_opacity_goes_from_the_image_to_the_colour():
    hot = np.ones((224, 224), np.float32)
    np.testing.assert_array_equal(overlay(IMAGE, hot, 0.0), IMAGE)
    assert (overlay(IMAGE, hot, 1.0) == colormap()[255]).all()
    half = overlay(IMAGE, hot, 0.5).astype(float)
    np.testing.assert_allclose(half, (IMAGE + colormap()[255].astype(float)) / 2, atol=0.5)
    for opacity in (-0.1, 1.1):
        with pytest.raises(ValueError, match="expected opacity in"):
            overlay(IMAGE, hot, opacity)


def test_overlay_has_the_shape_of_the_image():
    heat = np.zeros((224, 224), np.float32)
    heat[:, 112:] = 1
    blended = overlay(IMAGE, heat, 1.0)
    assert blended.shape == IMAGE.shape
    np.testing.assert_array_equal(blended[:, :38], IMAGE[:, :38])
    assert (blended[:, 42:] == colormap()[255]).all()


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_colours_are_those_that_plotly_ships(name):
    from plotly.colors import sample_colorscale, unlabel_rgb

    known = [unlabel_rgb(c) for c in sample_colorscale(name, list(np.linspace(0, 1, 256)))]
    assert np.abs(np.array(known) - colormap(name)).max() <= 1


def test_lightness_of_the_colormap_rises_evenly():
    srgb = colormap() / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ np.array([0.2126, 0.7152, 0.0722])) - 16  # CIE L*
    steps = np.diff(lightness[16::16])
    assert steps.min() > 3
    assert steps.max() < 2 * steps.min()
