"""What the commands share: exit statuses, one-line errors, progress, quiet libraries."""

import _thread
import argparse
import importlib.util
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mseenet.errors import MSEENetError, UsageError

if TYPE_CHECKING:
    from mseenet.inference.classifier import Classifier
    from mseenet.inference.profile import SiteProfile

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells use it."""

DEBUG_VARIABLE = "MSEENET_DEBUG"
"""Environment variable that is 1 where errors are to keep their traceback."""

DEBUG_HELP = f"show the traceback of an error (as {DEBUG_VARIABLE}=1 does)"


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command; what is wrong with them is one line, status 2."""

    def __init__(self, **settings):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`{self.prog} --help` says more)\n")


def command_parser(name: str, description: str | None) -> Parser:
    """The parser of a subcommand, with the options that all of them have."""
    parser = Parser(prog=f"mseenet {name}", description=description)
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    return parser


def add_profile_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--profile FILE` to a command that answers."""
    parser.add_argument(
        "--profile",
        metavar="FILE",
        help="site profile of a laboratory, the JSON file that `mseenet verify --adapt` wrote "
        "(default: what MSEENET_PROFILE names, else none)",
    )


def whole_number(lowest: int, highest: float = math.inf) -> Callable[[str], int]:
    """What reads an option's whole number in [lowest, highest], for `add_argument(type=...)`."""
    required = f"from {lowest} to {highest}" if highest < math.inf else f"of {lowest} or more"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"expected a whole number {required}, got {text}")
        return value

    return parse


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(main: Callable[[], int], debug: bool = False) -> None:
    """Runs a command and ends the process with its exit status.

    An `MSEENetError` or `OSError` becomes one line on standard error and status 2; a reader that
    closes the pipe (`| head`) ends the command without a word. SIGTERM and SIGHUP clean up as Ctrl-C
    does, and give 128 and their number.

    Args:
        main: Returns the exit status.
        debug: Whether errors keep their traceback.
    """
    # What TensorFlow's C++ side logs; real errors still come through as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _ended_by_exceptions():
            status = _status_of(main, debug)
    except BrokenPipeError:
        status = 1
    finally:
        _drop_unwritten()
    sys.exit(status)


def _status_of(main: Callable[[], int], debug: bool) -> int:
    try:
        status = main()
        sys.stdout.flush()
    except Terminated as end:
        say(f"ended by {signal.Signals(end.number).name}")
        return 128 + end.number
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (MSEENetError, OSError) as error:  # OSError: a full disk, a read-only folder
        if debug:
            raise
        say(f"error: {_one_line(error)}")
        return 2
    return status


@contextmanager
def _ended_by_exceptions() -> Iterator[None]:
    """Lets signals that end the process raise `Terminated`, so that locks and files are let go.

    Signals that the caller ignores (`nohup`) stay ignored.
    """
    kept: dict[int, Any] = {}
    thread, swallowed = threading.get_ident(), sys.unraisablehook

    def end(number: int, frame: object) -> NoReturn:
        for other in kept:
            signal.signal(other, signal.SIG_IGN)  # a second one must not disturb the cleaning up
        raise Terminated(number)

    def again(unraisable: Any) -> None:
        """The signal came while Python ran a finaliser, which lets no exception out: once more."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            swallowed(unraisable)
            return
        number: int = signal.SIGINT
        if issubclass(unraisable.exc_type, Terminated):
            number = unraisable.exc_value.number
            signal.signal(number, end)
        threading.Timer(0.01, _interrupt, [thread, number]).start()

    if threading.current_thread() is threading.main_thread():
        sys.unraisablehook = again
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                kept[number] = signal.signal(number, end)
    try:
        yield
    finally:
        sys.unraisablehook = swallowed
        for number, handler in kept.items():
            signal.signal(number, handler)


def _interrupt(thread: int, number: int) -> None:
    """Sends the main thread a signal, whatever it waits for."""
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:
        signal.pthread_kill(thread, number)


def _drop_unwritten() -> None:
    """Keeps Python from failing anew, at its end, at what could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.filename2 is None:
        text = f"{error.filename}: {error.strerror}"
    return " ".join(text.splitlines())


def import_keras() -> None:
    """Imports Keras, as the network needs it, without what its C++ side prints meanwhile.

    TensorFlow's log level does not yet apply at that time. A failing import still raises.

    Raises:
        BackendError: Keras cannot be had on TensorFlow here.
    """
    with silenced():
        import mseenet.inference.backend  # noqa: F401


def network_of(weights: Path, profile: "SiteProfile | None") -> Callable[[], "Classifier"]:
    """What gives the classifier; if the environment names a service, that is reached at once.

    Args:
        weights: Folder of the weights and their card.
        profile: Of the site; None for none.

    Raises:
        ServerError: The service cannot be used, or not with a profile.
    """
    from mseenet.inference.remote import RemoteClassifier, chosen_server

    if server := chosen_server():
        remote = RemoteClassifier.connect(server, weights, profile)
        return lambda: remote

    def load() -> "Classifier":
        from mseenet.inference.classifier import Classifier

        import_keras()
        return Classifier.load(weights, profile)

    return load


@contextmanager
def silenced() -> Iterator[None]:
    """Holds back all that is written to standard error, by libraries in C++ too."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def require(package: str, extra: str) -> None:
    """Refuses to begin without a package that only some commands need.

    Args:
        package: Its name in an import.
        extra: The extra of this project that installs it.

    Raises:
        UsageError: It is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            f"expected the package {package}, which is not installed; "
            f"run: pip install 'mseenet[{extra}]'"
        )


def progress(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Shows on standard error how far an iteration is and how long it will take."""
    from tqdm import tqdm

    return tqdm(items, desc=description, total=total, file=sys.stderr, leave=False)


def say(message: str) -> None:
    """Prints what is going on to standard error; results go to standard output."""
    print(message, file=sys.stderr, flush=True)
