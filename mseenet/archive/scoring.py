"""The workers: each loads the network once and answers blocks of listed images.

A block goes in as a table of references and comes out as a table of rows. What a worker does with
a block depends on nothing but the block, so that another one can do it again.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mseenet.archive.digests import digest
from mseenet.archive.sources import Reader, Reference
from mseenet.archive.store import SCHEMA, Known, Settings
from mseenet.case.records import record
from mseenet.case.slides import slide_of
from mseenet.imaging.errors import ImageError
from mseenet.inference.card import WeightsError
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.inference.profile import SiteProfile

BATCH = 32
"""Images that go through the network at once, and are read at once."""

READERS = 8
"""Images that a worker reads at once; object stores answer slowly, but many at a time."""

ANSWER, KEPT, COPY = "answer", "kept", "copy"
"""What came of an image: a row; a row that is there already; no row yet, as another image of the
same content has it, or will have it."""

REFERENCES = pa.schema(
    [
        ("number", pa.int64()),
        ("name", pa.string()),
        ("place", pa.binary()),
        ("kind", pa.string()),
        ("position", pa.int64()),
        ("size", pa.int64()),
    ]
)
"""A block of listed images: the number of each in the listing, and its `Reference`."""

RESULTS = pa.schema([("number", pa.int64()), ("state", pa.string()), *SCHEMA])
"""What comes out of a block; for `KEPT` and `COPY` of the row only file, slide, SHA-256, release."""


@dataclass(frozen=True)
class Task:
    """What all workers of a job are told.

    Attributes:
        weights: Folder of the weights, on each machine.
        release: That these must have, with the profile.
        settings: See `Settings`.
        largest: Of an image, in bytes.
        threads: That the network of one worker uses.
        profile: Of the site whose fields are answered; None for none.
    """

    weights: Path
    release: str
    settings: Settings
    largest: int
    threads: int
    profile: SiteProfile | None = None

    @property
    def title(self) -> str | None:
        """Name and identity of the profile, for rows."""
        return None if self.profile is None else self.profile.title


class Claims:
    """Who answers which content, so that none is computed twice; one for all workers."""

    def __init__(self) -> None:
        self._owners: dict[bytes, int] = {}

    def claim(self, owner: int, contents: list[bytes]) -> list[bool]:
        """Whether a block is the first, or was before, to ask for each content.

        Args:
            owner: Names the block; the same if another worker does it again.
            contents: Digests.
        """
        return [self._owners.setdefault(content, owner) == owner for content in contents]


class Scorer:
    """Answers blocks; Ray Data makes one in each worker.

    Args:
        task: See `Task`.
        known: Reference to what is there already, a `Known`.
        claims: The actor of `Claims`; None answers every image of a block by itself.

    Raises:
        WeightsError: This machine's weights are unusable or of another release.
    """

    def __init__(self, task: Task, known, claims=None):
        import ray

        # Read when TensorFlow computes for the first time. Workers share the processor, and what
        # each leaves idle another one uses.
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(task.threads)
        self._task = task
        self._known: Known = ray.get(known)
        self._claims = claims
        self._classifier = Classifier.load(task.weights, task.profile)
        received = self._classifier.card.release
        if received != task.release:
            raise WeightsError(
                f"{task.weights} on {ray.util.get_node_ip_address()}: expected weights of release "
                f"{task.release}, as where the command runs; received {received}"
            )
        self._reader = Reader(task.largest)
        self._pool = ThreadPoolExecutor(READERS)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Answers a block: a table of `REFERENCES` becomes one of `RESULTS`, in any order."""
        try:
            results = list(self._results(block))
        except Exception as error:
            if len(block) > 1:  # it is tried again, each image by itself
                raise
            (number, reference) = next(listed(block))
            reason = f"the worker failed on this image ({type(error).__name__}: {error})"
            results = [self._failed(number, reference, None, reason)]
        return pa.Table.from_pylist(results, schema=RESULTS)

    def _results(self, block: pa.Table) -> Iterator[dict]:
        owner = block.column("number")[0].as_py()
        waiting: deque[tuple[int, Reference, str]] = deque()
        others: list[dict] = []
        begun: set[bytes] = set()

        def to_compute() -> Iterator[bytes]:
            for chunk in self._read_ahead(list(listed(block))):
                readable = []
                for number, reference, content in chunk:
                    if isinstance(content, ImageError):
                        others.append(self._failed(number, reference, None, str(content)))
                    else:
                        sha256 = hashlib.sha256(content).hexdigest()
                        readable.append((number, reference, sha256, content))
                images = [(reference.name, sha256) for _, reference, sha256, _ in readable]
                states = self._states(owner, images, begun)
                for (number, reference, sha256, content), state in zip(
                    readable, states, strict=True
                ):
                    if state == ANSWER:
                        waiting.append((number, reference, sha256))
                        yield content
                    else:
                        others.append(self._without_row(number, reference, sha256, state))

        predictions = self._classifier.stream(
            to_compute(), batch_size=BATCH, include_rejected=self._task.settings.include_rejected
        )
        for prediction in predictions:
            yield self._result(*waiting.popleft(), prediction)
        yield from others

    def _read_ahead(
        self, images: list[tuple[int, Reference]]
    ) -> Iterator[list[tuple[int, Reference, bytes | ImageError]]]:
        """Contents, a batch at a time; while one is worked on, the next one is read."""
        jobs: deque = deque()
        for begin in range(0, len(images), BATCH):
            chunk = images[begin : begin + BATCH]
            jobs.append((chunk, [self._pool.submit(self._read, r) for _, r in chunk]))
            if len(jobs) > 1:
                yield _done(*jobs.popleft())
        while jobs:
            yield _done(*jobs.popleft())

    def _read(self, reference: Reference) -> bytes | ImageError:
        try:
            return self._reader.read(reference)
        except ImageError as error:
            return error

    def _states(self, owner: int, images: list[tuple[str, str]], begun: set[bytes]) -> list[str]:
        """What is to be done with some images of a block.

        Args:
            owner: Names the block.
            images: Name and SHA-256 of each.
            begun: Digests of the contents that the block has answered so far; added to.
        """
        import ray

        release = self._task.release
        contents = [digest(sha256, release) for _, sha256 in images]
        mine = [True] * len(images)
        if self._claims is not None:
            mine = ray.get(self._claims.claim.remote(owner, contents))
        states = []
        for (name, sha256), content, first in zip(images, contents, mine, strict=True):
            if digest(name, sha256, release) in self._known.rows:
                states.append(KEPT)
            elif content in self._known.contents or content in begun or not first:
                states.append(COPY)
            else:
                states.append(ANSWER)
                begun.add(content)
        return states

    def _result(
        self, number: int, reference: Reference, sha256: str | None, prediction: Prediction
    ) -> dict:
        card = self._classifier.card
        known = (card.sha256, card.release, self._slide(reference), self._task.title)
        row = record(reference.name, prediction, *known)
        return {"number": number, "state": ANSWER, **row, "sha256": sha256}

    def _failed(self, number: int, reference: Reference, sha256: str | None, reason: str) -> dict:
        return self._result(number, reference, sha256, Prediction("error", reasons=(reason,)))

    def _without_row(self, number: int, reference: Reference, sha256: str, state: str) -> dict:
        return {
            "number": number,
            "state": state,
            "file": reference.name,
            "slide": self._slide(reference),
            "sha256": sha256,
            "release": self._task.release,
        }

    def _slide(self, reference: Reference) -> str | None:
        return slide_of(reference.name, self._task.settings.slides)


def block_of(images: list[tuple[int, Reference]]) -> pa.Table:
    """A table of `REFERENCES`."""
    rows = [
        {"number": number, **reference._asdict(), "place": os.fsencode(reference.place)}
        for number, reference in images
    ]
    return pa.Table.from_pylist(rows, schema=REFERENCES)


def listed(block: pa.Table) -> Iterator[tuple[int, Reference]]:
    """The images of a table of `REFERENCES`, each with its number."""
    for row in block.to_pylist():
        number = row.pop("number")
        yield number, Reference(**row | {"place": os.fsdecode(row["place"])})


def _done(chunk, jobs) -> list[tuple[int, Reference, bytes | ImageError]]:
    return [(*image, job.result()) for image, job in zip(chunk, jobs, strict=True)]
