"""Ray, started for a command on this machine or joined: quiet, and gone when the command ends."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mseenet import console
from mseenet.errors import MSEENetError

OBJECT_STORE = 512 * 2**20
"""Bytes of shared memory for what goes between processes; Ray puts more on the disk."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_worker_niceness": "0",
}
"""What Ray is told before it is imported: nothing is reported to its makers, the terminal is left to
the command, and workers have the command's own priority (`nice`), not the lowest."""


class ClusterError(MSEENetError):
    """Ray cannot be used as asked; the message says why."""


@contextmanager
def running(processors: int, address: str | None = None) -> Iterator[None]:
    """Ray, until the block ends, by whatever but SIGKILL; what was started here goes even then.

    Args:
        processors: That Ray counts, if it is started here.
        address: Of a running cluster to join instead.

    Raises:
        ClusterError: It does not start, or is not there.
    """
    os.environ |= QUIET
    import ray

    own = {
        "num_cpus": processors,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
    }
    kept = signal.getsignal(signal.SIGTERM)
    try:
        with console.silenced():  # Ray says at which level it logs
            ray.init(
                address or "local",
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **({} if address else own),
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_running(address, error) from error

    signal.signal(signal.SIGTERM, kept)  # Ray's own would end the process without a word
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str | None) -> None:
    """Finds out whether anything listens at HOST:PORT, for which Ray would wait for minutes.

    Raises:
        ClusterError: Nothing does.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _not_running(address, error) from error


def last_line(error: Exception) -> str:
    """What Ray's messages, which hold whole tracebacks, come to."""
    return str(error).strip().splitlines()[-1]


def _not_running(address: str | None, error: Exception) -> ClusterError:
    what = f"to be running at {address}" if address else "to start"
    return ClusterError(f"expected Ray {what}: {last_line(error)}")
