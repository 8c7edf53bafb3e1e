"""`mseenet verify`: its reports, and what it refuses before it computes."""

import json
import os
import re

import numpy as np
import pytest
from conftest import encode

from mseenet import cli
from mseenet.config import CLASS_NAMES
from mseenet.files import LOCK_NAME, one_writer
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.laboratory.answers import answer, look_at
from mseenet.laboratory.fields import find_fields, read_fields
from mseenet.laboratory.figures import SCHEMA


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """Two slides of two rendered fields for each class."""
    root = tmp_path_factory.mktemp("laboratory")
    for label, name in enumerate(CLASS_NAMES):
        for slide in range(2):
            folder = root / name / f"<b>slide {slide}"
            folder.mkdir(parents=True)
            for i in range(2):
                rgb = render_field(STYLES[label], 100 * label + 10 * slide + i)
                (folder / f"{i}.png").write_bytes(encode(rgb))
    (root / "Benign" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture
def verify(capsys, ungated_weights, classifier, monkeypatch):
    """Calls the command in this process with weights that refuse nothing."""
    monkeypatch.setattr("mseenet.inference.classifier.Classifier.load", lambda *_, **__: classifier)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", "--weights", str(ungated_weights), *map(str, arguments)])
        return end.value.code, *capsys.readouterr()

    return call


def test_reports_for_people_and_programs(laboratory, verify, tmp_path, foreign):
    kinds = tmp_path / "foreign" / "exchanged"
    kinds.mkdir(parents=True)
    (kinds / "a.png").write_bytes(encode(foreign))
    out = tmp_path / "report"
    status, printed, said = verify("--data", laboratory, "--output", out, "--foreign", kinds.parent)
    assert status == 0, said
    report = json.loads((out / "verification.json").read_text(encoding="utf-8"))
    assert report["schema"] == SCHEMA
    assert (report["fields"]["n"], report["fields"]["slides"]) == (16, 8)
    assert "broken.png" in report["fields"]["problems"][0]
    assert report["foreign"]["exchanged"]["n"] == 1
    assert report["verdict"] in printed.replace(" from these fields", "") or "It " in printed
    assert report["verdict"] != "holds"  # eight slides are too few, and rendered fields no class
    named = sum(slide["named"] for slide in report["slides"])
    assert np.sum(report["confusion"]) == named == report["accuracy"]["n"]

    page = (out / "verification.html").read_text(encoding="utf-8")
    assert "<b>slide" not in page
    assert "&lt;b&gt;slide" in page
    assert page.count("<svg") == 1 + len(report["appearance"])
    assert not re.search(r"(src|href)=", page)  # nothing is fetched

    again = verify("--data", laboratory, "--output", out)
    assert again[0] == 2
    assert "add --force" in again[2]
    assert verify("--data", laboratory, "--output", out, "--force")[0] == 0


def test_two_runs_do_not_mix_their_reports(laboratory, verify, tmp_path):
    out = tmp_path / "report"
    with one_writer(out):
        status, printed, said = verify("--data", laboratory, "--output", out, "--force")
        assert (status, printed) == (2, "")
        assert re.search(rf"{out}: process {os.getpid()} on .* is writing there", said)
        assert [path.name for path in out.iterdir()] == [LOCK_NAME]
    assert not out.exists()


def test_a_report_that_came_meanwhile_is_not_replaced(laboratory, verify, tmp_path, monkeypatch):
    mine = tmp_path / "verification.json"

    def slow(*arguments):
        mine.write_text("mine")
        return find_fields(*arguments)

    monkeypatch.setattr("mseenet.laboratory.fields.find_fields", slow)
    status, printed, said = verify("--data", laboratory, "--output", tmp_path)
    assert (status, "16 fields of 8 slides" in printed) == (2, True)
    assert f"{mine} exists; add --force to replace it" in said
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {mine.name: "mine"}


def test_what_is_verified_is_what_predict_says(laboratory, gated_classifier):
    files = sorted(laboratory.glob("*/*/*.png"))
    fields = read_fields(find_fields(laboratory)[0])
    answers = answer(
        gated_classifier.card,
        gated_classifier.observe(np.stack(fields.images)),
        look_at(fields.images, fields.sizes),
    )
    predictions = {
        str(file.relative_to(laboratory)): prediction
        for file, prediction in zip(
            files, gated_classifier.predict(files, include_rejected=True), strict=True
        )
    }
    for i, name in enumerate(fields.names):
        expected = predictions[name]
        assert answers.statuses[i] == expected.status
        assert answers.reasons[i] == expected.reasons
        assert answers.novelty[i] == pytest.approx(expected.novelty, rel=1e-4)
        assert answers.probabilities[i] == pytest.approx(
            list(expected.probabilities.values()), abs=1e-4
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--data", "nowhere"), "found no folder there"),
        (("--data", ".", "--foreign", "nowhere"), "expected folders of foreign images"),
        (("--data", ".", "--training-fields", "nowhere"), "expected what training fields look"),
    ],
)
def test_what_cannot_be_used_is_one_line(verify, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, said = verify(*arguments)
    assert status == 2
    assert expected in said
    assert said.count("\n") == 1
