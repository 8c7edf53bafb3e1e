"""One field in full: the answer, what it rests on, and pictures that zoom together."""

import html
import io
from collections.abc import Sequence

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from mseenet.case import words
from mseenet.case.answers import Answer, answer_of
from mseenet.case.fields import OPACITY, Case, Field
from mseenet.case.magnification import add_central_part, remedy
from mseenet.case.records import percent
from mseenet.config import CLASS_NAMES
from mseenet.imaging.cells import GRID_CELL
from mseenet.imaging.nuclei import with_rim
from mseenet.inference.cam import METHODS
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier
from mseenet.inference.heatmaps import COLOR_MAPS, has_evidence
from mseenet.inference.remote import ServerError
from mseenet.ui.cells import counted_cells, evidence_on_cells, layer
from mseenet.ui.charts import BARS_HEIGHT, probability_bars
from mseenet.ui.frame import plain
from mseenet.ui.overview import overview
from mseenet.ui.pictures import draw_pictures
from mseenet.ui.saved_case import badges as source_badges
from mseenet.ui.saved_case import is_older
from mseenet.ui.session import CaseView
from mseenet.ui.shared import draw_error
from mseenet.ui.verdict import HIDDEN, draw_verdict, hides

NO_HEATMAP = (
    "The service that holds the network does not answer, so this heatmap cannot be had now. The "
    "answers stay; choose again to try again."
)

CHOICE = ("(predicted)", "(second choice)")


def draw_field_view(view: CaseView, classifier: Classifier, listed: list[Field]) -> None:
    """Draws the selected field with previous and next."""
    field = view.shown(listed)
    position = listed.index(field)
    with st.container(horizontal=True, vertical_alignment="center", key="steps-bar"):
        if len(view.case.fields) > 1:
            _draw_steps(view, listed, position)
        st.space("stretch")
        with st.popover("What the words mean", type="tertiary"):
            for term, meaning in words.TERMS.items():
                st.markdown(f"**{term}** {meaning}")
        st.button(
            "Remove this field",
            key=f"remove-{field.key}",
            type="tertiary",
            on_click=view.remove,
            args=(field.key,),
        )
    draw_verdict(view, field, listed[position + 1].key if position + 1 < len(listed) else None)
    _draw_field(view, classifier, field, hides(view, field))


def _draw_steps(view: CaseView, listed: list[Field], position: int) -> None:
    for label, shortcut, target in (("Previous", "P", position - 1), ("Next", "N", position + 1)):
        inside = 0 <= target < len(listed)
        st.button(
            label,
            key=label,
            shortcut=shortcut,
            disabled=not inside,
            on_click=view.step_to,
            args=(listed[target].key if inside else None,),
        )
    st.caption(f"Field {position + 1} of {len(listed)} listed", width="content")


@st.fragment
def _draw_field(view: CaseView, classifier: Classifier, field: Field, hidden: bool) -> None:
    case, prediction = view.case, field.result
    st.html(_heading(field, classifier.card, hidden))
    if field.original is not None:
        st.html(overview(case, field))
    if hidden:
        _draw_pictures(case, field)
        return
    field.seen = True
    if prediction.status == "error":
        st.error(sentence(words.NOT_READ, _reasons(field)), icon=":material/broken_image:")
        return
    if prediction.status == "review":
        st.warning(sentence(words.REVIEW, _reasons(field)), icon=":material/flag:")
        _draw_remedy(view, field)
    elif prediction.status == "rejected":
        place = st.container()
        field.include_rejected = st.toggle(
            "Show the network's output all the same",
            value=field.include_rejected,
            key=f"include-rejected-{field.key}",
            help="It has no meaning outside of what the network was validated on.",
        )
        lead = words.REJECTED_SHOWN if field.include_rejected else words.REJECTED
        place.warning(sentence(lead, _reasons(field)), icon=":material/block:")
        _draw_remedy(view, field)
        if not field.include_rejected:
            _draw_pictures(case, field)
            return
    answer = answer_of(prediction)
    if answer is not None:
        answer_side, place = st.columns([3, 9], gap="small")
        with answer_side:
            _draw_answer(answer, classifier.card, meaningful=prediction.status != "rejected")
        _draw_evidence(case, classifier, field, answer, place)


def _draw_remedy(view: CaseView, field: Field) -> None:
    """What can be done about cells of another size; nothing for cells of the usual one."""
    found = remedy(field)
    if found is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="remedy"):
        st.markdown(found.words)
        if found.size and st.button("Add the central part", key=f"central-{field.key[:12]}"):
            view.step_to(add_central_part(view.case, field, found.size))
            st.rerun()


def _draw_evidence(
    case: Case, classifier: Classifier, field: Field, answer: Answer, place: DeltaGenerator
) -> None:
    st.session_state.setdefault("opacity", round(100 * OPACITY))
    with st.container(horizontal=True, vertical_alignment="bottom", key="evidence-controls"):
        ranked = sorted(CLASS_NAMES, key=answer.probabilities.__getitem__, reverse=True)
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
        case.color_map = st.selectbox("Colours", COLOR_MAPS, key="color-map", width=120)
        percents = st.slider("Opacity", 0, 100, step=5, format="%d %%", key="opacity", width=160)
        case.opacity = percents / 100
    try:
        heatmap = _heatmap(classifier, field, class_name, method)
        # Other methods say where, not how much: strength and warning are always Grad-CAM's.
        absolute = heatmap
        if method != "Grad-CAM":
            absolute = _heatmap(classifier, field, class_name, "Grad-CAM")
    except ServerError as error:
        with place:
            draw_error(NO_HEATMAP, error)
            _draw_pictures(case, field)
        return
    if is_older(field, classifier.card) and heatmap is not field.result.heatmap:
        st.caption(
            "This heatmap is computed by the release in use; the answer was recorded before."
        )
    with place:
        _draw_pictures(case, field, heatmap, method == "Grad-CAM", class_name, answer)
        _draw_evidence_note(field, heatmap, absolute, class_name)


def _heatmap(classifier: Classifier, field: Field, class_name: str, method: str) -> np.ndarray:
    known = field.result.heatmap
    if method == "Grad-CAM" and class_name == field.result.heatmap_class and known is not None:
        return known
    with st.spinner("Computing the heatmap ..."):
        return classifier.heatmap(field.content, class_name, method)


def _draw_pictures(
    case: Case,
    field: Field,
    heatmap: np.ndarray | None = None,
    absolute: bool = True,
    class_name: str = "",
    answer: Answer | None = None,
) -> None:
    with Image.open(io.BytesIO(field.picture)) as image:
        columns, rows = image.size
    draw_pictures(
        field=field.key,
        picture=field.picture,
        shape=(rows, columns),
        alt=(f"Field {field.name}, as uploaded", f"The same with the evidence for {class_name}"),
        heatmap=heatmap,
        look=(case.opacity, case.color_map),
        unit="evidence" if absolute else "evidence, relative to this map's maximum",
        cells=layer(case, field, answer),
    )
    both = "" if heatmap is None else "; both pictures follow"
    squeezed = "" if rows == columns else " The network sees the field squeezed to a square."
    st.caption(f"{counted_cells(field)} Scroll or pinch to zoom, drag to move{both}.{squeezed}")


def _draw_evidence_note(
    field: Field, heatmap: np.ndarray, absolute: np.ndarray, class_name: str
) -> None:
    if not has_evidence(absolute) or not heatmap.any():
        st.info(f"No positive evidence for {class_name} anywhere in this field.")
        return
    text = (
        f"By Grad-CAM, the strongest evidence for {class_name} reaches {100 * absolute.max():.0f} % of what "
        "counts as strong for this network."
    )
    if proportions := evidence_on_cells(field, absolute):
        on, near = proportions
        text += (
            f" {100 * near:.0f} % of it lies on nucleated cells with a rim of one grid cell of the "
            f"heatmap, which cover {100 * with_rim(field.nuclei, GRID_CELL).mean():.0f} % of the field; "
            f"{100 * on:.0f} % lies on the cells alone, which cover "
            f"{100 * field.nuclei.mean():.0f} %."
        )
        if near < words.MOSTLY:
            st.markdown(f":material/warning: **Mostly background.** {words.BACKGROUND_EVIDENCE}")
    st.caption(text)


def _draw_answer(answer: Answer, card: Card, meaningful: bool) -> None:
    name, probabilities, confidence = answer
    kind = "" if meaningful else "-without-meaning"
    with st.container(key=f"answer{kind}"):
        label = "Predicted class" if meaningful else words.OUTPUT_WITHOUT_MEANING
        st.html(
            '<div class="mseenet-answer">'
            f'<span class="mseenet-label">{label}</span>'
            f"<strong>{words.CLASS_TITLES[name]}</strong>"
            f"<span>Confidence {html.escape(percent(confidence))}</span>"
            f"<small>{words.CLASS_NOTES[name]}</small></div>"
            + _malignancy(probabilities, card, meaningful)
        )
        spoken = ", ".join(f"{n} {percent(p)}" for n, p in probabilities.items())
        st.plotly_chart(
            probability_bars(probabilities, card.review_confidence, meaningful),
            height=BARS_HEIGHT,
            key="bars",
            config={"displayModeBar": False},
            alt=f"Calibrated probabilities: {spoken}",
        )
        if meaningful and (note := _mark_note(card)):  # long: nothing is to be pushed down by it
            st.html(note)


def _malignancy(probabilities, card: Card, meaningful: bool) -> str:
    """A bar that the malignant classes and Benign share, with the operating point."""
    benign = probabilities[CLASS_NAMES[0]]
    proportions = "".join(
        f"<b>{name} {html.escape(percent(proportion))}</b>"
        for name, proportion in (("malignant", 1 - benign), ("benign", benign))
    )
    point = card.content.get("malignant") if meaningful else None
    mark = f'<i style="left:{100 * point["threshold"]:.1f}%"></i>' if point else ""
    return (
        f'<div class="mseenet-malignancy"><p>{proportions}</p><div>'
        f'<span style="width:{100 * (1 - benign):.1f}%"></span>{mark}</div></div>'
    )


def _mark_note(card: Card) -> str:
    """What the mark on the bar of `_malignancy` means; empty without one."""
    point = card.content.get("malignant")
    if not point:
        return ""
    return (
        f'<p class="mseenet-note">Mark: from {percent(point["threshold"])} on counts as malignant; '
        f"{words.operating_point(point, card.content.get('metrics') or {})}.</p>"
    )


def _heading(field: Field, card: Card, hidden: bool) -> str:
    badges = [f"answer {HIDDEN}"] if hidden else [words.STATUS_TITLES[field.result.status]]
    badges += [] if hidden else source_badges(field, card)
    if field.synthetic:
        badges.append("synthetic example")
    if field.slide is not None:
        badges.append(f"slide {field.slide}")
    if field.repeats:
        badges.append(f"added {len(field.repeats) + 1} times")
    tags = "".join(f'<span class="mseenet-badge">{html.escape(badge)}</span>' for badge in badges)
    note = f'<p class="mseenet-note">{words.SYNTHETIC}</p>' if field.synthetic else ""
    return f'<h2 class="mseenet-file">{html.escape(field.name)}{tags}</h2>{note}'


def _reasons(field: Field) -> Sequence[str]:
    """Why the status is what it is; what a saved case says is shown as it is, not as Markdown."""
    reasons = field.result.reasons
    return reasons if field.recorded is None else [plain(reason) for reason in reasons]


def sentence(lead: str, reasons: Sequence[str]) -> str:
    """Reasons as one sentence."""
    return f"{lead}: {'; '.join(reasons)}."
