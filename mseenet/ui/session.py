"""The state of one browser session: its case, how the page shows it, what the user has set."""

from dataclasses import dataclass, field
from functools import cache

import streamlit as st

from mseenet.case.fields import Case, Field
from mseenet.case.limits import Room
from mseenet.case.verdicts import Verdict
from mseenet.errors import MSEENetError, UsageError
from mseenet.ui.bundler import page_limits
from mseenet.ui.frame import plain
from mseenet.ui.laboratory import Laboratory

SETTINGS = (
    "way",
    "label",
    "view",
    "order",
    "statuses",
    "classes",
    "method",
    "color-map",
    "opacity",
    "blind",
    "blind-order",
    "verdicts",
    "reader",
    "case-cells",
    "cells-class",
    "slide-pattern",
    "by-slide",
    "slides",
    "mark-fields",
    "laboratory-way",
    "profile-name",
)
"""Names of the widgets whose values belong to the session."""


@cache
def server_room() -> Room:
    """What the cases of all sessions may take together.

    Raises:
        UsageError: See `page_limits`.
    """
    return Room(page_limits().server)


def _empty_case() -> Case:
    return Case(page_limits(), server_room())


@dataclass
class OpenedParts:
    """What of a case that was saved in parts is on the page.

    Attributes:
        of: The case, see `SavedCase.of`.
        parts: How many there are.
        numbers: Those that were opened, counted from 1.
    """

    of: str
    parts: int
    numbers: set[int] = field(default_factory=set)

    def missing(self) -> list[int]:
        """Numbers of the parts that were not opened yet."""
        return sorted({*range(1, self.parts + 1)} - self.numbers)


@dataclass(eq=False)
class CaseView:
    """How the page shows the case of its session.

    Attributes:
        case: The case itself, which knows nothing of the page.
        paused: Whether the analysis is stopped, by the user or for `problem`.
        problem: Why the analysis has stopped by itself; None if it has not.
        listed: Whether the fields have been on the page, one by one, beside their summary.
        selected: Key of the field that the user chose to look at.
        steps: How often the list had to be turned to the selected field; names its widgets.
        intakes: How often something was taken in; names the next uploader, which starts empty.
        pictured: Keys of the fields that the user chose for the report; None before that.
        kept_copies: Keys of the fields that the user wants to count, copies or not.
        undo: Keys of the fields that got a verdict, in that order, each with the verdict before.
        looked_at: Key of the field that the page last asked a verdict for.
        saved: What the case was like when it was last saved or opened; None before that.
        saved_parts: Which parts of the case were saved, and what the case was like then.
        opened: The parts that were opened, of a case in parts.
        pattern_problem: Why the pattern for slides cannot be used; empty if it can.
        marked: Keys of the fields that the user has marked in the gallery.
        restored: Values of `SETTINGS` from a saved case that was just opened.
        laboratory: What the session has beside its case, for another page.
    """

    case: Case = field(default_factory=_empty_case)
    paused: bool = False
    problem: MSEENetError | None = None
    listed: bool = False
    selected: str | None = None
    steps: int = 0
    intakes: int = 0
    pictured: list[str] | None = None
    kept_copies: set[str] = field(default_factory=set)
    undo: list[tuple[str, Verdict | None]] = field(default_factory=list)
    looked_at: str | None = None
    saved: object = None
    saved_parts: dict[int, object] = field(default_factory=dict)
    opened: OpenedParts | None = None
    pattern_problem: str = ""
    marked: set[str] = field(default_factory=set)
    restored: dict[str, object] = field(default_factory=dict)
    laboratory: Laboratory = field(default_factory=Laboratory)

    def shown(self, listed: list[Field]) -> Field:
        """The field to look at: the user's choice, else the first of those listed."""
        return next((field for field in listed if field.key == self.selected), listed[0])

    def select(self, key: str) -> None:
        """Selects a field."""
        self.selected = key

    def choose_pictures(self, keys: list[str]) -> None:
        """Chooses the fields whose pictures go into the report."""
        self.pictured = list(keys)

    def step_to(self, key: str) -> None:
        """Selects a field and turns the list to it."""
        self.selected = key
        self.steps += 1

    def analyse_again(self, release: str) -> None:
        """Lets fields wait that another release has answered; see `Case.analyse_again`."""
        self.case.analyse_again(release)
        self.go_on()

    def stop(self, problem: MSEENetError | None = None) -> None:
        """Stops the analysis, for a problem or because the user wants it."""
        self.paused, self.problem = True, problem

    def go_on(self) -> None:
        """Lets the analysis go on."""
        self.paused, self.problem = False, None

    def mark_saved(self) -> None:
        """Notes that the case, as it is now, is saved."""
        self.saved = self._state()

    def mark_part_saved(self, part: int, parts: int) -> None:
        """Notes that one of several parts is saved; with the last one, the case is."""
        self.saved_parts[part] = self._state()
        if all(self.part_saved(number) for number in range(1, parts + 1)):
            self.mark_saved()

    def part_saved(self, part: int) -> bool:
        """Whether a part was saved since the case last changed."""
        return part in self.saved_parts and self.saved_parts[part] == self._state()

    def unsaved(self) -> bool:
        """Whether something would be lost with this session."""
        return bool(self.case.fields) and self.saved != self._state()

    def held(self) -> str:
        """What the session has that the user would miss, for `draw_header`."""
        return f"{'case' if self.case.fields else ''} {self.laboratory.held()}".strip()

    def _state(self) -> object:
        """All of a case that the user or the network has added to it."""
        # The widget knows of a change before the case does.
        label = self.restored.get("label") or st.session_state.get("label", self.case.label)
        return label or "", [
            (f.key, f.name, f.verdict, f.draft, f.prediction is None, f.recorded, f.slide)
            for f in self.case.fields.values()
        ]

    def remove(self, key: str) -> None:
        """Forgets a field."""
        self.case.remove(key)
        if self.selected == key:
            self.selected = None


def require_limits() -> None:
    """Ends the page with a sentence if a limit that the operator has set cannot be understood.

    To take the usual limit instead could fill the memory that the operator wanted to keep free.
    """
    try:
        page_limits()
    except UsageError as error:
        st.error(
            f"The operator of this app has set a limit that cannot be understood: {plain(str(error))}.",
            icon=":material/error:",
        )
        st.stop()


def current_view() -> CaseView:
    """The case of this browser session and how it is shown; it ends with the session."""
    if "case-view" not in st.session_state:
        st.session_state["case-view"] = CaseView()
    return st.session_state["case-view"]


def keep_settings() -> None:
    """Lets what the user has set survive a look at another page.

    Streamlit forgets a widget's value when a page is drawn without the widget. These widgets
    get their first value through the session's state too: a default of their own would clash.
    """
    view = current_view()
    st.session_state.update(view.restored)
    view.restored = {}
    for name in SETTINGS:
        if name in st.session_state:
            st.session_state[name] = st.session_state[name]


def reads_blind() -> bool:
    """Whether the network's answers are hidden until the reader has given a verdict."""
    return bool(st.session_state.get("blind"))


def new_case() -> None:
    """Drops all fields and settings of this session, the case label too.

    What was handed over as fields of a laboratory, or a report on them, stays.
    """
    intakes, laboratory = current_view().intakes + 1, current_view().laboratory
    current_view().case.end()
    laboratory.forget_case()
    st.session_state.clear()
    st.session_state["case-view"] = CaseView(intakes=intakes, laboratory=laboratory)
