"""One network for many cases at once: full batches of all of them, each case in its turn.

A batch of the network takes nearly as long with three images as with twelve, so the images of
several cases go through it together. Cases take turns by `ROWS` images, so that a large one holds
up a small one by no more than that.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mseenet.errors import MSEENetError
from mseenet.imaging.decoding import ImageSource
from mseenet.inference.classifier import ROWS, Classifier, Observed, Prediction

TICKET = 60.0
"""Seconds for which an owner without a job keeps its place in line, while its answers are wanted."""

RECENT = 0.2
"""Weight of the latest batch in the time that an image takes."""


class BusyError(MSEENetError):
    """As many cases are analysed or wait in line as may; the message says how many.

    Attributes:
        seconds: Until one of them has ended, about; None while the speed is not known.
        made: When that was, by `time.monotonic`.
    """

    def __init__(self, cases: int, seconds: float | None) -> None:
        super().__init__(f"{cases} cases are analysed or wait in line, as many as may")
        self.cases, self.seconds, self.made = cases, seconds, time.monotonic()


class Place(NamedTuple):
    """Where a job stands.

    Attributes:
        ahead: Cases that have to end before its turn comes; 0 once it is being analysed.
        seconds: Until all of it is analysed, about; None while the speed is not known.
    """

    ahead: int
    seconds: float | None


class Job:
    """Images of one owner on their way through the network; made by `Scheduler`.

    Attributes:
        left: Images that have no answer yet.
        error: What no image is to blame for; the job has ended with it.
    """

    def __init__(
        self,
        owner: int,
        ticket: int,
        images: Iterable[tuple[Any, Any]],
        answer: Callable[[Any, Any], None],
        wanted: Callable[[], bool],
        batch: int = 0,
    ) -> None:
        self.owner, self.ticket = owner, ticket
        self.images = deque(images)
        self.observes = batch > 0  # the only item is a batch of so many images
        self.weight = batch or 1
        self.left = len(self.images) * self.weight
        self.error: BaseException | None = None
        self.wanted = wanted
        self._answer = answer
        self._lock = threading.Lock()
        self.ended = threading.Event()
        if not self.images:
            self.ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for all answers, or so long; says whether the job has ended.

        Raises:
            BaseException: `error`, if there is one.
        """
        ended = self.ended.wait(seconds)
        if self.error is not None:
            raise self.error
        return ended

    def answer(self, tag: Any, answer: Prediction | Observed) -> None:
        """Hands an answer on, unless the job has ended."""
        with self._lock:
            if not self.ended.is_set():
                self._answer(tag, answer)
                self.left -= self.weight

    def cancel(self) -> None:
        """Gives up all that has no answer yet; once this returns, none comes any more."""
        with self._lock:
            self.images.clear()
            self.ended.set()


@dataclass
class _Ticket:
    """Holds an owner's place in line; see `Scheduler.submit`."""

    number: int
    used: float  # when it last had a job
    later: int = 0
    wanted: Callable[[], bool] = lambda: True  # of that job


class _Reading(NamedTuple):
    """An image that is being decoded, or a batch, with what its answer belongs to."""

    job: Job
    tag: Any
    decoded: Future


class Scheduler:
    """Shares a classifier between cases; several threads may use one.

    No answer depends on another image: every batch has the same shape, filled up where images are
    missing, and no row of it depends on the others. A case that is analysed alone gets, bit for bit,
    the answers of `Classifier.predict` with `filled=True`; among others its images lie in other
    rows, by which probabilities may differ in rounding (see `classifier.ROWS`).

    Args:
        classifier: Answers, with heatmaps of the predicted class and of rejected images too.
        most_running: So many owners at once take turns; those who came later wait in line.
        most_waiting: So many may wait in line; those who come then have to come again.
    """

    def __init__(
        self, classifier: Classifier, most_running: int = 32, most_waiting: int = 64
    ) -> None:
        self._classifier = classifier
        self._most_running, self._most_waiting = most_running, most_waiting
        self._jobs: list[Job] = []  # in the order of their tickets
        self._turn = -1  # the ticket of the job that has it
        self._quantum = 0
        self._tickets: dict[int, _Ticket] = {}  # by owner
        self._issued = 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(os.cpu_count(), "mseenet-decode")
        self._thread: threading.Thread | None = None
        self.seconds_per_image: float | None = None

    def submit(
        self,
        owner: object,
        images: Iterable[tuple[Any, ImageSource]],
        answer: Callable[[Any, Prediction], None],
        wanted: Callable[[], bool] = lambda: True,
        later: int = 0,
    ) -> Job:
        """Hands images over to be predicted.

        Args:
            owner: Whose they are: a case. It keeps its place in line from one job to the next.
            images: Each with a tag, for `answer`.
            answer: Called with tag and prediction as soon as there is one, in another thread.
            wanted: Asked before each batch; when it says no, the rest is given up.
            later: Images of the same owner that come in its next jobs. Until then it is in line
                all the same, but for no more than `TICKET` seconds from one job to the next.

        Raises:
            BusyError: The line is full, and the owner is not in it. Nothing was handed over.
        """
        return self._submitted(owner, later, images, answer, wanted)

    def observe(
        self,
        owner: object,
        fields: np.ndarray,
        answer: Callable[[Observed], None],
        wanted: Callable[[], bool] = lambda: True,
        later: int = 0,
    ) -> Job:
        """Hands fields over for `Classifier.observe`; they are one batch, so its bits are the same.

        Args:
            owner: As for `submit`, whose turns it takes.
            fields: RGB pixels as the network is to see them, uint8 (n, 224, 224, 3) in [0, 255];
                at most `ROWS`, so that others are not held up by more.
            answer: Called with what the network makes of them, in another thread.
            wanted: As for `submit`.
            later: As for `submit`.

        Raises:
            BusyError: As `submit`.
        """
        assert 0 < len(fields) <= ROWS
        batch = [(None, fields)]
        count = len(fields)
        return self._submitted(owner, later, batch, lambda _, seen: answer(seen), wanted, count)

    def _submitted(self, owner: object, later: int, *details) -> Job:
        with self._changed:
            ticket = self._ticket(id(owner))
            job = Job(id(owner), ticket.number, *details)
            ticket.later, ticket.wanted = later, job.wanted
            if not job.ended.is_set():
                self._jobs.append(job)
                self._jobs.sort(key=lambda job: job.ticket)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="mseenet-scheduler", daemon=True
                    )
                    self._thread.start()
                self._changed.notify_all()
        return job

    def place(self, job: Job) -> Place:
        """Where a job stands now."""
        with self._changed:
            jobs = [other for other in self._jobs if not other.ended.is_set()]
            before = [other for other in jobs if other.ticket < job.ticket]
            ahead = max(0, len(before) - self._most_running + 1)
            # Those in turn with it take as much of the network until it is done as it does.
            others = before if ahead else jobs[: self._most_running]
            own = self._left(job)
            work = own + sum(
                self._left(other) if ahead else min(self._left(other), own + ROWS)
                for other in others
                if other is not job
            )
        seconds = self.seconds_per_image
        return Place(ahead, None if seconds is None else seconds * work)

    def is_full(self) -> bool:
        """Whether a new case would have to wait in line."""
        return sum(not job.ended.is_set() for job in list(self._jobs)) >= self._most_running

    def _left(self, job: Job) -> int:
        """Images of a job, and of its owner's next ones, that have no answer yet."""
        ticket = self._tickets.get(job.owner)
        return job.left + (ticket.later if ticket else 0)

    def _ticket(self, owner: int) -> _Ticket:
        """The ticket of an owner, a new one if need be; raises a `BusyError` if none is left."""
        now = time.monotonic()
        held = {job.owner for job in self._jobs}
        self._tickets = {
            known: ticket
            for known, ticket in self._tickets.items()
            if known in held or (now - ticket.used < TICKET and ticket.wanted())
        }
        left = self._in_line()
        if owner not in left and len(left) >= self._most_running + self._most_waiting:
            raise BusyError(len(left), self._until_one_ends(left))
        if owner not in self._tickets:
            self._tickets[owner] = _Ticket(self._issued, now)
            self._issued += 1
        self._tickets[owner].used = now
        return self._tickets[owner]

    def _in_line(self) -> dict[int, int]:
        """For each owner that is analysed or waits: images that have no answer yet."""
        left = {owner: ticket.later for owner, ticket in self._tickets.items() if ticket.later}
        left |= {job.owner: self._left(job) for job in self._jobs if not job.ended.is_set()}
        return left

    def _until_one_ends(self, left: dict[int, int]) -> float | None:
        """Seconds, about, until the first of those who are analysed has all its answers."""
        if self.seconds_per_image is None:
            return None
        by_ticket = sorted(left, key=lambda owner: self._tickets[owner].number)
        running = [left[owner] for owner in by_ticket[: self._most_running]]
        return self.seconds_per_image * sum(min(own, min(running) + ROWS) for own in running)

    def _remove(self, job: Job) -> None:
        self._jobs.remove(job)
        self._tickets[job.owner].used = time.monotonic()

    def _run(self) -> None:
        reading: deque[_Reading] = deque()
        while True:
            with self._changed:
                while not reading and not self._take(reading, 1):
                    self._changed.wait()
                self._drop_ended({})  # of what was decoded, too
                self._take(reading, ROWS)
            batch: list[_Reading] = []
            while reading and len(batch) < ROWS:
                if batch and (batch[0].job.observes or reading[0].job.observes):
                    break
                item = reading.popleft()
                if not item.job.ended.is_set():
                    batch.append(item)
            with self._changed:  # decoded while the network works on the others
                self._take(reading, ROWS)
            if batch:
                self._answer(batch)

    def _take(self, reading: deque[_Reading], most: int) -> bool:
        """Begins to decode images in turn, until so many are in `reading`; whether any are."""
        asked: dict[int, bool] = {}
        while len(reading) < most and (job := self._next(asked)) is not None:
            tag, image = job.images.popleft()
            if job.observes:
                decoded: Future = Future()
                decoded.set_result(image)
            else:
                decoded = self._pool.submit(self._classifier.read, image, self._pool)
            reading.append(_Reading(job, tag, decoded))
            self._quantum -= job.weight
        return bool(reading)

    def _drop_ended(self, asked: dict[int, bool]) -> None:
        """Forgets the jobs that have ended, and those that nobody wants any more.

        Args:
            asked: Which are wanted, by their id; those that are not in it are asked and noted.
        """
        for job in list(self._jobs):
            if id(job) not in asked:
                asked[id(job)] = job.wanted()
            if not asked[id(job)]:
                job.cancel()
                self._tickets[job.owner].later = 0
            if job.ended.is_set():
                self._remove(job)

    def _next(self, asked: dict[int, bool]) -> Job | None:
        """The job whose turn it is: it has some until it has had `ROWS`, then the one behind it."""
        self._drop_ended(asked)
        running = [job for job in self._jobs[: self._most_running] if job.images]
        if not running:
            return None
        current = next((job for job in running if job.ticket == self._turn), None)
        if current is None or self._quantum <= 0:
            current = next((job for job in running if job.ticket > self._turn), running[0])
            self._turn, self._quantum = current.ticket, ROWS
        return current

    def _answer(self, batch: list[_Reading]) -> None:
        fields, items = [], []
        for item in batch:
            try:
                fields.append(item.decoded.result())
                items.append(item)
            except Exception as error:  # a defect, as an image that cannot be read raises nothing
                self._fail(item.job, error)
        started = time.monotonic()
        try:
            answers = self._asked(fields, batch[0].job.observes)
        except MSEENetError as error:  # no case is to blame, and none can be answered now
            with self._changed:
                waiting = [job for job in self._jobs if not job.ended.is_set()]
            for job in waiting:
                self._fail(job, error)
            return
        except Exception as error:
            for item in items:
                self._fail(item.job, error)
            return
        took = time.monotonic() - started
        for item, answer in zip(items, answers, strict=True):
            try:
                item.job.answer(item.tag, answer)
            except Exception as error:
                self._fail(item.job, error)
        with self._changed:
            for job in {id(item.job): item.job for item in items}.values():
                if job.left == 0:
                    job.ended.set()
            for job in [job for job in self._jobs if job.ended.is_set()]:
                self._remove(job)
            if items:
                images = sum(item.job.weight for item in items)
                latest, known = took / images, self.seconds_per_image
                self.seconds_per_image = (
                    latest if known is None else known + RECENT * (latest - known)
                )

    def _asked(self, fields: list, observes: bool) -> Sequence[Prediction | Observed]:
        if observes:
            return [self._classifier.observe(pixels) for pixels in fields]
        return self._classifier.answers(fields)

    def _fail(self, job: Job, error: BaseException) -> None:
        job.error = error
        job.cancel()
