"""Feeds changed files to what reads foreign ones: nothing but an error of its own may come of it.

    python -m tools.fuzz card --files 100000
    python -m tools.fuzz decoder --minutes 5
    python -m tools.fuzz case --replay 4711 --save file.bin

The targets are the image decoder, the card of the weights with its novelty reference, saved cases,
ZIP archives, and bundles of uploads. Each file is a sound one that was changed at random: bytes and
numbers replaced, parts cut out, doubled, or taken from another file; and in what is JSON, values
that are no numbers, too large, of another type, missing, or nested too deeply. File number k is the
same in every run with the same --seed and libraries. A worker process reads the files; if it dies,
or needs more processor time or memory for one file than allowed, that file counts as a failure
too. The exit status is 0 if there was no failure. Linux and macOS.
"""

import argparse
import math
import multiprocessing
import sys
import time
from collections import Counter

from tools.fuzz.targets import TARGETS, mutated, outcome
from tools.fuzz.worker import work

MEGABYTE = 2**20

PATIENCE = 120
"""Seconds without an answer until a worker is taken to hang, on a machine that is busy too."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--files", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, help="instead of --files: as many as can be read")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=3, help="of processor time for one file (%(default)s)"
    )
    parser.add_argument("--memory", type=int, default=1024, help="in MB, peak (%(default)s)")
    parser.add_argument("--replay", type=int, metavar="K", help="read only file number K, here")
    parser.add_argument("--save", metavar="FILE", help="with --replay: also write the file")
    arguments = parser.parse_args(argv)
    return replay(arguments) if arguments.replay is not None else run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Reads all files, in a worker that is started anew after a failure."""
    # A fork would inherit threads of the libraries.
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    end = arguments.first + arguments.files if arguments.minutes is None else math.inf
    until = math.inf if arguments.minutes is None else start + 60 * arguments.minutes
    following = arguments.first
    counts: Counter[str] = Counter()
    slowest, largest = (0.0, -1), 0
    while following < end and time.perf_counter() < until:
        receiver, sender = context.Pipe(duplex=False)
        given = (arguments.target, arguments.seed, following, sender)
        worker = context.Process(target=work, args=given)
        worker.start()
        sender.close()
        while following < end and time.perf_counter() < until:
            failure = ""
            try:
                if not receiver.poll(PATIENCE):
                    failure = f"no answer in {PATIENCE} seconds"
                else:
                    _, kind, text, seconds, peak = receiver.recv()
                    slowest = max(slowest, (seconds, following))
                    largest = max(largest, peak)
                    if kind == "FAILURE":
                        failure = text
                    elif seconds > arguments.seconds:
                        failure = f"{seconds:.1f} seconds of processor time"
                    elif peak > arguments.memory * MEGABYTE:
                        failure = f"peak memory {peak // MEGABYTE} MB"
                    else:
                        counts[kind] += 1
            except EOFError:
                worker.join()
                failure = f"the worker ended with status {worker.exitcode}"
            following += 1
            if failure:
                counts["failures"] += 1
                print(f"file {following - 1}: {failure[:300]}", flush=True)
                break
            if following % 10_000 == 0:
                print(f"{following} files ...", file=sys.stderr, flush=True)
        worker.kill()
        worker.join()
    minutes = (time.perf_counter() - start) / 60
    failures = counts.pop("failures", 0)
    print(f"{arguments.target}: {following - arguments.first} files in {minutes:.1f} minutes:")
    for kind, number in counts.most_common():
        print(f"  {kind}: {number}")
    print(f"  failures: {failures}")
    print(f"slowest: {slowest[0]:.2f} s (file {slowest[1]}); peak memory {largest // MEGABYTE} MB")
    return int(failures > 0)


def replay(arguments: argparse.Namespace) -> int:
    """Reads one file in this process, where a debugger can follow."""
    target = TARGETS[arguments.target]
    name, content = mutated(target, target.sound(), arguments.seed, arguments.replay)
    if arguments.save:
        with open(arguments.save, "xb") as stream:
            stream.write(content)
    start = time.perf_counter()
    kind, text = outcome(target, content)
    print(f"{name}, {len(content)} bytes: {kind} {text} ({time.perf_counter() - start:.2f} s)")
    return int(kind == "FAILURE")


if __name__ == "__main__":
    sys.exit(main())
