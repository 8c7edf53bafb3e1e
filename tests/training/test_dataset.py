import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, encode
from hypothesis import given
from hypothesis import strategies as st

from mseenet.config import CLASS_NAMES
from mseenet.training.dataset import (
    FOLDER_NAMES,
    DatasetError,
    Sample,
    index_dataset,
    load_images,
)
from mseenet.training.splits import (
    block_split,
    near_duplicates,
    random_split,
    read_split,
    split_csv,
)


def write_images(folder: Path, names: tuple[str, ...], per_class: int = 4) -> Path:
    """Tiny images of different single colours in class folders."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.full((2, 2, 3), (label, i, 7), np.uint8)
            (folder / name / f"field-{i:03d}.png").write_bytes(encode(pixels))
    return folder


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_images(tmp_path / "data", ("Benign", "Early", "Pre", "Pro"))


def samples_of(sizes: dict[int, list[int]]) -> list[Sample]:
    """Samples by label; each number is the size of a group with equal pixels."""
    return [
        Sample(
            f"{CLASS_NAMES[label]}/{g}-{i}.png", Path(), label, f"{label}-{g}-{i}", f"{label}-{g}"
        )
        for label, groups in sizes.items()
        for g, size in enumerate(groups)
        for i in range(size)
    ]


@pytest.mark.parametrize("layout", range(3))
def test_published_layouts_give_the_same_index(tmp_path, layout):
    names = tuple(aliases[layout % len(aliases)] for aliases in FOLDER_NAMES.values())
    index = index_dataset(write_images(tmp_path / "data", names))
    assert [s.file for s in index.samples][:2] == ["Benign/field-000.png", "Benign/field-001.png"]
    assert [s.label for s in index.samples] == sorted([0, 1, 2, 3] * 4)
    assert not index.unexpected


@pytest.mark.parametrize("parent", ["Original", "Blood cell Cancer [ALL]"])
def test_the_folder_above_is_accepted(tmp_path, parent):
    write_images(tmp_path / "data" / parent, ("Benign", "Early", "Pre", "Pro"))
    assert len(index_dataset(tmp_path / "data").samples) == 16


def test_unexpected_things_are_reported_and_left_out(dataset):
    (dataset / "Segmented").mkdir()
    (dataset / "Pre" / "notes.txt").write_text("hello")
    (dataset / "Pre" / "broken.jpg").write_bytes(b"")
    index = index_dataset(dataset)
    assert len(index.samples) == 16
    report = index.describe()
    for words in ("Segmented", "notes.txt is not an image", "broken.jpg: expected an image"):
        assert words in report


@pytest.mark.skipif(sys.platform != "linux", reason="others keep no such name")
def test_a_name_that_no_split_file_could_hold_is_left_out(dataset):
    odd = dataset / "Pre" / os.fsdecode(b"field-\xff.png")
    odd.write_bytes(encode(np.full((2, 2, 3), 200, np.uint8)))
    index = index_dataset(dataset)
    assert len(index.samples) == 16
    (line,) = index.unexpected
    assert "expected a name in UTF-8" in line
    assert index.describe().encode()


def test_the_same_pixels_in_two_classes_are_left_out(dataset):
    content = (dataset / "Pre" / "field-000.png").read_bytes()
    (dataset / "Pro" / "copy.png").write_bytes(content)
    index = index_dataset(dataset)
    files = {sample.file for sample in index.samples}
    assert not files & {"Pre-B/field-000.png", "Pro-B/copy.png"}
    assert sum("another class" in line for line in index.unexpected) == 2


def test_pixel_identical_images_are_known_whatever_the_file_format(dataset):
    pixels = np.full((2, 2, 3), (1, 0, 7), np.uint8)
    (dataset / "Early" / "again.bmp").write_bytes(encode(pixels, "BMP"))
    index = index_dataset(dataset)
    twins = {
        s.pixel_sha256
        for s in index.samples
        if s.file.endswith(("again.bmp", "Early Pre-B/field-000.png"))
    }
    assert len(twins) == 1
    assert "1 repeat the pixels" in index.describe()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: None, "found no folder there"),
        (lambda d: d.mkdir(), "found an empty folder"),
        (lambda d: write_images(d, ("Benign", "Early", "Pre")), "no folder for class Pro-B"),
        (
            lambda d: write_images(d, ("Benign", "Early", "Pre", "Pro", "Pro-B")),
            "are both for Pro-B",
        ),
    ],
)
def test_unusable_folders(tmp_path, damage, message):
    damage(tmp_path / "data")
    with pytest.raises(DatasetError, match=message):
        index_dataset(tmp_path / "data")


def test_a_class_without_images(dataset):
    for path in (dataset / "Pro").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="expected images"):
        index_dataset(dataset)
    (dataset / "Pro" / "broken.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match="class Pro-B has no usable image"):
        index_dataset(dataset)


def test_images_are_loaded_in_order(dataset):
    index = index_dataset(dataset)
    pixels = load_images(index.samples, size=8)
    assert pixels.shape == (16, 8, 8, 3)
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], index.labels)


group_sizes = st.lists(st.integers(1, 3), min_size=20, max_size=60)


@given(sizes=st.tuples(*[group_sizes] * 4), seed=st.integers(0, 2**31))
def test_random_split_is_a_partition_that_keeps_groups_and_proportions(sizes, seed):
    samples = samples_of(dict(enumerate(sizes)))
    split = random_split(samples, seed)
    assert split.assignment.keys() == {sample.file for sample in samples}
    parts = {}
    for sample in samples:
        parts.setdefault(sample.pixel_sha256, set()).add(split.assignment[sample.file])
    assert all(len(names) == 1 for names in parts.values())
    for label, groups in enumerate(sizes):
        names = [split.assignment[s.file] for s in samples if s.label == label]
        for part in ("val", "test"):
            assert abs(names.count(part) - 0.1 * sum(groups)) <= 3


def test_random_split_depends_on_seed_and_pixels_only():
    samples = samples_of({label: [1] * 40 for label in range(4)})
    split = random_split(samples, 1)
    shuffled = random.Random(0).sample(samples, len(samples))
    assert random_split(shuffled, 1).assignment == split.assignment
    assert random_split(samples, 2).assignment != split.assignment
    renamed = [replace(s, file=s.file.replace(".png", ".tif")) for s in samples]
    again = random_split(renamed, 1).assignment
    assert {f.replace(".tif", ".png"): p for f, p in again.items()} == split.assignment


def test_random_split_is_the_same_under_every_hash_seed():
    code = (
        "import sys; sys.path[:0] = ['.', 'tests', 'tests/training']\n"
        "import hashlib; from test_dataset import samples_of; from mseenet.training.splits import random_split, split_csv\n"
        "s = samples_of({i: [1, 2] * 15 for i in range(4)})\n"
        "print(hashlib.sha256(split_csv(random_split(s, 5), s)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert digests == {"c45ef32513f11083362259a7569a4b629d0c7a6d49916b449027b897480eb268\n"}


def test_too_few_images_for_a_split():
    with pytest.raises(DatasetError, match="none left for"):
        random_split(samples_of({label: [1] * 3 for label in range(4)}), 0)


def test_split_file_round_trip_and_check(tmp_path, dataset):
    for label, name in enumerate(("Benign", "Early", "Pre", "Pro")):
        for i in range(4, 20):
            pixels = np.full((2, 2, 3), (label, i, 7), np.uint8)
            (dataset / name / f"field, {i}.png").write_bytes(encode(pixels))
    index = index_dataset(dataset)
    split = random_split(index.samples, 0)
    path = tmp_path / "split.csv"
    path.write_bytes(split_csv(split, index.samples))
    assert read_split(path, index, "random", 0) == split

    (dataset / "Pre" / "field-001.png").write_bytes(encode(np.zeros((3, 3, 3), np.uint8)))
    with pytest.raises(DatasetError, match=r"1 of the 80 images .* first Pre-B/field-001\.png"):
        read_split(path, index_dataset(dataset), "random", 0)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="columns split, file, sha256"):
        read_split(path, index, "random", 0)


def numbered(counts: tuple[int, ...], step: int = 1) -> list[Sample]:
    """Samples with running file numbers, as in the published archive."""
    return [
        Sample(
            f"{name}/WBC-{name}-{i * step:04d}.jpg", Path(), label, f"{label}-{i}", f"{label}-{i}"
        )
        for label, (name, count) in enumerate(zip(CLASS_NAMES, counts, strict=True))
        for i in range(count)
    ]


def number_of(sample: Sample) -> int:
    return int(Path(sample.file).stem[-4:])


@given(
    counts=st.tuples(*[st.integers(30, 90)] * 4),  # enough for the widest embargo
    step=st.integers(1, 3),
    embargo=st.integers(0, 8),
    seed=st.integers(0, 9),
)
def test_blocks_test_each_image_once_and_keep_their_distance(counts, step, embargo, seed):
    samples = numbered(counts, step)
    random.Random(seed).shuffle(samples)  # the order on disk says nothing
    tested = []
    for fold in range(5):
        split = block_split(samples, fold, embargo)
        for label in range(4):
            mine = [s for s in samples if s.label == label]
            test = [number_of(s) for s in mine if split.assignment.get(s.file) == "test"]
            train = [number_of(s) for s in mine if split.assignment.get(s.file) == "train"]
            assert all(n < min(test) - embargo or n > max(test) + embargo for n in train)
            left_out = len(mine) - len(test) - len(train)
            assert left_out <= 2 * embargo
        tested += [file for file, part in split.assignment.items() if part == "test"]
    assert sorted(tested) == sorted(s.file for s in samples)


def test_what_repeats_a_tested_image_is_not_trained_on():
    samples = numbered((30, 30, 30, 30))
    # image 29 of the first class repeats image 0, which fold 0 tests; 12 and 13 are both trained
    split = block_split(samples, 0, 3, [(0, 29), (12, 13)])
    assert split.assignment[samples[0].file] == "test"
    assert samples[29].file not in split.assignment
    assert split.assignment[samples[12].file] == split.assignment[samples[13].file] == "train"
    split = block_split(samples, 4, 3, [(0, 29)])
    assert split.assignment[samples[29].file] == "test"
    assert samples[0].file not in split.assignment


def test_unusable_blocks():
    samples = numbered((30, 30, 30, 30))
    with pytest.raises(ValueError, match="expected fold in"):
        block_split(samples, 5, 0)
    with pytest.raises(DatasetError, match="embargo of 100 files leaves nothing"):
        block_split(samples, 0, 100)
    with pytest.raises(DatasetError, match="class Pro-B: expected at least 5 images"):
        block_split(numbered((30, 30, 30, 3)), 4, 0)
    with pytest.raises(DatasetError, match="ends in a number"):
        block_split([replace(samples[0], file="Benign/none.png"), *samples[1:]], 0, 0)


def test_near_duplicates_are_found_at_any_light(fields):
    darker = (0.7 * fields[1]).astype(np.uint8)
    assert near_duplicates(np.stack([*fields, darker])) == [(1, 4)]
