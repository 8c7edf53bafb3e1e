"""Slides on the page, the spread of a case, and cases in parts; through Streamlit's test runner."""

import copy
import csv
import io
import json
import zipfile
from dataclasses import replace

import pytest
from conftest import ROOT, encode
from streamlit.testing.v1 import AppTest
from test_app import captions, html, tiles, upload
from test_reading import fields_of, heading, listed, press, view_of

from mseenet.case.limits import Limits
from mseenet.case.summary import NO_SLIDE
from mseenet.case.words import NO_SLIDE_CLASS
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.case_summary import SPREAD


@pytest.fixture
def app(networks, ungated_weights, monkeypatch) -> AppTest:
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)


def field(i: int) -> bytes:
    return encode(render_field(STYLES[0], 10 + i))


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for i, name in enumerate(names):
            target.writestr(name, field(i))
    return buffer.getvalue()


TWO_SLIDES = ("s 10/a.png", "s 2/b.png", "s 10/c.png", "s 2/d.png")


def slides(app) -> list[str | None]:
    return [slide if isinstance(slide, str) else None for slide in listed(app, "Slide")]


def opened_spread(app) -> AppTest:
    app.session_state[SPREAD] = True
    return app.run()


def said(app) -> str:
    return html(app) + captions(app) + " ".join(m.value for m in app.markdown)


def test_the_list_is_grouped_by_slide(app):
    upload(app, ("case.zip", archive(*TWO_SLIDES)), ("e.png", field(4)))
    assert slides(app) == ["s 2", "s 2", "s 10", "s 10", None]
    assert tiles(app)["slides"] == 2
    app.selectbox(key="order").set_value("File name").run()
    names = [name.removeprefix("case.zip/") for name in listed(app, "File")]
    assert names == ["s 2/b.png", "s 2/d.png", "s 10/a.png", "s 10/c.png", "e.png"]
    app.toggle(key="by-slide").set_value(False).run()
    assert slides(app) == ["s 10", "s 10", "s 2", "s 2", None]
    app.multiselect(key="slides").set_value(["case/s 2", NO_SLIDE]).run()
    assert slides(app) == ["s 2", "s 2", None]
    assert not app.exception


def test_the_gallery_has_a_heading_for_each_slide(app):
    upload(app, ("case.zip", archive(*TWO_SLIDES)))
    app.segmented_control(key="view").set_value("Gallery").run()
    place = html(app)
    assert place.index("case/s 2: 2") < place.index("case/s 10: 2")


def test_fields_without_folders_have_no_column_of_slides(app):
    upload(app, ("a.png", field(0)), ("b.png", field(1)))
    (table,) = (d.value for d in app.dataframe if "Status" in d.value)
    assert "Slide" not in table
    assert "2 of 2 fields are of no known slide" in captions(app)


def test_a_pattern_tells_the_slides(app):
    upload(app, *((f"S{i % 2}_{i}.png", field(i)) for i in range(3)))
    app.text_input(key="slide-pattern").set_value("{slide}_*").run()
    assert slides(app) == ["S0", "S0", "S1"]
    app.text_input(key="slide-pattern").set_value("*").run()
    assert "expected a pattern" in app.error[0].value.replace("\\", "")
    assert slides(app) == ["S0", "S0", "S1"]  # as before
    app.text_input(key="slide-pattern").set_value("").run()
    assert not app.error
    assert {f.slide for f in fields_of(app).values()} == {None}


def test_a_filter_by_a_slide_ends_with_the_slide(app):
    upload(app, *((f"S{i % 2}_{i}.png", field(i)) for i in range(3)))
    app.text_input(key="slide-pattern").set_value("{slide}_*").run()
    app.multiselect(key="slides").set_value(["S1"]).run()
    assert len(listed(app, "File")) == 1
    app.text_input(key="slide-pattern").set_value("").run()
    assert not app.exception
    assert len(listed(app, "File")) == 3


def test_fields_are_put_on_a_slide_by_hand(app):
    upload(app, *((f"{i}.png", field(i)) for i in range(3)))
    assert app.button(key="slide-This field").disabled
    app.segmented_control(key="view").set_value("Gallery").run()
    app.toggle(key="mark-fields").set_value(True).run()
    first, second, third = fields_of(app).values()
    for chosen in (first, third):
        app.checkbox(key=f"mark-{chosen.key[:12]}").set_value(True).run()
    app.text_input(key="slide-name").set_value("left <b>").run()
    app.button(key="slide-Marked").click().run()
    assert [first.slide, second.slide, third.slide] == ["left <b>", None, "left <b>"]
    assert not any(box.value for box in app.checkbox)
    assert "left &lt;b&gt;: 2" in html(app)
    view_of(app).select(second.key)
    app.run()
    app.button(key="slide-This field").click().run()
    assert second.slide == "left <b>"
    assert "slide left &lt;b&gt;" in heading(app)
    app.button(key="slide-by-names").click().run()
    assert {f.slide for f in (first, second, third)} == {None}
    app.button(key="slide-All listed").click().run()
    assert {f.slide for f in (first, second, third)} == {"left <b>"}
    assert not app.exception


def measured(right: int, wrong: int) -> dict:
    """The card's figures on series left out of training."""
    low = 0.8 if right >= 10 else 0.2
    series = {"n": right + wrong, "right": right, "wrong": wrong, "without": 0}
    series |= {"proportion": right / (right + wrong), "interval_95": [low, 1.0]}
    drawn = [{"fields": 5, "right": 0.97}]
    return {"series": {"slides": {"series": series, "drawn": drawn}}}


@pytest.fixture
def with_measurement(networks, ungated_weights, classifier):
    """Lets the network in use have such figures in its card."""

    def use(right: int, wrong: int) -> None:
        other = copy.copy(classifier)
        metrics = classifier.card.content["metrics"] | measured(right, wrong)
        other.card = replace(
            classifier.card, content=classifier.card.content | {"metrics": metrics}
        )
        networks[str(ungated_weights)] = other

    return use


def called(app, *classes: str) -> None:
    """Lets the network have named these classes, surely."""
    for item, name in zip(fields_of(app).values(), classes, strict=True):
        others = dict.fromkeys(item.prediction.probabilities, 0.02)
        item.prediction = replace(
            item.prediction,
            status="ok",
            class_name=name,
            probabilities=others | {name: 0.94},
            confidence=0.94,
        )
    app.run()


def test_the_spread_shows_every_field_and_slide_and_no_interval(app, with_measurement):
    with_measurement(0, 1)
    upload(app, ("case.zip", archive(*TWO_SLIDES)))
    assert not [c for c in app.get("plotly_chart") if "spread-dots" in c.proto.id]  # not yet open
    opened_spread(app)
    (chart,) = (c for c in app.get("plotly_chart") if "spread-dots" in c.proto.id)
    spec = json.loads(chart.proto.spec)
    assert [len(trace["x"]) for trace in spec["data"][::2]] == [4] * 4
    assert spec["layout"]["yaxis"]["ticktext"] == ["s 2", "s 10"]
    page = said(app)
    assert "interval over fields" not in page
    assert NO_SLIDE_CLASS in page.replace("\\", "")
    assert "was not measured" in page
    assert not app.exception


def test_slides_are_given_a_class_with_what_was_measured(app, with_measurement):
    with_measurement(17, 1)
    names = [f"s {i % 2}/{i}.png" for i in range(10)]
    upload(app, ("case.zip", archive(*names)))
    opened_spread(app)
    called(app, *["Pre-B"] * 10)
    page = said(app).replace("\\", "")
    assert "All 2 slides that are given a class: Pre-B." in page
    assert "18 series of captures" in page
    assert "17 right, 1 wrong" in page
    assert "slides, which disagree" not in tiles(app)
    called(app, *["Pre-B", "Benign"] * 5)
    assert tiles(app)["slides, which disagree"] == 2
    assert "The slides disagree" in said(app)
    assert "given no class" in said(app)


def test_blind_reading_hides_the_class_of_slides(app, with_measurement):
    with_measurement(17, 0)
    app.run()
    app.toggle(key="blind").set_value(True).run()
    upload(app, ("case.zip", archive(*TWO_SLIDES)))
    opened_spread(app)
    assert not app.get("plotly_chart")
    assert "given a class" not in said(app)
    assert slides(app) == ["s 2", "s 2", "s 10", "s 10"]


def test_exports_and_saved_cases_carry_slides(app, downloads):
    upload(app, ("case.zip", archive(*TWO_SLIDES)))
    second = list(fields_of(app).values())[1]
    view_of(app).case.put_on_slide([second.key], "mine")
    rows = csv.DictReader(io.StringIO(downloads["download-csv"]().decode("utf-8-sig")))
    by_name = {row["file"].removeprefix("case.zip/"): row["slide"] for row in rows}
    expected = {"s 10/a.png": "case/s 10", "s 2/b.png": "mine", "s 10/c.png": "case/s 10"}
    assert by_name == expected | {"s 2/d.png": "case/s 2"}
    with zipfile.ZipFile(io.BytesIO(downloads["download-zip"]())) as exported:
        content = json.loads(exported.read("case.json"))
    assert {item["slide"] for item in content["summary"]["slides"]} == set(by_name.values())
    app.button(key="save-case").click().run()
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("saved.zip", downloads["save-case"]()))
    assert {f.slide for f in fields_of(again).values()} == set(by_name.values())


def test_a_case_in_parts_is_saved_and_opened_with_nothing_lost(app, downloads):
    app.run()
    view_of(app).case.limits = Limits(file=300_000)  # some files are needed for four fields
    upload(app, *((f"s {i % 2}/{i}.png", field(i)) for i in range(4)))
    press(app, "1")
    parts = [key for key in downloads if key.startswith("save-case")]
    assert len(parts) > 1
    assert f"saved in {len(parts)}" in said(app)
    contents = []
    for key in parts:
        assert 'class="mseenet-open-case"' in html(app)  # not all of it is saved
        app.button(key=key).click().run()
        contents.append(downloads[key]())
    assert 'class="mseenet-open-case"' not in html(app)
    before = list(fields_of(app).values())

    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    upload(again, ("part 1.zip", contents[0]))
    warned = " ".join(w.value for w in again.warning)
    assert f"Of {len(parts)} files of this saved case" in warned
    upload(again, *((f"part {i}.zip", c) for i, c in enumerate(contents[1:], start=2)))
    assert not again.exception
    assert not again.error
    assert "still missing" not in " ".join(w.value for w in again.warning)
    after = list(fields_of(again).values())
    assert [(f.name, f.slide, f.verdict) for f in after] == [
        (f.name, f.slide, f.verdict) for f in before
    ]
    assert 'class="mseenet-open-case"' not in html(again)
    upload(again, ("part 1.zip", contents[0]))  # which is there already
    assert again.error
    assert len(fields_of(again)) == 4
