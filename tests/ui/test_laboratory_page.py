"""The page "Your laboratory": labelled fields come in, are checked, and the report goes out."""

import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import FEW_LOOKS, encode
from streamlit.testing.v1 import AppTest

from mseenet import cli
from mseenet.case.fields import Case
from mseenet.case.limits import Limits, Room
from mseenet.case.verdicts import Verdict
from mseenet.config import CLASS_NAMES, FIELD_BYTES
from mseenet.errors import UsageError
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.card import DEFAULT_WEIGHTS
from mseenet.inference.classifier import NOT_FINITE, Prediction
from mseenet.inference.profile import profile_name, read_profile
from mseenet.inference.remote import ServerError
from mseenet.inference.scheduler import Scheduler
from mseenet.laboratory import adapt, alignment
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import LabelledField, fields_of_archive, see_fields
from mseenet.laboratory.page import VERDICTS
from mseenet.laboratory.verify import Check
from mseenet.ui import session
from mseenet.ui.laboratory import Laboratory
from mseenet.ui.laboratory_charts import distribution, distribution_text, reliability_dots
from mseenet.ui.session import CaseView

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Two slides of a rendered field for each class, and files that are none."""
    made = {
        f"{name}/slide *{slide}*/a.png": encode(render_field(STYLES[label], 10 * label + slide))
        for label, name in enumerate(CLASS_NAMES)
        for slide in range(2)
    }
    again = made["Benign/slide *0*/a.png"]
    return made | {"Benign/again.png": again, "Pro-B/x/bad.png": b"no image", "Pre/notes": b"-"}


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"fields/{name}", content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(files) -> bytes:
    return packed(files)


def shown() -> None:
    from mseenet.ui.laboratory_page import draw_laboratory_page
    from mseenet.ui.shared import load_classifier

    draw_laboratory_page(load_classifier())


@pytest.fixture
def app(networks, ungated_weights, monkeypatch) -> AppTest:
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    return AppTest.from_function(shown, default_timeout=120).run()


@pytest.fixture
def gated_app(networks, monkeypatch) -> AppTest:
    """A page with the project's weights, whose profiles take few looks of the network."""
    monkeypatch.setenv("MSEENET_WEIGHTS", str(DEFAULT_WEIGHTS))
    monkeypatch.setattr(adapt, "FOLDS", 2)
    for name, value in FEW_LOOKS.items():
        monkeypatch.setattr(alignment, name, value)
    return AppTest.from_function(shown, default_timeout=120).run()


def write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def verify(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", *map(str, arguments)])
    return end.value.code


def hand_over(app: AppTest, content: bytes) -> AppTest:
    app.file_uploader[0].set_value(("fields.zip", content, "application/zip"))
    return app.run()


def laboratory_of(app: AppTest) -> Laboratory:
    return app.session_state["case-view"].laboratory


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click()
    return app.run()


def text(app: AppTest) -> str:
    parts = (*app.markdown, *app.caption, *app.warning, *app.error, *app.success, *app.info)
    return " ".join(part.value for part in parts).replace("\\", "")


def test_the_page_says_what_the_command_says(
    app, downloads, archive, files, classifier, ungated_weights, tmp_path, monkeypatch
):
    hand_over(app, archive)
    assert "10 fields of 10 slides" in text(app)
    assert app.table[0].value["Slides"].tolist() == ["3", "2", "2", "3"]
    assert "Pre/notes is not an image file" in text(app)
    assert "too few" not in text(app)
    press(app, "laboratory-start")
    assert not app.exception
    report = laboratory_of(app).report
    assert VERDICTS[report["verdict"]] in text(app)
    assert report["because"][0] in text(app)
    assert app.table[0].value["Requirement"].tolist() == [c["title"] for c in report["criteria"]]
    assert len(app.get("plotly_chart")) == 2 + len(report["appearance"])
    assert "bad.png: " in text(app)
    assert "no clearance as a medical device" in text(app)

    write(files, tmp_path / "data")
    monkeypatch.setattr("mseenet.inference.classifier.Classifier.load", lambda *_, **__: classifier)
    arguments = ["--data", tmp_path / "data", "--output", tmp_path, "--weights", ungated_weights]
    assert verify(*arguments) == 0
    made = json.loads((tmp_path / "verification.json").read_bytes())["made"]
    for name in ("verification.json", "verification.html"):
        of_page = downloads[f"download-{name}"].decode().replace(report["made"], made)
        assert of_page.encode() == Path(tmp_path / name).read_bytes()

    assert laboratory_of(app).unsaved()
    assert app.session_state["case-view"].held() == "report"
    press(app, "download-verification.json")
    assert not laboratory_of(app).unsaved()
    assert app.session_state["case-view"].held() == ""
    press(app, "laboratory-anew")
    assert laboratory_of(app).report is None
    assert app.file_uploader


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\x03\x04 and nothing else", "expected a readable ZIP archive"),
        (b"no archive", "expected a readable ZIP archive"),
        (packed({"a.png": b"\x89PNG\r\n\x1a\n"}), "found no labelled field"),
    ],
)
def test_what_cannot_be_used_is_said_and_can_be_handed_over_anew(app, archive, content, problem):
    hand_over(app, content)
    (error,) = app.error
    assert error.value.replace("\\", "").startswith("fields.zip: ")
    assert problem in error.value.replace("\\", "")
    hand_over(app, archive)
    assert not app.error
    assert app.button(key="laboratory-start")


def test_fields_of_which_none_can_be_read_are_one_sentence(app):
    hand_over(app, packed({"Pro/a.png": b"no image"}))
    press(app, "laboratory-start")
    assert not app.exception
    assert "expected fields that can be read, found none" in app.error[0].value
    assert app.file_uploader


def test_limits_are_said_before_and_room_is_given_back(app, archive, monkeypatch):
    room = Room(2**26)
    monkeypatch.setattr("mseenet.ui.laboratory_page.server_room", lambda: room)
    assert str(Limits()) in text(app)
    hand_over(app, archive)
    assert room.taken > 0
    press(app, "laboratory-other")
    assert room.taken == 0
    room.take(2**26 - 100)
    hand_over(app, archive)
    assert "server is full" in text(app)
    assert room.left == 100


def test_a_stopped_check_goes_on_where_it_was(app, archive, classifier, monkeypatch):
    hand_over(app, archive)
    check = laboratory_of(app).check
    said = classifier.predict([f.source for f in check.fields[:3]], include_rejected=True)
    for position, prediction in enumerate(said):
        check.read_next()
        assert check.ahead == 1
        check.settle(position, prediction)
    app.run()
    assert "Stopped after 3 of 10 fields" in text(app)
    answered = []
    settle = check.settle
    monkeypatch.setattr(check, "settle", lambda i, p: (answered.append(i), settle(i, p)))
    press(app, "laboratory-start")
    assert sorted(answered) == list(range(3, 10))
    assert laboratory_of(app).report["fields"]["n"] == 8


def verdicts(case: Case, blind: bool) -> None:
    for field, name in zip(case.fields.values(), CLASS_NAMES, strict=False):
        field.prediction = Prediction("ok")
        field.verdict = Verdict(name, NOW, blind=blind)


def test_a_case_gives_its_fields_with_the_readers_verdicts(app, files):
    view = app.session_state["case-view"]
    app.segmented_control(key="laboratory-way").set_value("Open case").run()
    assert "no field for which you name a class" in text(app)
    named = [(name, content) for name, content in files.items() if name.endswith("/a.png")]
    view.case.take_in(named[::2])
    verdicts(view.case, blind=False)
    app.run()
    press(app, "laboratory-case")
    assert "4 of these verdicts were given after" in text(app)
    assert "too few to say" in text(app)
    press(app, "laboratory-start")
    report = laboratory_of(app).report
    assert report["fields"]["by_class"] == {n: {"fields": 1, "slides": 1} for n in CLASS_NAMES}
    assert "4 of these verdicts were given after" in text(app)


def test_a_new_case_leaves_a_report_and_forgets_fields_of_the_case(monkeypatch, archive):
    state = {"case-view": CaseView()}
    monkeypatch.setattr(session.st, "session_state", state)
    case = state["case-view"].case
    case.take_in([("a.png", fields_of_archive(archive)[0][0].source)])
    verdicts(case, blind=True)
    laboratory = state["case-view"].laboratory
    laboratory.take_case(case)
    assert laboratory.remark == ""
    assert state["case-view"].held() == "case fields"
    session.new_case()
    assert laboratory.check is None
    assert state["case-view"].laboratory is laboratory
    laboratory.finish({"verdict": "holds"})
    session.new_case()
    assert state["case-view"].laboratory.report == {"verdict": "holds"}


def test_a_full_line_is_told_and_the_check_goes_on(app, archive, full_line):
    hand_over(app, archive)
    press(app, "laboratory-start")
    assert any("Try again in about 50 s" in warning.value for warning in app.warning)
    full_line()
    laboratory_of(app).lost.made -= 50
    app.run()
    assert not app.exception
    assert laboratory_of(app).report["fields"]["n"] == 8


def test_an_answer_that_is_no_number_leaves_its_field_out(classifier, archive):
    check = Check(*fields_of_archive(archive))
    said = classifier.predict([f.source for f in check.fields], include_rejected=True)
    for position, prediction in enumerate(said):
        check.read_next()
        check.settle(position, prediction)
    assert check.complete
    assert not check.read_next()
    training = read_training_fields()
    whole = check.report(classifier.card, training, NOW)
    check.settle(2, Prediction("error", reasons=(NOT_FINITE,)))
    report = check.report(classifier.card, training, NOW)
    assert report["fields"]["n"] == whole["fields"]["n"] - 1
    assert report["fields"]["problems"][-1] == f"{check.fields[2].name}: {NOT_FINITE}"
    for position in range(len(check.fields)):
        check.settle(position, Prediction("error", reasons=(NOT_FINITE,)))
    with pytest.raises(UsageError, match="network answers"):
        check.report(classifier.card, training, NOW)


def test_of_slides_that_the_profile_was_made_from_nothing_is_said(classifier, field_png):
    class Profile:
        name = "site"
        content = {"made_from": {"pixels": []}}  # noqa: RUF012

    field = LabelledField("a", "Benign", 0, field_png)
    check = Check([field])
    check.settle(0, classifier.predict([field_png])[0])
    check.read_next()
    Profile.content["made_from"]["pixels"] = list(see_fields([field]).marks)
    card = replace(classifier.card, profile=Profile)
    with pytest.raises(UsageError, match="made from each of these slides"):
        check.report(card, read_training_fields(), NOW)


def test_charts_show_both_distributions_or_the_one_that_is_known():
    known = [float(value) for value in range(101)]
    both = {"training": known, "here": [value + 50 for value in known], "outside": 0.5}
    figure = distribution(both)
    assert [trace.name for trace in figure.data] == ["training", "these fields"]
    assert max(figure.data[1].y) == pytest.approx(1)
    half = len(figure.data[0].y) // 2
    assert sum(figure.data[0].y[:half]) > 2 * sum(figure.data[1].y[:half])
    assert re.search(
        r"training fields: median 50, .*these fields: median 100", distribution_text(both)
    )
    alone = both | {"here": None}
    assert len(distribution(alone).data) == 1
    assert "these fields" not in distribution_text(alone)
    bins = [
        {"confidence": 0.6, "accuracy": 0.5, "n": 2},
        {"confidence": 0.9, "accuracy": 1, "n": 8},
    ]
    line, dots = reliability_dots(bins).data
    assert list(dots.x) == [60, 90]
    assert dots.marker.size[1] > dots.marker.size[0]
    assert list(line.x) == list(line.y)


FOREIGN = {"noise": 2, "plain": 1}


@pytest.fixture(scope="module")
def strangers() -> dict[str, bytes]:
    """Images of two kinds that are no fields."""
    random = np.random.default_rng(0)
    return {
        f"{kind}/{i}.png": encode(random.integers(0, 255, (224, 224, 3), np.uint8))
        for kind, count in FOREIGN.items()
        for i in range(count)
    }


def test_the_page_makes_the_profile_of_the_command(
    gated_app, downloads, archive, files, strangers, gated_classifier, tmp_path, monkeypatch
):
    monkeypatch.setattr(adapt, "objections", lambda *_: [])
    app, room = gated_app, Room(2**26)
    monkeypatch.setattr("mseenet.ui.laboratory_page.server_room", lambda: room)
    press(hand_over(app, archive), "laboratory-start")
    assert "tried on slides that have no part in it" in text(app)
    assert app.text_input(key="profile-name").value == "fields"
    app.text_input(key="profile-name").set_value("Site A").run()
    before, fields = laboratory_of(app).report, room.taken
    hand_over(app, packed(strangers))
    assert "noise: 2; plain: 1" in text(app)
    assert room.taken > fields
    press(app, "laboratory-make")
    assert not app.exception
    laboratory = laboratory_of(app)
    assert laboratory.making is None
    assert {key: laboratory.report[key] for key in before if key not in ("made", "foreign")} == {
        key: before[key] for key in before if key not in ("made", "foreign")
    }
    assert "The profile may be used" in text(app)
    assert "MSEENET_PROFILE=site-profile.json mseenet app" in text(app)
    (table,) = (t.value for t in app.table if "Without it" in t.value)
    assert len(table) == 4 + len(FOREIGN)
    assert re.fullmatch(r"[\d.]+ % \([\d.]+-[\d.]+\)", table["With it"][0].replace("\\", ""))
    assert table["Without it"].tolist()[4:] == ["2 of 2", "1 of 1"]

    write(files, tmp_path / "data")
    write(strangers, tmp_path / "foreign")
    load = "mseenet.inference.classifier.Classifier.load"
    monkeypatch.setattr(load, lambda *_, **__: gated_classifier)
    arguments = ["--data", tmp_path / "data", "--foreign", tmp_path / "foreign", "--adapt"]
    assert verify(*arguments, "--name", "Site A", "--output", tmp_path) == 0
    made = json.loads((tmp_path / "verification.json").read_bytes())["made"]
    for name in ("verification.json", "verification.html"):
        of_page = downloads[f"download-{name}"].decode().replace(laboratory.report["made"], made)
        assert of_page.encode() == Path(tmp_path / name).read_bytes()
    with zipfile.ZipFile(io.BytesIO(downloads["download-profile"])) as unpacked:
        unpacked.extractall(tmp_path / "page")
    assert read_profile(tmp_path / "page" / "site-profile.json").name == "Site A"
    for name in ("site-profile.json", "site-profile.npz"):
        of_page = (tmp_path / "page" / name).read_bytes()
        of_page = of_page.replace(laboratory.report["made"].encode(), made.encode())
        assert of_page == (tmp_path / name).read_bytes()

    view = app.session_state["case-view"]
    assert view.held() == "report profile"
    press(press(app, "download-verification.json"), "download-profile")
    assert view.held() == ""
    assert not laboratory.unsaved()
    press(app, "laboratory-anew")
    assert laboratory.profile is None
    assert room.taken == 0


def test_a_profile_that_is_of_no_use_is_not_given_out(gated_app, archive, monkeypatch):
    monkeypatch.setattr(adapt, "objections", lambda *_: ["Not *better*."])
    app = gated_app
    press(press(hand_over(app, archive), "laboratory-start"), "laboratory-make")
    assert not app.exception
    assert "No profile may be used" in text(app)
    assert "Not *better*." in text(app)
    assert laboratory_of(app).profile is None
    assert app.session_state["case-view"].held() == "report"
    assert [part.label for part in app.expander if part.label == "Make it anew"]
    assert app.button(key="laboratory-make")


def test_a_lost_service_and_stop_lose_nothing_of_a_profile(
    gated_app, archive, gated_classifier, monkeypatch
):
    app, observe, asked = gated_app, gated_classifier.observe, []

    def lost(fields):
        asked.append(len(fields))
        if len(asked) == 3:
            raise ServerError("http://a: does not answer")
        return observe(fields)

    monkeypatch.setattr(gated_classifier, "observe", lost)
    press(press(hand_over(app, archive), "laboratory-start"), "laboratory-make")
    assert "The service that holds the network does not answer" in text(app)
    assert "http://a: does not answer" in app.code[0].value
    assert re.search(r"Stopped after \d+ %", text(app))
    assert laboratory_of(app).held() == "fields report"
    before = len(asked)
    press(app, "laboratory-start")
    assert not app.exception
    assert laboratory_of(app).report["adaptation"]["folds"] == 2
    whole = len(asked)
    press(app, "laboratory-make")
    assert len(asked) - whole == whole - 1  # what was lost was asked again, and nothing else
    assert before == 3


def test_why_no_profile_can_be_made_is_said(app, archive):
    press(hand_over(app, archive), "laboratory-start")
    assert "These weights have no novelty gate" in text(app)
    assert "laboratory-make" not in [button.key for button in app.button]


def test_foreign_images_that_cannot_be_used_are_said(gated_app, archive, strangers):
    app = gated_app
    press(hand_over(app, archive), "laboratory-start")
    hand_over(app, packed({"a.png": b"x"}))
    assert "fields: 1" in text(app)  # the folder that `packed` adds
    press(app, "laboratory-no-foreign")
    assert laboratory_of(app).foreign == {}
    hand_over(app, b"no archive")
    assert "fields.zip: expected a readable ZIP archive" in text(app)
    hand_over(app, packed(strangers))
    assert "expected a readable ZIP archive" not in text(app)
    assert laboratory_of(app).foreign.keys() == FOREIGN.keys()


def test_pixels_are_counted_and_limited(archive, gated_classifier):
    laboratory, room = Laboratory(), Room(2**26)
    laboratory.take_archive("x.zip", archive, Limits(), room)
    fields = see_fields(laboratory.check.fields)
    laboratory.finish({"verdict": "holds"}, fields)
    held = room.taken
    assert held > 0
    used = (gated_classifier, Scheduler(gated_classifier), read_training_fields(), "site")
    laboratory.make_profile(*used, Limits(case=FIELD_BYTES), room)
    assert "at most 1 fields and foreign images" in laboratory.obstacle
    room.take(int(room.left) - 1)
    laboratory.make_profile(*used, Limits(), room)
    assert "server is full" in laboratory.obstacle
    assert laboratory.making is None
    room.give_back(2**26 - 1 - held)
    laboratory.make_profile(*used, Limits(), room)
    assert room.taken == held + len(fields.labels) * FIELD_BYTES
    assert laboratory.held() == "fields report"
    laboratory.forget()
    assert room.taken == 0


def test_with_its_case_the_fields_of_a_report_end(archive, gated_classifier):
    case, room = Case(), Room()
    case.take_in([("a.png", fields_of_archive(archive)[0][0].source)])
    verdicts(case, blind=True)
    laboratory = Laboratory()
    laboratory.take_case(case)
    assert laboratory.suggested_name == profile_name("")
    laboratory.finish({"verdict": "holds"}, see_fields(laboratory.check.fields))
    used = (gated_classifier, Scheduler(gated_classifier), read_training_fields(), "site")
    laboratory.make_profile(*used, Limits(), room)
    assert room.taken == FIELD_BYTES
    laboratory.forget_case()
    assert laboratory.fields is None
    assert laboratory.making is None
    assert room.taken == 0
    assert laboratory.report == {"verdict": "holds"}
    assert "has ended" in laboratory.obstacle
