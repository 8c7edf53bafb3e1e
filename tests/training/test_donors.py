import numpy as np
import pytest
from scipy import ndimage

from mseenet.imaging.nuclei import count_nucleated_cells, nucleus_mask
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.training.donors import BARE, KINDS, MANY, draw_donors, prepare

FIELDS = np.stack([render_field(style, seed=20 + k) for k, style in enumerate(STYLES)])
LABELS = np.array([0, 1, 1, 2])
SERIES = ["a", "b", "b", "b"]


@pytest.fixture(scope="module")
def prepared():
    return prepare(FIELDS, seed=0)


def test_series_are_donors_equally_often_and_none_of_the_own_class():
    labels = np.array([0] * 300 + [1] * 30 + [1] * 3)
    series = ["a"] * 300 + ["b"] * 30 + ["c"] * 3
    donors = draw_donors("transplanted", labels, series, np.random.default_rng(0))
    assert np.all(labels[donors] != labels)
    assert 0.4 < np.mean(donors[:300] >= 330) < 0.6


def test_emptied_fields_keep_their_own_ground():
    donors = draw_donors("emptied", LABELS, SERIES, np.random.default_rng(0))
    np.testing.assert_array_equal(donors, np.arange(4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_state_gives_the_same_image(prepared, kind):
    one, other = (prepared.make(kind, 1, 0, np.random.default_rng(5)) for _ in range(2))
    assert one.shape == (224, 224, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)
    assert np.any(one != prepared.make(kind, 1, 0, np.random.default_rng(6)))


def test_emptied_fields_show_no_cell_and_are_of_the_field_itself(prepared):
    for i in range(len(FIELDS)):
        image = prepared.make("emptied", i, i, np.random.default_rng(i))
        assert nucleus_mask(image).mean() < 0.1 * nucleus_mask(FIELDS[i]).mean()
        assert abs(image.mean() - prepared.grounds[i].mean()) < 0.01


def test_cells_lie_in_place_on_a_turned_ground(prepared):
    random = np.random.default_rng(1)
    mask = nucleus_mask(FIELDS[2])
    core = ndimage.binary_erosion(mask, iterations=3)
    shares = [
        np.mean(nucleus_mask(prepared.make("transplanted", 2, 0, random))[core]) for _ in range(12)
    ]
    assert max(shares) > 0.9  # all cells, or nearly
    assert min(shares) < 0.8  # some of them


def test_scattered_cells_are_few_or_many(prepared):
    random = np.random.default_rng(2)
    counts = [
        count_nucleated_cells(image, nucleus_mask(image)).count
        for image in (prepared.make("scattered", 1, 0, random) for _ in range(60))
    ]
    assert min(counts) <= 1
    assert 8 < max(counts) <= MANY


def test_a_field_without_cells_is_no_obstacle(prepared):
    fields = np.concatenate([prepared.grounds[:1], FIELDS[1:2]])
    bare = prepare(fields, seed=0)
    for kind in KINDS:
        assert bare.make(kind, 0, 1, np.random.default_rng(0)).shape == (224, 224, 3)


@pytest.mark.parametrize("kind", ["transplanted", "scattered"])
def test_the_ground_is_the_donors(kind):
    # Each field has its own grey ground, on which no cell is found.
    fields = np.concatenate([np.full_like(FIELDS[:1], 60 * k + 60) for k in range(3)])
    flat = prepare(fields, seed=0)
    for donor in (1, 2):
        image = flat.make(kind, 0, donor, np.random.default_rng(donor))
        assert int(np.median(image)) == 60 * donor + 60


def test_some_cells_lie_on_plasma_alone(prepared):
    random = np.random.default_rng(7)
    bare = 0
    for _ in range(40):
        image = prepared.make("transplanted", 0, 1, random)
        bare += np.all(image == np.round(prepared.plasma[1]), axis=-1).mean() > 0.5
    assert BARE / 3 < bare / 40 < 2.5 * BARE


def test_fields_of_one_class_have_no_donors():
    with pytest.raises(ValueError, match="two classes at least"):
        draw_donors("scattered", np.ones(4, int), SERIES, np.random.default_rng(0))
