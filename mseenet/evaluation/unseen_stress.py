"""Stress tests of slides that were left out of training, one network a fold.

The images are made once for each fold, from its tested fields alone: cells, backgrounds and
stains of a fold come from slides that its network has not seen. What can be told without
the fold's network (frozen features, image quality, nucleated cells) is kept, too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import console
from mseenet.evaluation import stress
from mseenet.evaluation.stress import STRESS_TESTS, stress_fields
from mseenet.files import FEATURES_PURPOSE, file_sha256, own_folder, whole_file
from mseenet.imaging import nuclei, quality, transplant
from mseenet.imaging.nuclei import count_nucleated_cells, nucleus_mask
from mseenet.imaging.quality import check_quality
from mseenet.training.dataset import DatasetError
from mseenet.training.loop import outputs_of

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
    network, images: np.ndarray, labels: np.ndarray, pixel_sha256: list[str], cache: Path
) -> dict[str, StressInputs]:
    """Makes the images of all stress tests from one fold's tested fields, some 0.3 s a field.

    Args:
        network: Of `frozen_blocks`; all of them are the same, whatever was trained.
        images: The tested fields, RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        labels: int (N,).
        pixel_sha256: Of each field.
        cache: Folder that keeps them, 0.4 MB a field; made if missing.

    Returns:
        By test; one for which no image can be made is left out.
    """
    own_folder(cache, FEATURES_PURPOSE)
    path = cache / f"stress-{_key(network, labels, pixel_sha256)}.npz"
    if not path.is_file():
        made = stress_fields(images, labels)
        arrays: dict[str, Any] = {}
        for test in STRESS_TESTS:
            for name, array in _make(network, made, test).items():
                arrays[f"{STRESS_TESTS.index(test)}/{name}"] = array
        with whole_file(path) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)
    names = [field.name for field in fields(StressInputs)]
    with np.load(path, allow_pickle=False) as archive:
        return {
            test: StressInputs(**{name: archive[f"{i}/{name}"] for name in names})
            for i, test in enumerate(STRESS_TESTS)
            if f"{i}/rows" in archive
        }


def _make(network, made: stress.StressFields, test: str) -> dict[str, np.ndarray]:
    donors = made.donors(test)
    rows, changed, findings, cells, clear = [], [], [], [], []
    for i, donor in enumerate(console.progress(donors, test)):
        image = made.make(test, i, donor)
        if image is None:
            continue
        found = check_quality(image, image.shape[:2])
        counted = count_nucleated_cells(image, nucleus_mask(image))
        rows.append(i)
        changed.append(image)
        findings.append(max((1 + finding.severe for finding in found), default=0))
        cells.append(counted.count)
        clear.append(counted.clear)
    if not rows:
        return {}
    return {
        "rows": np.array(rows),
        "donors": donors[rows],
        "features": outputs_of(network, np.stack(changed)).astype(np.float16),
        "findings": np.array(findings, np.int8),
        "cells": np.array(cells, np.int16),
        "clear": np.array(clear, np.int16),
    }


def _key(network, labels: np.ndarray, pixel_sha256: list[str]) -> str:
    """12 hex digits that differ wherever the images or their features may differ."""
    weights = hashlib.sha256(b"".join(array.tobytes() for array in network.get_weights()))
    modules = (stress, nuclei, quality, transplant)
    basis = {
        "version": STRESS_VERSION,
        "code": [file_sha256(Path(module.__file__ or "")) for module in modules],
        "network": weights.hexdigest(),
        "layers": [type(layer).__name__ for layer in network.layers],
        "images": [(sha, int(label)) for sha, label in zip(pixel_sha256, labels, strict=True)],
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
