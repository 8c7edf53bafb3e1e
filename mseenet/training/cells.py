"""The experimental recipe `cells`: the robust one with copies whose cells lie elsewhere.

Copies of all images are made once, as in the robust recipe, and serve all folds of a
cross-validation. It is remembered whose background each copy shows: a fold trains with those
alone whose cells and background both come from its training fields, for nothing of a tested
slide may be seen in training, not even its red cells.
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
    """Frozen features of copies of all fields on other fields' backgrounds.

    Attributes:
        copies: For each of `donors.KINDS`, float16 (N, 14, 14, 96) each.
        donors: For each copy, whose background each field got, int (N,).
        files: Where the arrays are kept, for whoever wants to remove them.
    """

    copies: dict[str, tuple[np.ndarray, ...]]
    donors: dict[str, tuple[np.ndarray, ...]]
    files: tuple[Path, ...] = ()


def donated_features(
    model: keras.Model,
    samples: Sequence[Sample],
    images: np.ndarray,
    config: CellsConfig,
    backbone: dict,
    cache: Path,
) -> DonatedFeatures:
    """Computes the features of all fields' cells on each other's backgrounds.

    Args:
        model: Of `build_model`, with the backbone's weights.
        samples: The images' records.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        config: Seed, number of copies and proportions; kinds that are never drawn are left out.
        backbone: Where the backbone's weights come from (`backbone_record`).
        cache: Folder for one file a copy, 38 kB a field; made if missing.

    Raises:
        UsageError: `cache` holds files that are not frozen features.
    """
    own_folder(cache, FEATURES_PURPOSE)
    labels = np.array([sample.label for sample in samples])
    names = series_of(samples)
    network = frozen_blocks(model)
    key = _key(network, samples, names, config.seed, backbone)
    prepared: list[donors.PreparedFields] = []
    copies: dict[str, tuple] = {}
    given: dict[str, tuple] = {}
    files = []

    def features(kind: str, copy: int, donors_of: np.ndarray) -> np.ndarray:
        def batch(start: int) -> np.ndarray:
            if not prepared:  # not needed where all copies are in the cache
                prepared.append(donors.prepare(images, config.seed, console.progress))
            random = np.random.default_rng([config.seed, *kind.encode(), copy, start])
            rows = range(start, min(start + BATCH, len(samples)))
            made = np.stack([prepared[0].make(kind, i, donors_of[i], random) for i in rows])
            return _augmented(made, random)

        path = cache / f"frozen-{key}-{kind}-{copy}.npy"
        files.append(path)
        return kept_features(network, batch, len(samples), path, f"{kind}, copy {copy}")

    for kind, number in _numbers(config).items():
        given[kind] = tuple(
            donors.draw_donors(
                kind, labels, names, np.random.default_rng([config.seed, *kind.encode(), copy])
            )
            for copy in range(number)
        )
        copies[kind] = tuple(features(kind, k, whose) for k, whose in enumerate(given[kind]))
    return DonatedFeatures(copies, given, tuple(files))


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
        donated: Of all N images; of their copies those are drawn whose donors train, too.
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
    every = np.ones(len(rows), bool)
    unchanged = [(features.copies[0], every)]
    augmented = [(copy, every) for copy in features.copies[1:]] or unchanged
    given = [
        [
            (copy, np.isin(whose[rows], rows))
            for copy, whose in zip(
                donated.copies.get(kind, ()), donated.donors.get(kind, ()), strict=True
            )
        ]
        for kind in donors.KINDS
    ]
    pools = [unchanged, augmented, *given]
    # Which copies of each kind a field may be drawn in.
    allowed = [
        [[c for c, (_, usable) in enumerate(pool) if usable[i]] for i in range(len(rows))]
        for pool in pools
    ]
    emptied = 2 + donors.KINDS.index("emptied")
    labels = np.array([samples[i].label for i in rows])
    classes = len(CLASS_NAMES)

    def draw(chosen: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        kinds = random.choice(len(pools), len(chosen), p=probabilities)
        # A field all of whose donors are tested is augmented instead.
        kinds = np.array([k if allowed[k][i] else 1 for k, i in zip(kinds, chosen, strict=True)])
        inputs = []
        for kind, i in zip(kinds, chosen, strict=True):
            drawable = allowed[kind][i]
            copy, _ = pools[kind][drawable[random.integers(len(drawable))]]
            inputs.append(copy[rows[i]])
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
    network: keras.Model, samples: Sequence[Sample], names: list[str], seed: int, backbone: dict
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
            for sample, name in zip(samples, names, strict=True)
        ],
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]
