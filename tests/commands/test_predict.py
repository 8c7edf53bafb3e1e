"""`mseenet predict`: what it reads, what it prints, and what it never overwrites."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, encode
from PIL import Image

from mseenet import cli
from mseenet.commands.predict import check_output, find_images, written
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.imaging.areas import area_in
from mseenet.imaging.formats import OVERLAY_SOFTWARE
from mseenet.inference.heatmaps import is_overlay


@dataclass(frozen=True)
class Done:
    """What a call of the command left behind."""

    status: int | str | None
    out: str
    err: str


@pytest.fixture
def predict(capsys):
    """Calls the command in this process."""

    def call(*arguments) -> Done:
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", *map(str, arguments)])
        return Done(end.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def ungated(ungated_weights, classifier, monkeypatch) -> tuple[str, str]:
    """Options for weights that refuse nothing, which are loaded once for all tests."""
    monkeypatch.setattr("mseenet.inference.classifier.Classifier.load", lambda *_: classifier)
    return "--weights", str(ungated_weights)


@pytest.fixture
def case(tmp_path, fields) -> Path:
    folder = tmp_path / "case"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.png").write_bytes(encode(fields[0]))
    (folder / "deeper" / "=b.jpg").write_bytes(encode(fields[1], "JPEG"))
    (folder / "c.TIF").write_bytes(encode(fields[2], "TIFF"))
    (folder / "notes.txt").write_text("not an image, and not named like one")
    return folder


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(case, classifier, fields):
    done = subprocess.run(
        [sys.executable, "-m", "mseenet.predict", case / "a.png", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    (record,) = map(json.loads, done.stdout.splitlines())
    assert record["file"] == str(case / "a.png")
    assert record["weights"] == classifier.card.sha256
    assert record["status"] in ("ok", "review", "rejected")
    assert record["novelty"] > 0


def test_json_lines_in_input_order(case, classifier, fields, predict, ungated):
    (case / "b-empty.png").write_bytes(b"")
    (case / "b-text.jpg").write_text("text")
    done = predict(case, case / "a.png", "absent.png", "--format", "json", *ungated)
    assert done.status == 1
    assert "Traceback" not in done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    names = [
        "file",
        "slide",
        "source",
        "place",
        "status",
        "predicted",
        "probabilities",
        "confidence",
        "novelty",
    ]
    names += ["nucleated_cells", "scale", "reasons", "weights", "release", "profile"]
    assert all(list(r) == names for r in records)
    names = ["a.png", "b-empty.png", "b-text.jpg", "c.TIF", "deeper/=b.jpg", "a.png"]
    assert [r["file"] for r in records] == [*(str(case / name) for name in names), "absent.png"]
    folder = str(case).removeprefix("/")
    slides = [*[folder] * 4, f"{folder}/deeper", folder, None]
    assert [r["slide"] for r in records] == slides
    assert [r["status"] for r in records] == ["ok", "error", "error", "ok", "ok", "ok", "error"]
    for r in records:
        assert r["weights"] == classifier.card.sha256
        assert r["release"] == classifier.card.release
        assert r["novelty"] is None
        if r["status"] == "error":
            assert r["predicted"] is r["probabilities"] is r["confidence"] is None
            assert len(r["reasons"]) == 1
    expected = classifier.predict(fields[:1])[0]
    assert records[0]["predicted"] == expected.class_name
    assert records[0]["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-5)


def test_csv_file_and_overlays(case, tmp_path, fields, predict, ungated):
    (case / "a.png").rename(case / "ä.png")
    target = tmp_path / "out.csv"
    options = ("--format", "csv", "--output", target, "--heatmaps", tmp_path / "maps")
    done = predict(case, *ungated, *options)
    assert (done.status, done.out) == (0, "")
    assert target.read_bytes().startswith(b"\xef\xbb\xbffile,")  # Excel then reads UTF-8
    with target.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert [Path(row["file"]).name for row in rows] == ["c.TIF", "=b.jpg", "ä.png"]
    for row in rows:
        assert row["predicted"] in CLASS_NAMES
        assert sum(float(row[name]) for name in CLASS_NAMES) == pytest.approx(1, abs=1e-4)
    overlays = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in overlays] == ["00001-c.png", "00002-=b.png", "00003-ä.png"]
    pixels = np.asarray(Image.open(overlays[2]))
    assert pixels.shape == fields[0].shape
    assert (pixels != fields[0]).any()
    assert {path.name for path in tmp_path.iterdir()} == {"case", "maps", "out.csv"}


def test_a_pattern_tells_the_slides(case, predict, ungated):
    (case / "a.png").rename(case / "S12_001.png")
    done = predict(case / "S12_001.png", "--format", "csv", "--slides", "{slide}_*", *ungated)
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert (row["slide"], row["status"]) == ("S12", "ok")


def test_a_pattern_without_a_slide_is_refused_before_all_else(case, predict):
    done = predict(case / "a.png", "--slides", "*_*")
    assert done.status == 2
    assert "with {slide} once" in done.err


def test_standard_output_has_no_byte_order_mark(case, predict, ungated):
    assert predict(case / "a.png", "--format", "csv", *ungated).out.startswith("file,")


def test_table_and_all_good(case, predict, ungated):
    done = predict(case / "a.png", *ungated)
    assert done.status == 0
    header, line = done.out.splitlines()
    assert header.split() == ["status", "class", "confidence", "cells", "file"]
    assert line.endswith("a.png")


def test_a_folder_without_images_does_not_stop_the_others(case, tmp_path, predict, ungated):
    (tmp_path / "empty").mkdir()
    done = predict(tmp_path / "empty", case / "a.png", "--format", "json", *ungated)
    assert done.status == 2
    assert "empty: expected images" in done.err
    assert json.loads(done.out)["status"] == "ok"


def test_a_foreign_image_gets_no_class_unless_asked_for(
    tmp_path, foreign, predict, gated_classifier, monkeypatch
):
    monkeypatch.setattr("mseenet.inference.classifier.Classifier.load", lambda *_: gated_classifier)
    image = tmp_path / "foreign.png"
    image.write_bytes(encode(foreign))
    record = json.loads(predict(image, "--format", "json").out)
    assert record["status"] == "rejected"
    assert record["predicted"] is record["probabilities"] is record["confidence"] is None
    assert record["novelty"] >= 1
    assert "unlike the fields" in record["reasons"][0]
    done = predict(image, "--format", "json", "--include-rejected")
    assert done.status == 0
    record = json.loads(done.out)
    assert record["status"] == "rejected"
    assert record["predicted"] in CLASS_NAMES
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_nothing_to_predict(tmp_path, predict):
    done = predict(tmp_path)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"error: {tmp_path}: expected images (.png, ")
    assert line.endswith("), found none")


@pytest.mark.parametrize("arguments", [[], ["--format", "xml", "a.png"], ["--nonsense", "a.png"]])
def test_wrong_usage(arguments, predict):
    done = predict(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error:")


def test_unusable_weights(field_png, tmp_path, weights_copy, predict):
    image = tmp_path / "a.png"
    image.write_bytes(field_png)
    done = predict(image, "--weights", tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert line == f"error: {tmp_path}: expected card.json and its weights file, found no card.json"
    (path,) = weights_copy.glob("*.weights.h5")
    path.write_bytes(b"altered")
    done = predict(image, "--weights", weights_copy)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "altered or damaged" in done.err


# What must not be lost


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.png", "received one of the images"),
        ("link.txt", "received one of the images"),
        ("new.JPG", "received an image's name"),
        ("deeper", "received a folder"),
        ("notes.txt", "there is such a file already"),
        ("no folder/out.csv", "cannot be written (No such file or directory)"),
    ],
)
def test_an_output_by_which_something_would_be_lost(name, said, case, predict):
    (case / "link.txt").symlink_to(case / "a.png")
    before = {path: path.read_bytes() for path in case.rglob("*") if path.is_file()}
    done = predict(case / "a.png", "--output", case / name)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert said in line
    assert {path: path.read_bytes() for path in case.rglob("*") if path.is_file()} == before


def test_force_replaces_text_but_never_an_image(case, predict, ungated):
    done = predict(case / "a.png", "--output", case / "notes.txt", "--force", *ungated)
    assert done.status == 0
    assert "a.png" in (case / "notes.txt").read_text()
    for name in ("a.png", "c.TIF"):
        with pytest.raises(UsageError):
            check_output(case / name, [case / "a.png"], force=True)


def test_an_interrupted_run_leaves_what_was_there(tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("earlier")

    def stopped(error: type[BaseException]) -> None:
        with written(target, "csv") as stream:
            stream.write("half of it")
            raise error

    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error):
            stopped(error)
        assert target.read_text() == "earlier"
        assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named(tmp_path):
    with (
        pytest.raises(UsageError, match=r"out.csv: cannot be written \(No space left on device\)"),
        written(tmp_path / "out.csv", "csv"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_link_goes_on_leading_to_its_target(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with written(tmp_path / "link", "json") as stream:
        stream.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_device_is_written_to_and_stays_one(case):
    check_output(Path(os.devnull), [case / "a.png"], force=False)
    with written(Path(os.devnull), "csv") as stream:
        stream.write("text")
    assert Path(os.devnull).is_char_device()


def test_overlays_never_come_back_as_fields(case, predict, ungated):
    options = ("--heatmaps", case / "heat", "--format", "json", *ungated)
    first = predict(case, *options)
    overlays = sorted((case / "heat").iterdir())
    assert (first.status, len(overlays)) == (0, 3)
    assert all(map(is_overlay, overlays))
    again = predict(case, *options)
    assert (again.status, again.out) == (0, first.out)
    patterns = predict(case / "*.*", case / "heat", *options)  # as a shell writes `case/*` out
    assert patterns.status == 1  # notes.txt
    assert "heat" not in patterns.out
    assert sorted((case / "heat").iterdir()) == overlays
    only_overlays = predict(case / "heat", *options)
    assert (only_overlays.status, only_overlays.out) == (2, "")


def test_overlays_say_what_they_are(case, predict, ungated):
    assert predict(case / "a.png", "--heatmaps", case / "heat", *ungated).status == 0
    with Image.open(case / "heat" / "00001-a.png") as image:
        assert image.text == {"Software": OVERLAY_SOFTWARE}
    assert not is_overlay(case / "a.png")
    assert not is_overlay(case / "notes.txt")
    assert not is_overlay(case / "absent.png")


def test_images_among_the_overlays_are_not_passed_over(case, predict):
    done = predict(case, "--heatmaps", case / "deeper")
    assert (done.status, done.out) == (2, "")
    assert f"expected a folder without images of the case; found {case}/deeper/=b.jpg" in done.err
    assert predict(case, "--heatmaps", case).status == 2


def test_an_overlay_replaces_no_other_file(case, fields, predict):
    (case / "heat").mkdir()
    taken = case / "heat" / "00001-a.png"
    taken.write_bytes(encode(fields[3]))
    done = predict(case / "a.png", "--heatmaps", case / "heat")
    assert (done.status, done.out) == (2, "")
    assert f"{taken}: expected to write an overlay, and there is another file" in done.err
    assert taken.read_bytes() == encode(fields[3])
    assert predict(case / "a.png", "--heatmaps", case / "notes.txt").status == 2


# What is read


def test_patterns_that_the_shell_left_alone(case, fields):
    (case / "[1].png").write_bytes(encode(fields[0]))
    (case / "1.png").write_bytes(encode(fields[0]))

    def names(pattern: str) -> list[str]:
        files, problems = find_images([str(case / pattern)])
        assert problems == []
        return [file.name for file in files]

    assert names("*.png") == ["1.png", "[1].png", "a.png"]
    assert names("**/*.jpg") == ["=b.jpg"]
    assert names("?.TIF") == ["c.TIF"]
    assert names("deep*") == ["=b.jpg"]  # a folder, which is searched
    assert names("[1].png") == ["[1].png"]  # a file of that name comes first
    assert names("*.bmp") == ["*.bmp"]  # nothing fits: it will be said that there is no such file


def test_folders_are_searched_in_order_and_hidden_files_left_out(case):
    (case / ".hidden.png").write_bytes(b"")
    files, problems = find_images([str(case / "c.TIF"), str(case)])
    assert [file.name for file in files] == ["c.TIF", "a.png", "c.TIF", "=b.jpg"]
    assert problems == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every folder"
)
def test_a_folder_without_permission_is_named(case):
    locked = case / "deeper"
    locked.chmod(0)
    try:
        files, problems = find_images([str(case)])
    finally:
        locked.chmod(0o755)
    assert [file.name for file in files] == ["a.png", "c.TIF"]
    assert problems == [f"{locked}: expected a readable folder (Permission denied)"]


@pytest.mark.slow
@pytest.mark.skipif("MSEENET_DATA" not in os.environ, reason="MSEENET_DATA names no dataset folder")
def test_real_images_of_the_test_split_through_the_command(gated_classifier, predict, monkeypatch):
    """Images that training never saw: ten of each class, nearly all right."""
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.training.dataset import index_dataset
    from mseenet.training.splits import read_split

    monkeypatch.setattr("mseenet.inference.classifier.Classifier.load", lambda *_: gated_classifier)
    index = index_dataset(os.environ["MSEENET_DATA"])
    record = gated_classifier.card.content["split"]
    split = read_split(DEFAULT_WEIGHTS / record["file"], index, record["protocol"], record["seed"])
    chosen = [index.samples[i] for i in split.indices(index.samples, "test")]
    chosen = [s for label in range(4) for s in [t for t in chosen if t.label == label][:10]]
    done = predict(*(sample.path for sample in chosen), "--format", "json")
    assert done.status == 0
    predicted = [json.loads(line)["predicted"] for line in done.out.splitlines()]
    right = sum(p == CLASS_NAMES[s.label] for p, s in zip(predicted, chosen, strict=True))
    assert len(predicted) == 40
    assert right >= 38


@pytest.fixture
def with_area(tmp_path, area, fields) -> Path:
    """A folder with a stitched area, a field, and an area that was cut off."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a field.png").write_bytes(encode(fields[0]))
    content = encode(area)
    (folder / "b scan.png").write_bytes(content)
    (folder / "c cut.png").write_bytes(content[:500_000])
    return folder


def test_a_larger_picture_is_cut_into_fields(with_area, fields, area, classifier, predict, ungated):
    overlays = with_area.parent / "overlays"
    done = predict(with_area, "--format", "json", "--heatmaps", overlays, *ungated)
    assert done.status == 1  # of the file that was cut off
    first, *cut, last = map(json.loads, done.out.splitlines())
    (alone,) = classifier.predict([fields[0]])
    assert first["probabilities"] == pytest.approx(dict(alone.probabilities))
    assert (first["source"], first["place"]) == (None, None)
    assert last["status"] == "error"
    assert "truncated" in last["reasons"][0]
    scan = str(with_area / "b scan.png")
    assert len(cut) == 16
    for record in cut:
        x, y, width, height = (record["place"][key] for key in ("x", "y", "width", "height"))
        assert record["file"] == f"{scan} [x {x}, y {y}]"
        assert (record["source"], record["slide"]) == (scan, scan.lstrip("/"))
        assert (overlays / f"00002-b scan-x{x}-y{y}.png").is_file()
    pixels = area[y : y + height, x : x + width]
    (expected,) = classifier.predict([pixels])
    assert cut[-1]["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-5)
    assert f"{scan}: larger than one field: cut into 16 fields of " in done.err


def test_a_larger_picture_is_cut_by_what_the_network_says_of_its_cells(
    with_area, classifier, predict, ungated, monkeypatch
):
    monkeypatch.setattr(type(classifier), "_size", lambda *_: 1.2)
    scan = with_area / "b scan.png"
    done = predict(scan, "--format", "csv", *ungated)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    found = [tuple(int(row[name]) for name in ("x", "y", "width", "height")) for row in rows]
    assert found == list(area_in(scan, scales=classifier.scales).places)
    assert found[0][2] > 1.2 * area_in(scan).places[0].width


def test_csv_of_a_larger_picture_names_source_and_place(with_area, predict, ungated):
    done = predict(with_area / "b scan.png", "--format", "csv", *ungated)
    assert done.status == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["source"] for row in rows] == [str(with_area / "b scan.png")] * 16
    assert len({(row["x"], row["y"]) for row in rows}) == 16
    assert {row["file"] for row in rows} == {
        f"{row['source']} [x {row['x']}, y {row['y']}]" for row in rows
    }
