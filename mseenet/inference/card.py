"""`card.json`: what a weights file is, how it was made, and what may be fed to it.

The card names its files by their content, so that replacing the card is the one step in
which a new release takes the place of the old.
"""

import hashlib
import json
import re
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mseenet.config import CLASS_NAMES, FROZEN_LAYER, IMAGE_SIZE, TARGET_LAYER, ModelConfig
from mseenet.errors import MSEENetError, UsageError, shown
from mseenet.files import (
    ensure_room,
    file_sha256,
    remove_left_weights,
    sync,
    write_atomically,
)
from mseenet.imaging.quality import SHIPPED, Thresholds
from mseenet.inference.calibration import BOUNDS, Calibration
from mseenet.inference.novelty import Novelty
from mseenet.inference.rules import rules
from mseenet.resources import weights_folder

if TYPE_CHECKING:
    from mseenet.inference.profile import SiteProfile

FORMAT = 1
CARD_NAME = "card.json"
DEFAULT_WEIGHTS = weights_folder()
"""The folder of the weights that come with the project."""

FILES = (
    ("weights", "file"),
    ("novelty", "file"),
    ("split", "file"),
    ("training", "history"),
    ("out_of_fold", "file"),
    ("stress", "file"),
)
"""Where a card names the files beside it, as section and entry."""

HIGHEST_SCALE = 1e6
"""Largest scale of the heatmaps that is believed, in logits per cell."""

HIGHEST_NOVELTY_THRESHOLD = 1e3
"""Largest threshold of the novelty gate that is believed; fields like those of training lie
around 10, and a gate whose threshold nothing reaches would be none."""

HDF5_OVERHEAD = 4096
"""Bytes that an HDF5 file takes for each array beside its content, generously."""

WIDEST = 4096
"""Largest width of the head that is built."""

SHOWN: dict[str, dict[str, type]] = {
    "calibration": {"fitted_on": str, "n": int},
    "training": {"recipe": str, "settings": dict, "history": str},
    "split": {"protocol": str, "file": str, "sha256": str, "n": dict},
    "out_of_fold": {"file": str, "sha256": str},
    "stress": {"file": str, "sha256": str},
    "metrics": {},
}
"""Types of the entries that pages, commands and reports read. A section other than
`calibration` may be absent or null; one that is there has all of these."""


class WeightsError(MSEENetError):
    """The weights or their card are missing, altered or not for this version."""


@dataclass(frozen=True)
class NoveltyGate:
    """What makes an image foreign.

    Attributes:
        reference: What distances are measured from.
        review: An image at this distance or farther goes to review.
        reject: From this distance on it is refused.
    """

    reference: Novelty
    review: float
    reject: float


@dataclass(frozen=True)
class Card:
    """The part of a card that prediction depends on, checked.

    Attributes:
        weights_path: The weights file, whose SHA-256 was compared.
        sha256: Of the weights file, in hex.
        model: Widths of the head.
        calibration: Turns logits and novelty into probabilities.
        heatmap_scale: Evidence at which a heatmap reaches 1, in logits per cell, > 0.
        review_confidence: Below this confidence an image goes to review, in [0, 1]; 0 for
            weights that were not cross-validated.
        novelty: The novelty gate, or None for weights without one (the paper's recipe).
        content: The whole card as it stands in the file.
        profile: The site profile whose calibration, gate and thresholds are in use; None for
            those of the card.
        quality: Thresholds of image quality: the profile's, else the shipped ones.
        release: See `release_of`; with a profile, of both together.
    """

    weights_path: Path
    sha256: str
    model: ModelConfig
    calibration: Calibration
    heatmap_scale: float
    review_confidence: float
    novelty: NoveltyGate | None
    content: dict
    profile: "SiteProfile | None" = None
    quality: Thresholds = SHIPPED

    @cached_property  # a page asks for each field of a case that was opened again
    def release(self) -> str:
        own = release_of(self.content)
        if self.profile is None:
            return own
        return hashlib.sha256(f"{own}:{self.profile.identity}".encode()).hexdigest()[:12]


def release_of(content: dict) -> str:
    """Names all that an answer depends on: network, calibration, thresholds, gate, heatmaps, and
    the limits in the code that decide whether an answer counts (`rules`).

    Reports and exports carry it, so that one of another release is told from one of this:
    calibrating anew keeps the weights' hash. What the answers do not depend on (figures,
    settings, texts) is left out, so that measuring a release does not change its name.

    Args:
        content: Of a card.

    Returns:
        The first 12 hex digits of a SHA-256.
    """
    parts = {
        "weights": content["weights"]["sha256"],
        "model": content["model"],
        "heatmap_scale": content["heatmap"]["scale"],
        "out_of_fold": (content.get("out_of_fold") or {}).get("sha256"),
        "rules": rules(),
    } | {
        name: content.get(name)
        for name in ("calibration", "review_confidence", "novelty", "malignant")
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def input_record() -> dict:
    """What the network reads, as it stands in the card."""
    return {
        "height": IMAGE_SIZE,
        "width": IMAGE_SIZE,
        "channels": "RGB",
        "dtype": "float32",
        "value_range": [0, 255],
        "resize": "squeezed to a square, antialiased bilinear (Pillow)",
    }


def read_card(folder: str | Path) -> Card:
    """Reads and checks a card and the hashes of the files that it names.

    Args:
        folder: Holds `card.json`, the weights file that it names, and the novelty reference.

    Returns:
        The checked card.

    Raises:
        WeightsError: Something is missing, altered, malformed, or made for another version.
    """
    folder = Path(folder)
    path = folder / CARD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content)  # nesting that can be read, but not written, would fail later
    except FileNotFoundError as error:
        raise WeightsError(
            f"{folder}: expected {CARD_NAME} and its weights file, found no {CARD_NAME}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: expected a readable JSON file ({error})") from error
    return checked_card(folder, content)


def checked_card(folder: Path, content: dict) -> Card:
    """Checks the content of a card against this version and the files in `folder`.

    Raises:
        WeightsError: As for `read_card`.
    """
    path = folder / CARD_NAME
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {shown(content)}")
    _expect(path, "format", _get(path, content, "format"), FORMAT)
    _expect(path, "class_names", _get(path, content, "class_names"), list(CLASS_NAMES))
    _expect(path, "input", _get(path, content, "input"), input_record())
    _expect(path, "heatmap layer", _get(path, content, "heatmap.layer"), TARGET_LAYER)
    # Weights have no gate only where their card says so: "novelty": null.
    if _get(path, content, "novelty") is not None:
        _expect(path, "novelty layer", _get(path, content, "novelty.layer"), FROZEN_LAYER)
    model = _model_config(path, _get(path, content, "model"))
    (_, warmest), (_, steepest) = BOUNDS
    temperature = _number(path, content, "calibration.value", 0, warmest, open_below=True)
    slope = _number(path, content, "calibration.slope", 0, steepest)
    heatmap_scale = _number(path, content, "heatmap.scale", 0, HIGHEST_SCALE, open_below=True)
    review_confidence = 0.0
    if "review_confidence" in content:
        review_confidence = _number(path, content, "review_confidence.value", lowest=0, highest=1)
    _check_shown(path, content)
    weights_path, sha256 = _named_file(folder, path, content, "weights")
    return Card(
        weights_path,
        sha256,
        model,
        Calibration(temperature, slope),
        heatmap_scale,
        review_confidence,
        _read_novelty(folder, path, content),
        content,
    )


def store(folder: Path, stem: str, suffix: str, content: bytes) -> Path:
    """Writes a file under a name that its content gives, beside those that are there.

    Args:
        folder: Exists.
        stem: Begins the name.
        suffix: Ends it.
        content: Of the file.

    Returns:
        The file `stem-XXXXXXXX.suffix`, with 8 digits of the content's SHA-256.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"{stem}-{sha256[:8]}{suffix}"
    if not path.is_file() or file_sha256(path) != sha256:
        write_atomically(path, content)
    return path


def publish(
    folder: Path,
    model,
    content: dict,
    novelty: Novelty | None = None,
    history: dict | None = None,
    split: bytes | None = None,
) -> Card:
    """Puts new weights and all that belongs to them in the place of the old, in one step.

    Every file but the card has a name of its own content, so that the old release stays as
    it is until the new card, whose files were read back, replaces the old one. What the old
    card names and the new one does not is removed after that. If anything fails before, what
    this call wrote is removed.

    Args:
        folder: Made if missing.
        model: The `keras.Model` of `build_model`, never compiled.
        content: The card without `format`, `class_names`, `input` and `weights`; its entries
            `novelty`, `training` and `split` get the names of the files below.
        novelty: The reference of the novelty gate.
        history: Epochs of each phase.
        split: The split file's content.

    Returns:
        The card as read back from the folder.

    Raises:
        OSError: Something could not be written; the old release is in place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = set(folder.iterdir())
    before = _files_of(folder)
    written = []
    try:
        weights_path = _store_weights(folder, model)
        written.append(weights_path)
        card = {
            "name": "MSEENet",
            "format": FORMAT,
            "class_names": list(CLASS_NAMES),
            "input": input_record(),
            "weights": {
                "file": weights_path.name,
                "sha256": file_sha256(weights_path),
                "bytes": weights_path.stat().st_size,
                "parameters": model.count_params(),
            },
            **content,
        }
        if novelty is not None:
            path = store(folder, "novelty", ".npz", novelty.to_bytes())
            written.append(path)
            record = {"file": path.name, "sha256": file_sha256(path)}
            card["novelty"] = card["novelty"] | record
        if history is not None:
            path = store(folder, "history", ".json", _json(history, indent=1))
            written.append(path)
            card["training"] = card["training"] | {"history": path.name}
        if split is not None:
            stem = f"split-{card['split']['protocol']}-seed{card['split']['seed']}"
            path = store(folder, stem, ".csv", split)
            written.append(path)
            record = {"file": path.name, "sha256": file_sha256(path)}
            card["split"] = card["split"] | record
        checked_card(folder, json.loads(_json(card)))
        write_atomically(folder / CARD_NAME, _json(card))
    except BaseException:
        # An interruption may come when the new card is in place already.
        _remove(set(written) - present - _files_of(folder))
        raise
    _remove(before - _files_of(folder))
    return read_card(folder)


def update_card(folder: Path, changes: dict) -> Card:
    """Replaces entries of the card in `folder`, in one step, and reads it back.

    Files that the old card names and the new one does not are removed.
    """
    before = _files_of(folder)
    content = read_card(folder).content | changes
    checked_card(folder, json.loads(_json(content)))
    write_atomically(folder / CARD_NAME, _json(content))
    _remove(before - _files_of(folder))
    return read_card(folder)


def refuse_foreign_release(folder: Path) -> None:
    """Makes sure that publishing into `folder` replaces nothing but an earlier release.

    Raises:
        UsageError: The folder holds files and no card of this project; hidden ones
            (a lock, a checkpoint) do not count, nor do those of a release that was interrupted
            before it had its card.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder for the weights, found a file")
    if _record(folder).get("class_names") == list(CLASS_NAMES):
        return
    held = sorted(
        p.name for p in folder.glob("*") if not p.name.startswith(".") and not _is_stored(p)
    )
    if held:
        raise UsageError(
            f"{folder}: expected a new or empty folder, or one with earlier weights and their "
            f"{CARD_NAME}; it holds {held[0]}"
        )


def _is_stored(path: Path) -> bool:
    """Whether a file has a name that its content gives, as those of a release have."""
    name = re.fullmatch(
        r"(mseenet|novelty|history|split-.+)-([0-9a-f]{8})(\.[a-z0-9.]+)", path.name
    )
    return name is not None and path.is_file() and file_sha256(path).startswith(name[2])


def _json(content: dict, indent: int = 2) -> bytes:
    return (json.dumps(content, indent=indent, ensure_ascii=False) + "\n").encode()


def _store_weights(folder: Path, model) -> Path:
    """Writes the model's weights under the name of their content."""
    temporary = folder / f".new-{secrets.token_hex(4)}.weights.h5"
    remove_left_weights(folder)
    ensure_room(folder, room_for(model))
    try:
        model.save_weights(temporary, overwrite=True)
        sync(temporary)
        path = folder / f"mseenet-{file_sha256(temporary)[:8]}.weights.h5"
        return temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def room_for(model) -> int:
    """Bytes that suffice for a file of a model's weights and its optimizer's state."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    each = [prod(variable.shape) * 4 + HDF5_OVERHEAD for variable in variables]
    return sum(each) + HDF5_OVERHEAD


def _record(folder: Path) -> dict:
    """Content of the card in `folder` as far as it can be read; empty if there is none."""
    try:
        content = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _files_of(folder: Path) -> set[Path]:
    """The files beside the card that it names."""
    content = _record(folder)
    names = []
    for entry, key in FILES:
        record = content.get(entry)
        names.append(record.get(key) if isinstance(record, dict) else None)
    return {folder / name for name in names if isinstance(name, str) and Path(name).name == name}


def _remove(paths: set[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _model_config(path: Path, record) -> ModelConfig:
    """The widths of the head, each of the type and range that the network can be built with."""
    names = sorted(f.name for f in fields(ModelConfig))
    received = sorted(record) if isinstance(record, dict) else record
    _expect(path, "model settings", received, names)
    for name, value in record.items():
        default = getattr(ModelConfig(), name)
        if isinstance(default, bool):
            right, expected = isinstance(value, bool), "true or false"
        elif isinstance(default, int):
            whole = isinstance(value, int) and not isinstance(value, bool)
            right, expected = whole and 0 < value <= WIDEST, f"a whole number in [1, {WIDEST}]"
        else:
            right, expected = _is_number(value) and 0 <= value < 1, "a number in [0, 1)"
        if not right:
            raise WeightsError(
                f"{path}: expected model.{name} to be {expected}, got {shown(value)}"
            )
    return ModelConfig(**record)


def _read_novelty(folder: Path, path: Path, content: dict) -> NoveltyGate | None:
    if content.get("novelty") is None:
        return None
    review, reject = (
        _number(path, content, f"novelty.{name}", 0, HIGHEST_NOVELTY_THRESHOLD, open_below=True)
        for name in ("review", "reject")
    )
    if review > reject:
        raise WeightsError(
            f"{path}: expected 0 < review <= reject, got {shown(review)}, {shown(reject)}"
        )
    file, _ = _named_file(folder, path, content, "novelty")
    try:
        reference = Novelty.from_bytes(file.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from error
    _expect(file, "number of class means", len(reference.means), len(CLASS_NAMES))
    return NoveltyGate(reference, review, reject)


def _named_file(folder: Path, path: Path, content: dict, entry: str) -> tuple[Path, str]:
    """A file beside the card whose hash is that in the card, and that hash."""
    name, sha256 = (_get(path, content, f"{entry}.{key}") for key in ("file", "sha256"))
    if not isinstance(name, str) or Path(name).name != name:
        raise WeightsError(f"{path}: expected the name of a file beside it, got {shown(name)}")
    if not isinstance(sha256, str):
        raise WeightsError(
            f"{path}: expected the SHA-256 of {shown(name)} in hex, got {shown(sha256)}"
        )
    file = folder / name
    try:
        actual = file_sha256(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(
            f"{file}: expected the file that {CARD_NAME} names ({reason})"
        ) from error
    if actual != sha256:
        raise WeightsError(
            f"{file}: altered or damaged; expected SHA-256 {sha256[:12]}..., got {actual[:12]}..."
        )
    return file, sha256


def _check_shown(path: Path, content: dict) -> None:
    for section, entries in SHOWN.items():
        if content.get(section) is None:
            continue
        if not isinstance(content[section], dict):
            raise WeightsError(
                f"{path}: expected {section} to be an object, got {shown(content[section])}"
            )
        for name, kind in entries.items():
            value = _get(path, content, f"{section}.{name}")
            if not isinstance(value, kind) or isinstance(value, bool):
                raise WeightsError(
                    f"{path}: expected {section}.{name} to be of type {kind.__name__}, got {shown(value)}"
                )
    if content.get("malignant") is not None:
        for name in ("threshold", "sensitivity", "specificity"):
            _number(path, content, f"malignant.{name}", lowest=0, highest=1)
    for name, figures in (content.get("metrics") or {}).items():
        if not isinstance(figures, dict):
            raise WeightsError(
                f"{path}: expected metrics.{name} to be an object, got {shown(figures)}"
            )


def _get(path: Path, content: Any, name: str) -> Any:
    """The entry of a dotted name."""
    value = content
    for key in name.split("."):
        if not isinstance(value, dict):
            raise WeightsError(
                f"{path}: expected an object with the entry {name}, got {shown(value)}"
            )
        if key not in value:
            raise WeightsError(f"{path}: the entry {name!r} is missing")
        value = value[key]
    return value


def _number(
    path: Path,
    content: dict,
    name: str,
    lowest: float,
    highest: float,
    open_below: bool = False,
) -> float:
    """A finite number of the card, in [lowest, highest] or (lowest, highest]."""
    value = _get(path, content, name)
    if not _is_number(value) or not lowest <= value <= highest or (open_below and value == lowest):
        bounds = f"in {'(' if open_below else '['}{lowest:g}, {highest:g}]"
        raise WeightsError(f"{path}: expected {name} {bounds}, got {shown(value)}")
    return float(value)


def _is_number(value) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number of JSON may have any number of digits: math.isfinite would raise.
    return number and abs(value) <= sys.float_info.max


def _expect(path: Path, name: str, received, expected) -> None:
    if received != expected:
        raise WeightsError(f"{path}: expected {name} {expected}, got {shown(received)}")
