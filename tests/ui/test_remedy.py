"""What the page offers for a field whose cells are of another size."""

import pytest
from streamlit.testing.v1 import AppTest


def page(scale: float | None, side: int) -> None:
    """One field whose cells look `scale` times as large, `side` pixels high; runs as a script."""
    import numpy as np
    import streamlit as st
    from PIL import Image

    from mseenet.case.pictures import encoded
    from mseenet.inference.classifier import Prediction
    from mseenet.ui.field_view import _draw_remedy
    from mseenet.ui.session import current_view

    view = current_view()
    if not view.case.fields:
        pixels = np.random.default_rng(0).integers(0, 256, (side, 640, 3), np.uint8)
        view.case.take_in([("a.png", encoded(Image.fromarray(pixels), "PNG"))])
    field = next(iter(view.case.fields.values()))
    field.prediction = Prediction("review", scale=scale)
    st.fragment(lambda: _draw_remedy(view, field))()


def drawn(scale: float | None, side: int = 480) -> AppTest:
    app = AppTest.from_function(page, default_timeout=120, kwargs={"scale": scale, "side": side})
    app.run()
    assert not app.exception
    return app


def test_the_central_part_becomes_a_field_and_is_looked_at():
    app = drawn(0.5)
    assert "central 320 x 240 pixels" in app.markdown[0].value
    (button,) = app.button
    button.click()
    app.run()
    assert not app.exception
    view = app.session_state["case-view"]
    first, second = view.case.fields.values()
    assert (first.name, second.name) == ("a.png", "a, central 320 x 240.png")
    assert view.selected == second.key
    assert view.case.waiting() == [second]


@pytest.mark.parametrize(("scale", "side"), [(1.5, 480), (0.5, 300)])
def test_what_is_not_possible_is_said_and_not_offered(scale, side):
    app = drawn(scale, side)
    assert "magnification" in app.markdown[0].value
    assert not app.button


@pytest.mark.parametrize("scale", [None, 1.0, 1.1])
def test_nothing_is_said_of_cells_of_the_usual_size(scale):
    app = drawn(scale)
    assert not app.markdown
    assert not app.button
