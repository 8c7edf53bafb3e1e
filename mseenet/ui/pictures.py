"""The field, and beside it the field under its heatmap, as large as the page allows.

A component of the page's own: Streamlit mounts a Plotly chart anew whenever anything in it
changes, so that each change of class, method or opacity would lose the place looked at.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from mseenet.case.pictures import encoded
from mseenet.inference.heatmaps import colormap, overlay

_FILES = {
    kind: Path(__file__).with_suffix(f".{kind}").read_text("utf-8")
    for kind in ("html", "css", "js")
}

_component = st.components.v2.component("mseenet-pictures", isolate_styles=False, **_FILES)


def draw_pictures(
    field: str,
    picture: bytes,
    shape: tuple[int, int],
    alt: tuple[str, str],
    heatmap: np.ndarray | None = None,
    look: tuple[float, str] = (1.0, ""),
    unit: str = "",
    cells: Mapping[str, object] | None = None,
) -> None:
    """Draws one or two pictures that zoom and move together.

    Args:
        field: Tells fields apart: the place looked at is kept until it changes.
        picture: The field, as JPEG.
        shape: Its height and width, in pixels.
        alt: What both pictures show, in words.
        heatmap: float32 (h, w) in [0, 1], stretched over the field; None for the field alone.
        look: Proportion of the heat's colour where the heat is 1, in [0, 1], and one of
            `heatmaps.COLOR_MAPS`.
        unit: What the colour bar says above its scale.
        cells: Outlines and crops of the nucleated cells (`mseenet.ui.cells.layer`), if there are any.
    """
    data: dict[str, object] = {
        "field": field,
        "picture": data_uri(picture, "jpeg"),
        "alt": alt,
        "shape": shape,
        "heat": None,
        **(cells or {}),
    }
    if heatmap is not None:
        opacity, color_map = look
        layer = Image.fromarray(heat_pixels(heatmap, color_map))
        data |= {
            # Level 1 takes a fraction of the usual level's time for a slightly larger file.
            "heat": data_uri(encoded(layer, "PNG", compress_level=1), "png"),
            "opacity": opacity,
            "unit": unit,
            "colors": bar_colors(color_map, opacity),
        }
    _component(key="pictures", data=data)


def preload_pictures() -> None:
    """Lets the browser fetch what draws them before there is a field to draw."""
    _component(key="pictures-preload")


def heat_pixels(heatmap: np.ndarray, color_map: str) -> np.ndarray:
    """A heatmap as a layer to lay over the field, like `heatmaps.overlay` at full opacity.

    Args:
        heatmap: float32 (h, w) in [0, 1].
        color_map: One of `heatmaps.COLOR_MAPS`.

    Returns:
        RGBA, uint8 (h, w, 4): the colour of the heat, covering in proportion to it.
    """
    levels = np.round(heatmap * 255).astype(np.uint8)
    return np.dstack([colormap(color_map)[levels], levels])


def bar_colors(color_map: str, opacity: float) -> str:
    """The colours of heat 0 to 1 as laid over white, for CSS."""
    heat = np.linspace(0, 1, 17, dtype=np.float32)[None]
    colors = overlay(np.full((1, 17, 3), 255, np.uint8), heat, opacity, color_map)[0]
    return ", ".join("rgb({} {} {})".format(*color) for color in colors)


def data_uri(content: bytes, kind: str) -> str:
    """An encoded image, of a kind such as "png", as the browser takes it without a request."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
