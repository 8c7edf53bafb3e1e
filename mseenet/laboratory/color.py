"""What the training fields look like, and how to give a laboratory's fields their colours.

The colours of all pixels of a laboratory become, in mean and covariance, those of training: by
the linear change that moves them least, which is the optimal transport between two normal
distributions. Nuclei count in a fixed proportion, so that it does not matter how crowded the
fields are. Labels only make the classes count alike.

Reference:
    F. Pitie, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer", CVMP 2007.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet.config import CLASS_NAMES, IMAGE_SIZE
from mseenet.errors import UsageError
from mseenet.imaging.appearance import MEASURES, Appearance, Moments, appearance_of, density_of
from mseenet.imaging.nuclei import scale_bar_corner
from mseenet.inference.normalisation import Normalisation, surface_terms

TRAINING_PATH = Path(__file__).with_name("training_fields.json")
"""The training fields of the shipped weights, made by `tools.training_fields`."""

NUCLEI = 0.3
"""Proportion in which nuclei count among the pixels whose colours are matched."""

COVERED = 0.1
"""Proportion of all pixels of a field that are taken for nuclei while none can be told."""

QUANTILES = np.linspace(0, 1, 101)
"""Of each measure's distribution, those that are kept."""

ROUNDS = 2
"""Nuclei are found better once the colours have been changed, and the change is better then."""

TAKEN = 2 + ROUNDS
"""How often `estimate` takes each image."""

_COARSE = 8
_TERMS = surface_terms(IMAGE_SIZE // _COARSE)


@dataclass(frozen=True, eq=False)
class TrainingFields:
    """What the fields that a network was trained on look like.

    Attributes:
        weights: SHA-256 of the network's weights file, in hex.
        n: How many fields.
        quantiles: By measure, float64 (101,), ascending.
        nuclei: Mean colours of the nuclei, each class counting alike.
        rest: The same of all else.
        light: Of `falling_light`, float64 (5, 3).
    """

    weights: str
    n: int
    quantiles: dict[str, np.ndarray]
    nuclei: Moments
    rest: Moments
    light: np.ndarray

    def to_json(self) -> str:
        """As a file of `read_training_fields`."""
        groups = {"nuclei": self.nuclei, "rest": self.rest}
        return json.dumps(
            {
                "weights": self.weights,
                "n": self.n,
                "quantiles": {name: _rounded(q) for name, q in self.quantiles.items()},
                "light": _rounded(self.light, 6),
                "colours": {
                    name: {"mean": _rounded(m.mean, 6), "covariance": _rounded(m.covariance, 8)}
                    for name, m in groups.items()
                },
            },
            indent=1,
        )


def read_training_fields(path: Path = TRAINING_PATH) -> TrainingFields:
    """Reads what `TrainingFields.to_json` made.

    Raises:
        UsageError: The file is missing or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        colors = {
            name: Moments(np.array(group["mean"], float), np.array(group["covariance"], float))
            for name, group in content["colours"].items()
        }
        result = TrainingFields(
            str(content["weights"]),
            int(content["n"]),
            {name: np.array(content["quantiles"][name], float) for name in MEASURES},
            colors["nuclei"],
            colors["rest"],
            np.array(content["light"], float),
        )
        shapes = [result.light.shape, result.rest.covariance.shape]
        if shapes != [(5, 3), (3, 3)]:
            raise ValueError(f"arrays of shape {shapes}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected what training fields look like, as `python -m "
            f"tools.training_fields` writes it ({error})"
        ) from error
    return result


def describe(
    images: Iterable[np.ndarray], labels: np.ndarray, weights: str
) -> tuple[TrainingFields, list[Appearance]]:
    """Measures training fields.

    Args:
        images: RGB pixels of one field each, uint8 (224, 224, 3) in [0, 255].
        labels: int (N,); every class is there.
        weights: SHA-256 of the weights trained on them.
    """
    coarse, looks = [], []
    for rgb in images:
        coarse.append(_coarse(rgb))
        looks.append(appearance_of(rgb))
    fields = TrainingFields(
        weights,
        len(looks),
        {name: quantiles_of(looks, name) for name in MEASURES},
        *_groups(looks, labels),
        falling_light(np.stack(coarse)),
    )
    return fields, looks


def quantiles_of(looks: Iterable[Appearance], measure: str) -> np.ndarray:
    """Quantiles of a measure over fields, float64 (101,); NaN where no field shows it."""
    values = np.array([look.measures[measure] for look in looks])
    known = values[np.isfinite(values)]
    return np.quantile(known, QUANTILES) if len(known) else np.full(len(QUANTILES), np.nan)


def estimate(
    images: Sequence[np.ndarray], labels: np.ndarray, training: TrainingFields
) -> Normalisation:
    """The change that gives fields of a laboratory the colours of training; cells keep their size.

    Args:
        images: RGB pixels of each field, uint8 (224, 224, 3) in [0, 255].
        labels: int (N,); classes count alike.
        training: What they are to look like.
    """
    coarse = np.stack([_coarse(rgb) for rgb in images])
    light = (falling_light(coarse) - training.light).astype(np.float32)
    evened = Normalisation(light, np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0)
    # At first nuclei cannot be trusted: a cast may make none of the pixels look like one.
    source = _everything(evened.recolored(rgb) for rgb in images)
    target = _mixed(training.nuclei, training.rest, COVERED)
    matrix, offset = transport(source, target)
    found = Normalisation(light, matrix, offset, 1.0)
    for _ in range(ROUNDS):
        looks = [appearance_of(found.recolored(rgb)) for rgb in images]
        more = transport(
            _mixed(*_groups(looks, labels), NUCLEI),
            _mixed(training.nuclei, training.rest, NUCLEI),
        )
        found = Normalisation(light, *_combined((found.matrix, found.offset), more), 1.0)
    return found


def falling_light(coarse: np.ndarray) -> np.ndarray:
    """How the light falls over the field, in optical density.

    Args:
        coarse: Brightest optical densities of blocks of each field, (N, 28, 28, 3).

    Returns:
        By terms of `surface_terms` and channel, float64 (5, 3).
    """
    plasma = np.quantile(coarse, 0.2, axis=0)
    chosen = ~scale_bar_corner(plasma.shape[:2])
    terms = np.concatenate([np.ones((*chosen.shape, 1)), _TERMS], axis=-1)[chosen]
    return np.linalg.lstsq(terms, plasma[chosen], rcond=None)[0][1:]


def transport(source: Moments, target: Moments) -> tuple[np.ndarray, np.ndarray]:
    """The linear change of least movement from one distribution's moments to another's.

    Returns:
        Matrix (3, 3) and offset (3,), float32, for rows of densities times the matrix.
    """
    root = _root(source.covariance)
    inverse = np.linalg.inv(root)
    matrix = inverse @ _root(root @ target.covariance @ root) @ inverse
    return matrix.astype(np.float32), (target.mean - source.mean @ matrix).astype(np.float32)


def _combined(first: tuple, second: tuple) -> tuple[np.ndarray, np.ndarray]:
    """One affine change after the other."""
    (a, b), (c, d) = first, second
    return (a @ c).astype(np.float32), (b @ c + d).astype(np.float32)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance; no direction is without any spread."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 1e-7))) @ vectors.T


def _mixed(nuclei: Moments, rest: Moments, proportion: float) -> Moments:
    """Moments of pixels a proportion of which are of nuclei."""
    gap = nuclei.mean - rest.mean
    return Moments(
        proportion * nuclei.mean + (1 - proportion) * rest.mean,
        proportion * nuclei.covariance
        + (1 - proportion) * rest.covariance
        + proportion * (1 - proportion) * np.outer(gap, gap),
    )


def _everything(images: Iterable[np.ndarray]) -> Moments:
    """Moments of every fourth pixel of fields."""
    outside = ~scale_bar_corner((IMAGE_SIZE, IMAGE_SIZE))
    outside[1::2] = outside[:, 1::2] = False
    found = []
    for rgb in images:  # one at a time: the densities of all would take a megabyte a field
        density = density_of(rgb)[outside].astype(float)
        found.append((Moments(density.mean(axis=0), np.cov(density, rowvar=False, ddof=0)), 1.0))
    return _pooled(found)


def _groups(looks: Sequence[Appearance], labels: np.ndarray) -> tuple[Moments, Moments]:
    """Mean moments of nuclei and of the rest over fields, classes counting alike."""
    weights = 1 / np.bincount(labels, minlength=len(CLASS_NAMES)).clip(1)[labels]
    pairs = [(look.nuclei, s) for look, s in zip(looks, weights, strict=True) if look.nuclei]
    if not pairs:  # nothing of nuclei is known: the rest has to do
        pairs = [(look.rest, s) for look, s in zip(looks, weights, strict=True)]
    return _pooled(pairs), _pooled([(k.rest, s) for k, s in zip(looks, weights, strict=True)])


def _pooled(weighted: Sequence[tuple[Moments, float]]) -> Moments:
    """Moments of all pixels together, each field with its weight."""
    weights = np.array([weight for _, weight in weighted])
    weights /= weights.sum()
    means = np.stack([moments.mean for moments, _ in weighted])
    mean = weights @ means
    within = np.einsum("n,nij->ij", weights, np.stack([m.covariance for m, _ in weighted]))
    gaps = means - mean
    return Moments(mean, within + (weights[:, None] * gaps).T @ gaps)


def _coarse(rgb: np.ndarray) -> np.ndarray:
    """Optical density of the brighter pixels of each block of 8x8, float32 (28, 28, 3)."""
    blocks = density_of(rgb).reshape(IMAGE_SIZE // _COARSE, _COARSE, -1, _COARSE, 3)
    ordered = np.sort(blocks.transpose(0, 2, 1, 3, 4).reshape(*blocks.shape[:1], -1, 64, 3), axis=2)
    return ordered[:, :, 16].copy()  # a view would keep 0.6 MB a field


def _rounded(values: np.ndarray, digits: int = 4) -> list:
    return np.round(values, digits).tolist()
