"""Stress tests of slides that were left out of training, one network a fold.

The images are made once for each fold, from its tested fields alone: cells, backgrounds and
stains of a fold come from slides that its network has not seen. What can be told without
the fold's network (frozen features, image quality, nucleated cells) is kept, too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import console
from mseenet.evaluation import stress
from mseenet.evaluation.stress import STRESS_TESTS, UNCHANGED, stress_fields
from mseenet.files import FEATURES_PURPOSE, file_sha256, own_folder, whole_file
from mseenet.imaging import nuclei, quality, transplant
from mseenet.imaging.nuclei import count_nucleated_cells, nucleus_mask
from mseenet.imaging.quality import check_quality
from mseenet.training.dataset import DatasetError

MOST = 60
"""Of how many fields of a part images are made, evenly spaced: fields of one slide fail
together, so that more of them would not tell more."""

STRESS_VERSION = 1
"""To be raised when the kept images change by something that `_key` does not see."""


@dataclass(frozen=True, eq=False)
class StressInputs:
    """The images of one stress test of one fold, as far as no trained network is needed.

    Attributes:
        rows: From which of the fold's tested fields each image is made, int (n,).
        donors: Whose background or stain it has, int (n,); -1 for none.
        features: Frozen features, float16 (n, 14, 14, 96).
        findings: Of the image's quality: 0 none, 1 for review, 2 for refusal, int8 (n,).
        cells: Pieces that are probably nucleated cells, int (n,).
        clear: Pieces that clearly are, int (n,).
    """

    rows: np.ndarray
    donors: np.ndarray
    features: np.ndarray
    findings: np.ndarray
    cells: np.ndarray
    clear: np.ndarray


@dataclass(frozen=True, eq=False)
class StressAnswers:
    """What the networks of a protocol said in one stress test.

    Attributes:
        rows: Positions of the fields in the protocol's `OutOfFold`, int (n,).
        donors: Positions of their donors there, int (n,); -1 for none.
        logits: Before calibration, float32 (n, C).
        novelty: Distance from the fold's own training fields, float32 (n,).
        findings: As in `StressInputs`.
        cells: As in `StressInputs`.
        clear: As in `StressInputs`.
    """

    rows: np.ndarray
    donors: np.ndarray
    logits: np.ndarray
    novelty: np.ndarray
    findings: np.ndarray
    cells: np.ndarray
    clear: np.ndarray


def stress_inputs(
    network,
    images: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[str],
    pixel_sha256: list[str],
    cache: Path,
) -> dict[str, StressInputs]:
    """Makes the images of all stress tests from one fold's tested fields, some 0.3 s a field.

    Unchanged are all fields, changed at most `MOST` of each part.

    Args:
        network: Of `frozen_blocks`; all of them are the same, whatever was trained.
        images: The tested fields, RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        labels: int (N,).
        parts: Which fields fail together, (N,).
        pixel_sha256: Of each field.
        cache: Folder that keeps them, 0.4 MB a field; made if missing.

    Returns:
        By test; one for which no image can be made is left out.
    """
    own_folder(cache, FEATURES_PURPOSE)
    path = cache / f"stress-{_key(network, labels, parts, pixel_sha256)}.npz"
    if not path.is_file():
        chosen = _evenly(parts)
        made = stress_fields(images[chosen], labels[chosen])
        arrays: dict[str, Any] = {}
        for i, test in enumerate(STRESS_TESTS):
            if test == UNCHANGED:
                found = _seen(network, dict(enumerate(images)), np.full(len(images), -1))
            else:
                donors = made.donors(test)
                pairs = console.progress(enumerate(donors), test, len(donors))
                changed = {k: made.make(test, k, donor) for k, donor in pairs}
                known = {k: image for k, image in changed.items() if image is not None}
                found = _seen(network, known, donors)
                for name in ("rows", "donors"):  # positions among all tested fields
                    if found:
                        found[name] = np.where(found[name] >= 0, chosen[found[name]], -1)
            arrays |= {f"{i}/{name}": array for name, array in found.items()}
        with whole_file(path) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)
    names = [field.name for field in fields(StressInputs)]
    with np.load(path, allow_pickle=False) as archive:
        return {
            test: StressInputs(**{name: archive[f"{i}/{name}"] for name in names})
            for i, test in enumerate(STRESS_TESTS)
            if f"{i}/rows" in archive
        }


def _evenly(parts: Sequence[str]) -> np.ndarray:
    """Positions of at most `MOST` fields of each part, evenly spaced, int (n,), rising."""
    names = np.array(parts)
    chosen = []
    for name in np.unique(names):
        mine = np.flatnonzero(names == name)
        places = np.linspace(0, len(mine) - 1, min(MOST, len(mine))).round().astype(int)
        chosen.append(mine[places])
    return np.sort(np.concatenate(chosen))


def _seen(network, images: dict[int, np.ndarray], donors: np.ndarray) -> dict[str, np.ndarray]:
    """What can be told of the images of one test without a trained network."""
    from mseenet.training.loop import outputs_of  # brings Keras

    if not images:
        return {}
    findings, cells, clear = [], [], []
    for image in images.values():
        found = check_quality(image, image.shape[:2])
        counted = count_nucleated_cells(image, nucleus_mask(image))
        findings.append(max((1 + finding.severe for finding in found), default=0))
        cells.append(counted.count)
        clear.append(counted.clear)
    rows = np.array(list(images))
    return {
        "rows": rows,
        "donors": donors[rows],
        "features": outputs_of(network, np.stack(list(images.values()))).astype(np.float16),
        "findings": np.array(findings, np.int8),
        "cells": np.array(cells, np.int16),
        "clear": np.array(clear, np.int16),
    }


def _key(network, labels: np.ndarray, parts: Sequence[str], pixel_sha256: list[str]) -> str:
    """12 hex digits that differ wherever the images or their features may differ."""
    weights = hashlib.sha256(b"".join(array.tobytes() for array in network.get_weights()))
    modules = (stress, nuclei, quality, transplant)
    basis = {
        "version": STRESS_VERSION,
        "code": [file_sha256(Path(module.__file__ or "")) for module in modules],
        "network": weights.hexdigest(),
        "layers": [type(layer).__name__ for layer in network.layers],
        "most": MOST,
        "images": [
            (sha, int(label), str(part))
            for sha, label, part in zip(pixel_sha256, labels, parts, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]


def stress_npz(answers: Mapping[str, Mapping[str, StressAnswers]]) -> bytes:
    """Answers by protocol and test as a file; what `read_stress` reads."""
    arrays: dict[str, Any] = {
        f"{protocol}/{test}/{field.name}": getattr(answer, field.name)
        for protocol, tests in answers.items()
        for test, answer in tests.items()
        for field in fields(StressAnswers)
    }
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_stress(folder: Path, name: str) -> dict[str, dict[str, StressAnswers]]:
    """Reads what `stress_npz` made: answers by protocol and test.

    Args:
        folder: Of the weights.
        name: Of the file, as the card gives it.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    names = [field.name for field in fields(StressAnswers)]
    answers: dict[str, dict[str, StressAnswers]] = {}
    try:
        with np.load(folder / name, allow_pickle=False) as archive:
            for protocol, test in dict.fromkeys(tuple(key.split("/")[:2]) for key in archive):
                arrays = {name: archive[f"{protocol}/{test}/{name}"] for name in names}
                answers.setdefault(protocol, {})[test] = StressAnswers(**arrays)
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{folder / name}: expected what mseenet crossvalidate writes ({error})"
        ) from error
    return answers
