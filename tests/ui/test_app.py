"""The page through Streamlit's own test runner, with the real network and real uploads."""

import copy
import csv
import io
import json
import zipfile
from dataclasses import replace
from html import escape

import numpy as np
import pytest
import streamlit as st
from conftest import ROOT, encode, encode_pil
from PIL import Image
from streamlit import config
from streamlit.runtime.secrets import Secrets
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec
from streamlit.testing.v1 import AppTest

from mseenet.case import words
from mseenet.case.cells import decisive_cells
from mseenet.case.fields import Case, Field
from mseenet.case.limits import VARIABLES, Room
from mseenet.case.records import percent
from mseenet.config import CLASS_NAMES
from mseenet.imaging.areas import Place, area_in
from mseenet.imaging.cells import evidence_on
from mseenet.imaging.nuclei import blank_nuclei, nucleus_mask
from mseenet.inference.heatmaps import overlay
from mseenet.inference.scheduler import Place as InLine
from mseenet.ui import access, analyse_page, intake, session
from mseenet.ui.about_page import in_words
from mseenet.ui.analysis import FIELDS_AT_ONCE, SOON
from mseenet.ui.cells import Kept, open_cell
from mseenet.ui.charts import probability_bars
from mseenet.ui.field_list import COLUMNS, ORDERS, TABLE_PAGE, order_of
from mseenet.ui.pictures import bar_colors, heat_pixels
from mseenet.ui.session import CaseView
from mseenet.ui.shared import scheduler_of


@pytest.fixture
def app(networks, ungated_weights, monkeypatch) -> AppTest:
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    if not app.file_uploader:
        app.run()
    app.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    return app.run()


def html(app: AppTest) -> str:
    return "".join(element.proto.body for element in app.get("html"))


def captions(app: AppTest) -> str:
    return " ".join(caption.value for caption in app.caption)


def tiles(app: AppTest) -> dict[str, int]:
    """The numbers of the summary by their titles."""
    (body,) = (e.proto.body for e in app.get("html") if '<ul class="mseenet-tiles"' in e.proto.body)
    items = [item.split("</b><span>") for item in body.split("<b>")[1:]]
    return {title.split("</span>")[0]: int(number) for number, title in items}


def choose(app: AppTest, name: str) -> AppTest:
    """Selects the field of that name, as the table would."""
    (field,) = (f for f in app.session_state["case-view"].case.fields.values() if f.name == name)
    app.session_state["case-view"].selected = field.key
    app.session_state["case-view"].steps += 1
    return app.run()


def chart(app: AppTest, position: int) -> dict:
    return json.loads(app.get("plotly_chart")[position].proto.spec)


def pictures(app: AppTest) -> dict:
    """What the browser is told of the field's pictures."""
    told = [json.loads(component.proto.json) for component in app.get("bidi_component")]
    (data,) = (data for data in told if "picture" in data)
    return data


def test_the_empty_page_says_what_it_does(app):
    app.run()
    assert not app.exception
    assert words.RESEARCH_USE in html(app)
    assert "Add fields" in html(app)
    assert words.PRIVACY in captions(app)
    assert "runs on" in captions(app)
    assert [chart(app, 0)["data"]] == [[]]  # only there to fetch the library


def test_one_field(app, classifier, field_png):
    upload(app, ("field.png", field_png))
    assert not app.exception
    (expected,) = classifier.predict([field_png])
    assert words.CLASS_TITLES[expected.class_name] in html(app)
    assert tiles(app) == {"field analysed": 1, expected.class_name: 1}
    benign = percent(expected.probabilities["Benign"])
    assert f"<b>benign {escape(benign)}</b>" in html(app)
    assert "counts as malignant" in html(app)
    bars = chart(app, 0)["data"][0]
    assert bars["y"] == list(expected.probabilities)
    assert bars["text"] == [percent(p) for p in expected.probabilities.values()]
    assert words.RESEARCH_USE in html(app)


def test_bad_files_are_named_and_the_others_go_on(app, fields, field_png):
    cmyk = Image.fromarray(fields[1]).convert("CMYK")
    upload(
        app,
        ("good.png", field_png),
        ("text <b>bold</b>.jpg", b"this is text"),
        ("truncated.png", field_png[: len(field_png) // 2]),
        ("empty.png", b""),
        ("cmyk.tif", encode_pil(cmyk, "TIFF")),
        ("deep.tif", encode((fields[2][..., 0].astype("uint16") * 257), "TIFF")),
        ("really a png.jpg", encode(fields[3])),
    )
    assert not app.exception
    assert tiles(app)["fields analysed"] == 7
    assert tiles(app)["not read"] == 3
    for name, message in (
        ("text <b>bold</b>.jpg", "got content of another kind"),
        ("truncated.png", "truncated or damaged data"),
        ("empty.png", "0 bytes"),
    ):
        choose(app, name)
        assert message in app.error[0].value
        assert not app.get("plotly_chart")
        assert not app.get("bidi_component")
    choose(app, "text <b>bold</b>.jpg")
    assert "text &lt;b&gt;bold&lt;/b&gt;.jpg" in html(app)


def test_a_file_of_another_kind_is_named_as_not_read(app, field_png):
    upload(app, ("a.png", field_png), ("film.gif", encode(np.zeros((8, 8, 3), np.uint8), "GIF")))
    assert not app.exception
    assert tiles(app)["not read"] == 1
    (field,) = (f for f in app.session_state["case-view"].case.fields.values() if not f.readable)
    assert field.name == "film.gif"
    (reason,) = field.prediction.reasons
    assert "got a GIF image" in reason
    assert any(reason in error.value for error in app.error)


def test_examples_are_marked_as_synthetic(app):
    app.run()
    app.button(key="examples").click().run()
    assert not app.exception
    assert tiles(app)["fields analysed"] == 4
    assert "synthetic example" in html(app)
    assert words.SYNTHETIC in html(app)


def test_another_class_opacity_and_method_change_the_overlay(app, field_png):
    upload(app, ("field.png", field_png))
    first = pictures(app)
    choice = next(s for s in app.selectbox if s.label == "Evidence for")
    assert choice.options[0].endswith("(predicted)")
    assert choice.options[1].endswith("(second choice)")
    second = choice.options[1].removesuffix(" (second choice)")
    choice.set_value(second).run()
    assert f"for {second}" in captions(app) + "".join(i.value for i in app.info)
    seen = pictures(app)
    assert (seen["field"], seen["picture"]) == (first["field"], first["picture"])
    assert seen["heat"] != first["heat"]

    app.slider(key="opacity").set_value(0).run()
    assert pictures(app)["opacity"] == 0
    assert set(pictures(app)["colors"].split(", ")) == {"rgb(255 255 255)"}
    app.selectbox(key="method").set_value("LayerCAM 28 x 28").run()
    assert not app.exception
    assert pictures(app)["heat"] != seen["heat"]
    assert "relative" in pictures(app)["unit"]


def test_more_files_keep_what_was_computed_and_removed_ones_are_forgotten(app, fields):
    first, second = encode(fields[0]), encode(fields[1])
    upload(app, ("a.png", first))
    (kept,) = app.session_state["case-view"].case.fields.values()
    prediction = kept.prediction
    upload(app, ("again.png", first), ("b.png", second))
    case = app.session_state["case-view"].case
    assert [f.name for f in case.fields.values()] == ["a.png", "b.png"]
    assert kept.prediction is prediction
    assert kept.repeats == ["again.png"]
    choose(app, "a.png")
    assert "added 2 times" in html(app)
    app.button(key=f"remove-{kept.key}").click().run()
    assert [f.name for f in app.session_state["case-view"].case.fields.values()] == ["b.png"]


def test_a_large_case_is_analysed_in_parts_and_can_be_stopped(app, fields):
    random = np.random.default_rng(0)
    count = FIELDS_AT_ONCE + 3
    files = []
    for i in range(count):
        noisy = fields[i % 4].copy()
        noisy[:4, :4] = random.integers(0, 256, (4, 4, 3))
        files.append((f"{i}.png", encode(noisy)))
    upload(app, *files)
    assert not app.exception
    assert tiles(app)["fields analysed"] == count

    # Put one back to the waiting ones, stopped: the page shows the rest and how to go on.
    view = app.session_state["case-view"]
    waiting = next(iter(view.case.fields.values()))
    waiting.prediction, view.paused = None, True
    app.run()
    assert tiles(app)["fields analysed"] == count - 1
    app.button(key="pause").click().run()
    assert tiles(app)["fields analysed"] == count
    assert waiting.prediction is not None


@pytest.mark.parametrize(
    ("seconds", "paused", "listed", "drawn"),
    [
        (SOON / 2, False, False, False),
        (SOON / 2, True, False, True),
        (SOON / 2, False, True, True),  # what a user reads does not vanish for fields added later
        (SOON * 2, False, False, True),
    ],
)
def test_a_new_case_that_is_soon_done_shows_its_summary_alone_at_first(
    app, fields, monkeypatch, seconds, paused, listed, drawn
):
    upload(app, *((f"{i}.png", encode(field)) for i, field in enumerate(fields[:3])))
    assert len(app.dataframe) == 1
    view = app.session_state["case-view"]
    next(iter(view.case.fields.values())).prediction = None
    view.paused, view.listed = paused, listed
    app.session_state["seconds_per_field"] = seconds
    with monkeypatch.context() as patch:
        for name in ("analyse", "analyse_next"):
            patch.setattr(analyse_page, name, lambda *_: st.stop())
        app.run()
    assert tiles(app)["fields analysed"] == 2
    assert app.get("progress")
    assert len(app.dataframe) == drawn
    assert view.listed == drawn
    view.paused = False
    app.run()
    assert tiles(app)["fields analysed"] == 3
    assert len(app.dataframe) == 1
    assert not app.get("progress")


def test_a_field_shows_its_cells(app, classifier, field_png):
    upload(app, ("field.png", field_png))
    assert not app.exception
    (field,) = app.session_state["case-view"].case.fields.values()
    shown = pictures(app)
    assert len(shown["cells"]) == len(shown["crops"]) == len(field.cells) == 5
    for line, cell in zip(shown["cells"], field.cells, strict=True):
        assert min(line[::2]) == pytest.approx(cell.box[2] / 224, abs=0.003)
        assert max(line[1::2]) == pytest.approx(cell.box[1] / 224, abs=0.003)
    assert [crop["share"] for crop in shown["crops"]] == [
        percent(c.proportion) for c in field.cells
    ]
    assert f"evidence for {field.result.class_name}" in shown["galleryTitle"]
    on, near = evidence_on(field.nuclei, field.result.heatmap)
    assert f"{100 * near:.0f} % of it lies on nucleated cells with a rim" in captions(app)
    assert f"{100 * on:.0f} % lies on the cells alone" in captions(app)
    assert "5 nucleated cells found by colour." in captions(app)
    assert not any(toggle.key == "case-cells" for toggle in app.toggle)


def test_a_field_without_cells_is_refused_with_a_reason(app, fields):
    emptied = blank_nuclei(fields[0], nucleus_mask(fields[0]))
    upload(app, ("empty.png", encode(emptied)))
    assert not app.exception
    assert "no nucleated cell found" in app.warning[0].value
    assert tiles(app) == {"field analysed": 1, "rejected": 1}
    assert pictures(app)["cells"] == []
    assert "0 nucleated cells found by colour." in captions(app)


def case_gallery(app: AppTest) -> list[dict]:
    told = [json.loads(component.proto.json) for component in app.get("bidi_component")]
    return next((data["crops"] for data in told if "title" in data), [])


def test_the_most_decisive_cells_of_a_case_lead_to_their_fields(app, fields):
    upload(app, *((f"{i}.png", encode(field)) for i, field in enumerate(fields)))
    assert case_gallery(app) == []  # nothing is computed before it is asked for
    (switch,) = (toggle for toggle in app.toggle if toggle.key == "case-cells")
    switch.set_value(True).run()
    assert not app.exception
    view = app.session_state["case-view"]
    key, place = case_gallery(app)[0]["id"].split()
    cell = view.case.fields[key].cells[int(place)]
    expected = decisive_cells(view.case.done(), view.case.fields[key].result.class_name)
    assert expected[0] == (view.case.fields[key], cell)
    other = next(k for k in view.case.fields if k != key)
    choose(app, view.case.fields[other].name)
    assert "marked" not in pictures(app)
    app.session_state["marked-cell"] = (key, int(place), view.steps)
    choose(app, view.case.fields[key].name)
    assert pictures(app)["marked"] == int(place)
    choose(app, view.case.fields[other].name)
    assert "marked-cell" not in app.session_state
    choose(app, view.case.fields[key].name)
    assert "marked" not in pictures(app)


def test_a_crop_of_a_field_that_was_removed_or_filtered_out(monkeypatch):
    state = {"statuses": ["ok"], "classes": ["Benign"]}
    monkeypatch.setattr("mseenet.ui.cells.st.session_state", state)
    view = CaseView()
    open_cell(view, None)
    open_cell(view, "gone 3")
    assert (view.selected, view.steps, "marked-cell" in state) == (None, 0, False)
    view.case.fields["a"] = Field("a", "a.png", b"")
    open_cell(view, "a 3")
    assert view.selected == "a"
    assert state == {"statuses": [], "classes": [], "verdicts": [], "marked-cell": ("a", 3, 0)}


def test_what_is_kept_of_cells_is_bounded_and_goes_with_its_field():
    kept, case = Kept(2), Case()
    one, other = (Field(key, "a.png", b"") for key in "ab")
    made = [kept.get(f, what, lambda n=n: n) for n, (f, what) in enumerate([(one, 1), (one, 2)])]
    assert made == [0, 1]
    assert kept.get(one, 1, lambda: 5) == 0
    kept.get(other, 1, lambda: 6)
    assert kept.get(one, 1, lambda: 5) == 0
    assert kept.get(one, 2, lambda: 7) == 7  # had to go
    case.fields["b"] = other
    kept.forget_others(case)
    assert kept.get(one, 1, lambda: 8) == 8


def test_filters_and_orders(app, fields):
    upload(app, *((f"{name}.png", encode(fields[i])) for i, name in enumerate("cabd")))

    def listed() -> list[str]:
        return list(app.dataframe[0].value["File"])

    doubtful = listed()
    app.selectbox(key="order").set_value("File name").run()
    assert listed() == ["a.png", "b.png", "c.png", "d.png"]
    by_name = {
        f.name: f.prediction.confidence for f in app.session_state["case-view"].case.fields.values()
    }
    assert doubtful == sorted(by_name, key=by_name.get)
    one = app.dataframe[0].value["Class"][0]
    app.selectbox(key="order").set_value("Most confident first").run()
    assert listed() == sorted(by_name, key=by_name.get, reverse=True)
    app.multiselect(key="classes").set_value([one]).run()
    assert set(app.dataframe[0].value["Class"]) == {one}
    app.multiselect(key="statuses").set_value(["error"]).run()
    assert not app.dataframe
    assert "No field matches." in captions(app)


def test_a_click_on_a_column_orders_the_list():
    assert order_of("File", "As added") == "File name"
    assert order_of("Confidence", "As added") == "Least confident first"
    assert order_of("Confidence", "Least confident first") == "Most confident first"
    assert order_of("Reasons", "As added") == "As added"
    assert set(COLUMNS.values()) <= set(ORDERS)


def test_a_single_field_needs_no_list(app, fields):
    upload(app, ("a.png", encode(fields[0])))
    assert not app.dataframe
    assert "Agreement with the network appears" not in captions(app)
    assert "Next" not in [button.label for button in app.button]
    upload(app, ("b.png", encode(fields[1])))
    assert len(app.dataframe) == 1
    assert "Agreement with the network appears" in captions(app)
    assert "Next" in [button.label for button in app.button]


def test_settings_survive_another_page(app, fields):
    upload(app, ("a.png", encode(fields[0])), ("b.png", encode(fields[1])))
    app.text_input[0].set_value("case 7").run()
    app.slider(key="opacity").set_value(20).run()
    app.selectbox(key="color-map").set_value("Cividis").run()
    app.selectbox(key="order").set_value("File name").run()
    view = app.session_state["case-view"]
    case = view.case
    assert (case.label, case.opacity, case.color_map) == ("case 7", 0.2, "Cividis")
    for _ in range(2):  # the page without a case draws none of these widgets
        app.session_state["case-view"] = CaseView()
        app.run()
    app.session_state["case-view"] = view
    app.run()
    assert app.text_input[0].value == case.label == "case 7"
    assert app.slider(key="opacity").value == 20
    assert app.selectbox(key="order").value == "File name"


def test_the_list_turns_to_the_page_of_the_selected_field(app, fields):
    random = np.random.default_rng(1)
    noise = [random.integers(0, 256, (4, 4, 3)) for _ in range(TABLE_PAGE + 2)]
    files = []
    for i, corner in enumerate(noise):
        field = fields[i % 4].copy()
        field[:4, :4] = corner
        files.append((f"{i:02d}.png", encode(field)))
    upload(app, *files)
    app.selectbox(key="order").set_value("File name").run()
    assert list(app.dataframe[0].value["File"]) == [name for name, _ in files[:TABLE_PAGE]]
    choose(app, files[-1][0])
    assert list(app.dataframe[0].value["File"]) == [name for name, _ in files[TABLE_PAGE:]]


def test_a_new_case_forgets_everything(app, field_png):
    upload(app, ("field.png", field_png))
    app.text_input[0].set_value("case 7").run()
    assert app.session_state["case-view"].case.label == "case 7"
    next(b for b in app.button if b.label == "Forget and begin anew").click().run()
    assert not app.session_state["case-view"].case.fields
    assert "Add fields" in html(app)
    assert app.session_state["case-view"].case.label == ""
    upload(app, ("field.png", field_png))
    assert app.text_input[0].value == ""


def test_without_usable_weights_the_page_says_so_and_predicts_nothing(
    app, weights_copy, monkeypatch
):
    (path,) = weights_copy.glob("*.weights.h5")
    path.write_bytes(b"altered")
    monkeypatch.setenv("MSEENET_WEIGHTS", str(weights_copy))
    app.run()
    assert not app.exception
    assert "nothing can be predicted" in app.error[0].value
    assert "altered or damaged" in app.code[0].value


def test_a_rejected_field_is_shown_without_a_class(app, monkeypatch, foreign):
    monkeypatch.delenv("MSEENET_WEIGHTS")
    upload(app, ("a.png", encode(foreign)))
    assert not app.exception
    assert not app.get("plotly_chart")
    assert pictures(app)["heat"] is None  # the field alone
    assert app.warning[0].value.startswith(words.REJECTED)
    assert tiles(app) == {"field analysed": 1, "rejected": 1}
    next(t for t in app.toggle if t.key.startswith("include-")).set_value(True).run()
    assert len(app.get("plotly_chart")) == 1
    assert pictures(app)["heat"]
    assert app.warning[0].value.startswith(words.REJECTED_SHOWN)
    assert words.OUTPUT_WITHOUT_MEANING in html(app)
    assert "Predicted class" not in html(app)
    assert "low confidence" not in app.warning[0].value


def test_a_doubtful_field_says_why(app, networks, classifier, ungated_weights, field_png):
    strict = copy.copy(classifier)
    strict.card = replace(classifier.card, review_confidence=1.0)
    networks[str(ungated_weights)] = strict
    upload(app, ("a.png", field_png))
    (warning,) = (w.value for w in app.warning)
    assert warning.startswith(words.REVIEW)
    assert "low confidence" in warning
    assert tiles(app)["of these to review"] == 1


def test_the_predicted_bar_stands_out_and_the_threshold_is_marked():
    probabilities = {"Benign": 0.2, "Early Pre-B": 0.1, "Pre-B": 0.6, "Pro-B": 0.1}
    figure = probability_bars(probabilities, review=0.9)
    colors = figure.data[0].marker.color
    assert colors[2] not in (colors[0], colors[1], colors[3])
    assert figure.data[0].text[2] == "60.0 %"
    assert figure.layout.shapes[0].x0 == 90
    rejected = probability_bars(probabilities, review=0.9, meaningful=False)
    assert len(set(rejected.data[0].marker.color)) == 1
    assert not rejected.layout.shapes


def test_the_layer_over_the_field_is_that_of_the_exports(fields):
    heat = np.linspace(0, 1, 224 * 224, dtype=np.float32).reshape(224, 224)
    layer = heat_pixels(heat, "Viridis").astype(float)
    weight = 0.7 * layer[..., 3:] / 255
    blended = fields[0] * (1 - weight) + layer[..., :3] * weight
    assert np.abs(blended - overlay(fields[0], heat, 0.7, "Viridis")).max() <= 1.5
    colors = bar_colors("Viridis", 1.0).split(", ")
    assert (colors[0], colors[-1]) == ("rgb(255 255 255)", "rgb(253 231 37)")


def test_no_class_is_missing_from_the_words():
    assert set(words.CLASS_TITLES) == set(words.CLASS_NOTES) == set(CLASS_NAMES)


def test_where_sign_in_is_configured_nothing_is_shown_without_it(app):
    app.secrets["auth"] = {"redirect_uri": "http://localhost:8501/oauth2callback"}
    app.run()
    assert not app.exception
    assert [button.label for button in app.button] == ["Sign in"]
    assert not app.file_uploader


def test_sign_in_that_cannot_work_is_explained(app, monkeypatch):
    monkeypatch.setattr(access, "find_spec", lambda name: None)
    app.secrets["auth"] = {"redirect_uri": "http://localhost:8501/oauth2callback"}
    app.run()
    assert not app.exception
    assert "authlib and httpx not installed" in app.error[0].value
    assert not app.file_uploader
    assert not app.button


@pytest.mark.parametrize("content", ["[auth\n", None])
def test_secrets_that_cannot_be_read_let_nobody_in(content, monkeypatch, tmp_path):
    path = tmp_path / "secrets.toml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(access.st, "secrets", Secrets())
    get = config.get_option
    files = {"secrets.files": [str(path)]}
    monkeypatch.setattr(config, "get_option", lambda name: files.get(name) or get(name))
    monkeypatch.setattr(st, "get_option", config.get_option)
    monkeypatch.setattr(config, "is_manually_set", lambda name: content is None)

    def gated():
        import streamlit as st

        from mseenet.ui.access import require_sign_in

        require_sign_in()
        st.text("open")

    app = AppTest.from_function(gated).run()
    assert not app.exception
    assert "cannot be read" in app.error[0].value
    assert not app.text


def test_file_names_are_no_markdown(app):
    upload(app, ("![a](https://example.org/t.gif).zip", b"PK\x03\x04"))
    assert "\\!\\[a\\]\\(https" in app.error[0].value


def test_what_is_taken_in_is_forgotten_by_streamlit(monkeypatch):
    files = [UploadedFile(UploadedFileRec(n, n, "image/png", n.encode()), None) for n in "ab"]
    forgotten = []
    monkeypatch.setattr(intake, "forget_upload", forgotten.append)
    monkeypatch.setattr(st, "file_uploader", lambda *_, **__: files)
    view = CaseView(Case())
    assert intake.draw_intake(view, None)
    assert [field.name for field in view.case.fields.values()] == forgotten == ["a", "b"]


def test_a_field_that_is_removed_twice_is_gone():
    view = CaseView(Case())
    view.case.take_in([("a.png", b"x")])
    (key,) = view.case.fields
    view.select(key)
    view.remove(key)
    view.remove(key)
    assert not view.case.fields
    assert view.selected is None


def test_the_first_of_the_list_is_shown_until_the_user_chooses():
    view = CaseView(Case())
    view.case.take_in((f"{i}.png", bytes([i])) for i in range(3))
    first, second, third = view.case.fields.values()
    assert view.shown([second, first]) is second
    assert view.shown([third, second, first]) is third
    view.select(first.key)
    assert view.shown([third, second, first]) is first
    assert view.shown([third, second]) is third


def report_choice(app: AppTest):
    (widget,) = (m for m in app.multiselect if m.label == "Fields shown in the report")
    return widget


def test_three_pasted_images_of_one_name_are_three_choices(app, fields):
    upload(app, *(("image.png", encode(field)) for field in fields[:3]))
    names = ["image.png", "image (2).png", "image (3).png"]
    assert sorted(report_choice(app).options) == sorted(names)
    keys = {f.name: f.key for f in app.session_state["case-view"].case.fields.values()}
    report_choice(app).set_value([keys["image (2).png"]]).run()
    assert app.session_state["case-view"].pictured == [keys["image (2).png"]]

    # A choice is kept when a field is added, and when one is removed.
    upload(app, ("image.png", encode(fields[3])))
    assert report_choice(app).value == [keys["image (2).png"]]
    assert "image (4).png" in report_choice(app).options
    choose(app, "image (3).png")
    app.button(key=f"remove-{keys['image (3).png']}").click().run()
    assert report_choice(app).value == [keys["image (2).png"]]
    assert not app.exception


def test_examples_are_offered_only_where_there_is_no_case(app, field_png):
    app.run()
    assert "examples" in [button.key for button in app.button]
    upload(app, ("mine.png", field_png))
    assert "examples" not in [button.key for button in app.button]


def test_a_stopped_case_says_what_its_exports_lack(app, fields):
    upload(
        app,
        *((f"{i}.png", encode(field)) for i, field in enumerate(fields)),
        ("b.zip", b"PK\x03\x04"),
    )
    assert "1 file was left out; the exports name them." in captions(app)
    view = app.session_state["case-view"]
    next(iter(view.case.fields.values())).prediction = None
    view.paused = True
    app.run()
    assert "1 field waits for analysis and count" in captions(app)


@pytest.mark.parametrize("way", ["button", "by itself"])
def test_a_full_line_is_told_and_costs_nothing_of_the_case(app, fields, full_line, way):
    upload(app, *((f"{i}.png", encode(field)) for i, field in enumerate(fields)))
    view = app.session_state["case-view"]
    assert len(view.case.waiting()) == 4
    (told,) = app.warning
    assert "busy: 2 cases are being analysed or wait in line" in told.value
    assert "Try again in about 50 s" in told.value
    app.button(key="pause").click().run()
    assert len(app.warning) == 1
    full_line()
    app.run()
    assert len(view.case.waiting()) == 4  # not before its time
    if way == "button":
        app.button(key="pause").click()
    else:
        view.problem.made -= 50
    app.run()
    assert not app.exception
    assert not app.warning
    assert tiles(app)["fields analysed"] == 4


def places_in(app: AppTest) -> tuple[Place, ...]:
    return tuple(field.place for field in app.session_state["case-view"].case.fields.values())


def test_a_larger_picture_is_cut_by_what_the_network_says_of_its_cells(
    app, area, classifier, monkeypatch
):
    monkeypatch.setattr(type(classifier), "_size", lambda *_: 1.2)
    content = encode(area)
    by_network = area_in(content, scales=classifier.scales)
    assert by_network.places[0].width > 1.2 * area_in(content).places[0].width
    upload(app, ("scan.png", content))
    assert not app.exception
    assert places_in(app) == by_network.places


def test_in_a_full_line_a_larger_picture_is_cut_by_its_nuclei(
    app, area, classifier, full_line, monkeypatch
):
    monkeypatch.setattr(type(classifier), "_size", lambda *_: 1.2)
    content = encode(area)
    upload(app, ("scan.png", content))
    assert not app.exception
    assert places_in(app) == area_in(content).places
    assert "Try again" in app.warning[0].value


@pytest.mark.usefixtures("full_line")
def test_a_full_line_names_no_time_before_the_speed_is_known(
    app, classifier, field_png, monkeypatch
):
    monkeypatch.setattr(scheduler_of(classifier), "seconds_per_image", None)
    upload(app, ("a.png", field_png))
    assert "Try again in a moment" in app.warning[0].value


def test_whom_another_case_comes_before_again_sees_the_line(
    app, classifier, field_png, monkeypatch
):
    """As with the next part of a case that was analysed already when the line was looked at."""
    scheduler = scheduler_of(classifier)
    submit, place, jobs = scheduler.submit, scheduler.place, []

    def overtaken(*details):
        jobs.append(submit(*details))
        if len(jobs) == 1:
            monkeypatch.setattr(jobs[0], "wait", lambda _: False)
        return jobs[-1]

    monkeypatch.setattr(scheduler, "submit", overtaken)
    monkeypatch.setattr(
        scheduler, "place", lambda job: InLine(1, None) if job is jobs[0] else place(job)
    )
    upload(app, ("a.png", field_png))
    assert len(jobs) == 2  # the page was drawn, with the bar, and went on
    assert tiles(app)["field analysed"] == 1


def test_what_is_analysed_after_the_page_was_drawn_is_in_the_exports(app, fields, monkeypatch):
    downloads = {}
    monkeypatch.setattr(
        st, "download_button", lambda label, make, *_, **__: downloads.update({label: make})
    )
    upload(app, *((f"{i}.png", encode(field)) for i, field in enumerate(fields[:3])))
    view = app.session_state["case-view"]
    late, other, _ = view.case.fields.values()
    prediction, late.prediction, other.prediction = late.prediction, None, None
    view.paused = True
    app.run()
    late.prediction = prediction  # as the analysis goes on
    rows = csv.DictReader(io.StringIO(downloads["CSV table"]().decode("utf-8-sig")))
    assert {row["file"]: row["status"] for row in rows} == {
        "0.png": "ok",
        "1.png": "waiting",
        "2.png": "ok",
    }
    with zipfile.ZipFile(io.BytesIO(downloads["ZIP of overlays"]())) as archive:
        case = json.loads(archive.read("case.json"))
    assert sorted(row["file"] for row in case["fields"]) == ["0.png", "2.png"]
    assert case["waiting"] == ["1.png"]


def test_copies_are_told_of_and_the_user_decides(app, fields):
    files = [("a.png", encode(fields[0])), ("a.tif", encode(fields[0], "TIFF"))]
    upload(app, *files, ("b.png", encode(fields[1])))
    (warning,) = (w.value for w in app.warning if "same as another one" in w.value)
    assert "a\\.png = a\\.tif" in warning
    assert tiles(app)["fields analysed"] == 3
    next(b for b in app.button if b.label == "Count each field once").click().run()
    assert tiles(app)["fields analysed"] == 2
    assert not any("same as another one" in w.value for w in app.warning)
    assert "1 file was left out" in captions(app)

    upload(app, ("b.bmp", encode(fields[1], "BMP")))
    next(b for b in app.button if b.label == "Keep all").click().run()
    assert tiles(app)["fields analysed"] == 3
    assert not any("same as another one" in w.value for w in app.warning)


def test_the_encoding_of_an_archive_can_be_chosen(app, fields):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Gr##e.png", encode(fields[0]))
    upload(app, ("case.zip", buffer.getvalue().replace(b"Gr##e", "Größe".encode("cp1252"))))
    (field,) = app.session_state["case-view"].case.fields.values()
    assert field.name == "case.zip/Größe.png"
    choice = app.selectbox(key="encoding-case.zip")
    assert choice.value == "cp1252"
    choice.set_value("cp1251").run()
    assert field.name == "case.zip/" + "Größe.png".encode("cp1252").decode("cp1251")
    assert not app.exception


def test_the_limits_are_stated_before_an_upload(app, monkeypatch):
    monkeypatch.setenv("MSEENET_MOST_FIELDS", "77")
    app.run()
    assert "At most 200 MB a file, and 77 fields or 1,024 MB a case; all cases" in captions(app)


def test_a_full_server_says_so_before_an_upload(app, monkeypatch):
    room = Room(1000)
    monkeypatch.setattr(session, "server_room", lambda: room)
    room.take(900)
    app.run()
    assert "This server is full: all cases on it together" in app.warning[0].value


@pytest.mark.parametrize("variable", [variable for variable, _ in VARIABLES.values()])
def test_a_limit_that_cannot_be_understood_is_named(app, monkeypatch, variable):
    monkeypatch.setenv(variable, "abc")
    app.run()
    assert not app.exception
    (error,) = app.error
    shown = error.value.replace("\\", "")  # which keeps Markdown from reading the name
    assert f"{variable}: expected a whole number above 0; received 'abc'." in shown
    assert not app.file_uploader


def test_the_browser_is_told_while_a_case_is_open(app, field_png):
    app.run()
    assert 'class="mseenet-open-case"' not in html(app)
    upload(app, ("a.png", field_png))
    assert 'class="mseenet-open-case"' in html(app)
    next(b for b in app.button if b.label == "Forget and begin anew").click().run()
    assert 'class="mseenet-open-case"' not in html(app)


@pytest.mark.parametrize(
    ("email", "allowed", "verified", "expected"),
    [
        ("a@example.org", ["a@example.org"], True, True),
        ("A@Example.ORG", ["a@example.org"], None, True),
        ("a@example.org", ["example.org"], None, True),
        ("a@example.org", [" @Example.org "], None, True),
        ("a@example.org", ["example.org"], False, False),
        ("a@example.org", ["example.org"], "false", False),
        ("b@example.org", ["a@example.org"], True, False),
        ("a@sub.example.org", ["example.org"], True, False),
        ("a@badexample.org", ["example.org"], True, False),
        ("a@example.org@evil.net", ["example.org"], True, False),
        ("example.org", ["example.org"], True, False),
        ("", ["example.org"], True, False),
        ("a@example.org", [], True, False),
    ],
)
def test_who_is_on_the_list(email, allowed, verified, expected):
    assert access.is_allowed(email, allowed, verified) is expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"allowed": ["a@example.org", "example.org"]}, ["a@example.org", "example.org"]),
        ({"allowed": []}, []),
        ({"allowed": "example.org"}, None),
        ({"allowed": [1]}, None),
        ({"allowed": ["@"]}, None),
        ({"allow": ["example.org"]}, None),
        ("example.org", None),
    ],
)
def test_a_list_that_cannot_be_understood_is_none(section, expected):
    assert access.entries_of(section) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((7200, "2 hours"), (3600, "1 hour"), (120, "2 minutes"), (90, "90 seconds")),
        *((1, "1 second"), (0, "0 seconds")),
    ],
)
def test_the_life_of_a_session_in_words(seconds, text):
    assert in_words(seconds) == text
