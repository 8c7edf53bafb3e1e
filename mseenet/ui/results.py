"""Results on the page: computing what is missing, then one block for each image."""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from PIL import Image

from mseenet.classifier import Classifier, Prediction
from mseenet.config import CLASS_NAMES
from mseenet.explain import colormap, has_evidence, overlay
from mseenet.images import decode_image
from mseenet.report import percent
from mseenet.ui import words
from mseenet.ui.charts import CHART_HEIGHT, probability_bars
from mseenet.ui.intake import Upload

PREDICTED = "Predicted class"
SHOWN_AT_ONCE = 8
LARGEST_SIDE = 1024
"""Images are shown at most this large, in pixels; the network has its own copy."""


@dataclass(frozen=True, eq=False)
class Result:
    """One image's prediction and what is shown of the image.

    Attributes:
        prediction: With the heatmap of the predicted class.
        shown: RGB uint8 (H, W, 3) in [0, 255] in its own shape, or None if unreadable.
    """

    prediction: Prediction
    shown: np.ndarray | None


def predict_uploads(classifier: Classifier, uploads: Sequence[Upload]) -> dict[str, Result]:
    """Predicts what this session has not seen yet, and forgets what was taken away.

    Returns:
        Results by `Upload.key`, in this browser session's memory only.
    """
    known: dict[str, Result] = st.session_state.setdefault("results", {})
    wanted = {upload.key: upload.content for upload in uploads}
    for key in known.keys() - wanted.keys():
        del known[key]
    new = {key: content for key, content in wanted.items() if key not in known}
    if new:
        bar = st.progress(0.0, text=_counted(0, len(new)))
        # Small batches: on a CPU they are as fast, and the bar tells more.
        # What the network says of rejected images is computed too, and shown on request.
        predictions = classifier.stream(
            new.values(), heatmaps="predicted", batch_size=8, anyway=True
        )
        for done, (key, prediction) in enumerate(zip(new, predictions, strict=True), start=1):
            shown = None if prediction.status == "error" else _display_copy(new[key])
            known[key] = Result(prediction, shown)
            bar.progress(done / len(new), text=_counted(done, len(new)))
        bar.empty()
    return known


def draw_summary(uploads: Sequence[Upload], results: dict[str, Result]) -> None:
    """Draws how many fields there are, what they were called, and which need a look."""
    predictions = [results[upload.key].prediction for upload in uploads]
    named = Counter(p.class_name for p in predictions if p.status in ("ok", "review"))
    statuses = Counter(p.status for p in predictions)
    parts = [f"<b>{len(uploads)}</b> field{'s' if len(uploads) != 1 else ''}"]
    parts += [f"{name} <b>{named[name]}</b>" for name in CLASS_NAMES if named[name]]
    parts += [f"{words.STATUS[s]} <b>{statuses[s]}</b>" for s in words.STATUS if statuses[s]]
    st.html(f'<p class="mseenet-summary">{" &nbsp;·&nbsp; ".join(parts)}</p>')


def draw_results(
    classifier: Classifier, uploads: Sequence[Upload], results: dict[str, Result]
) -> None:
    """Draws the page of results that is turned to, with its controls."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        opacity = st.slider(
            "Heatmap opacity", 0, 100, 60, step=5, format="%d %%", key="opacity", width=260
        )
        anyway = any(r.prediction.status == "rejected" for r in results.values()) and st.toggle(
            "Show the network's output for rejected fields",
            key="anyway",
            help="It has no meaning outside of what the network was validated on.",
        )
        pages = -(-len(uploads) // SHOWN_AT_ONCE)
        page = st.pagination(pages, key="page") if pages > 1 else 1
    first = (page - 1) * SHOWN_AT_ONCE
    for position, upload in enumerate(uploads[first : first + SHOWN_AT_ONCE], start=first):
        draw_field(classifier, upload, results[upload.key], opacity / 100, anyway, position)


@st.fragment
def draw_field(
    classifier: Classifier,
    upload: Upload,
    result: Result,
    opacity: float,
    anyway: bool,
    position: int,
) -> None:
    """Draws one image: original, overlay, class and bars; or why there is no answer."""
    prediction = result.prediction
    with st.container(border=True, key=f"field-{position}"):
        st.html(_heading(upload))
        if prediction.status == "error":
            st.error(_sentence(words.NOT_READ, prediction.reasons), icon=":material/broken_image:")
            return
        rejected = prediction.status == "rejected"
        original, explained, answer = st.columns([3, 3, 4], gap="medium")
        if rejected and not anyway:
            with original:
                st.image(result.shown, width="stretch", alt=f"Field {upload.name}, as uploaded")
                st.caption(_dimensions(result.shown))
            with explained:
                st.warning(_sentence(words.REJECTED, prediction.reasons), icon=":material/block:")
            return
        with answer:
            if rejected:
                st.warning(
                    _sentence(words.REJECTED_SHOWN, prediction.reasons), icon=":material/block:"
                )
            elif prediction.status == "review":
                st.warning(_sentence(words.REVIEW, prediction.reasons), icon=":material/flag:")
            _draw_answer(prediction, position)
            choice = st.selectbox(
                "Heatmap explains",
                [PREDICTED, *CLASS_NAMES],
                key=f"explain-{upload.key}-{position}",
            )
        heatmap, class_name = _heatmap(classifier, upload, prediction, choice)
        with original:
            st.image(result.shown, width="stretch", alt=f"Field {upload.name}, as uploaded")
            st.caption(_dimensions(result.shown))
        with explained:
            st.image(
                overlay(result.shown, heatmap, opacity),
                width="stretch",
                alt=f"Field {upload.name} with the evidence for {class_name} laid over it",
            )
            st.html(_legend())
            st.caption(_evidence_note(heatmap, class_name))


def _draw_answer(prediction: Prediction, position: int) -> None:
    name = prediction.class_name
    st.html(
        '<div class="mseenet-answer">'
        '<span class="mseenet-label">Predicted class</span>'
        f"<strong>{words.CLASS_TITLES[name]}</strong>"
        f"<span>Confidence {html.escape(percent(prediction.confidence))}</span></div>"
    )
    st.plotly_chart(
        probability_bars(prediction.probabilities),
        width="stretch",
        height=CHART_HEIGHT,
        key=f"bars-{position}",  # two fields may have equal bars
        config={"displayModeBar": False},
        alt="Calibrated probabilities: "
        + ", ".join(f"{n} {percent(p)}" for n, p in prediction.probabilities.items()),
    )
    st.caption(words.CLASS_NOTES[name])


def _heatmap(
    classifier: Classifier, upload: Upload, prediction: Prediction, choice: str
) -> tuple[np.ndarray, str]:
    if choice in (PREDICTED, prediction.class_name):
        return prediction.heatmap, prediction.class_name
    return classifier.predict([upload.content], heatmaps=choice, anyway=True)[0].heatmap, choice


def _evidence_note(heatmap: np.ndarray, class_name: str) -> str:
    if not has_evidence(heatmap):
        return f"No positive evidence for {class_name} anywhere in this field."
    return (
        f"Evidence for {class_name}. Its strongest spot reaches {heatmap.max():.0%} of what counts "
        "as strong for this network."
    )


def _legend() -> str:
    """A colour bar: each colour as it lies over white, so that it matches the overlay."""
    stops = ", ".join(
        f"rgb({r} {g} {b} / {i / 8:.2f})" for i, (r, g, b) in enumerate(colormap()[::31][:9])
    )
    return (
        '<div class="mseenet-legend"><span>none</span>'
        f'<i style="background: linear-gradient(90deg, {stops}), white"></i><span>strong</span></div>'
    )


def _heading(upload: Upload) -> str:
    badge = '<span class="mseenet-badge">synthetic example</span>' if upload.synthetic else ""
    note = f'<p class="mseenet-note">{words.SYNTHETIC}</p>' if upload.synthetic else ""
    return f'<h3 class="mseenet-file">{html.escape(upload.name)}{badge}</h3>{note}'


def _display_copy(content: bytes) -> np.ndarray:
    image = Image.fromarray(decode_image(content))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _dimensions(shown: np.ndarray) -> str:
    return (
        "As uploaded"
        if shown.shape[0] == shown.shape[1]
        else "As uploaded; the network sees it squeezed to a square"
    )


def _sentence(lead: str, reasons: Sequence[str]) -> str:
    return f"{lead}: {'; '.join(reasons)}."


def _counted(done: int, total: int) -> str:
    return f"Analysing fields: {done} of {total}"
