"""Reading a case: verdicts, blind reading, cases that last; through Streamlit's test runner."""

import copy
import csv
import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from conftest import ROOT, encode
from streamlit.testing.v1 import AppTest
from test_app import captions, case_gallery, choose, html, pictures, tiles, upload

from mseenet.case.fields import Case, Source
from mseenet.case.limits import Room
from mseenet.case.records import percent
from mseenet.case.saved import MANIFEST, save_case
from mseenet.case.verdicts import FEWEST, NOT_JUDGED, UNSURE
from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.saved_case import ONE_CASE, open_saved
from mseenet.ui.session import CaseView
from mseenet.ui.verdict import HIDDEN, give


@pytest.fixture
def app(networks, ungated_weights, monkeypatch) -> AppTest:
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)


def view_of(app: AppTest):
    return app.session_state["case-view"]


def fields_of(app: AppTest) -> dict:
    return {field.name: field for field in view_of(app).case.fields.values()}


def press(app: AppTest, key: str) -> AppTest:
    """The button of a verdict, by its key on the keyboard."""
    start = "undo-" if key == "Z" else f"verdict-{key}-"
    next(b for b in app.button if b.key and b.key.startswith(start)).click()
    return app.run()


def heading(app: AppTest) -> str:
    (body,) = (e.proto.body for e in app.get("html") if 'class="mseenet-file"' in e.proto.body)
    return body


def listed(app: AppTest, column: str) -> list:
    (table,) = (d.value for d in app.dataframe if "Status" in d.value)
    return list(table[column])


def files(count: int) -> list[tuple[str, bytes]]:
    return [(f"{i:02d}.png", encode(render_field(STYLES[i % 2], 10 + i))) for i in range(count)]


def test_a_verdict_is_noted_and_the_next_field_follows(app):
    upload(app, *files(3))
    names = listed(app, "File")
    app.text_input(key="reader").set_value("A. Reader").run()
    assert names[0] in heading(app)
    press(app, "A")
    assert names[1] in heading(app)
    first = fields_of(app)[names[0]]
    assert first.verdict.choice == first.prediction.class_name
    assert first.verdict.reader == "A. Reader"
    assert not first.verdict.blind  # the answer was in sight
    other = next(n for n in CLASS_NAMES if n != fields_of(app)[names[1]].prediction.class_name)
    press(app, str(1 + CLASS_NAMES.index(other)))
    press(app, "X")
    assert names[2] in heading(app)  # the last one stays
    assert f"Verdict by A\\. Reader: **{NOT_JUDGED}**, **unlike the network**" in captions(app)
    assert listed(app, "Reader") == [
        first.prediction.class_name,
        f"≠ {other}",
        "≠ not judged",
    ]
    assert "with your verdict" in html(app)
    assert not app.exception


def test_a_key_pressed_while_the_page_turns_counts_for_no_field(app):
    upload(app, *files(3))
    names = listed(app, "File")
    view, fields = view_of(app), fields_of(app)
    first, second = (fields[name] for name in names[:2])
    press(app, "2")
    assert view.looked_at == second.key
    give(view, first.key, "Pro-B", second.key)  # from the button of the field before
    assert first.verdict.choice == "Early Pre-B"
    assert second.verdict is None
    assert len(view.undo) == 1


def test_undo_goes_back_step_by_step(app):
    upload(app, *files(3))
    names = listed(app, "File")
    press(app, "U")
    press(app, "1")
    choose(app, names[0])
    press(app, "2")
    verdicts = [fields_of(app)[name].verdict for name in names]
    assert [v and v.choice for v in verdicts] == ["Early Pre-B", "Benign", None]
    press(app, "Z")
    assert names[0] in heading(app)
    assert fields_of(app)[names[0]].verdict.choice == UNSURE
    press(app, "Z")
    assert names[1] in heading(app)
    press(app, "Z")
    assert all(field.verdict is None for field in fields_of(app).values())
    assert next(b for b in app.button if (b.key or "").startswith("undo-")).disabled


def test_comments_belong_to_their_field_and_are_never_lost(app):
    upload(app, *files(2))
    first, second = (fields_of(app)[name] for name in listed(app, "File"))

    def comment():
        return next(t for t in app.text_input if t.label == "Comment")

    comment().set_value("smudged").run()
    choose(app, second.name)
    assert comment().value == ""
    choose(app, first.name)
    assert comment().value == "smudged"
    press(app, "3")
    assert first.verdict.comment == "smudged"
    choose(app, first.name)
    comment().set_value("clear after all").run()
    assert (first.verdict.choice, first.verdict.comment) == ("Pre-B", "clear after all")
    press(app, "4")
    assert (first.verdict.choice, first.verdict.comment) == ("Pro-B", "clear after all")
    press(app, "Z")
    press(app, "Z")
    assert first.verdict is None
    assert comment().value != ""


def test_the_verdict_on_a_copy_is_kept_with_the_field(app, fields):
    upload(app, ("a.png", encode(fields[0])), ("a.tif", encode(fields[0], "TIFF")))
    choose(app, "a.tif")
    press(app, "3")
    next(b for b in app.button if b.label == "Count each field once").click().run()
    (field,) = fields_of(app).values()
    assert (field.name, field.verdict.choice) == ("a.png", "Pre-B")


def test_filter_and_order_by_where_we_differ(app):
    upload(app, *files(4))
    names = listed(app, "File")
    press(app, "A")
    press(app, "X")
    press(app, "U")
    for wanted, expected in (
        ("we agree", names[:1]),
        ("we differ", names[1:2]),
        (UNSURE, names[2:3]),
        ("no verdict", names[3:]),
    ):
        app.multiselect(key="verdicts").set_value([wanted]).run()
        assert listed(app, "File") == expected
    app.multiselect(key="verdicts").set_value([]).run()
    app.selectbox(key="order").set_value("Where we differ first").run()
    assert listed(app, "File") == [names[1], names[2], names[0], names[3]]


def test_blind_reading_hides_the_answer_until_the_verdict(app):
    app.run()
    app.toggle(key="blind").set_value(True).run()
    upload(app, *files(3), ("broken.png", b"no image"))
    assert listed(app, "File") == ["00.png", "01.png", "02.png", "broken.png"]  # as added
    assert listed(app, "Status") == [HIDDEN] * 3 + ["not read"]
    for column in ("Class", "Confidence", "Novelty"):
        assert set(listed(app, column)) == {None}
    assert tiles(app) == {"fields analysed": 4}
    assert not app.get("plotly_chart")
    shown = pictures(app)
    assert shown["heat"] is None
    assert shown["cells"]  # by colour alone
    assert "crops" not in shown
    first = fields_of(app)["00.png"]
    assert listed(app, "Cells")[0] == first.prediction.nucleated_cells
    assert f"{first.prediction.nucleated_cells} nucleated cells found by colour" in captions(app)
    assert not any(toggle.key == "case-cells" for toggle in app.toggle)
    shown = html(app) + captions(app) + "".join(w.value for w in app.warning)
    answers = [f.prediction for f in fields_of(app).values() if f.readable]
    assert not any(percent(answer.confidence) in shown for answer in answers)
    assert "Predicted class" not in shown
    assert "verdict-A" not in "".join(b.key or "" for b in app.button if not b.disabled)
    assert {"order", "statuses", "classes"}.isdisjoint(
        w.key for w in (*app.selectbox, *app.multiselect)
    )

    press(app, "2")
    first, second = (fields_of(app)[name] for name in ("00.png", "01.png"))
    assert first.verdict.blind
    assert listed(app, "Status")[0] == HIDDEN  # a slip can be mended blindly
    press(app, "Z")
    press(app, "1")
    assert (first.verdict.choice, first.verdict.blind) == ("Benign", True)
    press(app, "3")
    assert listed(app, "Class")[0] == first.prediction.class_name
    assert listed(app, "Status")[1] == HIDDEN
    choose(app, "01.png")
    assert "Predicted class" in html(app)
    assert pictures(app)["crops"]
    press(app, "4")
    assert (second.verdict.choice, second.verdict.blind) == ("Pro-B", False)  # it was in sight
    assert not app.exception


def test_the_most_decisive_cells_are_of_fields_that_were_read(app):
    app.run()
    app.toggle(key="blind").set_value(True).run()
    upload(app, *files(4))
    for _ in range(3):
        press(app, "2")
    # The answer to the latest verdict stays hidden in the list, and here.
    assert fields_of(app)["03.png"].verdict is None
    app.toggle(key="case-cells").set_value(True).run()
    assert not app.exception
    fields = fields_of(app)
    read = {fields[name].key for name in ("00.png", "01.png")}
    called = {fields[name].result.class_name for name in ("00.png", "01.png")}
    assert set(app.segmented_control(key="cells-class").options) == called
    shown = {crop["id"].split()[0] for crop in case_gallery(app)}
    assert shown
    assert shown <= read


def test_whose_cells_were_in_the_gallery_is_not_read_blindly(app):
    upload(app, *files(12))  # on two pages of the list
    app.toggle(key="case-cells").set_value(True).run()
    fields = view_of(app).case.fields
    shown = {crop["id"].split()[0] for crop in case_gallery(app)}
    assert all(fields[key].seen for key in shown)


def test_what_was_in_sight_is_not_read_blindly(app):
    upload(app, *files(2))
    app.toggle(key="blind").set_value(True).run()
    press(app, "1")
    assert not fields_of(app)["00.png"].verdict.blind


def test_an_export_shows_the_answers(app, downloads):
    app.run()
    app.toggle(key="blind").set_value(True).run()
    upload(app, *files(2))
    press(app, "1")
    downloads["download-csv"]()
    press(app, "1")
    blind = [fields_of(app)[name].verdict.blind for name in ("00.png", "01.png")]
    assert blind == [True, False]


def test_exports_hold_both_answers(app, downloads, classifier):
    upload(app, *files(2))
    names = listed(app, "File")
    press(app, "A")
    rows = csv.DictReader(io.StringIO(downloads["download-csv"]().decode("utf-8-sig")))
    by_name = {row["file"]: row for row in rows}
    assert by_name[names[0]]["verdict"] == by_name[names[0]]["predicted"]
    assert by_name[names[1]]["verdict"] == ""
    with zipfile.ZipFile(io.BytesIO(downloads["download-training"]())) as archive:
        entry, table = archive.infolist()
        assert table.filename == "labels.csv"
        assert archive.read(entry) == fields_of(app)[names[0]].content
    assert "training needs all four classes" in captions(app)


def test_agreement_needs_a_number_of_fields(app):
    upload(app, *files(FEWEST + 6))
    # Some of them may be refused: those that have a class.
    app.multiselect(key="classes").set_value(list(CLASS_NAMES)).run()
    for _ in range(FEWEST - 1):
        press(app, "A")
    assert f"Both name a class for {FEWEST - 1} fields" in captions(app)
    press(app, "A")
    said = " ".join(m.value for m in app.markdown)
    assert f"{FEWEST} of {FEWEST} fields for which both name a class" in said
    assert "Cohen's kappa" in said


def test_sixty_verdicts_take_no_further_pass_of_the_network(app, classifier, monkeypatch):
    passes = []
    infer = classifier._infer_with_heatmap

    def counted(images, index):
        passes.append(len(images))
        return infer(images, index)

    monkeypatch.setattr(classifier, "_infer_with_heatmap", counted)
    upload(app, *files(60))
    analysed = sum(passes)
    assert analysed >= 60  # a batch that is not full is filled up
    for number in range(60):
        press(app, "A1X"[number % 3])
    assert sum(passes) == analysed
    assert all(field.verdict for field in fields_of(app).values())


def saved_content(app: AppTest, downloads: dict) -> bytes:
    app.button(key="save-case").click().run()
    return downloads["save-case"]()


def test_a_saved_case_is_opened_as_it_was(app, downloads):
    upload(app, *files(3), ("broken.png", b"no image"))
    app.text_input(key="label").set_value("case 7").run()
    app.text_input(key="reader").set_value("A. Reader").run()
    choose(app, "02.png")
    app.slider(key="opacity").set_value(20).run()
    press(app, "A")
    choose(app, "00.png")
    press(app, "U")
    choose(app, "02.png")
    assert 'class="mseenet-open-case"' in html(app)
    content = saved_content(app, downloads)
    assert 'class="mseenet-open-case"' not in html(app)  # nothing would be lost
    before, selected = view_of(app).case, heading(app)

    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", content))
    assert not again.exception
    assert not again.error
    case = view_of(again).case
    assert (case.label, case.reader, case.opacity) == ("case 7", "A. Reader", 0.2)
    assert again.text_input(key="label").value == "case 7"
    assert again.slider(key="opacity").value == 20
    assert [f.verdict for f in case.fields.values()] == [f.verdict for f in before.fields.values()]
    assert heading(again) == selected
    assert 'class="mseenet-open-case"' not in html(again)
    assert "as recorded" not in html(again) + captions(again)  # the same release
    press(again, "X")
    assert 'class="mseenet-open-case"' in html(again)


def test_a_case_that_was_read_blindly_is_opened_so(app, downloads):
    app.run()
    app.toggle(key="blind").set_value(True).run()
    upload(app, *files(2))
    press(app, "1")
    content = saved_content(app, downloads)
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", content))
    assert again.toggle(key="blind").value is True
    assert listed(again, "Status")[1] == HIDDEN
    press(again, "2")
    assert [f.verdict.blind for f in fields_of(again).values()] == [True, True]


def test_a_later_release_leaves_the_answers_until_asked(
    app, downloads, networks, ungated_weights, classifier
):
    upload(app, *files(3))
    names = listed(app, "File")
    press(app, "A")
    content = saved_content(app, downloads)
    old = classifier.card.release
    later = copy.copy(classifier)
    content_of_card = classifier.card.content | {"review_confidence": {"value": 1.0}}
    later.card = replace(classifier.card, content=content_of_card, review_confidence=1.0)
    networks[str(ungated_weights)] = later
    assert later.card.release != old

    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", content))
    assert f"3 answers stand as recorded by release {old}" in captions(again)
    assert f"in use is {later.card.release}" in captions(again)
    choose(again, names[0])
    assert f"as recorded by release {old}" in heading(again)
    assert set(listed(again, "Status")) == {"ok"}
    rows = csv.DictReader(io.StringIO(downloads["download-csv"]().decode("utf-8-sig")))
    assert {row["release"] for row in rows} == {old}

    again.button(key="analyse-again").click().run()
    assert not again.exception
    assert "as recorded" not in captions(again)
    assert set(listed(again, "Status")) == {"to review"}
    (changes,) = (d.value for d in again.dataframe if "Changed" in d.value)
    assert list(changes["Changed"]) == ["no"] * 3  # the class is the same
    assert set(changes["File"]) == set(names)
    assert fields_of(again)[names[0]].verdict is not None
    choose(again, names[0])
    assert f"release {old}" in heading(again)


def test_a_saved_case_is_opened_on_an_empty_page_only(app, downloads, fields):
    upload(app, *files(2))
    content = saved_content(app, downloads)
    upload(app, ("saved.zip", content))
    assert any(ONE_CASE.split(";")[0] in error.value for error in app.error)
    assert len(fields_of(app)) == 2
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", content), ("more.png", encode(fields[0])))
    assert len(fields_of(again)) == 3
    assert all(field.prediction for field in fields_of(again).values())


def test_a_case_of_an_unknown_schema_is_named(app, downloads):
    upload(app, *files(1))
    content = saved_content(app, downloads)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        manifest = json.loads(old.read(MANIFEST)) | {"schema": 7}
        new.writestr(MANIFEST, json.dumps(manifest))
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", buffer.getvalue()))
    assert not again.exception
    assert "expected a saved case of schema 1 to 3; this one has 7" in again.error[0].value.replace(
        "\\", ""
    )
    assert not fields_of(again)


def test_words_of_a_saved_case_are_no_markdown(app, downloads):
    upload(app, *files(1))
    (field,) = fields_of(app).values()
    trick = "![a](https://example.org/t.gif)"
    field.prediction = replace(field.prediction, status="review", reasons=(trick,))
    app.text_input(key="reader").set_value(trick).run()
    press(app, "1")
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", saved_content(app, downloads)))
    shown = captions(again) + "".join(w.value for w in again.warning)
    assert trick not in shown
    assert "\\!\\[a\\]" in again.warning[0].value
    assert "by \\!\\[a\\]" in captions(again)


def test_to_forget_says_what_would_be_lost(app, downloads):
    upload(app, *files(2))
    press(app, "1")
    said = " ".join(m.value for m in app.markdown)
    assert "This forgets the 2 fields and 1 verdict of this session; not saved." in said
    saved_content(app, downloads)
    said = " ".join(m.value for m in app.markdown)
    assert "This forgets the 2 fields and 1 verdict of this session." in said


def test_a_saved_case_that_the_server_has_no_room_for_is_not_taken_for_whole():
    contents = files(2)
    whole = Case()
    whole.take_in(contents)
    made = datetime(2026, 11, 28, tzinfo=UTC)
    content = save_case(whole, Source("ab", "cd", "1"), made)
    view = CaseView(Case(room=Room(len(contents[0][1]) + 10)))
    left_out = []
    open_saved(view, [("case.zip", content)], left_out)
    assert [field.name for field in view.case.fields.values()] == ["00.png"]
    assert [(item.name, "server is full" in item.reason) for item in left_out] == [("01.png", True)]
    assert view.unsaved()
