from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.training.dataset import DatasetError, Sample
from mseenet.training.series import (
    EMBARGO,
    PROTOCOLS,
    RANGES,
    SERIES_FOLDS,
    SIBLING_FOLDS,
    Capture,
    balance,
    find_captures,
    part_names,
    read_captures,
    series_of,
    series_split,
)
from tools.fold_network import without_folds


def made_up() -> tuple[list[Sample], list[Capture]]:
    """All that the table lists, without pixels."""
    samples, captures = [], []
    for (class_name, number), capture in read_captures().items():
        file = f"{class_name}/WBC-{number:03d}.jpg"
        label = CLASS_NAMES.index(class_name)
        samples.append(Sample(file, Path(file), label, file, file))
        captures.append(capture)
    return samples, captures


SAMPLES, CAPTURES = made_up()
NAMES = part_names([sample.label for sample in SAMPLES], CAPTURES)


def test_the_table_has_every_file_of_the_dataset_once():
    assert len(SAMPLES) == 3256
    counts = np.bincount([sample.label for sample in SAMPLES])
    np.testing.assert_array_equal(counts, [504, 985, 963, 804])
    assert len({(s.label, c.series) for s, c in zip(SAMPLES, CAPTURES, strict=True)}) == 17
    assert sum(capture.index is None for capture in CAPTURES) == 3


def test_23_parts_are_tested_once_each():
    tested = [part for fold in SERIES_FOLDS for part in fold]
    assert len(tested) == len(set(tested)) == 23
    assert set(tested) == set(NAMES)
    files = [
        file
        for fold in range(len(SERIES_FOLDS))
        for file, part in series_split(SAMPLES, CAPTURES, "series", fold).assignment.items()
        if part == "test"
    ]
    assert sorted(files) == sorted(sample.file for sample in SAMPLES)


def test_siblings_test_every_part_once():
    tested = [part for fold in SIBLING_FOLDS for part in fold]
    assert len(tested) == len(set(tested))
    assert set(tested) == set(NAMES)


@pytest.mark.parametrize(
    ("protocol", "fold"),
    [(protocol, fold) for protocol, (folds, _) in PROTOCOLS.items() for fold in range(len(folds))],
)
def test_training_shares_no_series_with_the_test_but_far_captures_of_cut_ones(protocol, fold):
    split = series_split(SAMPLES, CAPTURES, protocol, fold)
    where = [split.assignment.get(sample.file) for sample in SAMPLES]
    keys = [(CLASS_NAMES[s.label], c.series) for s, c in zip(SAMPLES, CAPTURES, strict=True)]
    train = {key for key, part in zip(keys, where, strict=True) if part == "train"}
    test = {key for key, part in zip(keys, where, strict=True) if part == "test"}
    assert train & test <= set(RANGES)
    for series in train & test:
        index = np.array(
            [c.index if k == series else -1 for c, k in zip(CAPTURES, keys, strict=True)]
        )
        mine = np.array([key == series for key in keys])
        trained = index[mine & (np.array(where) == "train")]
        tested = index[mine & (np.array(where) == "test")]
        assert np.abs(trained[:, None] - tested).min() > EMBARGO
    assert {
        CLASS_NAMES[s.label] for s, w in zip(SAMPLES, where, strict=True) if w == "train"
    } == set(CLASS_NAMES)


def test_without_two_folds_nothing_near_their_tests_is_trained_on():
    split = without_folds(SAMPLES, "series-siblings", (1, 2), [])
    both = [series_split(SAMPLES, CAPTURES, "series-siblings", fold).assignment for fold in (1, 2)]
    for sample, name in zip(SAMPLES, NAMES, strict=True):
        part = split.assignment.get(sample.file)
        assert (part == "test") == (name in SIBLING_FOLDS[1] + SIBLING_FOLDS[2])
        if part == "train":
            assert all(fold[sample.file] == "train" for fold in both)
    train = [s.label for s in SAMPLES if split.assignment.get(s.file) == "train"]
    assert min(np.bincount(train, minlength=len(CLASS_NAMES))) > 100


def test_ranges_hold_equally_many_fields_in_the_order_of_captures():
    for series, ranges in RANGES.items():
        chosen = [
            [c.index for c, n in zip(CAPTURES, NAMES, strict=True) if n == (*series, k)]
            for k in range(1, ranges + 1)
        ]
        sizes = [len(indices) for indices in chosen]
        assert max(sizes) - min(sizes) <= 1
        for earlier, later in pairwise(chosen):
            assert max(earlier) <= min(later)


def test_what_repeats_a_test_image_is_not_trained_on():
    split = series_split(SAMPLES, CAPTURES, "series", 0)
    parts = [split.assignment.get(sample.file) for sample in SAMPLES]
    one, other = parts.index("test"), parts.index("train")
    for pair in ((one, other), (other, one)):
        purged = series_split(SAMPLES, CAPTURES, "series", 0, [pair])
        assert SAMPLES[other].file not in purged.assignment
        assert purged.assignment[SAMPLES[one].file] == "test"
        assert len(purged.assignment) == len(split.assignment) - 1


@pytest.mark.parametrize(("protocol", "fold"), [("series", 5), ("series", -1), ("blocks", 0)])
def test_unknown_folds_are_named(protocol, fold):
    with pytest.raises(ValueError, match=f"received {protocol}, {fold}"):
        series_split(SAMPLES, CAPTURES, protocol, fold)


def test_a_missing_part_or_class_is_named():
    without = [i for i, name in enumerate(NAMES) if name != ("Benign", "Snap_NNN (3)")]
    with pytest.raises(DatasetError, match=r"expected fields of .*Snap_NNN \(3\)"):
        series_split([SAMPLES[i] for i in without], [CAPTURES[i] for i in without], "series", 2)
    without = [
        i
        for i, n in enumerate(NAMES)
        if n[0] != "Benign" or n[1] in ("Snap_NNN (3)", "Snap_NNN (4)")
    ]
    with pytest.raises(DatasetError, match="nothing of Benign"):
        series_split(
            [SAMPLES[i] for i in without], [CAPTURES[i] for i in without], "series-siblings", 0
        )


def test_files_that_the_table_does_not_know_are_named():
    captures = read_captures()
    for name in ("WBC-Malignant-Pro-9999.jpg", "other-0001.jpg"):
        strange = Sample(f"Pro-B/{name}", Path("x"), 3, "", "")
        with pytest.raises(DatasetError, match=f"{name}: expected a file of the published"):
            find_captures([strange], captures)


def test_series_of_other_images_are_their_classes():
    samples = [
        Sample(f"Pro-B/{name}.jpg", Path("x"), 3, "", "")
        for name in ("WBC-Malignant-Pro-001", "rendered-00001", "no number")
    ]
    known, *others = series_of(samples)
    assert known == f"Pro-B {read_captures()['Pro-B', 1].series}"
    assert others == ["Pro-B", "Pro-B"]


HEADER = "class,file_number,series,capture_index,confidence\n"


@pytest.mark.parametrize(
    "content",
    [None, "class,file_number\nPre,1\n", HEADER + "Pre,x,a,1,b\n", HEADER + 2 * "Pre,1,a,1,b\n"],
)
def test_an_unusable_table_is_named(tmp_path, content):
    path = tmp_path / "captures.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatasetError, match=r"captures\.csv: expected the columns"):
        read_captures(path)


def test_balance():
    names = ["a"] * 90 + ["b"] * 10
    np.testing.assert_allclose(balance(names, 0), 0.01)
    even = balance(names, 1)
    assert even[:90].sum() == pytest.approx(0.5)
    assert even[90:].sum() == pytest.approx(0.5)
    assert balance(names, 0.5)[90:].sum() == pytest.approx(0.25)
