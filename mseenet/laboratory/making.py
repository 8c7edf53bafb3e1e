"""A site profile that is made beside other work, step by step, and goes on wherever it stopped."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import numpy as np

from mseenet.case.limits import Share
from mseenet.errors import MSEENetError
from mseenet.imaging.decoding import ImageSource, decode_image, squeeze
from mseenet.inference.card import Card
from mseenet.inference.classifier import ROWS, Classifier, Observed
from mseenet.inference.remote import ServerError
from mseenet.inference.scheduler import BusyError, Job, Place, Scheduler
from mseenet.laboratory.adapt import Adaptation, adapt, takes
from mseenet.laboratory.color import TrainingFields
from mseenet.laboratory.fields import Images, LaboratoryFields, SeenFields
from mseenet.laboratory.foreign import ForeignImages, read_foreign

HANDING_OVER = 0.001
"""Seconds in which another profile can take its turn."""

LOOK = 1.0
"""Seconds after which a profile at rest looks whether it is still wanted."""

_processor = threading.Lock()
"""Held by the profile that works on images: those of several users together take no more of the
processor from everyone else than one does."""


class _EndedError(Exception):
    """Nobody wants the profile any more."""


class Making:
    """What `adapt` makes, in a thread of its own that rests whenever it is told to.

    The network is asked through the scheduler, in turn with everyone else. Nothing is written.

    Args:
        fields: The laboratory's, as seen by a check.
        foreign: Images that are to be refused, by kind.
        classifier: The weights without a profile.
        scheduler: Shares the classifier.
        training: What the training fields look like.
        name: Of the profile.
        share: What took the bytes of all pixels; it ends with the work.

    Attributes:
        done: How many images were taken, each as often as it was.
        total: How many will have been.
        lost: Why the network does not answer, or takes no more; the work rests until `go_on` then.
        adaptation: What came of it; None before that.
        error: Why nothing can come of it.
    """

    def __init__(
        self,
        fields: SeenFields,
        foreign: Mapping[str, Sequence[ImageSource]],
        classifier: Classifier,
        scheduler: Scheduler,
        training: TrainingFields,
        name: str,
        share: Share,
    ) -> None:
        self._fields, self._foreign = fields, foreign
        self._classifier, self._scheduler = classifier, scheduler
        self._training, self._name, self._share = training, name, share
        self.done = 0
        self.total = self._takes(sum(map(len, foreign.values())))
        self.lost: MSEENetError | None = None
        self.adaptation: Adaptation | None = None
        self.error: Exception | None = None
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._going, self._finished = threading.Event(), threading.Event()
        self._unwanted = False

    @property
    def card(self) -> Card:
        """Of the weights."""
        return self._classifier.card

    @property
    def place(self) -> Place | None:
        """Where the question stands that the network is asked; None if it is asked none."""
        job = self._job
        return None if job is None or job.ended.is_set() else self._scheduler.place(job)

    def go_on(self) -> None:
        """Begins, or goes on."""
        self.lost = None
        self._going.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mseenet-profile", daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Rests after the next step; what is done is kept."""
        self._going.clear()
        if self._job is not None:
            self._job.cancel()

    def end(self) -> None:
        """Gives up after the next step."""
        self._unwanted = True
        self.rest()
        if self._thread is None:
            self._share.end()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the end, or so long; says whether the end has come."""
        return self._finished.wait(seconds)

    def observe(self, fields: np.ndarray) -> Observed:
        """As `Classifier.observe`, in turn with all who use the network."""
        answers: list[Observed] = []
        while not answers:
            self._hold()
            with self._aside():
                try:
                    self._job = self._scheduler.observe(
                        self, fields, answers.append, self._going.is_set, self._later()
                    )
                    self._job.wait()
                except (BusyError, ServerError) as error:
                    self._lose(error)
        return answers[0]

    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Classifier.last_layer`."""
        while True:
            self._hold()
            try:
                with self._aside():
                    return self._classifier.last_layer()
            except ServerError as error:
                self._lose(error)

    def _later(self) -> int:
        """How many images the network will be asked about after these, at most."""
        return self.total - self.done

    def _takes(self, foreign: int) -> int:
        """How many images are taken: each once to be read, and what `adapt` takes."""
        count = len(self._fields.labels) + foreign
        return count + takes(self.card, self._fields, foreign)

    def _run(self) -> None:
        try:
            with _processor:
                fields, foreign = self._read()
                self.total = self.done + takes(
                    self.card, fields, sum(len(other.images) for other in foreign.values())
                )
                made = datetime.now().astimezone()
                self.adaptation = adapt(self, fields, self._training, self._name, made, foreign)
        except _EndedError:
            pass
        except Exception as error:  # the thread of whoever waits raises it
            self.error = error
        finally:
            self._share.end()
            self._finished.set()

    def _read(self) -> tuple[LaboratoryFields, dict[str, ForeignImages]]:
        images, sizes = [], []
        for source in self._each(self._fields.sources):
            rgb = decode_image(source)
            images.append(squeeze(rgb))
            sizes.append(rgb.shape[:2])
        fields = LaboratoryFields(
            **vars(self._fields), images=Images(images, self._step), sizes=np.array(sizes)
        )
        return fields, {
            kind: read_foreign(kind, self._each(sources), self._step)
            for kind, sources in self._foreign.items()
        }

    def _each(self, sources: Sequence[ImageSource]) -> Iterator[ImageSource]:
        for source in sources:
            yield source
            self._step()

    def _step(self) -> None:
        self.done += 1
        self._hold()
        if self.done % ROWS == 0:
            with self._aside():
                time.sleep(HANDING_OVER)

    def _hold(self) -> None:
        """Waits while the work is to rest.

        Raises:
            _EndedError: Nobody wants its result any more.
        """
        if not self._going.is_set():
            with self._aside():
                while not self._unwanted and not self._going.wait(LOOK):
                    pass
        if self._unwanted:
            raise _EndedError

    def _lose(self, error: MSEENetError) -> None:
        self.lost = error
        self._going.clear()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Lets other profiles work meanwhile."""
        _processor.release()
        try:
            yield
        finally:
            _processor.acquire()
