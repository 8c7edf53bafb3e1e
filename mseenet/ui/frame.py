"""What surrounds the results: title, style, the state without images, the last lines."""

import html
import re
from pathlib import Path

import streamlit as st
from PIL import Image, ImageDraw

from mseenet.case import words
from mseenet.errors import UsageError
from mseenet.inference.card import Card
from mseenet.ui.bundler import bundler
from mseenet.version import version_text

# Colours come from the theme, so that light and dark both hold.
_STYLE = """
<style>
.stMainBlockContainer { max-width: 1720px; padding: 4.2rem 3.5rem 4.5rem; }
.stMainBlockContainer:has(.st-key-case) { padding: 3.9rem 2rem 4.5rem; }
.stMainBlockContainer:has(.st-key-case) > [data-testid="stVerticalBlock"] { gap: 0; }
.st-key-case { gap: .5rem; }
.stMain:focus-visible { outline: none; box-shadow: none; }
.mseenet-title { display: flex; align-items: baseline; gap: .75rem; flex-wrap: wrap; margin: 0; }
.mseenet-title h1 { font-size: 1.9rem; letter-spacing: -.01em; margin: 0; padding: 0; }
.mseenet-title p { margin: 0; opacity: .8; }
.stMainBlockContainer:has(.st-key-case) .mseenet-title { position: fixed; top: 1rem; right: 4.5rem; z-index: 1000000; }
.stMainBlockContainer:has(.st-key-case) .mseenet-title h1 { font-size: 1.1rem; }
.stMainBlockContainer:has(.st-key-case) .mseenet-title p { font-size: .85rem; }
.st-key-case-bar button, .mseenet-case-summary button, [data-testid="stHorizontalBlock"]:has(> [data-testid="stElementContainer"] .mseenet-case-summary) button, .st-key-steps-bar button, .st-key-verdict button { min-height: 2.1rem; padding-top: .15rem; padding-bottom: .15rem; }
.st-key-case-bar input, .st-key-verdict input { padding-top: .3rem; padding-bottom: .3rem; }
.st-key-verdict button { padding-left: .55rem; padding-right: .55rem; }
.st-key-verdict button p { font-size: .9rem; white-space: nowrap; }
.st-key-case .stAlert [data-testid="stAlertContainer"] { padding: .4rem .8rem; }
.st-key-case .stAlert p { font-size: .9rem; line-height: 1.35; }
.mseenet-agreement { border-collapse: collapse; font-size: .85rem; }
.mseenet-agreement caption { text-align: left; color: inherit; opacity: .85; padding-bottom: .3rem; }
.mseenet-agreement th, .mseenet-agreement td { padding: .15rem .5rem !important; color: inherit !important; text-align: right; }
.mseenet-agreement tbody th { text-align: left; }
.mseenet-agreement th { font-weight: 500; }
.mseenet-same { font-weight: 700; background: #7a5bc026; }
.st-key-intake [data-testid="stCameraInput"] { max-width: 480px; }
.mseenet-file { font-size: 1rem; font-weight: 600; margin: 0; padding: 0; overflow-wrap: anywhere; }
.mseenet-note { font-size: .85rem; opacity: .8; margin: .15rem 0 0; }
.mseenet-overview { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .8rem; margin: .2rem 0 0; }
.mseenet-overview div { position: relative; flex: none; overflow: hidden; border-radius: .3rem; width: min(220px, 140px * var(--aspect), 100%); aspect-ratio: var(--aspect); }
.mseenet-overview img { display: block; width: 100%; height: 100%; }
.mseenet-overview i { position: absolute; border: 1px solid #33274f99; }
.mseenet-overview .mseenet-here { z-index: 1; border: 2px solid #b3261e; box-shadow: 0 0 0 2px #fff; }
.mseenet-overview figcaption { flex: 1 1 14rem; font-size: .85rem; opacity: .85; overflow-wrap: anywhere; }
.mseenet-badge { font-size: .72rem; font-weight: 600; margin-left: .6rem; padding: .1rem .5rem;
  border: 1px solid currentColor; border-radius: 1rem; white-space: nowrap; }
.mseenet-answer { display: flex; flex-direction: column; line-height: 1.35; }
.mseenet-answer strong { font-size: 1.25rem; line-height: 1.25; font-weight: 650; letter-spacing: -.01em; }
.mseenet-answer small { font-size: .8rem; opacity: .85; margin-top: .2rem; }
.st-key-case [data-testid="stColumn"] > [data-testid="stVerticalBlock"] { gap: .55rem; }
.mseenet-label { font-size: .8rem; opacity: .8; }
.st-key-preload { display: none; }
.mseenet-malignancy { margin-top: .2rem; }
.mseenet-malignancy p { display: flex; justify-content: space-between; flex-wrap: wrap; gap: 0 .5rem; margin: 0 0 .2rem; font-size: .85rem; }
.mseenet-malignancy b { font-weight: 600; }
.mseenet-malignancy div { position: relative; height: .7rem; border-radius: .35rem; background: #2f7f95; }
.mseenet-malignancy span { display: block; height: 100%; border-radius: .35rem 0 0 .35rem; background: #b4551d; }
.mseenet-malignancy i { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: currentColor; }
.st-key-answer-without-meaning { border: 2px dashed #b3261e; border-radius: .6rem; padding: .8rem; }
.st-key-answer-without-meaning .mseenet-answer strong { font-weight: 500; font-style: italic; }
.st-key-answer-without-meaning .mseenet-label { font-weight: 700; opacity: 1; }
.st-key-answer-without-meaning .mseenet-malignancy div { filter: grayscale(1); }
.mseenet-research { position: fixed; left: 0; right: 0; bottom: 0; z-index: 100; margin: 0;
  padding: .45rem 1rem; text-align: center; font-size: .85rem; font-weight: 600;
  color: #f4f0fb; background: #33274f; }
[data-testid="stElementContainer"]:has(.mseenet-research) { opacity: 1 !important; }
.mseenet-section { font-size: 1.15rem; font-weight: 650; margin: .6rem 0 0; padding: 0; }
.mseenet-case-summary { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1.2rem; }
.mseenet-case-summary .mseenet-tiles { flex: 0 1 auto; }
.mseenet-means caption { caption-side: bottom; text-align: left; padding: .3rem 0 0; color: inherit;
  opacity: .85; }
.mseenet-means { border-collapse: collapse; font-size: .85rem; line-height: 1.35;
  margin: 0 !important; }
.mseenet-means th, .mseenet-means td { padding: 0 .6rem 0 0 !important; border: 0 !important;
  white-space: nowrap; color: inherit !important; }
.mseenet-means th { text-align: left; font-weight: 500; }
.mseenet-means td { text-align: right; }
.mseenet-means td:last-child, .mseenet-means th:last-child { text-align: left; white-space: normal; padding-right: 0 !important; }
.st-key-spread-body { width: 40rem; max-width: calc(100vw - 6rem); }
.mseenet-wide { overflow-x: auto; }
.mseenet-tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .2rem 0 !important; padding: 0 !important;
  list-style: none; }
.mseenet-tiles { gap: .4rem !important; }
.mseenet-tiles li { display: flex; align-items: baseline; gap: .35rem; margin: 0 !important;
  padding: .1rem .55rem; border: 1px solid #8a839a66; border-left: 3px solid #7a5bc0; border-radius: .4rem; }
.mseenet-tiles b { font-size: 1.05rem; line-height: 1.4; }
.mseenet-tiles span { font-size: .85rem; opacity: .85; }
.mseenet-tiles .mseenet-review { border-left-color: #c77700; }
.mseenet-tiles .mseenet-rejected, .mseenet-tiles .mseenet-error { border-left-color: #b3261e; }
.mseenet-tiles .mseenet-reader { border-left-color: #2f7f95; }
.mseenet-card { position: relative; }
.st-key-gallery > [data-testid="stElementContainer"]:has(.mseenet-slide) { flex: 0 0 100%; }
.mseenet-slide { font-size: .85rem; font-weight: 600; margin: .2rem 0 0; padding: 0; overflow-wrap: anywhere; }
.st-key-card-selected { outline: 3px solid #7a5bc0; outline-offset: 2px; border-radius: .4rem; }
[data-testid="stCaptionContainer"] { color: inherit; opacity: .82; }
.mseenet-card img, .mseenet-card > span { display: block; width: 100%; aspect-ratio: 1; object-fit: cover;
  border-radius: .4rem; background: #8a839a33; }
.mseenet-card small { position: absolute; left: .3rem; bottom: .3rem; padding: 0 .4rem; border-radius: .3rem;
  color: #fff; background: #33274f; }
.mseenet-card small.mseenet-read { top: .3rem; bottom: auto; background: #1f5a69; }
.st-key-case-bar .stCheckbox, .st-key-case-bar .stCheckbox label { min-height: 0; align-items: center; }
@media (max-width: 1000px) {
  .stMainBlockContainer:has(.st-key-case) .mseenet-title p { display: none; }
  .stMainBlockContainer { padding-left: 1.5rem; padding-right: 1.5rem; }
  .stMainBlockContainer [data-testid="stHorizontalBlock"]:has(> [data-testid="stColumn"]) { flex-wrap: wrap; }
  .stMainBlockContainer [data-testid="stColumn"] { min-width: 100%; }
}
@media (min-width: 1001px) {
  .st-key-case > div > [data-testid="stHorizontalBlock"] > [data-testid="stColumn"]:first-child > div,
  .st-key-case > [data-testid="stHorizontalBlock"] > [data-testid="stColumn"]:first-child > div {
    position: sticky; top: 4.2rem; height: fit-content; flex: none; }
}
.mseenet-lost { position: fixed; inset: 0 0 auto 0; z-index: 1000002; display: flex; flex-wrap: wrap; gap: .6rem 1.2rem;
  align-items: center; justify-content: center; padding: .9rem 1.2rem; color: #fff; background: #8c1d18; font-family: inherit; }
.mseenet-lost p { margin: 0; max-width: 60rem; font-size: 1rem; line-height: 1.4; }
.mseenet-lost button { padding: .45rem 1rem; border: 1px solid #fff; border-radius: .5rem; color: #8c1d18; background: #fff;
  font: inherit; font-weight: 600; cursor: pointer; }
.mseenet-lost button:focus-visible { outline: 3px solid #fff; outline-offset: 2px; }
[data-testid="stProgress"] * { transition: none !important; }
.stMain:has(.st-key-progress) [data-stale="true"] { opacity: 1 !important; transition: none !important; }
.mseenet-steps { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr));
  margin: 1rem 0 0 !important; padding: 0 !important; list-style: none; }
.mseenet-steps li { border-top: 3px solid #7a5bc0; padding: .6rem 0 0; margin: 0; font-size: .95rem; }
.mseenet-steps b { display: block; margin-bottom: .15rem; }
</style>
"""


@st.cache_resource
def page_icon() -> Image.Image:
    """A stained cell, drawn here: Streamlit fetches its named icons from the internet."""
    icon = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(icon)
    draw.ellipse((4, 4, 60, 60), fill="#c9b8ec")
    draw.ellipse((14, 10, 56, 52), fill="#5b3d99")
    draw.ellipse((24, 20, 34, 30), fill="#7a5bc0")
    return icon


_SCRIPT = Path(__file__).with_name("page.js").read_text("utf-8")


def page_scripts() -> tuple[str, ...]:
    """The scripts that `draw_header` writes into the page.

    Where a limit cannot be understood the page ends before it (`require_limits`), and the server
    has to start all the same to say so.
    """
    try:
        return _SCRIPT, bundler()
    except UsageError:
        return (_SCRIPT,)


def draw_header(open_case: bool, mark: str = "", held: str = "") -> None:
    """Draws title and purpose, and the line that never leaves the screen.

    Args:
        open_case: Whether the browser is to ask before the page is left.
        mark: Of the session, for `page.js`.
        held: What would be lost with the session, keys of `LOST` in `page.js`.
    """
    st.html(_STYLE)
    scripts = "".join(f"<script>{script}</script>" for script in page_scripts())
    st.html(scripts, unsafe_allow_javascript=True)
    st.html(
        '<header class="mseenet-title"><h1>MSEENet</h1>'
        "<p>Acute lymphoblastic leukaemia subtypes from peripheral blood smear fields</p></header>"
    )
    marks = '<i class="mseenet-open-case" hidden></i>' if open_case else ""
    if mark:
        marks += f'<i class="mseenet-session" data-mark="{mark}" data-held="{held}" hidden></i>'
    st.html(f'<p class="mseenet-research" role="note">{words.RESEARCH_USE}{marks}</p>')


def draw_empty_state() -> None:
    """Draws what the page does, while there is no image."""
    st.html(
        '<ol class="mseenet-steps">'
        "<li><b>Add fields</b>Drop the images of a case above. A file that cannot be read "
        "is named with its reason; the others go on.</li>"
        "<li><b>Read the answer</b>One of four classes of the training data: benign "
        "(haematogones), Early Pre-B, Pre-B or Pro-B, with its calibrated probability.</li>"
        "<li><b>Check the evidence</b>A heatmap shows where in the field the evidence lies, for "
        "any class. If it lies off the blasts, distrust the answer.</li></ol>"
    )


def plain(text: str) -> str:
    """Text of unknown origin, such as a file name, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:])", r"\\\1", text)


def draw_footer(card: Card, device: str) -> None:
    """Draws what computed the results, and how far to trust them."""
    metrics = card.content["metrics"]
    low, high = metrics["test"]["interval_95"]["accuracy"]
    known = (
        f"Accuracy on {metrics['test']['n']} test fields of known slides: "
        f"{100 * metrics['test']['accuracy']:.1f} % (95 % interval {100 * low:.1f}-{100 * high:.1f})"
    )
    if found := words.hardest_unseen(metrics):
        name, figures = found
        low, high = figures["interval_95"]["accuracy"]
        known += (
            f"; on {figures['n']:,} fields of {words.protocol_title(name)}: "
            f"{100 * figures['accuracy']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"
        )
    st.caption(f"{words.UNSEEN_SLIDES} {known}.")
    profile = f" · site profile {plain(card.profile.title)}" if card.profile else ""
    st.caption(
        f"MSEENet {version_text()} · release {card.release}{profile} · runs on {html.escape(device)}"
    )
