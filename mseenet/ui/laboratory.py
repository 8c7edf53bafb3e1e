"""What a session has on the page "Your laboratory": labelled fields, then the report on them."""

import weakref
from dataclasses import dataclass, field
from typing import Any

from mseenet.case.fields import Case
from mseenet.case.labelled import labelled
from mseenet.case.limits import Limits, Room, Share
from mseenet.errors import MSEENetError, UsageError
from mseenet.laboratory.fields import fields_of_archive, fields_of_case
from mseenet.laboratory.verify import Check

NOT_BLIND = (
    "{count} of these verdicts were given after the network's answer had been shown. Such verdicts "
    "agree with the network more easily, so the report may be too good."
)


@dataclass(eq=False)
class Laboratory:
    """Labelled fields of one session, from when they are handed over to the report.

    Attributes:
        check: The fields, until there is a report.
        origin: Where they come from, in words.
        remark: What is to be known of their classes; empty if nothing is.
        running: Whether the network is being asked.
        lost: Why that has stopped by itself; None if it has not.
        report: Of `figures.verification`, once all is known; nothing is kept of the fields then.
        downloaded: Whether the user has taken the report away.
        problem: Why what was handed over last cannot be used; empty if it can.
        intakes: How often something was handed over; names the next uploader, which starts empty.
    """

    check: Check | None = None
    origin: str = ""
    remark: str = ""
    running: bool = False
    lost: MSEENetError | None = None
    report: dict[str, Any] | None = None
    downloaded: bool = False
    problem: str = ""
    intakes: int = 0
    _share: Share = field(default_factory=lambda: Share(Room()), init=False)
    _of_case: bool = field(default=False, init=False)

    def take_archive(self, name: str, content: bytes, limits: Limits, room: Room) -> None:
        """Takes the labelled fields of a ZIP archive, or notes the problem.

        Args:
            name: Of the archive.
            content: Of the archive.
            limits: What it may hold.
            room: What all cases of the server share.
        """
        self.forget()
        self._share = Share(room)
        weakref.finalize(self, self._share.end)
        try:
            self.check = Check(*fields_of_archive(content, limits, self._share))
        except UsageError as error:
            self.fail(f"{name}: {error}")
        self.origin = name

    def take_case(self, case: Case) -> None:
        """Takes the fields of a case for which the reader names a class; there is one or more.

        Their bytes stay those of the case, which are counted already.
        """
        self.forget()
        known = [f.verdict for _, f in labelled(case.done()) if f.verdict is not None]
        shown = sum(not verdict.blind for verdict in known)
        self.check, self._of_case = Check(fields_of_case(case.done())), True
        self.origin = "the open case, with your verdicts"
        self.remark = NOT_BLIND.format(count=f"{shown:,}") if shown else ""

    def finish(self, report: dict[str, Any]) -> None:
        """Notes the report, and forgets the fields."""
        self._let_go()
        self.report, self.downloaded = report, False

    def fail(self, problem: str) -> None:
        """Notes why there is no report, and forgets the fields."""
        self._let_go()
        self.problem = problem

    def forget(self) -> None:
        """Forgets fields and report."""
        self._let_go()
        self.report, self.origin, self.remark, self.problem = None, "", "", ""

    def forget_case(self) -> None:
        """Forgets fields that are those of a case, which has ended."""
        if self._of_case:
            self.forget()

    def unsaved(self) -> bool:
        """Whether something would be lost with this session."""
        return self.running or (self.report is not None and not self.downloaded)

    def held(self) -> str:
        """What the user would miss: "fields", "report", or nothing."""
        if self.report is not None:
            return "" if self.downloaded else "report"
        return "" if self.check is None else "fields"

    def _let_go(self) -> None:
        self.check, self.running, self.lost, self._of_case = None, False, None, False
        self._share.end()
        self.intakes += 1
