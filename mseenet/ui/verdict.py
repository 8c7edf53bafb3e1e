"""The reader's verdicts on the page: given by key or mouse, blind or not, and summed up."""

import html
from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from mseenet.case.fields import Case, Field
from mseenet.case.verdicts import (
    CHOICES,
    DEPENDENT,
    KAPPA,
    LONGEST_COMMENT,
    LONGEST_NAME,
    NO_CLASS,
    NOT_JUDGED,
    UNSURE,
    Agreement,
    Measured,
    Verdict,
    agreeing_choice,
    agreement,
    agrees,
    verdict_text,
)
from mseenet.config import CLASS_NAMES
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView, reads_blind

KEYS = {name: str(number) for number, name in enumerate(CLASS_NAMES, start=1)} | {
    NOT_JUDGED: "X",
    UNSURE: "U",
}
"""For each of `CHOICES` its key; A agrees, Z takes the latest verdict back."""

WITHOUT = "no verdict"
FILTERS = (WITHOUT, "we agree", "we differ", NOT_JUDGED, UNSURE)
"""What the list can be filtered by."""

HIDDEN = "hidden"
"""Stands for the network's answer until the reader has given a verdict."""


def hides(view: CaseView, field: Field, in_list: bool = False) -> bool:
    """Whether the network's answer to a field is not to be shown.

    Args:
        view: Of this session.
        field: An analysed one.
        in_list: In the list the answer stays hidden as long as the verdict is the latest one, so
            that a slip of the finger can be mended blindly.
    """
    if not reads_blind() or field.result.status == "error":
        return False
    latest = in_list and bool(view.undo) and view.undo[-1][0] == field.key
    return field.verdict is None or latest


def still_hidden(view: CaseView) -> bool:
    """Whether any answer is hidden, so that counts of answers would tell it."""
    return any(hides(view, field) for field in view.case.done())


def filter_of(field: Field) -> str:
    """Which of `FILTERS` a field is found by."""
    verdict = field.verdict
    if verdict is None:
        return WITHOUT
    agreed = agrees(field.result, verdict)
    if agreed is not None and not (agreed and verdict.choice == NOT_JUDGED):
        return FILTERS[1] if agreed else FILTERS[2]
    return verdict.choice


def by_difference(fields: list[Field]) -> list[Field]:
    """Fields on which reader and network differ first, then other verdicts, then none."""
    rank = {False: 0, None: 1, True: 2}
    return sorted(fields, key=lambda f: (f.verdict is None, rank[agrees(f.result, f.verdict)]))


def draw_blind_switch() -> None:
    """Draws the switch for blind reading."""
    st.toggle(
        "Read blind",
        key="blind",
        help="Hides the network's answers, heatmaps and order of each field until you have given "
        "your verdict on it. A verdict counts as blind if the answer had not been shown before.",
    )


def draw_reader_name(case: Case) -> None:
    """Draws the field for the reader's name, which stands in later verdicts."""
    case.reader = st.text_input(
        "Reader",
        key="reader",
        placeholder="Reader (optional)",
        max_chars=LONGEST_NAME,
        width=150,
        label_visibility="collapsed",
    )


def draw_verdict(view: CaseView, field: Field, following: str | None) -> None:
    """Draws the buttons for a verdict on a field and what was said of it.

    Args:
        view: Of this session.
        field: The one that is looked at.
        following: Key of the field to look at after the verdict; None to stay.
    """
    if field.result.status == "error":
        return
    hidden = hides(view, field)
    agreed = agreeing_choice(field.result)
    choices: list[tuple[str, str | None, str]] = [("Agree", agreed, "A")]
    choices += [(name[0].upper() + name[1:], name, KEYS[name]) for name in CHOICES]
    view.looked_at = field.key
    # Named by the field: a key that is pressed before the page shows the next field never counts
    # for one that was not looked at.
    mark = field.key[:12]
    with st.container(key="verdict", gap="xsmall"):
        with st.container(horizontal=True, gap="xsmall", key="verdict-choices"):
            for label, choice, key in choices:
                given = field.verdict is not None and field.verdict.choice == choice
                st.button(
                    label,
                    key=f"verdict-{key}-{mark}",
                    shortcut=key,
                    type="primary" if given and label != "Agree" else "secondary",
                    disabled=label == "Agree" and hidden,
                    on_click=give,
                    args=(view, field.key, choice, following),
                )
            st.button(
                "Undo",
                key=f"undo-{mark}",
                shortcut="Z",
                disabled=not view.undo,
                on_click=undo,
                args=(view,),
            )
        with st.container(
            horizontal=True, vertical_alignment="center", gap="small", key="verdict-said"
        ):
            st.text_input(
                "Comment",
                value=field.verdict.comment if field.verdict else field.draft,
                key=_comment_key(field),
                placeholder="Comment (optional); Enter keeps it",
                max_chars=LONGEST_COMMENT,
                width=300,
                label_visibility="collapsed",
                on_change=_take_comment,
                args=(field,),
            )
            st.caption(_said(field), width="stretch")


def give(view: CaseView, key: str, choice: str | None, following: str | None) -> None:
    """Notes a verdict, and turns to the next field.

    A key that is pressed while the page turns comes from the field before: it is passed over, as it
    was meant neither for that one any more nor for one that was not yet to be seen.
    """
    field = view.case.fields.get(key)
    if field is None or choice is None or key != view.looked_at:
        return
    comment = st.session_state.get(_comment_key(field)) or ""
    known = field.verdict
    if known is None or (known.choice, known.comment) != (choice, comment):
        view.undo.append((key, known))
        field.verdict = Verdict(
            choice,
            datetime.now(UTC).astimezone(),
            comment,
            view.case.reader.strip(),
            blind=not field.seen,
        )
        field.draft = ""
    view.step_to(following or key)


def undo(view: CaseView) -> None:
    """Takes the latest verdict back, and turns to its field."""
    while view.undo:
        key, before = view.undo.pop()
        field = view.case.fields.get(key)
        if field is None:  # removed since
            continue
        if before is None and field.verdict is not None:
            field.draft = field.verdict.comment
        field.verdict = before
        view.step_to(key)
        return


def _comment_key(field: Field) -> str:
    # Another name with every verdict: the widget starts with what was noted.
    given = field.verdict.given.isoformat() if field.verdict else ""
    return f"comment-{field.key[:12]}-{given}"


def _take_comment(field: Field) -> None:
    comment = st.session_state[_comment_key(field)]
    if field.verdict is None:
        field.draft = comment
        return
    field.verdict = replace(field.verdict, comment=comment)


def _said(field: Field) -> str:
    verdict = field.verdict
    if verdict is None:
        return "No verdict yet."
    by = f" by {plain(verdict.reader)}" if verdict.reader else ""
    said = {True: ", as the network says", False: ", **unlike the network**", None: ""}
    return (
        f"Verdict{by}: **{verdict.choice}**{said[agrees(field.result, verdict)]}"
        f"{', blind' if verdict.blind else ''}, {verdict.given:%Y-%m-%d %H:%M}"
    )


def reader_text(field: Field) -> str | None:
    """The verdict as the list shows it; None without one."""
    text = verdict_text(field.result, field.verdict)
    return text and text.replace(NOT_JUDGED, "not judged")


def agreement_of(case: Case) -> Agreement:
    """How far network and reader agree on a case; synthetic fields do not count."""
    fields = [field for field in case.done() if not field.synthetic]
    return agreement([(f.result, f.verdict) for f in fields], [f.slide for f in fields])


def draw_agreement(case: Case) -> None:
    """Draws the table of both, and the figures if there are enough fields."""
    found = agreement_of(case)
    if not found.table.any():
        st.caption("Agreement with the network appears here with your verdicts.")
        return
    head = "".join(f'<th scope="col">{html.escape(choice)}</th>' for choice in CHOICES)
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f"<td{' class=mseenet-same' if i == j else ''}>{count or '·'}</td>"
            for j, count in enumerate(counts)
        )
        + "</tr>"
        for i, (name, counts) in enumerate(zip((*CLASS_NAMES, NO_CLASS), found.table, strict=True))
    )
    st.html(
        '<table class="mseenet-agreement"><caption>Fields by the network\'s answer (rows) and the '
        f"reader's (columns)</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>"
        "</table>"
    )
    if found.measured is None:
        st.caption(found.too_few)
        return
    st.markdown(f"**Agreement** {_as_text(found.measured)}")
    if found.blind is not None:
        st.markdown(f"**Blind verdicts alone** {_as_text(found.blind)}")
    st.caption(DEPENDENT)
    st.caption(KAPPA)


def _as_text(measured: Measured) -> str:
    """For Markdown, which takes "<" for the beginning of a tag."""
    return str(measured).replace("<", r"\<").replace(">", r"\>")
