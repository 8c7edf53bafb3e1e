"""The novelty gate's reference and thresholds, from the features of the training fields.

Reference:
    O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", J. Multivar. Anal. 88 (2004).
"""

import numpy as np

from mseenet.config import FROZEN_LAYER
from mseenet.inference.novelty import Novelty

REVIEW_QUANTILE = 0.99
"""Proportion of validation fields that are to pass without a remark."""

REJECT_FACTOR = 1.12
"""An image is refused from this multiple of the distance that asks for review on: with
279 validation fields no higher quantile can be estimated."""


def fit_novelty(features: np.ndarray, labels: np.ndarray) -> Novelty:
    """Class means and the shrunk covariance of training images.

    Args:
        features: Pooled frozen features, float (N, D).
        labels: int (N,) in [0, C).

    Returns:
        The reference.

    Raises:
        ImportError: scikit-learn, which the extra `train` brings, is missing; commands ask
            before they begin (`mseenet.console.require`).
    """
    # Only training needs it; prediction reads what was fitted.
    from sklearn.covariance import LedoitWolf

    features = np.asarray(features, np.float64)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    scale = features.std(axis=0) + 1e-9
    residuals = (features - means[labels]) / scale
    covariance = LedoitWolf(store_precision=False, assume_centered=True).fit(residuals).covariance_
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)) / scale[:, None]
    return Novelty((means @ whitening).astype(np.float32), whitening.astype(np.float32))


def reference_of(pooled: np.ndarray, labels: np.ndarray, train: np.ndarray) -> Novelty:
    """The reference from some fields and all their copies.

    Args:
        pooled: Of `FrozenFeatures.pooled`, (copies, N, D).
        labels: int (N,).
        train: Positions of the fields, int (n,).
    """
    return fit_novelty(
        pooled[:, train].reshape(-1, pooled.shape[-1]), np.tile(labels[train], len(pooled))
    )


def thresholds(distances: np.ndarray) -> tuple[float, float]:
    """From which distances on an image goes to review and is refused.

    Args:
        distances: Of validation fields, (N,).
    """
    review = float(np.quantile(distances, REVIEW_QUANTILE))
    return review, REJECT_FACTOR * review


def novelty_gate(
    pooled: np.ndarray, labels: np.ndarray, rows: dict[str, np.ndarray]
) -> tuple[Novelty, dict]:
    """The reference of the novelty gate, and what the card says of it.

    Args:
        pooled: Of `FrozenFeatures.pooled`, (copies, N, D).
        labels: (N,).
        rows: Positions of the images of "train" and "val".
    """
    reference = reference_of(pooled, labels, rows["train"])
    review, reject = thresholds(reference.distances(pooled[0, rows["val"]]))
    record = {
        "layer": FROZEN_LAYER,
        "review": review,
        "reject": reject,
        "fitted_on": "train, with augmented, compressed and dimmed copies",
        "thresholds_from": "val",
        "n": len(rows["val"]),
    }
    return reference, record
