"""The methods that scikit-learn trains; it is imported where needed, so that --help is fast."""

import warnings

import numpy as np

from mseenet.evaluation.audit import color_features
from mseenet.evaluation.baselines.protocol import BATCH_SIZE, Answer, Inputs, Task
from mseenet.evaluation.baselines.swarm import binary_swarm


def linear_probe(inputs: Inputs, task: Task) -> Answer:
    """Logistic regression on the standardised pooled features: transfer from a pre-trained CNN."""
    return _logistic_regression(inputs.pooled, inputs.labels, task), {}


def pso_svm(inputs: Inputs, task: Task) -> Answer:
    """SVM on those principal components of the pooled features that a particle swarm selects.

    The swarm sees training images only: the SVM is trained on three quarters of them and
    judged on a contiguous quarter of each class. A random one would hold neighbours of
    what is trained on, and every subset would look perfect.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = inputs.labels
    quarters = list(StratifiedKFold(4).split(task.train, labels[task.train]))
    fit, judge = (task.train[part] for part in quarters[task.seed % 4])
    # The components must not know the images that judge the search. They stay the same
    # afterwards: those of other images would be other directions under the same numbers.
    reduced = _principal_components(inputs.pooled, fit)

    def fitness(mask: np.ndarray) -> float:
        predicted = _svm(reduced[:, mask], labels, fit, judge)
        # Of two equally good subsets the smaller one wins.
        return float(np.mean(predicted == labels[judge])) - 0.01 * mask.mean()

    reduced = reduced[:, binary_swarm(fitness, reduced.shape[1], task.seed)]
    return _svm(reduced, labels, task.train, task.test), {"components": reduced.shape[1]}


def color_alone(inputs: Inputs, task: Task) -> Answer:
    """Logistic regression on the audit's six numbers of colour; no cell is looked at."""
    return _logistic_regression(color_features(inputs.images()), inputs.labels, task), {}


def dense(inputs: Inputs, task: Task) -> Answer:
    """A dense network on the pixels of 32x32 thumbnails."""
    from sklearn.neural_network import MLPClassifier

    pixels = inputs.images(32).reshape(len(inputs.labels), -1).astype(np.float32)
    network = MLPClassifier((256, 64), batch_size=BATCH_SIZE, max_iter=40, random_state=task.seed)
    pipeline = _standardised(network)
    # A ConvergenceWarning says nothing here: the number of epochs is fixed.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        pipeline.fit(pixels[task.train], inputs.labels[task.train])
    return pipeline.predict(pixels[task.test]), {"epochs": network.n_iter_}


def _logistic_regression(features: np.ndarray, labels: np.ndarray, task: Task) -> np.ndarray:
    """Labels of the test images, int (m,), from features (N, D) and labels of all images."""
    from sklearn.linear_model import LogisticRegression

    model = _standardised(LogisticRegression(max_iter=2000))
    return model.fit(features[task.train], labels[task.train]).predict(features[task.test])


def _principal_components(features: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Whitening would weigh noise as much as signal, so components keep their variance."""
    from sklearn.decomposition import PCA

    pca = PCA(min(100, len(fit) - 1), random_state=0)
    return _standardised(pca).fit(features[fit]).transform(features)


def _svm(
    features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    from sklearn.svm import SVC

    return SVC(C=10.0).fit(features[train], labels[train]).predict(features[test])


def _standardised(estimator):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)
