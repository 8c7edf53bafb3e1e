"""One field in full: pictures that zoom together, the answer, and what it rests on."""

import html
from collections.abc import Sequence

import numpy as np
import streamlit as st

from mseenet import words
from mseenet.cam import METHODS
from mseenet.classifier import Classifier
from mseenet.config import CLASS_NAMES
from mseenet.explain import has_evidence
from mseenet.images import squeeze
from mseenet.nuclei import nucleus_mask
from mseenet.report import percent
from mseenet.ui.case import Case, Field
from mseenet.ui.charts import (
    BARS_HEIGHT,
    COLOR_MAPS,
    field_pair,
    malignancy_bar,
    probability_bars,
)

PICTURES_HEIGHT = 470
"""In pixels."""

CHOICE = ("(predicted)", "(second choice)")


def draw_field_view(case: Case, classifier: Classifier, listed: list[Field]) -> None:
    """Draws the selected field with previous and next."""
    field = case.shown(listed)
    position = listed.index(field)
    with st.container(horizontal=True, vertical_alignment="center", key="steps-bar"):
        for label, shortcut, target in (
            ("Previous", "P", position - 1),
            ("Next", "N", position + 1),
        ):
            if st.button(
                label, key=label, shortcut=shortcut, disabled=not 0 <= target < len(listed)
            ):
                case.selected = listed[target].key
                st.session_state["steps"] = st.session_state.get("steps", 0) + 1
                st.rerun()
        st.caption(f"Field {position + 1} of {len(listed)} listed", width="content")
    _draw_field(case, classifier, field)


@st.fragment
def _draw_field(case: Case, classifier: Classifier, field: Field) -> None:
    prediction = field.prediction
    st.html(_heading(field))
    if prediction.status == "error":
        st.error(sentence(words.NOT_READ, prediction.reasons), icon=":material/broken_image:")
        _draw_remove(case, field)
        return
    pictures, answer = st.columns([7, 4], gap="medium")
    rejected = prediction.status == "rejected"
    with answer:
        if rejected:
            field.anyway = st.toggle(
                "Show the network's output all the same",
                value=field.anyway,
                key=f"anyway-{field.key}",
                help="It has no meaning outside of what the network was validated on.",
            )
        anyway = field.anyway
        if rejected:
            lead = words.REJECTED_SHOWN if anyway else words.REJECTED
            st.warning(sentence(lead, prediction.reasons), icon=":material/block:")
        elif prediction.status == "review":
            st.warning(sentence(words.REVIEW, prediction.reasons), icon=":material/flag:")
    if rejected and not anyway:
        with pictures:
            _draw_pictures(field, None, 0, COLOR_MAPS[0], True, "")
            _draw_remove(case, field)
        return
    with answer:
        _draw_answer(field, classifier.card.review_confidence)
    with pictures:
        _draw_evidence(case, classifier, field)


def _draw_evidence(case: Case, classifier: Classifier, field: Field) -> None:
    place = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", key="evidence-controls"):
        ranked = sorted(CLASS_NAMES, key=field.prediction.probabilities.__getitem__, reverse=True)
        class_name = st.selectbox(
            "Evidence for",
            ranked,
            format_func=lambda name: " ".join((name, *CHOICE[ranked.index(name) :][:1])),
            key=f"class-{field.key}",
            width=230,
        )
        method = st.selectbox(
            "Method", ("Grad-CAM", *METHODS), key="method", width=190, help=words.METHODS
        )
        color_map = st.selectbox("Colours", COLOR_MAPS, key="color-map", width=120)
        opacity = st.slider("Opacity", 0, 100, 60, step=5, format="%d %%", key="opacity", width=180)
    heatmap = _heatmap(classifier, field, class_name, method)
    with place:
        _draw_pictures(field, heatmap, opacity / 100, color_map, method == "Grad-CAM", class_name)
        _draw_evidence_note(classifier, field, heatmap, class_name, method)
    _draw_remove(case, field)


def _heatmap(classifier: Classifier, field: Field, class_name: str, method: str) -> np.ndarray:
    if method == "Grad-CAM" and class_name == field.prediction.class_name:
        return field.prediction.heatmap
    with st.spinner("Computing the heatmap ..."):
        return classifier.heatmap(field.content, class_name, method)


def _draw_pictures(
    field: Field,
    heatmap: np.ndarray | None,
    opacity: float,
    color_map: str,
    absolute: bool,
    class_name: str,
) -> None:
    alt = f"Field {field.name}, as uploaded"
    if heatmap is not None:
        alt += f"; beside it the same field with the evidence for {class_name} laid over it"
    st.plotly_chart(
        field_pair(field.shown, heatmap, opacity, color_map, absolute, PICTURES_HEIGHT),
        width="stretch",
        height=PICTURES_HEIGHT,
        key="pictures",
        config={
            "scrollZoom": True,
            "displaylogo": False,
            "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
        },
        alt=alt,
    )
    rows, columns = field.shown.shape[:2]
    squeezed = "" if rows == columns else " The network sees the field squeezed to a square."
    st.caption(f"Drag to move, scroll to zoom; both pictures follow.{squeezed}")


def _draw_evidence_note(
    classifier: Classifier, field: Field, heatmap: np.ndarray, class_name: str, method: str
) -> None:
    absolute = heatmap
    if method != "Grad-CAM":
        absolute = _heatmap(classifier, field, class_name, "Grad-CAM")
    if not has_evidence(absolute) or not heatmap.any():
        st.info(f"No positive evidence for {class_name} anywhere in this field.")
        return
    share, area = evidence_on_nuclei(field.shown, heatmap)
    strongest = (
        f"Its strongest spot reaches {absolute.max():.0%} of what counts as strong for this network"
    )
    text = (
        f"Evidence for {class_name}. {strongest}. {share:.0%} of the map lies on nucleated cells, "
        f"which cover {area:.0%} of the field (found by colour)."
    )
    st.caption(text)
    if share < 0.5:
        st.caption(words.BACKGROUND_EVIDENCE)


def evidence_on_nuclei(shown: np.ndarray, heatmap: np.ndarray) -> tuple[float, float]:
    """How much of a heatmap lies on nucleated cells.

    Args:
        shown: RGB, uint8 (H, W, 3) in [0, 255].
        heatmap: float32 (224, 224), not all 0.

    Returns:
        The share of the map's sum on nucleated cells, and their share of the area.
    """
    mask = nucleus_mask(squeeze(shown))
    return float(heatmap[mask].sum() / heatmap.sum()), float(mask.mean())


def _draw_answer(field: Field, review: float) -> None:
    prediction = field.prediction
    name = prediction.class_name
    st.html(
        '<div class="mseenet-answer">'
        '<span class="mseenet-label">Predicted class</span>'
        f"<strong>{words.CLASS_TITLES[name]}</strong>"
        f"<span>Confidence {html.escape(percent(prediction.confidence))}</span></div>"
    )
    probabilities = prediction.probabilities
    spoken = ", ".join(f"{n} {percent(p)}" for n, p in probabilities.items())
    quiet = {"displayModeBar": False}
    st.plotly_chart(
        probability_bars(probabilities, review),
        height=BARS_HEIGHT,
        key="bars",
        config=quiet,
        alt=f"Calibrated probabilities: {spoken}",
    )
    benign = percent(probabilities[CLASS_NAMES[0]])
    st.plotly_chart(
        malignancy_bar(probabilities),
        height=44,
        key="malignancy",
        config=quiet,
        alt=f"Benign {benign}, the malignant classes together the rest",
    )
    st.caption(words.CLASS_NOTES[name])
    with st.popover("What these words mean", type="tertiary"):
        for term, meaning in words.TERMS.items():
            st.markdown(f"**{term}** {meaning}")


def _draw_remove(case: Case, field: Field) -> None:
    if st.button("Remove this field", key=f"remove-{field.key}", type="tertiary"):
        case.remove(field.key)
        st.rerun(scope="app")


def _heading(field: Field) -> str:
    badges = [words.STATUS_TITLES[field.prediction.status]]
    if field.synthetic:
        badges.append("synthetic example")
    if field.repeats:
        badges.append(f"added {len(field.repeats) + 1} times")
    tags = "".join(f'<span class="mseenet-badge">{html.escape(badge)}</span>' for badge in badges)
    note = f'<p class="mseenet-note">{words.SYNTHETIC}</p>' if field.synthetic else ""
    return f'<h2 class="mseenet-file">{html.escape(field.name)}{tags}</h2>{note}'


def sentence(lead: str, reasons: Sequence[str]) -> str:
    """Reasons as one sentence."""
    return f"{lead}: {'; '.join(reasons)}."
