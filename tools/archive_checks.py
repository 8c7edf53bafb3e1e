"""Measures `mseenet archive` on rendered fields: rate, memory, and what is left after kills.

    python -m tools.archive_checks rate FOLDER --images 1200
    python -m tools.archive_checks memory FOLDER --images 100000 --contents 10000
    python -m tools.archive_checks kills FOLDER --images 2000

FOLDER is for images, rows and logs, and is made. Images are rendered fields, shifted and packed as
JPEG of quality 90, so that each has a content of its own. `rate` compares one process of
`mseenet predict` with one and two workers, each with one thread; they take turns, so that a busy
machine slows all alike. `memory` prints the memory of the command and of its worker over the rows.
`kills` ends the command five times and a worker five times, at random, and counts rows.
"""

import argparse
import hashlib
import io
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mseenet import console
from mseenet.errors import UsageError

FOLDER_SIZE = 1000
"""Images in one folder."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("archive_checks", __doc__)
    parser.add_argument("check", choices=("rate", "memory", "kills"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=console.whole_number(8), default=600, metavar="N")
    parser.add_argument(
        "--contents",
        type=console.whole_number(4),
        metavar="N",
        help="different ones (default: all)",
    )
    parser.add_argument("--rounds", type=console.whole_number(1), default=3, metavar="N")
    parser.add_argument("--workers", type=console.whole_number(1), default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    images = arguments.folder / "images"
    write_images(images, arguments.images, arguments.contents or arguments.images)
    check = {"rate": rate, "memory": memory, "kills": kills}[arguments.check]
    check(images, arguments)
    return 0


def write_images(folder: Path, number: int, contents: int) -> None:
    """Writes shifted fields as JPEG; those that are there stay.

    Args:
        folder: Made if missing.
        number: Of images.
        contents: How many of them differ; the others repeat these in turn.
    """
    import numpy as np
    from PIL import Image

    from mseenet.imaging.synthetic import example_fields

    fields = list(example_fields().values())
    packed: dict[int, bytes] = {}
    for index in range(number):
        path = folder / f"{index // FOLDER_SIZE:04d}" / f"{index:07d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        content = index % contents
        if content not in packed:
            field, shift = content % len(fields), content // len(fields)
            pixels = np.roll(fields[field], (shift % 224, shift // 224), (0, 1))
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            if contents == number:
                path.write_bytes(buffer.getvalue())
                continue
            packed[content] = buffer.getvalue()
        path.write_bytes(packed[content])


def rate(images: Path, arguments: argparse.Namespace) -> None:
    """Prints images a second and their ratios: what all take longer than a quarter of them does.

    Starting Ray and loading the network cancel out in that difference. Whole runs are timed, as
    progress comes in whole blocks of images.
    """
    few, out = images.parent / "few", images.parent / f"rate-{os.getpid()}"
    fewer = arguments.images // 4
    write_images(few, fewer, fewer)
    calls = {
        "predict": lambda source: ["predict", str(source), "--format", "json"],
        "1 worker": lambda source: [*archive_call(source, out), "--workers", "1"],
        "2 workers": lambda source: [*archive_call(source, out), "--workers", "2"],
    }
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(arguments.rounds):
        for name, call in calls.items():
            seconds = []
            for source, number in ((few, fewer), (images, arguments.images)):
                alone = name == "predict"
                begin = time.monotonic()
                done = sum(1 for _ in timed(call(source), lines=alone))
                seconds.append(time.monotonic() - begin)
                if not alone:  # its progress need not come to the end
                    check_rows(out, source)
                    shutil.rmtree(out)
                elif done != number:
                    raise UsageError(f"predict: expected {number} lines, found {done}")
            if seconds[1] <= seconds[0]:
                raise UsageError(
                    f"--images {arguments.images}: expected more, as {name} took no longer for all "
                    "of them than for a quarter"
                )
            rates[name].append((arguments.images - fewer) / (seconds[1] - seconds[0]))
            console.say(
                f"turn {turn}, {name}: {seconds[0]:.0f} and {seconds[1]:.0f} s, "
                f"{rates[name][-1]:.1f} images/s"
            )
    for name in calls:
        ratios = [own / alone for own, alone in zip(rates[name], rates["predict"], strict=True)]
        print(
            f"{name}: {statistics.median(rates[name]):.1f} images/s, "
            f"{statistics.median(ratios):.2f} x predict ({min(ratios):.2f}-{max(ratios):.2f})"
        )


def memory(images: Path, arguments: argparse.Namespace) -> None:
    """Prints the memory of the command and of its largest worker at tenths of the way."""
    out = images.parent / "memory"
    call = [*archive_call(images, out), "--workers", str(arguments.workers)]
    tenth = 0
    print("images  command  worker  (MB, resident without what is shared)")
    for count, (_, process) in enumerate(timed(call), 1):
        if count * 10 // arguments.images > tenth:
            tenth = count * 10 // arguments.images
            worker = max(map(own_memory, workers_of(process)), default=0)
            print(f"{count:7,} {own_memory(process):8.0f} {worker:7.0f}", flush=True)
    check_rows(out, images)


def kills(images: Path, arguments: argparse.Namespace) -> None:
    """Kills workers and the command at random, goes on each time, and counts rows."""
    chance = random.Random(arguments.seed)
    out = images.parent / "kills"
    call = [*archive_call(images, out), "--workers", str(arguments.workers)]
    part = arguments.images // 6
    for turn in range(5):
        begin = turn * part + 1
        worker_at, command_at = sorted(chance.sample(range(begin, begin + part), 2))
        for count, (_, process) in enumerate(timed(call), 1):
            if count == worker_at:
                workers = workers_of(process)
                os.kill(chance.choice(workers), signal.SIGKILL)
            if count >= command_at and count > worker_at:
                os.kill(process, signal.SIGKILL)
                break
        print(f"turn {turn}: worker killed at {worker_at}, command at {count}", flush=True)
    for _ in timed(call):
        pass
    check_rows(out, images)


def archive_call(images: Path, out: Path) -> list[str]:
    return ["archive", str(images), "--output", str(out)]


def timed(call: list[str], lines: bool = False) -> Iterator[tuple[float, int]]:
    """Runs a command; gives the moment at which each image was done, and the process's id.

    Args:
        call: The subcommand and its arguments.
        lines: Whether each image is a line on standard output; else progress is read.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mseenet", *call],
        env=os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE if lines else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if lines else subprocess.PIPE,
        text=True,
    )
    stream = process.stdout if lines else process.stderr
    assert stream is not None
    done = 0
    try:
        for line in stream:  # a line ends at a carriage return, too
            now = time.monotonic()
            found = re.search(r"(\d+)/\d+ \[", line)
            count = done + 1 if lines else int(found[1]) if found else done
            for _ in range(done, count):
                yield now, process.pid
            done = max(done, count)
    except GeneratorExit:  # nobody waits for its end
        process.kill()
        raise
    finally:
        process.wait()


def workers_of(command: int) -> list[int]:
    """Process ids of the workers that a command started."""
    parents, workers = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(stat[1])
                if (folder / "cmdline").read_text().startswith("ray::MapWorker"):
                    workers.append(int(folder.name))

    def descends(process: int) -> bool:
        while process and process != command:
            process = parents.get(process, 0)
        return process == command

    return [worker for worker in workers if descends(worker)]


def own_memory(process: int) -> float:
    """Resident memory of a process without files and shared memory, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


def check_rows(out: Path, images: Path) -> None:
    """Compares rows and files, by name and content, and prints what is amiss."""
    import pyarrow.dataset as ds

    table = ds.dataset(out, format="parquet").to_table(columns=["file", "sha256", "status"])
    found = Counter(
        zip(*(table.column(name).to_pylist() for name in ("file", "sha256")), strict=True)
    )
    wanted = {
        (str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in images.rglob("*.jpg")
    }
    twice = sum(count > 1 for count in found.values())
    print(
        f"{len(wanted):,} images, {table.num_rows:,} rows: {len(wanted - set(found)):,} missing, "
        f"{twice:,} twice, {len(set(found) - wanted):,} foreign; "
        f"status {dict(Counter(table.column('status').to_pylist()))}"
    )


if __name__ == "__main__":
    console.run(main)
