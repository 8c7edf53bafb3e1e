"""What a session has on the page "Your laboratory": labelled fields, a report, a site profile."""

import io
import weakref
import zipfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any

from mseenet.case.fields import Case, server_full
from mseenet.case.labelled import labelled
from mseenet.case.limits import Limits, Room, Share
from mseenet.config import FIELD_BYTES
from mseenet.errors import MSEENetError, UsageError
from mseenet.inference.classifier import Classifier
from mseenet.inference.profile import STEM, SiteProfile, profile_name
from mseenet.inference.scheduler import Scheduler
from mseenet.laboratory.color import TrainingFields
from mseenet.laboratory.fields import SeenFields, fields_of_archive, fields_of_case
from mseenet.laboratory.foreign import foreign_of_archive
from mseenet.laboratory.making import Making
from mseenet.laboratory.verify import Check

NOT_BLIND = (
    "{count} of these verdicts were given after the network's answer had been shown. Such verdicts "
    "agree with the network more easily, so the report may be too good."
)


CASE_ENDED = (
    "The case whose fields these were has ended. For a site profile hand the fields over anew, and "
    "have them checked again."
)


@dataclass(eq=False)
class Laboratory:
    """Labelled fields of one session: their check, the report on them, a site profile from them.

    Attributes:
        check: The fields, until there is a report.
        origin: Where they come from, in words.
        remark: What is to be known of their classes; empty if nothing is.
        running: Whether the network is being asked.
        lost: Why that has stopped by itself; None if it has not.
        report: Of `figures.verification`, once all is known.
        fields: What it is on, for a profile; None if that is not at hand.
        foreign: Images that a profile may not let pass, by kind.
        making: The profile, until it is made.
        profile: What was made; None if nothing was, or may not be used.
        untaken: What the user has not taken away: "report", "profile".
        problem: Why what was handed over last cannot be used; empty if it can.
        obstacle: Why no profile can be made; empty if none is known.
        intakes: How often something was handed over; names the next uploader, which starts empty.
    """

    check: Check | None = None
    origin: str = ""
    remark: str = ""
    running: bool = False
    lost: MSEENetError | None = None
    report: dict[str, Any] | None = None
    fields: SeenFields | None = None
    foreign: dict[str, list[bytes]] = field(default_factory=dict)
    making: Making | None = None
    profile: SiteProfile | None = None
    untaken: set[str] = field(default_factory=set)
    problem: str = ""
    obstacle: str = ""
    intakes: int = 0
    _share: Share = field(default_factory=lambda: Share(Room()), init=False)
    _foreign_share: Share = field(default_factory=lambda: Share(Room()), init=False)
    _of_case: bool = field(default=False, init=False)

    @property
    def suggested_name(self) -> str:
        """Of a profile."""
        return profile_name("" if self._of_case else PurePath(self.origin).stem)

    def take_archive(self, name: str, content: bytes, limits: Limits, room: Room) -> None:
        """Takes the labelled fields of a ZIP archive, or notes the problem.

        Args:
            name: Of the archive.
            content: Of the archive.
            limits: What it may hold.
            room: What all cases of the server share.
        """
        self.forget()
        self._share = self._share_of(room)
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

    def finish(self, report: dict[str, Any], fields: SeenFields | None = None) -> None:
        """Notes the report.

        Args:
            report: Of `figures.verification`.
            fields: What it is on; their bytes stay, for a profile. None if no profile is to be made.
        """
        self.check, self.running, self.lost = None, False, None
        self.report, self.fields, self.untaken = report, fields, {"report"}
        self.intakes += 1
        if fields is None:
            self._let_go()

    def take_foreign(self, name: str, content: bytes, limits: Limits, room: Room) -> None:
        """Takes images that a profile may not let pass, instead of others, or notes the problem.

        Args:
            name: Of the ZIP archive.
            content: Of the archive.
            limits: What it may hold.
            room: What all cases of the server share.
        """
        self.forget_foreign()
        self._foreign_share = self._share_of(room)
        try:
            self.foreign = foreign_of_archive(content, limits, self._foreign_share)
        except UsageError as error:
            self.refuse_foreign(f"{name}: {error}")

    def refuse_foreign(self, problem: str) -> None:
        """Notes why such images cannot be used."""
        self.forget_foreign()
        self.obstacle = problem

    def forget_foreign(self) -> None:
        """Forgets images that a profile may not let pass."""
        self.foreign, self.obstacle = {}, ""
        self._foreign_share.end()
        self.intakes += 1

    def make_profile(
        self,
        classifier: Classifier,
        scheduler: Scheduler,
        training: TrainingFields,
        name: str,
        limits: Limits,
        room: Room,
    ) -> None:
        """Begins to make a profile from the fields of the report, or notes what stands against it.

        Args:
            classifier: The weights without a profile.
            scheduler: Shares it.
            training: What the training fields look like.
            name: Of the profile.
            limits: What it may hold.
            room: What all cases of the server share.
        """
        assert self.fields is not None
        images = len(self.fields.labels) + sum(map(len, self.foreign.values()))
        share = self._share_of(room)
        if images > limits.decoded:
            self.obstacle = (
                f"expected at most {limits.decoded:,} fields and foreign images together, whose "
                f"pixels take as much as a case may; received {images:,}"
            )
        elif not share.take(images * FIELD_BYTES):
            self.obstacle = server_full(Room(limits.server))
        else:
            self.making = Making(
                self.fields, self.foreign, classifier, scheduler, training, name, share
            )
            weakref.finalize(self, self.making.end)
            self.running, self.lost, self.obstacle = True, None, ""

    def finish_profile(self) -> None:
        """Notes what came of making a profile: with it the report anew, or why there is nothing.

        Raises:
            Exception: A defect.
        """
        assert self.making is not None
        adaptation, error = self.making.adaptation, self.making.error
        self.forget_profile()
        if adaptation is not None:
            self.report, self.profile = adaptation.report, adaptation.profile
            self.untaken = {"report", "profile"} if self.profile else {"report"}
        elif isinstance(error, UsageError):
            self.obstacle = str(error)
        elif error is not None:
            raise error

    def forget_profile(self) -> None:
        """Gives up a profile that is being made."""
        if self.making is not None:
            self.making.end()
        self.making, self.running, self.lost, self.obstacle = None, False, None, ""

    def fail(self, problem: str) -> None:
        """Notes why there is no report, and forgets the fields."""
        self._let_go()
        self.problem = problem

    def forget(self) -> None:
        """Forgets fields, report and profile."""
        self._let_go()
        self.report, self.profile, self.untaken = None, None, set()
        self.origin, self.remark, self.problem = "", "", ""

    def forget_case(self) -> None:
        """Forgets fields that are those of a case, which has ended; a report on them stays."""
        if self._of_case and self.report is None:
            self.forget()
        elif self._of_case:
            self._let_go()
            self.obstacle = CASE_ENDED

    def unsaved(self) -> bool:
        """Whether something would be lost with this session."""
        return self.running or bool(self.untaken)

    def held(self) -> str:
        """What the user would miss: "fields", "report", "profile", as far as there are."""
        working = self.check is not None or self.making is not None
        return " ".join([*(["fields"] if working else []), *sorted(self.untaken, reverse=True)])

    def _share_of(self, room: Room) -> Share:
        """A share that ends with the session."""
        share = Share(room)
        weakref.finalize(self, share.end)
        return share

    def _let_go(self) -> None:
        self.forget_profile()
        self.forget_foreign()
        self.check, self.fields, self._of_case = None, None, False
        self._share.end()


def profile_archive(profile: SiteProfile) -> bytes:
    """Both files of a profile as a ZIP archive."""
    made = datetime.fromisoformat(profile.content["made"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in profile.files(STEM).items():
            archive.writestr(zipfile.ZipInfo(name, made.timetuple()[:6]), content)
    return buffer.getvalue()
