from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mseenet.imaging.nuclei import (
    NEUTRAL,
    RIM,
    background_color,
    blank_background,
    blank_nuclei,
    find_cells,
    largest_of_each,
    nucleus_mask,
    paint_over_nuclei,
    scale_bar_corner,
)
from mseenet.imaging.perturbations import brightness
from mseenet.imaging.synthetic import STYLES, render_field

SEED = 11

styles = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)


def rendered_nuclei(style) -> np.ndarray:
    """Where a rendered field has the colour of its chromatin, bool (224, 224)."""
    field = render_field(style, SEED).astype(float)
    stained = np.abs(field - style.nucleus).max(axis=2) < 40
    stained[scale_bar_corner(stained.shape)] = False
    return stained


@styles
def test_the_mask_covers_the_nuclei_and_little_else(style):
    mask = nucleus_mask(render_field(style, SEED))
    nuclei = rendered_nuclei(style)
    assert mask.shape == (224, 224)
    assert mask.dtype == bool
    assert mask[nuclei].mean() > 0.95
    # cytoplasm around a nucleus makes a cell half as large again
    assert mask.sum() < 1.6 * nuclei.sum()


@styles
def test_red_cells_and_the_scale_bar_are_no_nuclei(style):
    assert not nucleus_mask(render_field(replace(style, nucleated_cells=0), SEED)).any()


@pytest.mark.parametrize("color", [(0, 0, 0), (200, 20, 40)])
def test_a_scale_bar_in_any_color_is_not_marked(color):
    field = render_field(replace(STYLES[0], nucleated_cells=0), SEED).copy()
    field[213:215, 192:220] = color
    field[202:210, 197:199] = color
    field[202:210, 205:207] = color
    assert not nucleus_mask(field).any()


@styles
def test_the_brightness_of_the_lamp_hardly_matters(style):
    field = render_field(style, SEED)
    mask, darker = nucleus_mask(field), nucleus_mask(brightness(field, 0.7))
    assert (mask & darker).sum() > 0.9 * (mask | darker).sum()


@styles
def test_overexposed_fields_keep_their_nucleated_cells(style):
    field, empty = (
        render_field(replace(style, nucleated_cells=number), SEED)
        for number in (style.nucleated_cells, 0)
    )
    washed_out = brightness(field, 1.8)
    assert np.mean(washed_out[..., 1] == 255) > 0.5
    found, expected = find_cells(washed_out).cells.count, find_cells(field).cells.count
    assert 0.6 * expected <= found <= 1.2 * expected  # touching cells part
    assert find_cells(brightness(empty, 1.8)).cells.count == 0


@styles
def test_the_background_is_the_plasma(style):
    color = background_color(render_field(style, SEED))
    assert color.shape == (3,)
    assert color.dtype == np.float64
    np.testing.assert_allclose(color, style.background, atol=8)


def test_any_size_gets_a_mask_of_its_size(fields):
    mask = nucleus_mask(fields[0])
    enlarged = np.asarray(Image.fromarray(fields[0]).resize((1024, 768), Image.Resampling.BICUBIC))
    large = nucleus_mask(enlarged)
    assert large.shape == (768, 1024)
    assert large.mean() == pytest.approx(mask.mean(), rel=0.1)
    for shape in ((1, 1), (1, 300), (5, 7)):
        assert nucleus_mask(np.full((*shape, 3), 200, np.uint8)).sum() == 0


@styles
def test_blanked_nuclei_are_gone_and_the_rest_is_untouched(style):
    field = render_field(style, SEED)
    before = field.copy()
    mask = nucleus_mask(field)
    blanked = blank_nuclei(field, mask)
    np.testing.assert_array_equal(field, before)
    assert blanked.dtype == np.uint8
    assert (blanked[mask] == np.round(background_color(field))).all()
    assert not nucleus_mask(blanked).any()
    changed = (blanked != field).any(axis=2)
    assert mask.sum() < changed.sum()  # the rim of the cytoplasm goes too
    far = np.ones_like(mask)
    for y, x in np.argwhere(mask):
        far[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = False
    assert not changed[far].any()


@styles
def test_a_blanked_background_is_one_color_in_every_field(style):
    field = render_field(style, SEED)
    mask = nucleus_mask(field)
    cells = blank_background(field, mask)
    np.testing.assert_array_equal(cells[mask], field[mask])
    neutral = (cells == np.array(NEUTRAL)).all(axis=2)
    assert neutral.mean() > 0.5 * (1 - mask.mean())
    np.testing.assert_array_equal(neutral | (cells == field).all(axis=2), True)


def test_without_nuclei_nothing_is_blanked_and_nothing_is_left(fields):
    none = np.zeros((224, 224), bool)
    np.testing.assert_array_equal(blank_nuclei(fields[0], none), fields[0])
    np.testing.assert_array_equal(paint_over_nuclei(fields[0], none), fields[0])
    assert (blank_background(fields[0], none) == np.array(NEUTRAL)).all()


@styles
def test_painted_over_nuclei_are_gone_and_what_is_far_from_them_is_untouched(style):
    field = render_field(style, seed=5)
    mask = nucleus_mask(field)
    painted = paint_over_nuclei(field, mask)
    assert mask.any()
    assert not nucleus_mask(painted).any()
    changed = (painted != field).any(axis=2)
    assert not changed[ndimage.distance_transform_edt(~mask) > RIM].any()
    # By what surrounds them, not by one colour.
    assert len(np.unique(painted[mask], axis=0)) > 10


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_the_largest_value_of_each_piece_is_scipys(dtype):
    random = np.random.default_rng(0)
    for threshold in (-1.0, 0.0, 0.5):
        rough = ndimage.gaussian_filter(random.standard_normal((224, 224)), 2)
        pieces, count = ndimage.label(rough > threshold * rough.std())
        values = (1000 * random.standard_normal(pieces.shape)).astype(dtype)
        found = largest_of_each(values, pieces, count)
        wanted = ndimage.maximum(values, pieces, np.arange(1, count + 1))
        assert count > 0
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)
