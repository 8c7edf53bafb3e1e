import numpy as np
import pytest
from scipy import ndimage

from mseenet.imaging.nuclei import RIM, nucleus_mask
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.imaging.transplant import (
    CUTTERS,
    HELD_OUT,
    TRAINING_CUTTERS,
    cut_feathered,
    cut_hard,
    empty_field,
    restain,
    scatter,
    separate,
    transplant,
)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    return render_field(STYLES[1], seed=101)


@pytest.fixture(scope="module")
def mask(field) -> np.ndarray:
    return nucleus_mask(field)


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    other = render_field(STYLES[0], seed=5)
    return empty_field(other, nucleus_mask(other), np.random.default_rng(0))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def discs(*centres: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:224, :224]
    return np.any([np.hypot(y - row, x - column) <= r for row, column, r in centres], axis=0)


def test_touching_cells_are_divided_and_numbered_without_gaps():
    numbers = separate(discs((60, 60, 13), (60, 83, 11), (150, 150, 12)))
    assert sorted(np.unique(numbers)) == [0, 1, 2, 3]
    assert len({numbers[60, 60], numbers[60, 83], numbers[150, 150]}) == 3
    assert numbers[60, 70] == numbers[60, 60]  # the larger one reaches farther
    assert not separate(np.zeros((224, 224), bool)).any()


def test_the_held_out_cutter_is_no_training_cutter():
    assert HELD_OUT in CUTTERS
    assert HELD_OUT not in TRAINING_CUTTERS
    assert len(CUTTERS) == len(TRAINING_CUTTERS) + 1


@pytest.mark.parametrize("name", CUTTERS)
def test_cells_arrive_and_the_ground_stays(name, field, mask, ground):
    cells = CUTTERS[name](field, mask, random())
    result = transplant(cells, ground)
    core = ndimage.binary_erosion(mask, iterations=3)
    core[-40:, -40:] = False
    far = ndimage.distance_transform_edt(~mask) > RIM + 6
    assert cells.count >= 5
    np.testing.assert_array_equal(result[far], ground[far])
    assert np.mean(np.all(result[core] == field[core], axis=-1)) > 0.95
    again = CUTTERS[name](field, mask, random())
    np.testing.assert_array_equal(again.weight, cells.weight)
    np.testing.assert_array_equal(again.owner, cells.owner)


def test_the_held_out_cutter_cuts_other_outlines(field, mask):
    outlines = {
        name: cutter(field, mask, random()).weight > 0.5 for name, cutter in CUTTERS.items()
    }
    hard, feathered, other = (outlines[name] for name in ("hard", "feathered", HELD_OUT))
    assert np.mean(hard ^ other) > 2 * np.mean(hard ^ feathered)


def test_edges_are_hard_or_soft(field, mask):
    assert set(np.unique(cut_hard(field, mask, random()).weight)) == {0, 1}
    soft = cut_feathered(field, mask, random()).weight
    assert np.mean((soft > 0) & (soft < 1)) > 0.001


@pytest.mark.parametrize("style", STYLES)
def test_an_empty_field_shows_no_cell_and_is_else_the_same(style):
    field = render_field(style, seed=7)
    mask = nucleus_mask(field)
    assert mask.mean() > 0.02
    empty = empty_field(field, mask, random())
    far = ndimage.distance_transform_edt(~mask) > RIM + 6
    np.testing.assert_array_equal(empty[far], field[far])
    assert nucleus_mask(empty).mean() < 0.1 * mask.mean()


def test_a_field_without_cells_stays_as_it_is(ground):
    nothing = np.zeros(ground.shape[:2], bool)
    np.testing.assert_array_equal(empty_field(ground, nothing, random()), ground)
    for cutter in CUTTERS.values():
        cells = cutter(ground, nothing, random())
        assert cells.count == 0
        np.testing.assert_array_equal(transplant(cells, ground), ground)


def test_only_chosen_cells_are_kept(field, mask, ground):
    cells = cut_hard(field, mask, random())
    chosen = np.arange(cells.count) % 2 == 0
    kept = cells.keep(chosen)
    assert kept.count == chosen.sum()
    both = kept.weight + cells.keep(~chosen).weight
    np.testing.assert_array_equal(both, cells.weight)
    assert cells.keep(np.zeros(cells.count, bool)).weight.sum() == 0


def test_scattered_cells_are_as_many_as_asked_for(field, mask, ground):
    cells = cut_hard(field, mask, random())
    for count in (1, 3, 6):
        result = scatter(cells, ground, count, random(count))
        _, found = ndimage.label(np.abs(result.astype(int) - ground).sum(axis=-1) > 0)
        assert 1 <= found <= 3 * count
        assert nucleus_mask(result).any()
        np.testing.assert_array_equal(result, scatter(cells, ground, count, random(count)))
    areas = [
        np.mean(np.any(scatter(cells, ground, count, random()) != ground, axis=-1))
        for count in (1, 6)
    ]
    assert areas[1] > 3 * areas[0]
    nothing = cells.keep(np.zeros(cells.count, bool))
    np.testing.assert_array_equal(scatter(nothing, ground, 4, random()), ground)


def test_restaining_takes_on_the_donors_density(field):
    donor = render_field(STYLES[3], seed=3)
    result = restain(field, donor)

    def density(rgb):
        return -np.log10((rgb + 1.0) / 256)

    for statistic, tolerance in ((np.mean, 0.01), (np.std, 0.02)):
        got, wanted = (statistic(density(rgb), axis=(0, 1)) for rgb in (result, donor))
        np.testing.assert_allclose(got, wanted, atol=tolerance)
    np.testing.assert_allclose(restain(field, field).astype(int), field, atol=1)
