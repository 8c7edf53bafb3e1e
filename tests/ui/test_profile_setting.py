"""The page with a site profile: one that cannot be used is said, and nothing is predicted."""

from streamlit.testing.v1 import AppTest


def profiled() -> None:
    from mseenet.ui import shared

    shared._load.clear()
    shared.load_classifier()


def test_a_profile_that_cannot_be_used_ends_the_page(tmp_path, monkeypatch):
    path = tmp_path / "site.json"
    monkeypatch.setenv("MSEENET_PROFILE", str(path))
    app = AppTest.from_function(profiled).run(timeout=60)
    assert not app.exception
    (error,) = app.error
    assert "MSEENET_PROFILE" in error.value
    assert str(path) in app.code[0].value
