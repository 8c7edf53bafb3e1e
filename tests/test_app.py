"""The page through Streamlit's own test runner, with the real network and real uploads."""

import json
import shutil

import pytest
from conftest import ROOT, encode, encode_pil
from PIL import Image
from streamlit.testing.v1 import AppTest

from mseenet.config import CLASS_NAMES
from mseenet.report import percent
from mseenet.ui import words
from mseenet.ui.charts import probability_bars
from mseenet.ui.results import SHOWN_AT_ONCE


@pytest.fixture
def app(ungated_weights, monkeypatch) -> AppTest:
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.run()
    app.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    return app.run()


def html(app: AppTest) -> str:
    return "".join(element.proto.body for element in app.get("html"))


def captions(app: AppTest) -> str:
    return " ".join(caption.value for caption in app.caption)


def test_the_empty_page_says_what_it_does(app):
    app.run()
    assert not app.exception
    assert words.RESEARCH_USE in html(app)
    assert "Add fields" in html(app)
    assert words.PRIVACY in captions(app)
    assert "runs on" in captions(app)


def test_one_field(app, classifier, field_png):
    upload(app, ("field.png", field_png))
    assert not app.exception
    (expected,) = classifier.predict([field_png])
    assert words.CLASS_TITLES[expected.class_name] in html(app)
    assert "<b>1</b> field" in html(app)
    assert len(app.image) == 2
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["data"][0]["y"] == list(expected.probabilities)
    assert figure["data"][0]["text"] == [percent(p) for p in expected.probabilities.values()]
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
    messages = [error.value for error in app.error]
    assert len(messages) == 3
    assert "got content of another kind" in messages[0]
    assert "truncated or damaged data" in messages[1]
    assert "0 bytes" in messages[2]
    assert len(app.get("plotly_chart")) == 4
    assert "not read <b>3</b>" in html(app)
    assert "text &lt;b&gt;bold&lt;/b&gt;.jpg" in html(app)


def test_a_file_type_that_is_not_offered_is_refused(app):
    app.run()
    assert set(app.file_uploader[0].allowed_type) >= {".png", ".jpg", ".tif", ".bmp", ".webp"}
    assert ".gif" not in app.file_uploader[0].allowed_type


def test_examples_are_marked_as_synthetic(app):
    app.run()
    app.toggle(key="examples").set_value(True).run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 4
    assert html(app).count("synthetic example") == 4
    assert html(app).count(words.SYNTHETIC) == 4
    app.toggle(key="examples").set_value(False).run()
    assert not app.get("plotly_chart")


def test_another_class_and_opacity_change_the_overlay(app, field_png):
    upload(app, ("field.png", field_png))

    def images() -> list[str]:
        return [url for element in app.image for url in element.value]

    original, overlay = images()
    other = next(
        o for o in app.selectbox[0].options[1:] if f"Evidence for {o}." not in captions(app)
    )
    app.selectbox[0].set_value(other).run()
    assert f"for {other}" in captions(app)
    assert images()[0] == original
    assert images()[1] != overlay
    app.selectbox[0].set_value("Predicted class").run()
    assert images() == [original, overlay]
    app.slider(key="opacity").set_value(0).run()
    assert images() == [original, original]


def test_what_was_computed_is_kept_and_what_was_removed_is_forgotten(app, fields):
    first, second = encode(fields[0]), encode(fields[1])
    upload(app, ("a.png", first))
    (kept,) = app.session_state["results"].values()
    app.file_uploader[0].set_value([("a.png", first, "image/png"), ("b.png", second, "image/png")])
    app.run()
    results = list(app.session_state["results"].values())
    assert results[0] is kept
    assert len(results) == 2
    app.file_uploader[0].set_value([("b.png", second, "image/png")])
    app.run()
    assert list(app.session_state["results"].values()) == results[1:]


def test_many_fields_come_in_pages(app, fields):
    files = [(f"{i}.png", encode(fields[i % 4])) for i in range(SHOWN_AT_ONCE + 3)]
    upload(app, *files)
    assert not app.exception
    assert len(app.get("plotly_chart")) == SHOWN_AT_ONCE
    app.pagination(key="page").set_value(2).run()
    assert len(app.get("plotly_chart")) == 3
    assert f"{SHOWN_AT_ONCE}.png" in html(app)


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
    upload(app, ("a.png", encode(foreign)), ("b.png", encode(foreign[::-1])), ("c.png", b"text"))
    assert not app.exception
    assert not app.get("plotly_chart")
    assert [w.value.startswith(words.REJECTED) for w in app.warning] == [True, True]
    assert "rejected <b>2</b>" in html(app)
    assert not any(f"{name} <b>" in html(app) for name in CLASS_NAMES)
    app.toggle(key="anyway").set_value(True).run()
    assert len(app.get("plotly_chart")) == 2
    assert [w.value.startswith(words.REJECTED_SHOWN) for w in app.warning] == [True, True]


def test_a_doubtful_field_says_why(app, ungated_weights, tmp_path, monkeypatch, field_png):
    weights = tmp_path / "weights"
    shutil.copytree(ungated_weights, weights)
    card = json.loads((weights / "card.json").read_text())
    card["review_confidence"] = {"value": 1.0}
    (weights / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("MSEENET_WEIGHTS", str(weights))
    upload(app, ("a.png", field_png))
    assert len(app.get("plotly_chart")) == 1
    (warning,) = (w.value for w in app.warning)
    assert warning.startswith(words.REVIEW)
    assert "low confidence" in warning
    assert "to review <b>1</b>" in html(app)


def test_the_predicted_bar_stands_out():
    figure = probability_bars({"Benign": 0.2, "Early Pre-B": 0.1, "Pre-B": 0.6, "Pro-B": 0.1})
    colors = figure.data[0].marker.color
    assert colors[2] not in (colors[0], colors[1], colors[3])
    assert figure.data[0].text[2] == "60.0 %"
