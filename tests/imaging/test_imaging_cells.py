import numpy as np
import pytest
from scipy import ndimage

from mseenet.imaging import nuclei
from mseenet.imaging.cells import (
    GRID_CELL,
    crop,
    enclosed_area,
    evidence_on,
    largest_evidence,
    measured,
    outline,
)
from mseenet.imaging.nuclei import find_cells, unpacked
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.imaging.transplant import separate


def disc(row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[:224, :224]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def reference(rgb: np.ndarray) -> tuple[nuclei.NucleatedCells, np.ndarray]:
    """What the module for colour says, and the pieces of its mask that it counts."""
    mask = nuclei.nucleus_mask(rgb)
    pieces, count = ndimage.label(mask)
    one_by_one = (pieces == number for number in range(1, count + 1))
    counted = [piece for piece in one_by_one if nuclei.count_nucleated_cells(rgb, piece).count]
    return nuclei.count_nucleated_cells(rgb, mask), np.logical_or.reduce(
        [np.zeros_like(mask), *counted]
    )


def strange(name: str) -> np.ndarray:
    random = np.random.default_rng(0)
    return {
        "noise": random.integers(0, 256, (224, 224, 3), np.uint8),
        "black": np.zeros((224, 224, 3), np.uint8),
        "white": np.full((224, 224, 3), 255, np.uint8),
        "violet": np.full((224, 224, 3), (120, 60, 150), np.uint8),
    }[name]


@pytest.mark.parametrize("seed", range(6))
def test_one_pass_finds_what_mask_and_count_find(seed):
    rgb = render_field(STYLES[seed % 2], seed)
    blurred = ndimage.gaussian_filter(rgb, (1.5, 1.5, 0))
    emptied = nuclei.blank_nuclei(rgb, nuclei.nucleus_mask(rgb))
    noisy = np.random.default_rng(seed).normal(rgb, 12).clip(0, 255).astype(np.uint8)
    for field in (rgb, blurred, emptied, noisy):
        found = find_cells(field)
        cells, mask = reference(field)
        assert found.cells == cells
        np.testing.assert_array_equal(unpacked(found.packed), mask)


@pytest.mark.parametrize("name", ["noise", "black", "white", "violet"])
def test_strange_images_are_no_exception(name):
    found = find_cells(strange(name))
    cells, mask = reference(strange(name))
    assert found.cells == cells
    np.testing.assert_array_equal(unpacked(found.packed), mask)


def test_cells_come_by_their_share_of_the_evidence():
    numbers = separate(disc(50, 50, 12) | disc(50, 150, 10) | disc(180, 60, 8))
    heatmap = np.zeros((224, 224), np.float32)
    heatmap[disc(50, 150, 10)] = 0.6
    heatmap[disc(50, 50, 12)] = 0.2
    heatmap[200:, 200:] = 0.1
    cells = measured(numbers, heatmap)
    assert [numbers[50, 150], numbers[50, 50], numbers[180, 60]] == [c.number for c in cells]
    assert cells[0].proportion == pytest.approx(
        heatmap[disc(50, 150, 10)].sum() / heatmap.sum(), abs=1e-5
    )
    assert cells[0].area == disc(50, 150, 10).sum()
    assert cells[0].box == (40, 61, 140, 161)
    assert cells[2].proportion == 0
    assert largest_evidence(numbers > 0, heatmap) == pytest.approx(cells[0].evidence)


def test_a_field_without_cells_or_evidence_is_no_exception():
    nothing, heat = np.zeros((224, 224), bool), np.ones((224, 224), np.float32)
    assert measured(separate(nothing), heat) == ()
    assert largest_evidence(nothing, heat) == 0
    assert evidence_on(nothing, heat) == (0, 0)
    (cell,) = measured(separate(disc(60, 60, 9)), heat * 0)
    assert cell.proportion == 0


def test_evidence_on_cells_without_and_with_a_rim():
    mask = np.zeros((224, 224), bool)
    mask[:, :50] = True
    on, near = evidence_on(mask, np.ones((224, 224), np.float32))
    assert (on, near) == pytest.approx((50 / 224, (50 + GRID_CELL) / 224))


@pytest.mark.parametrize("shape", ["disc", "corner", "one pixel", "two parts", "whole field"])
def test_an_outline_encloses_its_cell(shape):
    numbers = np.zeros((224, 224), np.int32)
    if shape == "disc":
        numbers[disc(100, 80, 13)] = 1
    elif shape == "corner":
        numbers[:20, 204:] = 1
    elif shape == "one pixel":
        numbers[7, 9] = 1
    elif shape == "two parts":  # which touch at a corner only
        numbers[10:20, 10:20] = numbers[20:24, 20:24] = 1
    else:
        numbers[:] = 1
    (cell,) = measured(numbers, np.ones((224, 224), np.float32))
    line = outline(numbers, cell)
    assert line.min() >= 0
    assert line.max() <= 224
    expected = 100 if shape == "two parts" else cell.area
    # The line cuts the corners of pixels off.
    assert expected - len(line) / 4 <= enclosed_area(line) + 0.5 <= expected + 1
    rows, columns = np.nonzero(numbers)
    assert abs(line[:, 0].mean() - columns.mean() - 0.5) < (8 if shape == "two parts" else 1)
    assert abs(line[:, 1].mean() - rows.mean() - 0.5) < (8 if shape == "two parts" else 1)


def test_crops_come_from_the_original_and_stay_inside():
    numbers = separate(disc(112, 112, 14) | disc(6, 217, 6))
    cells = measured(numbers, disc(112, 112, 14).astype(np.float32))
    wide = np.zeros((448, 896, 3), np.uint8)
    wide[224 - 28 : 224 + 28, 448 - 56 : 448 + 56] = (90, 10, 120)
    middle, corner = crop(wide, cells[0]), crop(wide, cells[1])
    assert middle.shape[0] == middle.shape[1] == round(1.6 * 29 * 4)
    assert (middle[middle.shape[0] // 2, middle.shape[1] // 2] == (90, 10, 120)).all()
    assert corner.shape[0] == corner.shape[1] <= 448
    tiny = crop(np.zeros((20, 300, 3), np.uint8), cells[0])
    assert tiny.shape == (20, 20, 3)
