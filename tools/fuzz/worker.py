"""The process that reads the files; a module that `multiprocessing` can import by its name."""

import os
import resource
import sys
import time
from itertools import count
from multiprocessing.connection import Connection

from tools.fuzz.targets import TARGETS, mutated, outcome


def work(name: str, seed: int, first: int, results: Connection) -> None:
    """Reads files, and sends number, outcome, text, seconds and peak memory of each."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes a line for each oddity
    target = TARGETS[name]
    sound = target.sound()
    outcome(target, sound[0][1])  # imports are none of the first file's
    peak = _peak_memory()
    for number in count(first):
        _, content = mutated(target, sound, seed, number)
        start = time.process_time()  # of all threads; other work on the machine does not count
        kind, text = outcome(target, content)
        seconds = time.process_time() - start
        peak = max(peak, _peak_memory())
        results.send((number, kind, text, seconds, peak))


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # `getrusage` counts there what the process that started this one had, too.
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
