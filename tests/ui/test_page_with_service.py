"""The page whose network a service holds: same answers, no TensorFlow, and nothing lost with it."""

import io
import logging
import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, encode
from loopback import served
from streamlit.testing.v1 import AppTest

from mseenet.case import words
from mseenet.imaging.areas import area_in
from mseenet.inference import remote
from mseenet.ui import analysis, shared


@pytest.fixture
def app(ungated_weights, monkeypatch) -> AppTest:
    """A page that has not looked for its network yet."""
    monkeypatch.setenv("MSEENET_WEIGHTS", str(ungated_weights))
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    shared._load.clear()
    yield AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    shared._load.clear()


def upload(app: AppTest, *files: tuple[str, bytes]) -> None:
    app.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    app.run()


def case_of(app: AppTest):
    return app.session_state["case-view"].case


def test_a_lost_service_loses_nothing_of_the_case(app, classifier, fields, monkeypatch):
    one, two = [(f"{i}.png", encode(fields[i])) for i in range(2)]
    with served(classifier) as service:
        monkeypatch.setenv("MSEENET_SERVER", service.url)
        app.run()
        assert any("runs on CPU, by a service" in caption.value for caption in app.caption)
        upload(app, one)
        (field,) = case_of(app).done()
        (expected,) = classifier.predict([one[1]], "predicted", filled=True)
        assert field.result.probabilities == expected.probabilities
        assert (field.result.heatmap == expected.heatmap).all()

    upload(app, two)
    assert not app.exception
    assert "The service that holds the network does not answer" in app.error[0].value
    assert service.url in app.code[0].value
    assert [field.name for field in case_of(app).done()] == ["0.png"]
    assert [field.name for field in case_of(app).waiting()] == ["1.png"]

    # A heatmap that was not computed with the answer cannot be had now; the rest of the page can.
    other = next(name for name in expected.probabilities if name != expected.class_name)
    app.selectbox(key=f"class-{field.key}").set_value(other).run()
    assert not app.exception
    assert any("this heatmap cannot be had now" in error.value for error in app.error)

    with served(classifier, port=service.port):
        app.button(key="pause").click().run()
    assert not app.exception
    assert not app.error
    assert not case_of(app).waiting()
    assert [field.name for field in case_of(app).done()] == ["0.png", "1.png"]


def test_a_larger_picture_is_taken_in_while_its_service_is_lost(app, area, classifier, monkeypatch):
    with served(classifier) as service:
        monkeypatch.setenv("MSEENET_SERVER", service.url)
        app.run()
    content = encode(area)
    upload(app, ("scan.png", content))
    assert not app.exception
    waiting = case_of(app).waiting()
    assert tuple(field.place for field in waiting) == area_in(content).places
    assert "The service that holds the network does not answer" in app.error[0].value


def test_a_busy_service_is_said_while_it_is_waited_for(app, classifier, field_png, monkeypatch):
    from mseenet.serve.api import RefusedError

    said: list[str] = []
    show = analysis._show

    def noted(*arguments, trouble: str = "", **options) -> None:
        said.append(trouble)
        show(*arguments, trouble=trouble, **options)

    monkeypatch.setattr(analysis, "_show", noted)
    with served(classifier) as service:
        monkeypatch.setenv("MSEENET_SERVER", service.url)
        app.run()
        assert words.PIXELS_SENT in " ".join(caption.value for caption in app.caption)
        in_line, busy = service.desk._in_line, [1, 1]

        def refused(images: int):
            if busy:
                raise RefusedError(429, "too many images are waiting", busy.pop())
            return in_line(images)

        service.desk._in_line = refused
        upload(app, ("a.png", field_png))
    assert not app.exception
    assert not app.error
    assert len(case_of(app).done()) == 1
    # The analysis began before anything was drawn; what it waits for is then said on the page.
    assert any("the service is busy" in trouble for trouble in said)


def test_a_check_of_a_laboratory_goes_on_when_its_service_is_back(
    app, classifier, fields, monkeypatch
):
    def shown() -> None:
        from mseenet.ui.laboratory_page import draw_laboratory_page
        from mseenet.ui.shared import load_classifier

        draw_laboratory_page(load_classifier())

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, field in zip(("Benign", "Early", "Pre", "Pro"), fields, strict=True):
            archive.writestr(f"{name}/slide of {name}/a.png", encode(field))
    page = AppTest.from_function(shown, default_timeout=120)
    with served(classifier) as service:
        monkeypatch.setenv("MSEENET_SERVER", service.url)
        page.run()
        page.file_uploader[0].set_value(("fields.zip", packed.getvalue(), "application/zip")).run()
    page.button(key="laboratory-start").click().run()
    assert not page.exception
    assert "The service that holds the network does not answer" in page.error[0].value
    with served(classifier, port=service.port):
        page.button(key="laboratory-start").click().run()
    assert not page.exception
    assert page.session_state["case-view"].laboratory.report["fields"]["n"] == 4


def test_a_service_that_is_not_there_is_said_and_found_later(app, classifier, monkeypatch, caplog):
    with served(classifier) as service:
        pass
    monkeypatch.setenv("MSEENET_SERVER", service.url)
    monkeypatch.setattr(shared, "SERVICE_WAIT", 0.01)
    shared._loaded.clear()
    app.run()
    (error,) = app.error
    assert "MSEENET_SERVER cannot be used" in error.value
    assert "Connection refused" in app.code[0].value
    with caplog.at_level(logging.ERROR, "mseenet.ui.shared"):
        shared.load_ahead()
        with served(classifier, port=service.port):
            assert shared._loaded.wait(60)
            app.run()
    assert not app.error
    assert len([r for r in caplog.records if "does not answer" in r.message]) <= 1


def test_a_profile_beside_a_service_ends_the_page(app, monkeypatch):
    def chosen():
        return type("Profile", (), {"title": "Ward 3"})

    monkeypatch.setattr(shared, "chosen_profile", chosen)
    monkeypatch.setenv("MSEENET_SERVER", "http://127.0.0.1:1")
    app.run()
    assert "MSEENET_SERVER cannot be used" in app.error[0].value
    assert "expected no site profile" in app.code[0].value


@pytest.mark.slow
def test_page_and_command_do_without_tensorflow(classifier, ungated_weights, fields, tmp_path):
    (tmp_path / "a.png").write_bytes(encode(fields[0]))
    script = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=60).run()
app.file_uploader[0].set_value([("a.png", open({str(tmp_path / "a.png")!r}, "rb").read(), "image/png")])
app.run()
assert not app.exception and not app.error, (app.exception, app.error)
(field,) = app.session_state["case-view"].case.done()
assert field.result.class_name
from mseenet.commands.predict import main
assert main([{str(tmp_path / "a.png")!r}, "--weights", {str(ungated_weights)!r}]) == 0
print(*{{name.split(".")[0] for name in sys.modules}} & {{"tensorflow", "keras", "ray"}})
"""
    with served(classifier) as service:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ
            | {"MSEENET_SERVER": service.url, "MSEENET_WEIGHTS": str(ungated_weights)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == ""
