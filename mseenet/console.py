"""What the commands share: exit statuses, one-line errors, progress, quiet libraries."""

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from mseenet.errors import MSEENetError, UsageError

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


def run(main: Callable[[], int], debug: bool = False) -> None:
    """Runs a command and ends the process with its exit status.

    An `MSEENetError` or `OSError` becomes one line on standard error and status 2; a reader that
    closes the pipe (`| head`) ends the command without a word.

    Args:
        main: Returns the exit status.
        debug: Whether errors keep their traceback.
    """
    # What TensorFlow's C++ side logs; real errors still come through as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = main()
        sys.stdout.flush()
    except MSEENetError as error:
        if debug:
            raise
        say(f"error: {_one_line(error)}")
        status = 2
    except KeyboardInterrupt:
        say("interrupted")
        status = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:  # a full disk, a folder that may not be written
        if debug:
            raise
        say(f"error: {_one_line(error)}")
        status = 2
    sys.exit(status)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).splitlines())


def import_keras() -> None:
    """Imports Keras, as the network needs it, without what its C++ side prints meanwhile.

    TensorFlow's log level does not yet apply at that time. A failing import still raises.

    Raises:
        BackendError: Keras cannot be had on TensorFlow here.
    """
    with silenced():
        import mseenet.inference.backend  # noqa: F401


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
