"""The command as users run it, in processes of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, encode
from PIL import Image

from mseenet.cli import COMMANDS, TOOLS
from mseenet.commands.predict import find_images
from mseenet.config import CLASS_NAMES
from mseenet.imaging.formats import SUFFIXES


def run(*arguments, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mseenet.predict", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def ungated(ungated_weights) -> tuple[str, str]:
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
def test_json_lines_in_input_order(case, classifier, fields, ungated):
    (case / "b-empty.png").write_bytes(b"")
    (case / "b-text.jpg").write_text("text")
    done = run(case, case / "a.png", "absent.png", "--format", "json", *ungated)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(
        list(r)
        == [
            "file",
            "status",
            "predicted",
            "probabilities",
            "confidence",
            "novelty",
            "reasons",
            "weights",
        ]
        for r in records
    )
    names = ["a.png", "b-empty.png", "b-text.jpg", "c.TIF", "deeper/=b.jpg", "a.png"]
    assert [r["file"] for r in records] == [*(str(case / name) for name in names), "absent.png"]
    assert [r["status"] for r in records] == ["ok", "error", "error", "ok", "ok", "ok", "error"]
    for r in records:
        assert r["weights"] == classifier.card.sha256
        assert r["novelty"] is None
        if r["status"] == "error":
            assert r["predicted"] is r["probabilities"] is r["confidence"] is None
            assert len(r["reasons"]) == 1
    expected = classifier.predict(fields[:1])[0]
    assert records[0]["predicted"] == expected.class_name
    assert records[0]["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-5)


@pytest.mark.slow
def test_csv_file_and_overlays(case, tmp_path, fields, ungated):
    done = run(
        case,
        *ungated,
        "--format",
        "csv",
        "--output",
        tmp_path / "out.csv",
        "--heatmaps",
        tmp_path / "maps",
    )
    assert (done.returncode, done.stdout) == (0, "")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row in rows:
        assert row["predicted"] in CLASS_NAMES
        assert sum(float(row[name]) for name in CLASS_NAMES) == pytest.approx(1, abs=1e-4)
    overlays = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert overlays == ["00001-a.png", "00002-c.png", "00003-=b.png"]
    overlay = np.asarray(Image.open(tmp_path / "maps" / overlays[0]))
    assert overlay.shape == fields[0].shape
    assert (overlay != fields[0]).any()


@pytest.mark.slow
def test_table_and_all_good(case, ungated):
    done = run(case / "a.png", *ungated)
    assert done.returncode == 0
    header, line = done.stdout.splitlines()
    assert header.split() == ["status", "class", "confidence", "file"]
    assert line.endswith("a.png")


@pytest.mark.slow
def test_a_folder_without_images_does_not_stop_the_others(case, tmp_path, ungated):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", case / "a.png", "--format", "json", *ungated)
    assert done.returncode == 2
    assert "empty: expected images" in done.stderr
    assert json.loads(done.stdout)["status"] == "ok"


@pytest.mark.slow
def test_a_foreign_image_gets_no_class_unless_asked_for(tmp_path, foreign):
    image = tmp_path / "foreign.png"
    image.write_bytes(encode(foreign))
    (record,) = map(json.loads, run(image, "--format", "json").stdout.splitlines())
    assert record["status"] == "rejected"
    assert record["predicted"] is record["probabilities"] is record["confidence"] is None
    assert record["novelty"] >= 1
    assert "unlike the fields" in record["reasons"][0]
    done = run(image, "--format", "json", "--include-rejected")
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert record["status"] == "rejected"
    assert record["predicted"] in CLASS_NAMES
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_nothing_to_predict(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}: expected images ({', '.join(SUFFIXES)}), found none"
    ]


@pytest.mark.parametrize("arguments", [[], ["--format", "xml", "a.png"], ["--nonsense", "a.png"]])
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error:" in done.stderr


def test_unusable_weights_and_output(field_png, tmp_path, weights_copy):
    image = tmp_path / "a.png"
    image.write_bytes(field_png)
    done = run(image, "--weights", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == f"error: {tmp_path}: expected card.json and its weights file, found no card.json"
    (path,) = weights_copy.glob("*.weights.h5")
    path.write_bytes(b"altered")
    done = run(image, "--weights", weights_copy)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "altered or damaged" in done.stderr


def test_an_output_that_cannot_be_written(field_png, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(field_png)
    done = run(image, "--output", tmp_path / "no folder" / "out.csv")
    assert done.returncode == 2
    assert "cannot be written (No such file or directory)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", [*COMMANDS, *TOOLS])
def test_help_needs_no_tensorflow(module):
    code = (
        "import sys; from mseenet.cli import main\n"
        "try: main(['%s', '--help'])\n"
        "except SystemExit as end: code = end.code\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code % module], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: mseenet {module}")


def test_importing_the_package_needs_no_tensorflow():
    code = "import sys, mseenet; mseenet.Classifier; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_folders_are_searched_in_order_and_hidden_files_left_out(case):
    (case / ".hidden.png").write_bytes(b"")
    files, problems = find_images([str(case / "c.TIF"), str(case)])
    assert [file.name for file in files] == ["c.TIF", "a.png", "c.TIF", "=b.jpg"]
    assert problems == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
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
def test_real_images_of_the_test_split_through_the_command(gated_classifier):
    """Images that training never saw: ten of each class, nearly all right."""
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.training.dataset import index_dataset
    from mseenet.training.splits import read_split

    index = index_dataset(os.environ["MSEENET_DATA"])
    record = gated_classifier.card.content["split"]
    split = read_split(DEFAULT_WEIGHTS / record["file"], index, record["protocol"], record["seed"])
    chosen = [index.samples[i] for i in split.indices(index.samples, "test")]
    chosen = [s for label in range(4) for s in [t for t in chosen if t.label == label][:10]]
    done = run(*(sample.path for sample in chosen), "--format", "json")
    assert done.returncode == 0
    predicted = [json.loads(line)["predicted"] for line in done.stdout.splitlines()]
    right = sum(p == CLASS_NAMES[s.label] for p, s in zip(predicted, chosen, strict=True))
    assert len(predicted) == 40
    assert right >= 38
