"""One job: lists images, hands them to the workers, and keeps one row for each.

The rows are written by this process alone. An image has its row when its number comes back from a
worker; whatever is killed, what did not come back is asked for again, each image by itself, and
what ends its worker then becomes a row that says so.
"""

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mseenet import cluster
from mseenet.archive.digests import SIZE, Digests, digest, repeated
from mseenet.archive.scoring import COPY, KEPT, Claims, Scorer, Task, block_of, listed
from mseenet.archive.sources import Reference, references
from mseenet.archive.store import Settings, Store
from mseenet.case.limits import configured_limits
from mseenet.case.records import record
from mseenet.case.slides import slide_of
from mseenet.cluster import ClusterError
from mseenet.errors import UsageError
from mseenet.inference.card import read_card
from mseenet.inference.classifier import Prediction
from mseenet.inference.profile import SiteProfile
from mseenet.version import version_text

BLOCK = 128
"""Images that a worker gets at once, and loses if it is killed."""

SHARD_ROWS = 10_000
"""Rows from which on a shard is written."""

SHARD_SECONDS = 60
"""Seconds after which rows are written, however few: what a killed job loses."""

RETRIES = 1
"""How often a block is tried again whose worker or machine was lost, before its images are asked for
one by one; and then each of them."""

ENDED = (
    "the worker ended, each time, while it worked on this image by itself; the file may be made "
    "to crash its decoder, or take too much memory"
)


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        sources: See `mseenet.archive.sources.references`.
        output: Folder for the rows.
        weights: Folder of the weights.
        settings: See `Settings`.
        workers: How many; None for one a processor.
        threads: That the network of one worker uses.
        address: Of a running Ray cluster; None starts one on this machine for the job.
        profile: Of the site whose fields are answered; None for none.
    """

    sources: list[str]
    output: Path
    weights: Path
    settings: Settings
    workers: int | None = None
    threads: int = 1
    address: str | None = None
    profile: SiteProfile | None = None


def score(job: Job, report: Callable[[str], None]) -> Counter:
    """Does a job, or what is missing of it.

    Args:
        job: See `Job`.
        report: Is told of each source that cannot be listed, and of images that could not be read
            but keep the answer of an earlier run.

    Returns:
        Rows of the listed images by status.

    Raises:
        UsageError: The folder or the settings cannot be used.
        WeightsError: The weights are unusable, here or on another machine.
        ProfileError: The profile is for other weights.
        ClusterError: Ray cannot be used as asked.
        OSError: The folder cannot be written to.
    """
    card = read_card(job.weights)
    if job.profile is not None:
        card = job.profile.applied_to(card)
    slide_of("", job.settings.slides)
    largest = configured_limits().file
    task = Task(job.weights, card.release, job.settings, largest, job.threads, job.profile)
    cluster.reach(job.address)
    with Store.opened(job.output, job.settings) as store, _workers(job) as workers:
        run = _Run(store, task, card.sha256, workers, report)
        return run.score(job.sources)


class _Run:
    """The state of one job: which of the listed images have their row.

    Attributes:
        done: bool (images,), by number.
        names: Digests of the names, one behind the other, by number.
        valid: Digests of name, content and release of the rows that hold.
        unread: Digests of the names of images that have an answer of an earlier run, but could not
            be read now: a store that does not answer for an hour is to cost no answers.
    """

    def __init__(
        self, store: Store, task: Task, weights: str, workers: int, report: Callable[[str], None]
    ):
        self.store = store
        self.task = task
        self.weights = weights
        self.workers = workers
        self.report = report
        self.names = bytearray()
        self.valid = bytearray()
        self.unread = bytearray()
        self.done = np.zeros(0, bool)
        self.copies: dict[int, dict] = {}
        self.rows: list[dict] = []
        self.written = time.monotonic()
        self.first_unread = ""

    def score(self, sources: list[str]) -> Counter:
        import ray
        from tqdm import tqdm

        fresh = not self.store.shards()
        known = self.store.known(self.task.release)
        self.answered = known.names
        blocks = self._list(sources)
        self.store.begin()
        self.known = ray.put(known)
        with tqdm(
            total=len(self.done) - int(self.done.sum()),
            desc="answering",
            unit=" images",
            leave=False,
        ) as self.bar:
            try:
                self._ask(blocks, with_claims=True)
                self._copy()
                self._ask(self._missing(blocks), with_claims=False)
                self._give_up(blocks)
            finally:
                self._write()
        if not fresh:
            self.store.keep_only(
                Digests(self.names), Digests(self.valid), Digests(self.unread), self.task.release
            )
        if self.unread:
            number = len(self.unread) // SIZE
            self.report(
                f"{number:,} image{'s' * (number > 1)} could not be read now "
                f"({self.first_unread}{' and others' * (number > 1)}); the answers of an earlier "
                "run are kept"
            )
        return self._complete()

    def _list(self, sources: list[str]) -> list:
        """References to blocks of all listed images, each in Ray's store."""
        import ray

        blocks = []
        numbered = enumerate(references(sources, self.report))
        while chunk := list(islice(numbered, BLOCK)):
            self.names += b"".join(digest(reference.name) for _, reference in chunk)
            blocks.append(ray.put(block_of(chunk)))
        if not blocks:
            raise UsageError("expected images, found none")
        self.done = np.zeros(len(self.names) // SIZE, bool)
        self.done[repeated(self.names)] = True  # a file that is named twice is one image
        return blocks

    def _ask(self, blocks: list, with_claims: bool) -> None:
        """Has blocks answered; what gets no answer stays undone."""
        if not blocks:
            return
        for table in _answered(blocks, self.task, self.known, self.workers, with_claims):
            for result in table.to_pylist():
                self._take(result)
            if len(self.rows) >= SHARD_ROWS or time.monotonic() - self.written > SHARD_SECONDS:
                self._write()

    def _take(self, result: dict) -> None:
        number, state = result.pop("number"), result.pop("state")
        if self.done[number]:  # a block that was done again after its worker was lost
            return
        if state == COPY:
            self.copies[number] = result
        else:
            self._finish(number, result, is_new=state != KEPT)

    def _finish(self, number: int, row: dict, is_new: bool = True) -> None:
        self.done[number] = True
        self.copies.pop(number, None)
        self.bar.update()
        if row["sha256"] is None and (name := digest(row["file"])) in self.answered:
            if not self.unread:
                self.first_unread = f"{row['file']}: {row['reasons'][0]}"
            self.unread += name
            return
        self.valid += digest(row["file"], row["sha256"] or "", self.task.release)
        if is_new:
            self.rows.append(row)

    def _copy(self) -> None:
        """Gives copies the answer of the image that was computed."""
        self._write()
        contents = {row["sha256"] for row in self.copies.values()}
        answers = self.store.answers(contents, self.task.release)
        for number, row in list(self.copies.items()):
            if answer := answers.get(row["sha256"]):
                self._finish(number, answer | {"file": row["file"], "slide": row["slide"]})
        self._write()

    def _missing(self, blocks: list) -> list:
        """References to blocks of one, for each image without a row."""
        import ray

        return [ray.put(block_of([listed])) for listed in self._undone(blocks)]

    def _give_up(self, blocks: list) -> None:
        """Gives images without a row one that says so."""
        for number, reference in self._undone(blocks):
            slide = slide_of(reference.name, self.task.settings.slides)
            failed = Prediction("error", reasons=(ENDED,))
            known = (self.weights, self.task.release, slide, self.task.title)
            row = record(reference.name, failed, *known)
            self._finish(number, row | {"sha256": None})

    def _undone(self, blocks: list) -> Iterator[tuple[int, Reference]]:
        import ray

        for index in np.unique(np.flatnonzero(~self.done) // BLOCK):
            for number, reference in listed(ray.get(blocks[index])):
                if not self.done[number]:
                    yield number, reference

    def _write(self) -> None:
        rows, self.rows = self.rows, []
        self.store.add(rows)
        self.written = time.monotonic()

    def _complete(self) -> Counter:
        counted = self.store.counts(Digests(self.names))
        self.store.complete(
            {
                "rows": sum(counted.values()),
                "status": dict(sorted(counted.items())),
                "release": self.task.release,
                "profile": self.task.title,
                "settings": asdict(self.task.settings),
                "version": version_text(),
            }
        )
        return counted


def _answered(blocks: list, task: Task, known, workers: int, with_claims: bool) -> Iterator:
    """Tables of results, in any order; a block whose worker always ends gives none."""
    import ray
    from ray.util.annotations import RayDeprecationWarning
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    claims = None
    if with_claims:  # beside this process, so that it is not lost before the job is
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        claims = ray.remote(Claims).options(num_cpus=0, scheduling_strategy=here).remote()
    with warnings.catch_warnings():
        # Ray before 2.64 warns of the last two, which have no other name yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        answers = ray.data.from_arrow_refs(blocks).map_batches(
            Scorer,
            fn_constructor_kwargs={"task": task, "known": known, "claims": claims},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
            num_cpus=task.threads,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    try:
        yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the workers cannot go on: {cluster.last_line(error)}") from error


@contextmanager
def _workers(job: Job) -> Iterator[int]:
    """Ray, joined or started for the job, and how many workers it will have."""
    wanted = job.workers
    own = (wanted or os.cpu_count() or 1) * job.threads
    with cluster.running(own, job.address):
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # lost blocks are asked for again
        room = int(ray.cluster_resources().get("CPU", 0)) // job.threads
        if not 1 <= (wanted or room) <= room:
            raise ClusterError(
                f"expected processors for {wanted or 1} workers of {job.threads}; "
                f"the cluster has room for {room}"
            )
        yield wanted or room
