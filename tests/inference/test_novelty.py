import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from mseenet.inference.novelty import REJECT_FACTOR, Novelty, fit_novelty, thresholds


@pytest.fixture
def reference():
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    mixing = random.normal(size=(6, 6))
    features = random.normal(size=(400, 6)) @ mixing + 5 * np.eye(4, 6)[labels]
    return features, labels


def test_distances_are_those_of_scikit_learns_ledoit_wolf(reference):
    features, labels = reference
    means = np.stack([features[labels == c].mean(axis=0) for c in range(4)])
    scale = features.std(axis=0)
    shrunk = LedoitWolf(assume_centered=True).fit((features - means[labels]) / scale)
    gaps = (features[:, None] - means[None]) / scale
    squares = np.einsum("ncd,de,nce->nc", gaps, shrunk.precision_, gaps)
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


def test_a_constant_feature_does_no_harm(reference):
    features, labels = reference
    features[:, 2] = 7
    assert np.isfinite(fit_novelty(features, labels).distances(features)).all()
