"""The experimental recipe `cells`: the robust one with copies whose cells lie elsewhere.

Augmented copies are of all images, as in the robust recipe. Copies with cells on another
field's background are made from training fields alone: nothing of a tested slide may be
seen in training, not even its red cells.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES, FROZEN_LAYER, CellsConfig
from mseenet.files import FEATURES_PURPOSE, file_sha256, own_folder
from mseenet.imaging import nuclei, transplant
from mseenet.inference.backend import keras
from mseenet.inference.network import CORNER, blank_corner, frozen_blocks
from mseenet.training import augmentation, donors, series
from mseenet.training.dataset import Sample
from mseenet.training.loop import Mixture
from mseenet.training.robust import BATCH, FrozenFeatures, kept_features, mix_styles
from mseenet.training.series import balance, series_of

DONATED_VERSION = 1
"""To be raised when donated features change by something that `_key` does not see."""


@dataclass(frozen=True)
class DonatedFeatures:
    """Frozen features of copies of the training fields on other fields' backgrounds.

    Attributes:
        copies: For each of `donors.KINDS`, float16 (n, 14, 14, 96) each, n being the number
            of training fields.
        files: Where the arrays are kept, for whoever wants to remove them.
    """

    copies: dict[str, tuple[np.ndarray, ...]]
    files: tuple[Path, ...] = ()


def donated_features(
    model: keras.Model,
    samples: Sequence[Sample],
    images: np.ndarray,
    rows: np.ndarray,
    config: CellsConfig,
    backbone: dict,
    cache: Path,
) -> DonatedFeatures:
    """Computes the features of the training fields' cells on each other's backgrounds.

    Args:
        model: Of `build_model`, with the backbone's weights.
        samples: All images' records.
        images: All images, RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        rows: Positions of the training fields, int (n,); no other field is looked at.
        config: Seed, number of copies and proportions; kinds that are never drawn are left out.
        backbone: Where the backbone's weights come from (`backbone_record`).
        cache: Folder for one file a copy, 38 kB a training field; made if missing.

    Raises:
        UsageError: `cache` holds files that are not frozen features.
    """
    own_folder(cache, FEATURES_PURPOSE)
    chosen = [samples[i] for i in rows]
    names = series_of(chosen)
    network = frozen_blocks(model)
    key = _key(network, chosen, names, config.seed, backbone)
    prepared: list[donors.PreparedFields] = []
    files = []

    def features(kind: str, copy: int) -> np.ndarray:
        def batch(start: int) -> np.ndarray:
            if not prepared:  # not needed where all copies are in the cache
                labels = np.array([sample.label for sample in chosen])
                prepared.append(
                    donors.prepare(images[rows], labels, names, config.seed, console.progress)
                )
            random = np.random.default_rng([config.seed, *kind.encode(), copy, start])
            stop = min(start + BATCH, len(rows))
            made = np.stack([prepared[0].make(kind, i, random) for i in range(start, stop)])
            return _augmented(made, random)

        path = cache / f"frozen-{key}-{kind}-{copy}.npy"
        files.append(path)
        return kept_features(network, batch, len(rows), path, f"{kind}, copy {copy}")

    copies = {
        kind: tuple(features(kind, copy) for copy in range(number))
        for kind, number in _numbers(config).items()
    }
    return DonatedFeatures(copies, tuple(files))


def mixture(
    features: FrozenFeatures,
    donated: DonatedFeatures,
    samples: Sequence[Sample],
    rows: np.ndarray,
    config: CellsConfig,
) -> Mixture:
    """What draws training batches: of each field a random kind of copy, a random one of these.

    Args:
        features: Of all N images.
        donated: Of the training fields.
        samples: All images' records.
        rows: Positions of the training fields, int (n,).
        config: Proportions of the kinds, and balance.

    Raises:
        ValueError: The proportions are not such.
    """
    proportions = [config.unchanged, *(getattr(config, kind) for kind in donors.KINDS)]
    if min(proportions) < 0 or sum(proportions) > 1 + 1e-9:
        raise ValueError(f"expected proportions >= 0 that sum to at most 1; received {proportions}")
    probabilities = np.array([proportions[0], max(0.0, 1 - sum(proportions)), *proportions[1:]])
    probabilities /= probabilities.sum()
    unchanged = [(features.copies[0], rows)]
    augmented = [(copy, rows) for copy in features.copies[1:]] or unchanged
    own = np.arange(len(rows))
    given = [[(copy, own) for copy in donated.copies.get(kind, ())] for kind in donors.KINDS]
    pools = [unchanged, augmented, *given]
    emptied = 2 + donors.KINDS.index("emptied")
    labels = np.array([samples[i].label for i in rows])
    classes = len(CLASS_NAMES)

    def draw(chosen: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        kinds = random.choice(len(pools), len(chosen), p=probabilities)
        inputs = []
        for kind, i in zip(kinds, chosen, strict=True):
            copy, places = pools[kind][random.integers(len(pools[kind]))]
            inputs.append(copy[places[i]])
        targets = np.eye(classes, dtype=np.float32)[labels[chosen]]
        targets[kinds == emptied] = 1 / classes
        return mix_styles(np.stack(inputs).astype(np.float32), config.mixed, random), targets

    return Mixture(draw, chances(labels, series_of([samples[i] for i in rows]), config.balance))


def chances(labels: np.ndarray, names: Sequence[str], power: float) -> np.ndarray:
    """How often each training field is drawn: classes alike, and long series less often.

    Long series would otherwise rule their class: of the Pre-B fields nearly all are of one
    crowded series, and the few others are all that a network sees of sparse ones.

    Args:
        labels: Of the training fields, int (n,).
        names: To which series each belongs, (n,).
        power: Of `balance`.

    Returns:
        Probabilities, float64 (n,), equally large in sum for each class.
    """
    found = np.zeros(len(labels))
    for label in np.unique(labels):
        mine = labels == label
        found[mine] = balance(np.array(names)[mine], power)
    return found / found.sum()


def _numbers(config: CellsConfig) -> dict[str, int]:
    """How many copies of each kind are made."""
    numbers = dict.fromkeys(donors.KINDS, config.donated)
    numbers["emptied"] = max(1, config.donated // 2)
    return {kind: number for kind, number in numbers.items() if getattr(config, kind) > 0}


def _augmented(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A batch with its corner blanked and then changed at random, as in the robust recipe."""
    blanked = blank_corner(keras.ops.convert_to_tensor(images.astype(np.float32)))
    blanked = np.round(keras.ops.convert_to_numpy(blanked)).astype(np.uint8)
    return augmentation.augment(blanked, random).astype(np.float32)


def _key(
    network: keras.Model, chosen: Sequence[Sample], names: list[str], seed: int, backbone: dict
) -> str:
    """12 hex digits that differ wherever donated features may differ."""
    modules = (augmentation, donors, series, nuclei, transplant)
    basis = {
        "version": DONATED_VERSION,
        "seed": seed,
        "batch": BATCH,
        "corner": CORNER,
        "code": [file_sha256(Path(module.__file__ or "")) for module in modules],
        "layers": [type(layer).__name__ for layer in network.layers],
        "shape": network.input_shape,
        "cut": FROZEN_LAYER,
        "backbone": backbone,
        "images": [
            (sample.file, sample.pixel_sha256, sample.label, name)
            for sample, name in zip(chosen, names, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]
