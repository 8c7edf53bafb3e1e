"""The page whose network a service holds: same answers, no TensorFlow, and nothing lost with it."""

import logging
import os
import subprocess
import sys

import pytest
from conftest import ROOT, encode
from loopback import served
from streamlit.testing.v1 import AppTest

from mseenet.inference import remote
from mseenet.ui import shared


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
