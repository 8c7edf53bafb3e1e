import io
import zipfile

import numpy as np
import pytest

from mseenet.inference.novelty import Novelty
from mseenet.training.gate import REJECT_FACTOR, fit_novelty, thresholds


@pytest.fixture
def reference():
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    mixing = random.normal(size=(6, 6))
    features = random.normal(size=(400, 6)) @ mixing + 5 * np.eye(4, 6)[labels]
    return features, labels


def ledoit_wolf(residuals: np.ndarray) -> np.ndarray:
    """The estimator as Ledoit and Wolf (2004) write it, section 3: a sum over the rows.

    m I is the target, d2 the distance of the sample covariance S from it, b2 the expected
    error of S; the estimate is (b2 / d2) m I + (1 - b2 / d2) S, with |A|^2 = tr(A A') / p.
    """
    count, width = residuals.shape
    sample = residuals.T @ residuals / count

    def norm(matrix: np.ndarray) -> float:
        return np.sum(matrix**2) / width

    m = np.trace(sample) / width
    d2 = norm(sample - m * np.eye(width))
    b2 = min(d2, sum(norm(np.outer(row, row) - sample) for row in residuals) / count**2)
    return b2 / d2 * m * np.eye(width) + (1 - b2 / d2) * sample


@pytest.mark.parametrize("count", [24, 400])
def test_distances_follow_the_published_formulas(reference, count):
    features, labels = (part[:count] for part in reference)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    scale = features.std(axis=0)
    precision = np.linalg.inv(ledoit_wolf((features - means[labels]) / scale))
    gaps = (features[:, None] - means[None]) / scale
    squares = np.einsum("ncd,de,nce->nc", gaps, precision, gaps)
    expected = np.sqrt(squares.min(axis=1))
    received = fit_novelty(features, labels).distances(features)
    np.testing.assert_allclose(received, expected, rtol=1e-4)


def test_foreign_features_are_farther_than_known_ones(reference):
    features, labels = reference
    novelty = fit_novelty(features, labels)
    review, reject = thresholds(novelty.distances(features))
    assert np.mean(novelty.distances(features) >= review) == pytest.approx(0.01, abs=0.005)
    assert reject == pytest.approx(REJECT_FACTOR * review)
    assert (novelty.distances(features[:50] + 100) > reject).all()


def test_scale_and_origin_of_the_features_do_not_matter(reference):
    features, labels = reference
    plain = fit_novelty(features, labels).distances(features)
    stretch = np.array([1, 10, 0.1, 5, 2, 1])
    moved = fit_novelty(features * stretch + 3, labels).distances(features * stretch + 3)
    np.testing.assert_allclose(moved, plain, rtol=1e-3)


def test_it_goes_through_a_file_and_into_a_graph(reference):
    import keras

    features, labels = reference
    novelty = fit_novelty(features, labels)
    again = Novelty.from_bytes(novelty.to_bytes())
    np.testing.assert_array_equal(again.whitening, novelty.whitening)
    inside = again.distances(keras.ops.convert_to_tensor(features.astype(np.float32)), keras.ops)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(inside), novelty.distances(features), rtol=1e-3
    )


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match="expected a NumPy archive"):
        Novelty.from_bytes(content)


@pytest.mark.parametrize(
    ("means", "whitening"),
    [
        (np.zeros((4, 6)), np.zeros((5, 5))),
        (np.zeros(6), np.zeros((6, 6))),
        (np.full((4, 6), np.nan), np.zeros((6, 6))),
        (np.zeros((4, 6)), np.full((6, 6), "x")),
    ],
)
def test_arrays_that_do_not_fit_are_refused(means, whitening):
    with pytest.raises(ValueError, match=r"expected finite means \(C, D\)"):
        Novelty.from_bytes(Novelty(means, whitening).to_bytes())


def test_an_archive_of_other_things_than_arrays_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("means.npy", b"no array")
        archive.writestr("whitening.npy", b"")
    with pytest.raises(ValueError, match="received b'no array' and b''"):
        Novelty.from_bytes(stream.getvalue())


def test_an_array_of_an_impossible_size_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("means.npy", "whitening.npy"):
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904,)}\n"
            archive.writestr(
                name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            )
    with pytest.raises(ValueError, match="expected a NumPy archive"):
        Novelty.from_bytes(stream.getvalue())


def test_a_constant_feature_does_no_harm(reference):
    features, labels = reference
    features[:, 2] = 7
    assert np.isfinite(fit_novelty(features, labels).distances(features)).all()
