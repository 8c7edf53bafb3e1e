import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, example_fields, render_field, write_dataset
from mseenet.training.dataset import index_dataset


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)
def test_a_field_is_determined_by_its_seed(style):
    field = render_field(style, seed=5)
    assert field.shape == (224, 224, 3)
    assert field.dtype == np.uint8
    np.testing.assert_array_equal(field, render_field(style, seed=5))
    assert (field != render_field(style, seed=6)).any()


def test_a_field_has_background_stained_nuclei_and_a_scale_bar():
    style = STYLES[2]
    field = render_field(style, seed=1).astype(float)
    np.testing.assert_allclose(np.median(field, axis=(0, 1)), style.background, atol=12)
    stained = np.abs(field - style.nucleus).max(axis=2) < 45
    area = style.nucleated_cells * np.pi * style.nucleated_radius**2
    assert 0.3 * area < stained.sum() < 1.2 * area
    assert (field[209:218, 195:217].min(axis=(0, 1)) < 60).all()


def test_other_sizes():
    assert render_field(STYLES[0], seed=0, size=96).shape == (96, 96, 3)


def test_written_dataset_has_the_layout_of_the_real_one(tmp_path):
    write_dataset(tmp_path, per_class=3)
    index = index_dataset(tmp_path)
    assert [s.label for s in index.samples] == [
        i for i in range(len(CLASS_NAMES)) for _ in range(3)
    ]
    assert len({s.pixel_sha256 for s in index.samples}) == 12


def test_examples_are_named_as_synthetic():
    assert len(example_fields()) == 4
    assert all(name.startswith("synthetic-") for name in example_fields())
