"""Cases that last: saved by the browser, opened again, and analysed again by a later release."""

from collections.abc import Callable, Sequence
from datetime import datetime

import streamlit as st

from mseenet.case import words
from mseenet.case.answers import counted_answer
from mseenet.case.fields import REPEATED, Field, LeftOut, Source
from mseenet.case.limits import MEGABYTE
from mseenet.case.names import file_stem
from mseenet.case.records import percent
from mseenet.case.saved import (
    Reading,
    SavedCase,
    SavedCaseError,
    is_saved_case,
    open_case,
    parts_of,
    save_case,
)
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView, OpenedParts, reads_blind
from mseenet.version import version_text

ONE_CASE = "expected a saved case on a page without fields; begin a new case to open it"


def source_in_use(card: Card) -> Source:
    """The network that answers here."""
    profile = None if card.profile is None else card.profile.title
    return Source(card.release, card.sha256, version_text(), profile)


def draw_save(view: CaseView, classifier: Classifier) -> None:
    """Draws the button that saves the case as one file."""
    case = view.case
    parts = len(parts_of(case))

    def maker(part: int) -> Callable[[], bytes]:
        def make() -> bytes:
            reading = Reading(blind, view.selected, view.pictured, sorted(view.kept_copies))
            made = datetime.now().astimezone()
            try:
                return save_case(case, source_in_use(classifier.card), made, reading, part)
            except Exception:
                view.saved = None  # of a click that led to nothing
                view.saved_parts.clear()
                raise

        return make

    blind = reads_blind()  # a download has no session
    label = f"{file_stem(case.label)}-" if case.label.strip() else ""
    name = f"mseenet-saved-{label}{datetime.now():%Y%m%d-%H%M}"
    if parts == 1:
        st.download_button(
            "Save case",
            maker(1),
            f"{name}.zip",
            "application/zip",
            key="save-case",
            help="One file with images, answers, verdicts and settings, for this computer; the "
            "server keeps nothing. Add it to an empty page to go on.",
            on_click=view.mark_saved,
        )
        return
    with st.popover(f"Save case: {parts} files", width=180):
        st.markdown(
            f"This app opens at most {case.limits.part // MEGABYTE:,} MB as one file, so this case "
            f"is saved in {parts} files. Save all of them, and add all of them to an empty page to go on."
        )
        for part in range(1, parts + 1):
            st.download_button(
                f"Part {part} of {parts}",
                maker(part),
                f"{name}-part-{part}-of-{parts}.zip",
                "application/zip",
                key=f"save-case-{part}",
                icon=":material/check:" if view.part_saved(part) else None,
                on_click=view.mark_part_saved,
                args=(part, parts),
            )


def open_saved(
    view: CaseView, files: Sequence[tuple[str, bytes]], left_out: list[LeftOut]
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Opens a saved case, or parts of one, among uploaded files.

    Args:
        view: Of this session; a case is opened only if it has no fields, or is a part of the
            one that was opened.
        files: Names and contents.
        left_out: Gets what of saved cases could not be opened.

    Returns:
        The other files, and what is to be said of the opened case.
    """
    others: list[tuple[str, bytes]] = []
    notices: list[str] = []
    case = view.case
    for name, content in files:
        if not is_saved_case(content):
            others.append((name, content))
            continue
        try:
            saved = open_case(content, case.limits, len(case.fields), case.size)
        except SavedCaseError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        if not case.fields:
            left_out += _restore(view, saved)
        elif not _belongs(view, saved):
            left_out.append(LeftOut(name, ONE_CASE))
            continue
        else:
            known = [field for field in saved.fields if field.key in case.fields]
            left_out += [LeftOut(field.name, REPEATED) for field in known]
            left_out += _add(view, [f for f in saved.fields if f not in known], saved)
        left_out += saved.damaged
        notices += saved.notices
    return others, notices


def _belongs(view: CaseView, saved: SavedCase) -> bool:
    """Whether it is a part that is still missing of the case that was opened."""
    opened = view.opened
    return opened is not None and opened.of == saved.of and saved.part not in opened.numbers


def draw_missing_parts(view: CaseView) -> None:
    """Draws which parts of the opened case were not added yet."""
    if view.opened is None or not (missing := view.opened.missing()):
        return
    numbers = ", ".join(map(str, missing))
    st.warning(
        f"Of {view.opened.parts} files of this saved case, {numbers} "
        f"{'is' if len(missing) == 1 else 'are'} still missing. Add "
        f"{'it' if len(missing) == 1 else 'them'} under *Add more fields*.",
        icon=":material/folder_open:",
    )


def _restore(view: CaseView, saved: SavedCase) -> list[LeftOut]:
    """Makes a saved case that of the page; returns the fields for which there is no room."""
    case, reading = view.case, saved.reading
    case.slide_pattern = saved.slide_pattern
    view.opened = None
    refused = _add(view, saved.fields, saved)
    case.label, case.reader = saved.label, saved.reader
    case.opacity, case.color_map = saved.opacity, saved.color_map
    view.selected, view.kept_copies = reading.selected, set(reading.kept_copies)
    view.pictured = None if reading.pictured is None else list(reading.pictured)
    view.restored = {
        "label": saved.label,
        "reader": saved.reader,
        "opacity": 5 * round(20 * saved.opacity),
        "color-map": saved.color_map,
        "blind": reading.blind,
        "slide-pattern": saved.slide_pattern,
    }
    if not saved.damaged and not refused:
        view.mark_saved()
    return refused


def _add(view: CaseView, fields: Sequence[Field], saved: SavedCase) -> list[LeftOut]:
    """Adds fields of a saved case; returns those for which there is no room."""
    lost = view.unsaved()
    refused = view.case.put_back(fields)
    view.case.left_out += saved.left_out
    if saved.parts > 1:
        view.opened = view.opened or OpenedParts(saved.of, saved.parts)
        view.opened.numbers.add(saved.part)
    if not lost and not saved.damaged and not refused:
        view.mark_saved()
    return refused


def is_older(field: Field, card: Card) -> bool:
    """Whether the answer to a field was recorded by another release than the one in use."""
    return field.recorded is not None and field.recorded.release != card.release


def draw_recorded(view: CaseView, classifier: Classifier) -> None:
    """Draws whose answers these are, if not the release's in use, and what changed since."""
    card = classifier.card
    older = {f.key: f.recorded for f in view.case.done() if f.recorded and is_older(f, card)}
    again = [f for f in view.case.done() if f.earlier is not None]
    if not older and not again:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="recorded"):
        if older:
            by = sorted({f"{source.title} (MSEENet {source.version})" for source in older.values()})
            answers = "1 answer stands" if len(older) == 1 else f"{len(older)} answers stand"
            st.caption(
                f":material/history: {answers} as recorded by release {plain(', '.join(by))}; "
                f"in use is {card.release}.",
                width="stretch",
            )
            st.button(
                "Analyse again",
                key="analyse-again",
                on_click=view.analyse_again,
                args=(card.release,),
            )
        if again and not reads_blind():
            changed = [field for field in again if _differs(field)]
            with st.popover(f"What changed: {len(changed)} of {len(again)} classes"):
                _draw_changes(again)


def _draw_changes(fields: list[Field]) -> None:
    rows = [(field, field.earlier) for field in sorted(fields, key=_differs, reverse=True)]
    st.dataframe(
        {
            "Changed": ["yes" if _differs(field) else "no" for field, _ in rows],
            "File": [field.name for field, _ in rows],
            "Before": [_answer(earlier.prediction) for _, earlier in rows if earlier],
            "Now": [_answer(field.result) for field, _ in rows],
            "Release before": [earlier.source.title for _, earlier in rows if earlier],
        },
        hide_index=True,
        key="changes",
    )


def _differs(field: Field) -> bool:
    before = field.earlier and field.earlier.prediction
    return before is not None and _called(before) != _called(field.result)


def _called(prediction: Prediction) -> str:
    answer = counted_answer(prediction)
    return answer.class_name if answer else words.STATUS_TITLES[prediction.status]


def _answer(prediction: Prediction) -> str:
    answer = counted_answer(prediction)
    return f"{_called(prediction)} {percent(answer.confidence)}" if answer else _called(prediction)


def badges(field: Field, card: Card) -> list[str]:
    """What a field's heading says of an answer that is not, or not only, the one in use."""
    said = []
    if field.recorded and is_older(field, card):
        said.append(f"as recorded by release {field.recorded.title}")
    if field.earlier is not None:
        before = _answer(field.earlier.prediction)
        said.append(f"before: {before}, release {field.earlier.source.title}")
    return said
