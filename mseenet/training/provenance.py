"""Where weights come from: command, backbone, versions."""

import platform
import shlex
from importlib.metadata import version
from pathlib import Path

from mseenet.errors import UsageError
from mseenet.files import file_sha256
from mseenet.version import version_text

PATH_OPTIONS = {
    "--data": "DIR",
    "--out": "DIR",
    "--checkpoint": "DIR",
    "--cache": "DIR",
    "--backbone-weights": "FILE",
}
"""Options whose values say nothing to others; the card shows these words instead."""


def recorded_command(argv: list[str]) -> str:
    """The command as the card keeps it: the paths of one machine say nothing to others."""
    words: list[str] = []
    value = None  # what stands for the next word, if that is a path
    for word in argv:
        option, equals, _ = word.partition("=")
        if value:
            words.append(value)
            value = None
        elif (path := _path_of(option)) and equals:
            words.append(f"{option}={path}")
        else:
            words.append(word)
            value = path
    return shlex.join(["mseenet", "train", *words])


def _path_of(option: str) -> str | None:
    """What stands for the value of an option, written out or shortened as argparse allows."""
    if len(option) < 3 or not option.startswith("--"):
        return None
    return next((path for name, path in PATH_OPTIONS.items() if name.startswith(option)), None)


def backbone_record(weights: str | Path | None) -> dict:
    """Where the backbone's weights come from; a file is known by its SHA-256."""
    if weights is None:
        return {"name": "EfficientNetV2B0", "weights": "random"}
    if weights == "imagenet":
        return {"name": "EfficientNetV2B0", "weights": "imagenet"}
    try:
        sha256 = file_sha256(Path(weights))
    except OSError as error:
        raise UsageError(
            f"{weights}: expected the backbone's weights ({error.strerror})"
        ) from error
    return {"name": "EfficientNetV2B0", "weights": "file", "sha256": sha256}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the result depends on."""
    names = ("mseenet", "tensorflow", "keras", "numpy", "pillow")
    return {"python": platform.python_version()} | {
        name: version_text() if name == "mseenet" else version(name) for name in names
    }
