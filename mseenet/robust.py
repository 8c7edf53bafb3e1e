"""The robust recipe: augmented copies of all images go through the trunk once.

What is trained then reads the copies' trunk features, so that an epoch costs a quarter
of one over pixels, and all folds of a cross-validation share one computation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from mseenet import augment, cli
from mseenet.config import TRUNK_LAYER, RobustConfig
from mseenet.data import Sample
from mseenet.files import file_sha256
from mseenet.fit import Draw
from mseenet.model import blank_corner, trunk

_BATCH = 64


@dataclass(frozen=True)
class TrunkFeatures:
    """Trunk features of the unchanged images and of their augmented copies.

    Attributes:
        copies: float16 (N, 14, 14, 112) each; the first one is of the unchanged images.
        unchanged: Share of drawn images that are unchanged.
    """

    copies: tuple[np.ndarray, ...]
    unchanged: float

    def draw(self, rows: np.ndarray) -> Draw:
        """What draws batches of the images `rows`, a random copy of each, float32."""

        def batch(chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
            copy = random.integers(1, len(self.copies), len(chosen))
            copy[random.random(len(chosen)) < self.unchanged] = 0
            pairs = zip(copy, rows[chosen], strict=True)
            return np.stack([self.copies[c][i] for c, i in pairs]).astype(np.float32)

        return batch

    def pooled(self) -> np.ndarray:
        """Means over the positions, float32 (copies, N, 112), for the novelty gate."""
        return np.stack([copy.mean(axis=(1, 2), dtype=np.float32) for copy in self.copies])


def trunk_features(
    model: keras.Model,
    samples: Sequence[Sample],
    images: np.ndarray,
    config: RobustConfig,
    backbone: dict,
    cache: Path,
) -> TrunkFeatures:
    """Computes the trunk features of all images, or takes them from `cache`.

    Args:
        model: Of `build_model`, with the backbone's weights.
        samples: The images' records; with `config` and `backbone` they tell whether what
            `cache` holds is of these images.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        config: Seed and number of copies.
        backbone: Where the backbone's weights come from (`backbone_record`).
        cache: Folder for one file a copy, 44 kB an image; made if missing.
    """
    basis = (
        config.seed,
        TRUNK_LAYER,
        backbone,
        file_sha256(Path(augment.__file__)),
        [sample.pixel_sha256 for sample in samples],
    )
    key = hashlib.sha256(repr(basis).encode()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    network = trunk(model)
    copies = []
    for copy in range(config.copies + 1):
        path = cache / f"trunk-{key}-{copy}.npy"
        if not path.is_file():
            starts = range(0, len(images), _BATCH)
            name = f"trunk features, {copy} of {config.copies}"
            features = [
                network.predict_on_batch(
                    _copy(images[start : start + _BATCH], config.seed, copy, start)
                )
                for start in cli.progress(starts, name)
            ]
            features = [keras.ops.convert_to_numpy(f).astype(np.float16) for f in features]
            temporary = path.with_suffix(".part")
            with temporary.open("wb") as stream:
                np.save(stream, np.concatenate(features))
            temporary.replace(path)
        copies.append(np.load(path, mmap_mode="r"))
    return TrunkFeatures(tuple(copies), config.unchanged)


def _copy(images: np.ndarray, seed: int, copy: int, start: int) -> np.ndarray:
    """A batch as it is, or changed at random with its corner blanked before.

    Turned and mirrored, the scale bar would otherwise lie where no one blanks it.
    """
    if copy == 0:
        return images.astype(np.float32)
    blanked = blank_corner(keras.ops.convert_to_tensor(images.astype(np.float32)))
    blanked = np.round(keras.ops.convert_to_numpy(blanked)).astype(np.uint8)
    return augment.augment(blanked, np.random.default_rng([seed, copy, start])).astype(np.float32)
