"""Is this image like the training images? The distance that the novelty gate judges.

The features are the output of the frozen blocks, averaged over the image. For each class their mean
is kept, and for all classes together one covariance (`mseenet.training.gate` fits them). The
novelty of an image is its Mahalanobis distance from the nearest class mean.

The frozen blocks are never trained, so they have not learned to ignore what the four classes do not
need: a foreign stain or camera, or no blood at all. Copies of the training images belong
to the reference, augmented, JPEG-compressed, or brighter and darker, so that other light
or traces of processing alone do not count as foreign.

Reference:
    K. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples
    and Adversarial Attacks", NeurIPS 2018.
"""

import io
from dataclasses import dataclass

import numpy as np

from mseenet.errors import shown


@dataclass(frozen=True, eq=False)
class Novelty:
    """The reference that distances are measured from.

    Attributes:
        means: Whitened class means, float32 (C, D).
        whitening: Features (B, D) times this have unit covariance, float32 (D, D).
    """

    means: np.ndarray
    whitening: np.ndarray

    def distances(self, features, ops=np):
        """Distance from the nearest class mean.

        Args:
            features: Pooled frozen features, (B, D).
            ops: `numpy`, or `keras.ops` inside a graph.

        Returns:
            float32 (B,), >= 0; no unit (standard deviations of the training fields).
        """
        whitened = ops.matmul(features, self.whitening)
        gaps = whitened[:, None, :] - self.means[None]
        return ops.sqrt(ops.min(ops.sum(gaps * gaps, axis=2), axis=1))

    def to_bytes(self) -> bytes:
        """As a NumPy archive."""
        buffer = io.BytesIO()
        np.savez(buffer, means=self.means, whitening=self.whitening)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Novelty":
        """Reads what `to_bytes` made; pickles are refused.

        Raises:
            ValueError: The content is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                means, whitening = archive["means"], archive["whitening"]
        except Exception as error:  # NumPy and zipfile raise anything on damaged archives
            raise ValueError(
                f"expected a NumPy archive of means and whitening ({shown(error)})"
            ) from error
        if not (
            _is_finite(means)
            and _is_finite(whitening)
            and means.ndim == 2
            and whitening.shape == (means.shape[1], means.shape[1])
        ):
            raise ValueError(
                "expected finite means (C, D) and whitening (D, D), received "
                f"{_described(means)} and {_described(whitening)}"
            )
        return cls(means, whitening)


def _is_finite(array: object) -> bool:
    """Whether it is an array of finite floating-point numbers; an archive may hold anything."""
    return (
        isinstance(array, np.ndarray)
        and np.issubdtype(array.dtype, np.floating)
        and bool(np.isfinite(array).all())
    )


def _described(array: object) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else shown(array)
