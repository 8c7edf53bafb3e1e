"""The robust recipe: augmented copies of all images go through the frozen blocks once.

What is trained then reads the copies' frozen features, so that an epoch costs half of
one over pixels, and all folds of a cross-validation share one computation.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import FROZEN_LAYER, RobustConfig
from mseenet.files import FEATURES_PURPOSE, file_sha256, own_folder, whole_file
from mseenet.imaging import perturbations
from mseenet.imaging.perturbations import brightness, jpeg
from mseenet.inference.backend import keras
from mseenet.inference.network import (
    CORNER,
    blank_corner,
    fine_tuned_blocks,
    freeze_backbone,
    frozen_blocks,
)
from mseenet.training import augmentation
from mseenet.training.checkpoint import Checkpoint
from mseenet.training.dataset import Sample
from mseenet.training.loop import Draw, Training, run_phase

COMPRESSION = (30, 95)
"""Lowest and highest JPEG quality of the compressed images."""

DIMMING = (0.55, 1.45)
"""Lowest and highest factor of the images that change in brightness alone."""

STYLE = 0.3
"""Both parameters of the beta distribution of how much of its style an image keeps: mostly
nearly all or nearly nothing."""

FEATURES_VERSION = 1
"""To be raised when frozen features change by something that `_key` does not see."""

BATCH = 64
"""Images that go through the frozen blocks at once, with random numbers of their own."""


@dataclass(frozen=True)
class FrozenFeatures:
    """Frozen features of the unchanged images and of their augmented copies.

    Attributes:
        copies: float16 (N, 14, 14, 96) each; the first one is of the unchanged images.
        processed: Means over the positions for images after JPEG compression, and after a
            change of brightness alone, float16 (N, 96) each: for the novelty gate, which
            would take traces of compression and of rounding for foreign.
        unchanged: Proportion of drawn images that are unchanged.
        mixed: Proportion of drawn images that get some of another one's style.
        files: Where the arrays are kept, for whoever wants to remove them.
    """

    copies: tuple[np.ndarray, ...]
    processed: tuple[np.ndarray, ...]
    unchanged: float
    mixed: float
    files: tuple[Path, ...] = ()

    def draw(self, rows: np.ndarray) -> Draw:
        """What draws batches of the images `rows`, a random copy of each, float32."""

        def batch(chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
            copy = random.integers(1, len(self.copies), len(chosen))
            copy[random.random(len(chosen)) < self.unchanged] = 0
            pairs = zip(copy, rows[chosen], strict=True)
            features = np.stack([self.copies[c][i] for c, i in pairs]).astype(np.float32)
            return mix_styles(features, self.mixed, random)

        return batch

    def pooled(self) -> np.ndarray:
        """Means over the positions for the novelty gate, float32 (copies + 2, N, 96).

        The first ones are of the unchanged images, the last ones of `processed`.
        """
        means = [copy.mean(axis=(1, 2), dtype=np.float32) for copy in self.copies]
        return np.stack([*means, *(mean.astype(np.float32) for mean in self.processed)])


def frozen_features(
    model: keras.Model,
    samples: Sequence[Sample],
    images: np.ndarray,
    config: RobustConfig,
    backbone: dict,
    cache: Path,
) -> FrozenFeatures:
    """Computes the frozen features of all images, or takes them from `cache`.

    Args:
        model: Of `build_model`, with the backbone's weights.
        samples: The images' records; with `config` and `backbone` they tell whether what
            `cache` holds is of these images.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        config: Seed and number of copies.
        backbone: Where the backbone's weights come from (`backbone_record`).
        cache: Folder for one file a copy, 38 kB an image; made if missing.

    Raises:
        UsageError: `cache` holds files that are not frozen features.
    """
    own_folder(cache, FEATURES_PURPOSE)
    network = frozen_blocks(model)
    key = _key(network, samples, config.seed, backbone)
    files = []

    def features(copy: int | str, change: Callable[..., np.ndarray], mean: bool) -> np.ndarray:
        path = cache / f"frozen-{key}-{copy}.npy"
        files.append(path)

        def batch(start: int) -> np.ndarray:
            return change(images[start : start + BATCH], config.seed, copy, start)

        return kept_features(network, batch, len(images), path, f"copy {copy}", mean)

    copies = tuple(features(copy, _copy, mean=False) for copy in range(config.copies + 1))
    kinds = (("compressed", _compressed), ("dimmed", _dimmed))
    processed = tuple(features(name, change, mean=True) for name, change in kinds)
    return FrozenFeatures(copies, processed, config.unchanged, config.mixed, tuple(files))


def kept_features(
    network: keras.Model,
    batch: Callable[[int], np.ndarray],
    count: int,
    path: Path,
    name: str,
    mean: bool = False,
) -> np.ndarray:
    """Frozen features from their file, which is made if it is missing.

    Args:
        network: Of `frozen_blocks`.
        batch: Start -> up to `BATCH` images from there on, float32 (B, 224, 224, 3).
        count: Of all images.
        path: Names all that the features depend on.
        name: What the progress bar says.
        mean: Whether only means over the positions are kept.

    Returns:
        float16 (count, 14, 14, 96) or (count, 96), mapped from the file.
    """
    if not path.is_file():
        outputs = []
        for start in console.progress(range(0, count, BATCH), f"frozen features, {name}"):
            output = keras.ops.convert_to_numpy(network.predict_on_batch(batch(start)))
            outputs.append((output.mean(axis=(1, 2)) if mean else output).astype(np.float16))
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.concatenate(outputs))
    return np.load(path, mmap_mode="r")


def _key(network: keras.Model, samples: Sequence[Sample], seed: int, backbone: dict) -> str:
    """12 hex digits that differ wherever frozen features may differ."""
    functions = (_copy, _compressed, _dimmed, blank_corner, frozen_blocks)
    basis = {
        "version": FEATURES_VERSION,
        "seed": seed,
        "batch": BATCH,
        "compression": COMPRESSION,
        "dimming": DIMMING,
        "corner": CORNER,
        "code": [inspect.getsource(function) for function in functions]
        + [file_sha256(Path(module.__file__ or "")) for module in (augmentation, perturbations)],
        "layers": [type(layer).__name__ for layer in network.layers],  # a blanked corner or none
        "shape": network.input_shape,
        "cut": FROZEN_LAYER,
        "backbone": backbone,
        "images": [(sample.file, sample.pixel_sha256) for sample in samples],
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]


def mix_styles(features: np.ndarray, proportion: float, random: np.random.Generator) -> np.ndarray:
    """Gives some images of a batch the style of others, as on a slide that does not exist.

    Mean and standard deviation of each channel over the positions, which hold stain, light
    and thickness of the smear more than they hold cells, move towards those of another
    image of the batch, whatever its class.

    Reference:
        K. Zhou et al., "Domain Generalization with MixStyle", ICLR 2021.

    Args:
        features: Frozen features, float32 (B, H, W, C).
        proportion: Of the images that change, in [0, 1].
        random: Drawn from.
    """
    count = len(features)
    mean = features.mean(axis=(1, 2), keepdims=True)
    deviation = features.std(axis=(1, 2), keepdims=True) + 1e-3
    kept = random.beta(STYLE, STYLE, count)
    kept[random.random(count) >= proportion] = 1
    kept = kept[:, None, None, None].astype(np.float32)
    other = random.permutation(count)
    mixed_mean = kept * mean + (1 - kept) * mean[other]
    mixed_deviation = kept * deviation + (1 - kept) * deviation[other]
    return (features - mean) / deviation * mixed_deviation + mixed_mean


def fit_head_then_fine_tune(
    model: keras.Model,
    train: Training,
    val: tuple | None,
    config: RobustConfig,
    checkpoint: Checkpoint,
) -> None:
    """Trains the head on frozen features, if asked for, then all layers above the frozen blocks.

    Args:
        model: Of `build_model`, with the backbone's weights; trained in place.
        train: What draws batches of frozen features, and labels, or a mixture, as for
            `loop.run_phase`.
        val: Frozen features and labels, or None.
        config: Settings of the phases.
        checkpoint: To go on from, and kept up to date.
    """
    network = fine_tuned_blocks(model)
    for name in ("head", "fine_tune"):
        skipped = getattr(config, name).epochs == 0 or checkpoint.knows("fine_tune")
        if name == "fine_tune" or not skipped:
            freeze_backbone(model, name == "head")
            run_phase(name, network, train, val, config, checkpoint)


def _copy(images: np.ndarray, seed: int, copy: int, start: int) -> np.ndarray:
    """A batch as it is, or changed at random with its corner blanked before.

    Turned and mirrored, the scale bar would otherwise lie where no one blanks it.
    """
    if copy == 0:
        return images.astype(np.float32)
    blanked = blank_corner(keras.ops.convert_to_tensor(images.astype(np.float32)))
    blanked = np.round(keras.ops.convert_to_numpy(blanked)).astype(np.uint8)
    return augmentation.augment(blanked, np.random.default_rng([seed, copy, start])).astype(
        np.float32
    )


def _compressed(images: np.ndarray, seed: int, copy: str, start: int) -> np.ndarray:
    """A batch after JPEG compression of random quality."""
    random = np.random.default_rng([seed, *copy.encode(), start])
    qualities = random.integers(*COMPRESSION, len(images), endpoint=True)
    pairs = zip(images, qualities, strict=True)
    return np.stack([jpeg(image, int(quality)) for image, quality in pairs]).astype(np.float32)


def _dimmed(images: np.ndarray, seed: int, copy: str, start: int) -> np.ndarray:
    """A batch after random changes of brightness, rounded as in a file."""
    factors = np.random.default_rng([seed, *copy.encode(), start]).uniform(*DIMMING, len(images))
    pairs = zip(images, factors, strict=True)
    return np.stack([brightness(image, factor) for image, factor in pairs]).astype(np.float32)
