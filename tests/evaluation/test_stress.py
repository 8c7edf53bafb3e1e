"""Stress tests on rendered fields: the images show what they say, and the figures count it."""

from types import SimpleNamespace

import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.stress import (
    ANOTHER_CLASS,
    HALF,
    NO_CELLS,
    ONLY_CELLS,
    RESTAINED,
    SAME_CLASS,
    STRESS_TESTS,
    TESTED_CUTTERS,
    UNCHANGED,
    background_sentence,
    file_order_blocks,
    follows_background,
    measure_stress,
    stress_fields,
    stress_figures,
    stress_findings,
)
from mseenet.imaging.nuclei import nucleus_mask
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.imaging.transplant import HELD_OUT, TRAINING_CUTTERS
from mseenet.inference.classifier import Prediction

LABELS = np.array([0, 1, 2, 0, 1, 2])
IMAGES = np.stack([render_field(STYLES[label], seed=40 + i) for i, label in enumerate(LABELS)])
WITH_DONORS = (*SAME_CLASS.values(), *ANOTHER_CLASS.values(), RESTAINED)


@pytest.fixture(scope="module")
def stressed():
    return stress_fields(IMAGES, LABELS)


def prediction(status: str, named: int, confidence: float = 0.7) -> Prediction:
    return Prediction(status, CLASS_NAMES[named], confidence=confidence)


def proportions(figures: dict) -> dict[str, float]:
    return {k: v["proportion"] for k, v in figures.items() if isinstance(v, dict)}


def test_one_of_the_cutters_is_used_by_no_recipe():
    assert HELD_OUT in TESTED_CUTTERS
    assert set(TESTED_CUTTERS) & set(TRAINING_CUTTERS)


@pytest.mark.parametrize("test", STRESS_TESTS)
def test_donors_have_the_class_that_the_test_names(stressed, test):
    donors = stressed.donors(test)
    if test not in WITH_DONORS:
        assert (donors == -1).all()
        return
    assert (donors != np.arange(len(LABELS))).all()
    assert ((LABELS[donors] == LABELS) == (test in SAME_CLASS.values())).all()


def test_both_cutters_get_the_same_donors(stressed):
    for tests in (SAME_CLASS, ANOTHER_CLASS):
        one, other = (stressed.donors(test) for test in tests.values())
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("test", [test for test in STRESS_TESTS if test != UNCHANGED])
def test_images_are_the_same_each_time_and_not_the_field(stressed, test):
    donor = stressed.donors(test)[0]
    one, other = (stressed.make(test, 0, donor) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.uint8
    assert np.any(one != IMAGES[0])


def test_cells_stay_or_go(stressed):
    whole = nucleus_mask(IMAGES[2])
    donor = stressed.donors(ANOTHER_CLASS["feathered"])[2]
    kept = {
        test: nucleus_mask(stressed.make(test, 2, donor))[whole].mean()
        for test in (*ANOTHER_CLASS.values(), HALF, NO_CELLS)
    }
    assert all(kept[test] > 0.8 for test in ANOTHER_CLASS.values())
    assert 0.2 < kept[HALF] < 0.8
    assert kept[NO_CELLS] < 0.1


def test_background_comes_from_the_donor(stressed):
    donor = stressed.donors(ANOTHER_CLASS["feathered"])[1]
    image = stressed.make(ANOTHER_CLASS["feathered"], 1, donor)
    changed = np.any(image != stressed.emptied[donor], axis=-1)
    assert stressed.masks[1][changed].any()
    assert changed.mean() < 0.6
    only = stressed.make(ONLY_CELLS, 1, -1)
    np.testing.assert_array_equal(only[stressed.masks[1]], IMAGES[1][stressed.masks[1]])


def test_nothing_is_made_where_there_is_nothing_to_test():
    empty = np.full((1, 224, 224, 3), 230, np.uint8)
    alone = stress_fields(empty, np.array([0]))
    assert not alone.masks.any()
    made = {test: alone.make(test, 0, -1) for test in STRESS_TESTS}
    assert [test for test, image in made.items() if image is not None] == [UNCHANGED]
    with pytest.raises(ValueError, match="expected one of"):
        alone.make("upside down", 0, -1)


def test_figures_count_what_they_name():
    figures = stress_figures(
        named=np.array([0, 1, 1, 2]),
        confidence=np.array([0.7, 0.7, 0.9, 0.7]),
        status=np.array(["ok", "review", "ok", "rejected"]),
        labels=np.array([0, 1, 2, 2]),
        donor_labels=np.array([1, 2, 1, 2]),
        groups=np.array([0, 0, 1, 1]),
    )
    assert figures["n"] == 4
    assert figures["mean_confidence"] == pytest.approx(0.75)
    assert proportions(figures) == {
        "right": 0.75,
        "donor": pytest.approx(1 / 3),  # the fourth field's donor has its own class
        "ok": 0.5,
        "right_of_ok": 0.5,
        "review": 0.25,
        "rejected": 0.25,
    }
    assert figures["right"]["interval_95"] == [0.5, 1]  # whole groups are drawn
    assert figures["donor"]["n"] == 3
    assert figures["right_of_ok"]["n"] == 2


def test_figures_without_donors_and_without_ok():
    figures = stress_figures(
        np.zeros(4, int),
        np.full(4, 0.7),
        np.full(4, "review"),
        np.zeros(4, int),
        np.full(4, -1),
        np.arange(4),
    )
    assert "donor" not in figures
    assert figures["right_of_ok"]["n"] == 0
    assert figures["right"]["interval_95"][0] < 1  # a bootstrap would claim certainty


class Stub:
    """Answers with the class whose rendered background is nearest in colour: no cell counts."""

    def __init__(self):
        self.colors = np.array([np.median(IMAGES[i], axis=(0, 1)) for i in range(3)])

    def stream(self, images, include_rejected):
        assert include_rejected
        for image in images:
            color = np.median(image, axis=(0, 1))
            yield prediction("ok", int(np.abs(self.colors - color).sum(axis=1).argmin()))


def test_a_reader_of_backgrounds_is_found_out():
    measured = measure_stress(Stub(), IMAGES, LABELS, np.arange(len(LABELS)), "robust")
    tests = measured["tests"]
    assert list(tests) == list(STRESS_TESTS)
    assert tests[UNCHANGED]["right"]["proportion"] == 1
    for test in ANOTHER_CLASS.values():
        assert tests[test]["right"]["proportion"] == 0
        assert tests[test]["donor"]["proportion"] == 1
    for test in SAME_CLASS.values():
        assert tests[test]["right"]["proportion"] == 1
    assert follows_background(tests)
    assert any("follows red cells and plasma" in line for line in measured["summary"])
    assert "training does nothing about it" in measured["summary"][0]
    assert (
        "class 0.0 and 0.0 % are right, on that of their own class 100.0" in measured["summary"][0]
    )
    assert "class 100.0 and 100.0 % get" in measured["summary"][1]


def test_a_reader_of_cells_is_not():
    record = {"proportion": 0.98, "n": 100, "interval_95": [0.93, 0.99]}
    tests = {
        test: {"right": record, "donor": record | {"proportion": 0.01}}
        for test in (*SAME_CLASS.values(), *ANOTHER_CLASS.values())
    }
    assert not follows_background(tests)
    sentence, donors = stress_findings(tests, "cells")
    assert sentence == background_sentence(tests, "cells")
    assert "training also shows nucleated cells on backgrounds of other classes" in sentence
    assert "98.0 and 98.0 % are right" in sentence
    assert "1.0 and 1.0 % get the class of the background" in donors


def test_tests_that_nothing_can_be_made_for_are_left_out():
    one_class = measure_stress(Stub(), IMAGES[:1], LABELS[:1], np.zeros(1, int), "cells")
    assert list(one_class["tests"]) == [UNCHANGED, HALF, ONLY_CELLS, NO_CELLS]
    assert len(one_class["summary"]) == 1


def test_blocks_follow_the_file_order_of_each_class():
    samples = [
        SimpleNamespace(file=f"{name}/field-{i:03}.png", label=label)
        for label, name in enumerate(CLASS_NAMES)
        for i in range(10)
    ]
    index = SimpleNamespace(samples=samples, labels=np.array([s.label for s in samples]))
    assert file_order_blocks(index).tolist() == np.repeat(np.arange(20), 2).tolist()
