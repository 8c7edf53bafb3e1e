"""`card.json`: what a weights file is, how it was made, and what may be fed to it.

The card names its weights file by content, so that replacing the card is the one step
in which a new release takes the place of the old.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

from mseenet.config import CLASS_NAMES, FROZEN_LAYER, IMAGE_SIZE, TARGET_LAYER, ModelConfig
from mseenet.errors import MSEENetError
from mseenet.files import file_sha256, write_atomically
from mseenet.inference.calibration import Calibration
from mseenet.inference.novelty import Novelty
from mseenet.resources import weights_folder

FORMAT = 1
CARD_NAME = "card.json"
HISTORY_NAME = "history.json"
DEFAULT_WEIGHTS = weights_folder()
"""The folder of the weights that come with the project."""


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
        release: See `release_of`.
    """

    weights_path: Path
    sha256: str
    model: ModelConfig
    calibration: Calibration
    heatmap_scale: float
    review_confidence: float
    novelty: NoveltyGate | None
    content: dict

    @property
    def release(self) -> str:
        return release_of(self.content)


def release_of(content: dict) -> str:
    """Names all that an answer depends on: weights, calibration, thresholds, gate, heatmaps.

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
        "heatmap_scale": content["heatmap"]["scale"],
        "out_of_fold": (content.get("out_of_fold") or {}).get("sha256"),
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
    """Reads and checks a card and the hash of its weights file.

    Args:
        folder: Holds `card.json` and the weights file that it names.

    Returns:
        The checked card.

    Raises:
        WeightsError: Something is missing, altered, or made for another version.
    """
    folder = Path(folder)
    path = folder / CARD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{folder}: expected {CARD_NAME} and its weights file, found no {CARD_NAME}"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: expected a readable JSON file ({error})") from error

    try:
        _expect(path, "format", content["format"], FORMAT)
        _expect(path, "class_names", content["class_names"], list(CLASS_NAMES))
        _expect(path, "input", content["input"], input_record())
        _expect(path, "heatmap layer", content["heatmap"]["layer"], TARGET_LAYER)
        if content.get("novelty"):
            _expect(path, "novelty layer", content["novelty"]["layer"], FROZEN_LAYER)
        _expect(
            path,
            "model settings",
            sorted(content["model"]),
            sorted(f.name for f in fields(ModelConfig)),
        )
        file, sha256 = content["weights"]["file"], content["weights"]["sha256"]
        temperature, slope = (content["calibration"][name] for name in ("value", "slope"))
        heatmap_scale = content["heatmap"]["scale"]
        review_confidence = content.get("review_confidence", {"value": 0.0})["value"]
        model = ModelConfig(**content["model"])
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: the entry {error} is missing or malformed") from error
    for name, value in (("temperature", temperature), ("heatmap scale", heatmap_scale)):
        if not _is_number(value) or value <= 0:
            raise WeightsError(f"{path}: expected {name} > 0, got {value!r}")
    if not _is_number(slope) or slope < 0:
        raise WeightsError(f"{path}: expected a slope of the temperature >= 0, got {slope!r}")
    if not _is_number(review_confidence) or not 0 <= review_confidence <= 1:
        raise WeightsError(
            f"{path}: expected a review confidence in [0, 1], got {review_confidence!r}"
        )
    if Path(str(file)).name != file:
        raise WeightsError(f"{path}: expected the name of a file beside it, got {file!r}")

    weights_path = folder / file
    _check_hash(weights_path, sha256)
    return Card(
        weights_path,
        sha256,
        model,
        Calibration(temperature, slope),
        heatmap_scale,
        review_confidence,
        _read_novelty(folder, path, content.get("novelty")),
        content,
    )


def publish(folder: Path, model, content: dict, novelty: Novelty | None = None) -> Card:
    """Puts new weights and their card in the place of the old ones, in one step.

    Args:
        folder: Made if missing; older weights files in it are removed at the end.
        model: The `keras.Model` of `build_model`, never compiled.
        content: The card without `format`, `class_names`, `input` and `weights`; its
            entry `novelty`, if any, gets the name and hash of the reference's file.
        novelty: The reference of the novelty gate.

    Returns:
        The card as read back from the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "new.weights.h5"
    model.save_weights(temporary, overwrite=True)
    sha256 = file_sha256(temporary)
    path = temporary.replace(folder / f"mseenet-{sha256[:8]}.weights.h5")
    card = {
        "name": "MSEENet",
        "format": FORMAT,
        "class_names": list(CLASS_NAMES),
        "input": input_record(),
        "weights": {
            "file": path.name,
            "sha256": sha256,
            "bytes": path.stat().st_size,
            "parameters": model.count_params(),
        },
        **content,
    }
    kept = {path}
    if novelty is not None:
        reference = novelty.to_bytes()
        reference_sha256 = hashlib.sha256(reference).hexdigest()
        reference_path = folder / f"novelty-{reference_sha256[:8]}.npz"
        reference_path.write_bytes(reference)
        kept.add(reference_path)
        record = {"file": reference_path.name, "sha256": reference_sha256}
        card["novelty"] = card["novelty"] | record
    write_atomically(folder / CARD_NAME, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for old in (*folder.glob("mseenet-*.weights.h5"), *folder.glob("novelty-*.npz")):
        if old not in kept:
            old.unlink()
    return read_card(folder)


def update_card(folder: Path, changes: dict) -> Card:
    """Replaces entries of the card in `folder`, in one step, and reads it back."""
    content = read_card(folder).content | changes
    write_atomically(folder / CARD_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return read_card(folder)


def _read_novelty(folder: Path, path: Path, record: dict | None) -> NoveltyGate | None:
    if record is None:
        return None
    try:
        file, sha256 = record["file"], record["sha256"]
        review, reject = record["review"], record["reject"]
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: the entry {error} of novelty is missing or malformed"
        ) from error
    if not 0 < review <= reject:
        raise WeightsError(f"{path}: expected 0 < review <= reject, got {review!r}, {reject!r}")
    if Path(str(file)).name != file:
        raise WeightsError(f"{path}: expected the name of a file beside it, got {file!r}")
    content = _check_hash(folder / file, sha256).read_bytes()
    return NoveltyGate(Novelty.from_bytes(content), review, reject)


def _check_hash(path: Path, sha256: str) -> Path:
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise WeightsError(
            f"{path}: expected the file that {CARD_NAME} names ({error.strerror})"
        ) from error
    if actual != sha256:
        raise WeightsError(
            f"{path}: altered or damaged; expected SHA-256 {sha256[:12]}..., got {actual[:12]}..."
        )
    return path


def _is_number(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _expect(path: Path, name: str, received, expected) -> None:
    if received != expected:
        raise WeightsError(f"{path}: expected {name} {expected}, got {received}")
