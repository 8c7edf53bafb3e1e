"""Training images in which nothing but the nucleated cells tells the class.

The cells of a field go to the ground of another one, its donor, of another class. Unchanged
fields show each class on its own ground; as many drawn images show it on others that over
all of them the ground tells next to nothing. What comes of it: docs/explanation/experiments.md.

transplanted: the cells lie as in their own field, or some of them do.
scattered: a few of the cells, or many copies of them, turned and mirrored at random places.
  How crowded a field is goes with the class in the dataset (crowded ones are nearly all
  Pre-B), and networks take it for a sign of it; here it tells nothing.
emptied: a field without its nucleated cells, of which nothing can be said.

Half of the transplanted and scattered cells get their donor's light, and half a stain of
their own, so that cells and ground do not give each other away.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mseenet.imaging.nuclei import RIM, background_color, nucleus_mask, scale_bar_corner
from mseenet.imaging.transplant import (
    FEATHER,
    WAVER,
    cut,
    empty_field,
    scatter,
    territories,
    transplant,
)
from mseenet.training.series import balance

KINDS = ("transplanted", "scattered", "emptied")

FEW, MANY = 8, 24
"""Scattered cells are 1 to `FEW`, as in sparse fields of the dataset, or, of the proportion
`CROWDED` of images, up to `MANY`, as in its crowded ones."""

CROWDED = 0.2

HARD = 0.25
"""Proportion of cuts with a hard edge."""

RELIT, RESTAINED, THINNED = 0.5, 0.5, 0.5
"""Proportions of images whose cells get the donor's light, a stain of their own, and (of the
transplanted ones) of which only some cells are taken."""

BARE = 0.25
"""Proportion of transplanted cells that lie on their donor's plasma alone, without any red cell."""

STRENGTH, TINT = 0.12, 0.06
"""Deviations of the logarithm of the factor by which a stain of their own changes the cells'
optical density: of all channels together, and of each."""

_FAR = 30.0
"""Distances from the cells are kept up to here, in pixels."""


@dataclass(frozen=True, eq=False)
class PreparedFields:
    """Fields with all that is found once for any number of images.

    Attributes:
        images: uint8 (N, H, W, 3) in [0, 255].
        owners: Of `territories`, uint8 (N, H, W).
        distances: Of `territories`, float16 (N, H, W), at most `_FAR`.
        grounds: The fields without their cells and scale bars, uint8 (N, H, W, 3).
        plasma: Colour between the cells, float64 (N, 3) in [0, 255].
    """

    images: np.ndarray
    owners: np.ndarray
    distances: np.ndarray
    grounds: np.ndarray
    plasma: np.ndarray

    def make(self, kind: str, i: int, donor: int, random: np.random.Generator) -> np.ndarray:
        """One training image from the cells of field `i`.

        Args:
            kind: One of `KINDS`.
            i: Position of the field.
            donor: Position of the field whose ground it gets; of an emptied field, `i`.
            random: Drawn from; the same state gives the same image.

        Returns:
            RGB pixels, uint8 (H, W, 3) in [0, 255].
        """
        if kind == "emptied":
            return _turned(self.grounds[donor], random)
        bare = kind == "transplanted" and random.random() < BARE
        ground = (
            np.full_like(self.images[i], np.round(self.plasma[donor]))
            if bare
            else _turned(self.grounds[donor], random)
        )
        if random.random() < HARD:
            line, feather = float(RIM), 0.0
        else:
            line, feather = RIM + random.uniform(-WAVER, WAVER), random.uniform(*FEATHER)
        owner, distance = self.owners[i], self.distances[i].astype(np.float32)
        cells = cut(self._stained(i, donor, random), owner, distance, line, feather)
        if kind == "scattered":
            if random.random() < CROWDED:
                count = int(np.exp(random.uniform(0, np.log(MANY + 1))))
            else:
                count = int(random.integers(1, FEW + 1))
            return scatter(cells, ground, count, random)
        if cells.count and random.random() < THINNED:
            chosen = np.zeros(cells.count, bool)
            chosen[random.permutation(cells.count)[: random.integers(1, cells.count + 1)]] = True
            cells = cells.keep(chosen)
        return transplant(cells, ground)

    def _stained(self, i: int, donor: int, random: np.random.Generator) -> np.ndarray:
        """Field `i` in the donor's light, or in another stain, or both, or as it is."""
        values = self.images[i].astype(np.float32)
        if random.random() < RELIT:
            values = values * ((self.plasma[donor] + 1) / (self.plasma[i] + 1))
        if random.random() < RESTAINED:
            power = np.exp(random.normal(0, STRENGTH) + random.normal(0, TINT, 3))
            values = 255 * (np.clip(values, 1, 255) / 255) ** power
        return np.clip(np.round(values), 0, 255).astype(np.uint8)


def draw_donors(
    kind: str, labels: np.ndarray, series: Sequence, random: np.random.Generator
) -> np.ndarray:
    """Whose ground the cells of each field get: of a field of another class.

    Args:
        kind: One of `KINDS`; an emptied field keeps its own ground.
        labels: int (N,), of two classes at least.
        series: To which series each belongs, (N,); all series are donors equally often.
        random: Drawn from.

    Returns:
        Positions of the donors, int (N,).

    Raises:
        ValueError: All fields are of one class, so that none has a donor.
    """
    if kind == "emptied":
        return np.arange(len(labels))
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"expected fields of two classes at least; received labels {np.unique(labels)}"
        )
    donors = np.zeros(len(labels), int)
    for label in np.unique(labels):
        chance = np.where(labels == label, 0, balance(series, 1.0))
        mine = np.flatnonzero(labels == label)
        donors[mine] = random.choice(len(labels), len(mine), p=chance / chance.sum())
    return donors


def prepare(
    images: np.ndarray,
    seed: int,
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> PreparedFields:
    """Finds the cells of fields and empties the fields, about 40 ms each.

    Args:
        images: RGB pixels, uint8 (N, H, W, 3) in [0, 255].
        seed: Of what emptied places are filled with.
        progress: Shows how far it is.
    """
    count = len(images)
    owners = np.zeros(images.shape[:3], np.uint8)
    distances = np.zeros(images.shape[:3], np.float16)
    grounds = np.zeros_like(images)
    plasma = np.zeros((count, 3))
    for i in progress(range(count), "cutting out cells"):
        mask = nucleus_mask(images[i])
        owner, distance = territories(mask)
        owners[i], distances[i] = np.minimum(owner, 255), np.minimum(distance, _FAR)
        # Turned with the ground, a scale bar would lie where no one blanks it.
        covered = mask | scale_bar_corner(mask.shape)
        grounds[i] = empty_field(images[i], covered, np.random.default_rng([seed, i]))
        plasma[i] = background_color(images[i])
    return PreparedFields(images, owners, distances, grounds, plasma)


def _turned(rgb: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Turned by a multiple of 90 degrees and mirrored or not; square fields alone."""
    turned = np.rot90(rgb, int(random.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if random.integers(2) else turned)
