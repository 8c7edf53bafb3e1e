"""Compares MSEENet's head with simpler heads, and with other families of methods.

    python -m mseenet.baselines --data DIR

Two questions, one set of splits. Is the multi-scale module worth it: on the features of
the frozen backbone, a linear probe, a plain pooling head and the inception head. And what
do the families of the paper's Table I reach when they are made anew and tested on images
that are known: features with PCA, particle swarm and SVM, a small CNN, a dense network,
MobileNetV2, ResNet50, and colour alone.

Writes baselines.json and BASELINES.md after each entry. --only NAME,... measures these
entries again and keeps the other rows. Nothing is chosen on a test image: all settings are
fixed beforehand, the last epoch is taken, and the val part of a random split stays unused.
"""

import argparse
import hashlib
import json
import math
import socket
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mseenet import cli
from mseenet.card import DEFAULT_WEIGHTS
from mseenet.config import CLASS_NAMES, IMAGE_SIZE, ModelConfig
from mseenet.data import (
    EMBARGOES,
    FOLDS,
    DatasetError,
    DatasetIndex,
    block_split,
    index_dataset,
    load_images,
    near_duplicates,
    random_split,
)
from mseenet.errors import UsageError
from mseenet.files import file_sha256, write_atomically
from mseenet.metrics import SUMMARY_NAMES, confusion_matrix, summary, wilson_interval

JSON_NAME = "baselines.json"
TEXT_NAME = "BASELINES.md"

RANDOM = "random"
BLOCKS = tuple(f"blocks, embargo {embargo}" for embargo in EMBARGOES)
SPLITS = (RANDOM, *BLOCKS)
"""The protocols, as the rows name them; a row is known by its entry and its split."""

BATCH_SIZE = 32
LEARNING_RATE = 1e-3
HEAD_EPOCHS = 6

COMPONENTS = 100
"""Principal components of the pooled features that the SVMs read."""

PARTICLES, ITERATIONS = 12, 15
"""Of the particle swarm: 192 subsets are tried."""

SWARM_SECONDS = 60.0
"""The swarm stops after the iteration in which this much time has passed."""

SCRATCH_EPOCHS = 40
"""The most epochs of a network from scratch; the time limit usually comes first."""

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without an answer after which a download of ImageNet weights is given up."""

Facts = dict[str, float | str]
"""What a classifier says about itself, for the table; numbers are averaged over runs."""


# ---------------------------------------------------------------- inputs


class Inputs:
    """The images in the forms that the entries read, each made when first asked for.

    Args:
        index: The dataset.
        backbone_weights: As for `model.build_backbone`.
        minutes: Wall-clock limit for the training of one network from scratch.
    """

    def __init__(self, index: DatasetIndex, backbone_weights: str, minutes: float):
        self.samples = index.samples
        self.labels = index.labels
        self.minutes = minutes
        self._backbone_weights = backbone_weights
        self._images: dict[int, np.ndarray] = {}

    def images(self, size: int) -> np.ndarray:
        """RGB pixels, uint8 (N, size, size, 3) in [0, 255]."""
        if size not in self._images:
            # 150 kB an image at 224: only the size in use is kept.
            self._images = {size: load_images(self.samples, size, cli.progress)}
        return self._images[size]

    @cached_property
    def duplicates(self) -> list[tuple[int, int]]:
        """Positions of near-duplicates, see `data.near_duplicates`."""
        return near_duplicates(self.images(IMAGE_SIZE))

    @cached_property
    def features(self) -> np.ndarray:
        """Features of the frozen backbone, float16 (N, 7, 7, 1280).

        Half precision halves 700 MB and rounds far below the differences between images.
        """
        from mseenet.model import build_backbone

        backbone = build_backbone(self._backbone_weights)
        images = self.images(IMAGE_SIZE)
        features = np.empty((len(images), *backbone.output.shape[1:]), np.float16)
        for start in cli.progress(range(0, len(images), BATCH_SIZE), "backbone features"):
            batch = images[start : start + BATCH_SIZE].astype(np.float32)
            features[start : start + BATCH_SIZE] = backbone.predict_on_batch(batch)
        return features

    @cached_property
    def pooled(self) -> np.ndarray:
        """The same, averaged over the positions, float32 (N, 1280)."""
        return self.features.mean(axis=(1, 2), dtype=np.float32)


@dataclass(frozen=True)
class Task:
    """One training and one test part.

    Attributes:
        train: Positions of the training images, int64 (n,), ascending.
        test: Positions of the test images, int64 (m,), ascending.
        seed: For everything that is drawn at random.
        contiguous: Whether the test part is made of contiguous blocks of file order.
    """

    train: np.ndarray
    test: np.ndarray
    seed: int
    contiguous: bool


Classify = Callable[[Inputs, Task], tuple[np.ndarray, Facts]]
"""Trains on `task.train` and predicts `task.test`: labels int (m,), and facts."""


# ---------------------------------------------------------------- classifiers


def linear_probe(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """Logistic regression on the standardised pooled features."""
    return _logistic(inputs.pooled, inputs.labels, task), {}


def plain_head(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """Pooling, dense 384 with ReLU, dropout: as wide and nearly as large as the inception head."""
    import keras

    _seed_keras(task.seed)
    # Pooling comes first and has no weights: reading the pooled features is the same network.
    features = keras.Input(inputs.pooled.shape[1:])
    x = keras.layers.Dense(384, activation="relu")(features)
    x = keras.layers.Dropout(ModelConfig().dropout)(x)
    model = keras.Model(features, keras.layers.Dense(len(CLASS_NAMES))(x))
    return _train_head(model, inputs.pooled, inputs.labels, task)


def inception_head(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """MSEENet's head: the inception module, pooling, dropout."""
    import keras

    from mseenet.model import inception_module

    _seed_keras(task.seed)
    config = ModelConfig()
    features = keras.Input(inputs.features.shape[1:])
    x = inception_module(features, config)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(config.dropout)(x)
    model = keras.Model(features, keras.layers.Dense(len(CLASS_NAMES))(x))
    return _train_head(model, inputs.features, inputs.labels, task)


def pca_svm(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """SVM on the principal components of the pooled features."""
    reduced = _principal_components(inputs.pooled, task.train)
    predicted = _svm(reduced[task.train], inputs.labels[task.train], reduced[task.test])
    return predicted, {"components": reduced.shape[1]}


def pso_svm(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """The same on a subset of the components that a binary particle swarm selects.

    The swarm sees a part of the training images only: it trains the SVM on three quarters
    of them and is judged on the last.
    """
    fit, judge = inner_split(inputs.labels, task)
    # The components must not know the images that judge the search. They stay the same
    # afterwards: those of other images would be other directions under the same numbers.
    reduced = _principal_components(inputs.pooled, fit)
    labels = inputs.labels

    def fitness(mask: np.ndarray) -> float:
        predicted = _svm(reduced[fit][:, mask], labels[fit], reduced[judge][:, mask])
        # Of two equally good subsets the smaller one wins.
        return float(np.mean(predicted == labels[judge])) - 0.01 * mask.mean()

    found = binary_swarm(fitness, reduced.shape[1], seed=task.seed, seconds=SWARM_SECONDS)
    reduced = reduced[:, found.mask]
    predicted = _svm(reduced[task.train], labels[task.train], reduced[task.test])
    return predicted, {"components": reduced.shape[1], "subsets tried": found.evaluations}


def colour(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """Logistic regression on six numbers, see `colour_features`; no cell is looked at."""
    features = colour_features(inputs.images(IMAGE_SIZE))
    return _logistic(features, inputs.labels, task), {}


def dense(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """A dense network on the pixels of 32x32 thumbnails."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels = inputs.images(32).reshape(len(inputs.labels), -1).astype(np.float32)
    network = MLPClassifier((256, 64), batch_size=BATCH_SIZE, max_iter=40, random_state=task.seed)
    pipeline = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed
        pipeline.fit(pixels[task.train], inputs.labels[task.train])
    return pipeline.predict(pixels[task.test]), {"epochs": network.n_iter_}


def own_cnn(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """Four convolutions with batch normalisation at 112x112, from scratch."""
    import keras

    _seed_keras(task.seed)
    pixels = keras.Input((112, 112, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for filters in (16, 32, 64, 128):
        if filters > 16:
            x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)  # (B, 128)
    x = keras.layers.Dropout(0.3)(x)
    model = keras.Model(pixels, keras.layers.Dense(len(CLASS_NAMES))(x))
    return _train_from_scratch(model, inputs, task)


def mobilenetv2(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """MobileNetV2 of `keras.applications`."""
    return _application("MobileNetV2", "mobilenet_v2", 96, inputs, task)


def resnet50(inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    """ResNet50 of `keras.applications`."""
    return _application("ResNet50", "resnet50", 64, inputs, task)


def colour_features(images: np.ndarray) -> np.ndarray:
    """Mean colour and background colour of each image.

    Args:
        images: RGB pixels, uint8 (N, H, W, 3) in [0, 255].

    Returns:
        float64 (N, 6): the mean RGB of all pixels, and of the brightest tenth by their sum
        of R, G and B (at least one pixel).
    """
    rows = []
    for image in images:
        pixels = image.reshape(-1, 3).astype(np.float64)
        brightest = max(1, len(pixels) // 10)
        order = np.argpartition(pixels.sum(axis=1), -brightest)
        rows.append(np.concatenate([pixels.mean(axis=0), pixels[order[-brightest:]].mean(axis=0)]))
    return np.stack(rows)


@dataclass(frozen=True)
class Swarm:
    """What a particle swarm found.

    Attributes:
        mask: The best subset, bool (D,); never empty.
        fitness: Its fitness.
        evaluations: Subsets that were judged.
    """

    mask: np.ndarray
    fitness: float
    evaluations: int


def binary_swarm(
    fitness: Callable[[np.ndarray], float],
    dimensions: int,
    seed: int,
    particles: int = PARTICLES,
    iterations: int = ITERATIONS,
    seconds: float = math.inf,
) -> Swarm:
    """Searches for the subset of features with the largest fitness.

    Each bit of a particle has a velocity, pulled towards the particle's best and the
    swarm's best position; the bit is 1 with the probability sigmoid(velocity).

    Reference:
        J. Kennedy and R. C. Eberhart, "A discrete binary version of the particle swarm
        algorithm", IEEE Int. Conf. Systems, Man, and Cybernetics, 1997.

    Args:
        fitness: Judges a subset, bool (dimensions,).
        dimensions: Number of features.
        seed: Of all draws.
        particles: Size of the swarm.
        iterations: Moves of the swarm.
        seconds: No further move once this much time has passed; the result then depends
            on the machine.

    Returns:
        The best subset of all that were judged.
    """
    random = np.random.default_rng(seed)
    limit = 4.0  # of a velocity: each bit keeps a chance of 1.8 % to flip
    deadline = time.monotonic() + seconds
    velocity = random.uniform(-1, 1, (particles, dimensions))
    position = random.random((particles, dimensions)) < 0.5
    best = position.copy()
    best_fitness = np.full(particles, -np.inf)
    evaluations = 0
    for move in range(iterations + 1):
        if move and time.monotonic() > deadline:
            break
        if move:
            leader = best[best_fitness.argmax()]
            to_own, to_leader = random.uniform(0, 2, (2, particles, dimensions))
            velocity += to_own * (best.astype(float) - position)
            velocity += to_leader * (leader.astype(float) - position)
            np.clip(velocity, -limit, limit, out=velocity)
            position = random.random((particles, dimensions)) < 1 / (1 + np.exp(-velocity))
        for i in range(particles):
            if not position[i].any():  # nothing can be learnt from no feature
                position[i, random.integers(dimensions)] = True
            value = fitness(position[i])
            evaluations += 1
            if value > best_fitness[i]:
                best_fitness[i], best[i] = value, position[i]
    winner = int(best_fitness.argmax())
    return Swarm(best[winner].copy(), float(best_fitness[winner]), evaluations)


def inner_split(labels: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Divides a training part, a quarter of each class being held back.

    Where the test part is contiguous, the quarter is contiguous too: a random one would
    hold neighbours of what is trained on, and every subset would look perfect.

    Args:
        labels: Of all images, int (N,).
        task: Whose training part is divided.

    Returns:
        Positions to train on and positions to judge by, ascending.
    """
    random = np.random.default_rng(task.seed)
    held = []
    for label in np.unique(labels[task.train]):
        positions = task.train[labels[task.train] == label]
        if not task.contiguous:
            positions = random.permutation(positions)
        held.append(np.array_split(positions, 4)[random.integers(4)])
    judge = np.sort(np.concatenate(held))
    return np.setdiff1d(task.train, judge), judge


def _logistic(features: np.ndarray, labels: np.ndarray, task: Task) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(features[task.train], labels[task.train])
    return model.predict(features[task.test])


def _principal_components(features: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Whitening would weigh noise as much as signal, so components keep their variance."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = min(COMPONENTS, len(fit) - 1)
    pipeline = make_pipeline(StandardScaler(), PCA(count, random_state=0))
    return pipeline.fit(features[fit]).transform(features)


def _svm(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.svm import SVC

    return SVC(C=10.0).fit(train, labels).predict(test)


def _seed_keras(seed: int) -> None:
    """Forgets earlier networks, which would pile up over many runs, and seeds the next."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def _train_head(
    model, features: np.ndarray, labels: np.ndarray, task: Task
) -> tuple[np.ndarray, Facts]:
    """Adam, a cosine from `LEARNING_RATE` to 0 over `HEAD_EPOCHS`, the last epoch."""
    _train(model, features, labels, task, HEAD_EPOCHS, math.inf, flip=False)
    facts = {"epochs": HEAD_EPOCHS, "parameters": model.count_params()}
    return _predict(model, features, task.test), facts


def _train_from_scratch(model, inputs: Inputs, task: Task) -> tuple[np.ndarray, Facts]:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras's 0.99 averages over more steps than a short training has.
            layer.momentum = 0.9
    size = model.input.shape[1]
    images = inputs.images(size)
    epochs, minutes = _train(
        model, images, inputs.labels, task, SCRATCH_EPOCHS, inputs.minutes, flip=True
    )
    facts = {
        "weights": f"from scratch at {size}x{size}",
        "epochs": epochs,
        "minutes of training": minutes,
        "parameters": model.count_params(),
    }
    return _predict(model, images, task.test), facts


def _train(
    model,
    inputs: np.ndarray,
    labels: np.ndarray,
    task: Task,
    epochs: int,
    minutes: float,
    flip: bool,
) -> tuple[float, float]:
    """Trains until `epochs` or `minutes` are over; the rate falls along whichever is nearer.

    Args:
        model: Inputs -> logits.
        inputs: Of all images, (N, ...).
        labels: Of all images, int (N,).
        task: What to train on.
        epochs: At most.
        minutes: At most, from the end of the first step, which builds the graph.
        flip: Whether images are mirrored at random in both directions.

    Returns:
        Epochs done (with a fraction) and minutes taken.
    """
    import keras

    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(task.seed)
    # A smaller last batch would make TensorFlow build the graph twice; with a new order in
    # each epoch, leaving it out leaves no image out.
    batch_size = min(BATCH_SIZE, len(task.train))
    steps = len(task.train) // batch_size
    started, step, done = None, 0, 0.0
    while done < 1:
        order = random.permutation(task.train)
        starts = range(0, steps * batch_size, batch_size)
        for start in cli.progress(starts, f"epoch {step // steps + 1}"):
            optimizer.learning_rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
            rows = order[start : start + batch_size]
            batch = inputs[rows].astype(np.float32)
            if flip:
                for axis in (1, 2):
                    chosen = random.random(len(batch)) < 0.5
                    batch[chosen] = np.flip(batch[chosen], axis)
            model.train_on_batch(batch, labels[rows])
            started = started or time.monotonic()
            step += 1
            elapsed = (time.monotonic() - started) / 60
            done = max(step / (epochs * steps), elapsed / minutes)
            if done >= 1:
                break
    return step / steps, elapsed


def _predict(model, inputs: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The label with the largest logit, int (len(positions),)."""
    parts = [
        model.predict_on_batch(inputs[positions[i : i + 128]].astype(np.float32)).argmax(axis=1)
        for i in range(0, len(positions), 128)
    ]
    return np.concatenate(parts)


def _application(
    name: str, module: str, scratch_size: int, inputs: Inputs, task: Task
) -> tuple[np.ndarray, Facts]:
    """A network of `keras.applications`: frozen with ImageNet's weights, or from scratch.

    With ImageNet's weights: logistic regression on its pooled features at 224x224, like
    the linear probe. Where they cannot be downloaded: trained from random weights at a
    size that the time limit allows, which is another and a weaker thing.
    """
    import keras

    _seed_keras(task.seed)
    build = getattr(keras.applications, name)
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            network = build(include_top=False, weights="imagenet", pooling="avg")
    except Exception as error:  # Keras raises bare Exception for a failed download
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        cli.say(f"{name}: no ImageNet weights ({reason}); training from scratch")
        shape = (scratch_size, scratch_size, 3)
        network = build(include_top=False, weights=None, pooling="avg", input_shape=shape)
        pixels = keras.Input(shape)
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
        logits = keras.layers.Dense(len(CLASS_NAMES))(network(x))
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # as in _train_from_scratch, which sees no nested layer
        return _train_from_scratch(keras.Model(pixels, logits), inputs, task)

    prepare = getattr(keras.applications, module).preprocess_input
    images = inputs.images(IMAGE_SIZE)
    needed = np.union1d(task.train, task.test)
    features = np.zeros((len(images), network.output.shape[-1]), np.float32)
    for start in cli.progress(range(0, len(needed), BATCH_SIZE), f"{name} features"):
        rows = needed[start : start + BATCH_SIZE]
        features[rows] = network.predict_on_batch(prepare(images[rows].astype(np.float32)))
    facts = {"weights": "ImageNet, frozen; logistic regression on pooled features"}
    return _logistic(features, inputs.labels, task), facts


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Keras sets no limit to a download; one that never answers would stop everything."""
    kept = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(kept)


# ---------------------------------------------------------------- entries


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        name: For --only.
        title: For the table.
        classify: Trains and predicts.
        splits: What it is measured on.
        published: Row of the paper's Table I that it re-makes, and its accuracy in percent;
            empty for the ablation.
        all_seeds: Whether it is measured with all seeds or with seed 0 only.
        random_training: Whether training draws anything at random; if not, blocks, which
            are not drawn either, give the same for each seed.
        on_features: Whether it reads the features of MSEENet's backbone.
    """

    name: str
    title: str
    classify: Classify
    splits: tuple[str, ...] = SPLITS
    published: str = ""
    all_seeds: bool = False
    random_training: bool = True
    on_features: bool = False


TWO_SPLITS = (RANDOM, BLOCKS[0])

ENTRIES = (
    Entry(
        "linear-probe",
        "linear probe: pooled features, logistic regression",
        linear_probe,
        all_seeds=True,
        random_training=False,
        on_features=True,
    ),
    Entry(
        "plain-head",
        "plain head: pooling, dense 384",
        plain_head,
        all_seeds=True,
        on_features=True,
    ),
    Entry(
        "inception-head",
        "inception head (MSEENet)",
        inception_head,
        all_seeds=True,
        on_features=True,
    ),
    Entry(
        "pca-svm",
        "frozen features, PCA, SVM",
        pca_svm,
        TWO_SPLITS,
        "Atteia et al. 97.40",
        random_training=False,
        on_features=True,
    ),
    Entry(
        "pso-svm",
        "frozen features, PCA, binary particle swarm, SVM",
        pso_svm,
        TWO_SPLITS,
        "Atteia et al. 97.40",
        on_features=True,
    ),
    Entry("own-cnn", "small CNN", own_cnn, (RANDOM,), "Kadhim et al. 98.15, Hagar et al. 98.20"),
    Entry("dense", "dense network on 32x32 pixels", dense, TWO_SPLITS, "Tusar et al. 97.00"),
    Entry("mobilenetv2", "MobileNetV2", mobilenetv2, (RANDOM,), "Tusar et al. 97.00"),
    Entry("resnet50", "ResNet50", resnet50, (RANDOM,), "Tusar et al. 97.00"),
    Entry(
        "colour",
        "colour alone: 6 numbers, logistic regression",
        colour,
        TWO_SPLITS,
        "none",
        random_training=False,
    ),
)
"""In the order of the table."""

COMPARED = ("plain-head", "linear-probe")
"""What the inception head is compared with, image by image."""


# ---------------------------------------------------------------- measuring


def tasks(inputs: Inputs, split: str, seed: int) -> list[Task]:
    """The trainings behind one seed of a row: one for a random split, one a fold for blocks."""
    if split == RANDOM:
        parts = [random_split(inputs.samples, seed)]
    else:
        embargo = EMBARGOES[BLOCKS.index(split)]
        parts = [
            block_split(inputs.samples, fold, embargo, inputs.duplicates, FOLDS)
            for fold in range(FOLDS)
        ]
    return [
        Task(
            part.indices(inputs.samples, "train"),
            part.indices(inputs.samples, "test"),
            seed * FOLDS + fold,
            contiguous=split != RANDOM,
        )
        for fold, part in enumerate(parts)
    ]


def measure_row(entry: Entry, split: str, inputs: Inputs, seeds: int) -> dict:
    """One row of the table, ready for JSON.

    Args:
        entry: The method.
        split: One of its splits.
        inputs: The images.
        seeds: How many seeds, from 0, if the entry takes more than one.

    Returns:
        `n` test images of one seed; `accuracy` and the other measures of `metrics.summary`,
        means over the seeds, in [0, 1]; `accuracies` by seed; `sd`, their sample standard
        deviation (None for one seed); `interval_95`, Wilson's interval over n images at the
        mean accuracy; `wrong`, positions of misclassified images by seed; `minutes` of wall
        time for all seeds; `facts`.
    """
    fixed = split != RANDOM and not entry.random_training
    used = range(seeds if entry.all_seeds and not fixed else 1)
    started = time.monotonic()
    confusions, wrong, facts = [], [], []
    for seed in used:
        labels, predicted, missed = [], [], []
        divided = tasks(inputs, split, seed)
        description = f"{entry.name}, {split}, seed {seed}"
        for task in cli.progress(divided, description) if len(divided) > 1 else divided:
            guess, fact = entry.classify(inputs, task)
            labels.append(inputs.labels[task.test])
            predicted.append(guess)
            missed += task.test[guess != inputs.labels[task.test]].tolist()
            facts.append(fact)
        confusions.append(
            confusion_matrix(np.concatenate(labels), np.concatenate(predicted), len(CLASS_NAMES))
        )
        wrong.append(sorted(missed))
    measures = summary(np.stack(confusions))
    accuracies = [float(value) for value in measures["accuracy"]]
    n = int(confusions[0].sum())
    mean = statistics.fmean(accuracies)
    return {
        "entry": entry.name,
        "split": split,
        "seeds": list(used),
        "drawn": not fixed,
        "n": n,
        **{name: float(measures[name].mean()) for name in SUMMARY_NAMES},
        "accuracies": accuracies,
        "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "interval_95": list(wilson_interval(round(mean * n), n)),
        "confusion": np.sum(confusions, axis=0).tolist(),
        "facts": _average(facts),
        "minutes": (time.monotonic() - started) / 60,
        "wrong": wrong,
    }


def paired_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, draws: int = 5000, seed: int = 0
) -> dict:
    """Mean difference of two methods on the same images, with a bootstrap interval of 95 %.

    Much narrower than two separate intervals, as what is hard for one is hard for the other.

    Args:
        first: Share of runs in which the first method is right, by image, float (N,).
        second: The same of the second method.
        groups: Images of one group are drawn together, int (N,): neighbours on a slide
            are no independent observations.
        draws: Number of resamples of the groups.
        seed: Of the resampling.

    Returns:
        `difference`, `interval_95` and `groups`, their number.
    """
    names, group = np.unique(groups, return_inverse=True)
    total = np.bincount(group, weights=first - second)
    size = np.bincount(group)
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    values = (counts @ total) / (counts @ size)
    return {
        "difference": float(total.sum() / size.sum()),
        "interval_95": [float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))],
        "groups": len(names),
    }


def compare(rows: Sequence[dict], inputs: Inputs) -> list[dict]:
    """The inception head against each of `COMPARED`, as far as the rows are there.

    On random splits the groups are images; on blocks they are the blocks of file order of
    each class, which are what was drawn there.
    """
    by_key = {(row["entry"], row["split"]): row for row in rows}
    results = []
    for split in SPLITS:
        for other in COMPARED:
            pair = [by_key.get(("inception-head", split)), by_key.get((other, split))]
            if None in pair:
                continue
            appearances = [_appearances(row, inputs, split) for row in pair]
            shared = np.intersect1d(appearances[0][0], appearances[1][0])
            right = [
                values[np.searchsorted(positions, shared)] for positions, values in appearances
            ]
            # On random splits an appearance is position + N * seed; its image is the group.
            images = shared % len(inputs.labels)
            groups = images if split == RANDOM else _blocks(inputs)[images]
            results.append(
                {
                    "first": "inception-head",
                    "second": other,
                    "split": split,
                    "n": len(shared),
                    **paired_difference(*right, groups),
                }
            )
    return results


def _appearances(row: dict, inputs: Inputs, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What was tested, and the share of runs in which it was right.

    On random splits each seed tests other images, so that an image counts once for each
    seed (position + N * seed); on blocks every seed tests all images.
    """
    total = len(inputs.labels)
    if split == RANDOM:
        keys, values = [], []
        for seed, wrong in zip(row["seeds"], row["wrong"], strict=True):
            tested = tasks(inputs, split, seed)[0].test
            keys.append(tested + total * seed)
            values.append(~np.isin(tested, wrong))
        return np.concatenate(keys), np.concatenate(values).astype(float)
    right = [~np.isin(np.arange(total), wrong) for wrong in row["wrong"]]
    return np.arange(total), np.mean(right, axis=0)


def _blocks(inputs: Inputs) -> np.ndarray:
    """Number of the block of file order, by image, int (N,)."""
    block = np.empty(len(inputs.labels), np.int64)
    for fold in range(FOLDS):
        test = block_split(inputs.samples, fold, 0, folds=FOLDS).indices(inputs.samples, "test")
        block[test] = inputs.labels[test] * FOLDS + fold
    return block


def _average(facts: Sequence[Facts]) -> Facts:
    """Means of the numbers; of words, those of the first run."""
    return {
        key: value if isinstance(value, str) else statistics.fmean(fact[key] for fact in facts)
        for key, value in facts[0].items()
    }


# ---------------------------------------------------------------- results


def read_result(path: Path, dataset: dict) -> dict:
    """The result of earlier runs, or an empty one.

    Args:
        path: Of the JSON file.
        dataset: Of this run, see `describe_dataset`.

    Raises:
        DatasetError: The file cannot be read, or tells of other images.
    """
    if not path.exists():
        return {"dataset": dataset, "rows": [], "comparisons": []}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        earlier = result["dataset"]
        kept = {name: result[name] for name in ("dataset", "rows", "comparisons")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected the result of an earlier run ({error!r})") from error
    if earlier != dataset:
        raise DatasetError(
            f"{path}: its rows are of other images ({earlier.get('n')}, here {dataset['n']}); "
            "choose another --out, or remove the file"
        )
    return kept


def merge(rows: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Replaces rows of the same entry and split, and sorts by the order of the table."""
    by_key = {(row["entry"], row["split"]): row for row in (*rows, *new)}
    order = [(entry.name, split) for entry in ENTRIES for split in entry.splits]
    return [by_key[key] for key in order if key in by_key]


def describe_dataset(index: DatasetIndex) -> dict:
    """Number and hash of the images; rows of other images are not comparable."""
    listed = "".join(f"{sample.file} {sample.sha256}\n" for sample in index.samples)
    return {"n": len(index.samples), "sha256": hashlib.sha256(listed.encode()).hexdigest()}


def markdown(result: dict) -> str:
    """BASELINES.md from the content of baselines.json."""
    rows = {(row["entry"], row["split"]): row for row in result["rows"]}
    published = [entry for entry in ENTRIES if entry.published]
    ablation = [entry for entry in ENTRIES if not entry.published]
    lines = [
        "# Baselines",
        "",
        f"Generated by `python -m mseenet.baselines` from {result['dataset']['n']} images "
        f"(SHA-256 of their list {result['dataset']['sha256'][:12]}); do not edit.",
        "",
        "- **random**: the paper's protocol, a stratified random 80/10/10 split, another one "
        "for each seed. Neighbours on a slide are in both parts: optimistic. The val part is "
        "unused.",
        f"- **blocks**: contiguous blocks of file order, {FOLDS} folds, the files around the "
        "test block (the embargo) and near-duplicates left out of training; each image is "
        "tested once a seed, and the folds are pooled. Closer to an unseen slide. What a seed "
        "changes is the training alone.",
        "- Figures are percent. ± is the standard deviation over seeds; the interval is "
        "Wilson's, 95 %, over the n test images of one seed at the mean accuracy. It takes "
        "images for independent, which neighbours on a slide are not: for blocks it is too "
        "narrow. Precision, sensitivity, F1 and MCC are macro-averages. Minutes are wall time "
        "for all seeds, without the frozen backbone's features, which are computed once "
        "for all.",
        "",
        "## Is the multi-scale module worth it?",
        "",
        "Three heads on the same features of the frozen backbone. Both networks: "
        f"{HEAD_EPOCHS} epochs, Adam, a cosine from {LEARNING_RATE:g}, batches of {BATCH_SIZE}, "
        "the last epoch. The linear probe is logistic regression with scikit-learn's default "
        "penalty. The whole network fine-tuned is another matter; see the evaluation.",
        "",
        *_table(ablation, rows),
        "",
        *_verdicts(result["comparisons"], rows),
        "",
        "## The families of the paper's Table I, made anew",
        "",
        "Published figures are of other splits, mostly unknown ones, and of 3,256 images; they "
        "are no target. Pre-trained CNN transfer (Gokulkrishnan et al. 96.77) is the linear "
        "probe above and is not repeated. Small CNN, MobileNetV2 and ResNet50 are measured on "
        "one random split only, as each run takes minutes. ANFIS (Rejula et al. 95.67) is left "
        "out for want of a maintained library, YOLOv5 (Mustafa et al. 97.80) because it learns "
        "from boxes and the dataset has none. All here have one seed (0) and fixed settings "
        "that nobody tuned: a row is what the family reaches without effort, not its best. A "
        "network that was trained from scratch within minutes says little about the same "
        "network with ImageNet's weights.",
        "",
        *_table(published, rows),
        "",
    ]
    return "\n".join(lines)


def _table(entries: Sequence[Entry], rows: dict) -> list[str]:
    families = any(entry.published for entry in entries)
    head = ["method", "split", "n", "seeds", "accuracy", "95 %", "precision", "sensitivity"]
    head += ["F1", "MCC", "minutes", "remarks"] + (["published accuracy"] if families else [])
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for entry in entries:
        for split in entry.splits:
            row = rows.get((entry.name, split))
            if row is None:
                continue
            low, high = row["interval_95"]
            accuracy = _percent(row["accuracy"])
            if row["sd"] is not None:
                accuracy += f" ± {_percent(row['sd'])}"
            remarks = [_fact(key, value) for key, value in row["facts"].items()]
            if not row["drawn"]:
                remarks.append("nothing drawn at random")
            cells = [
                entry.title,
                split,
                str(row["n"]),
                str(len(row["seeds"])),
                accuracy,
                f"{_percent(low)} to {_percent(high)}",
                *(_percent(row[name]) for name in SUMMARY_NAMES[1:]),
                f"{row['minutes']:.1f}",
                ", ".join(remarks) or "-",
            ]
            lines.append("| " + " | ".join(cells + [entry.published] * families) + " |")
    return lines


def _verdicts(comparisons: Sequence[dict], rows: dict) -> list[str]:
    """Whether the inception head differs, one line for each comparison."""
    if not comparisons:
        return ["The inception head has not been compared: rows are missing."]
    titles = {"plain-head": "the plain head", "linear-probe": "the linear probe"}
    lines = [
        "Image by image, inception head minus the other, in percentage points, with a "
        "bootstrap interval of 95 % over images (random) or over the blocks of file order of "
        f"each class (blocks). {len(comparisons)} comparisons, none corrected for their "
        "number:",
        "",
    ]
    better, worse = [], []
    for item in comparisons:
        low, high = item["interval_95"]
        name = f"{titles[item['second']]} on {item['split']}"
        if low > 0:
            verdict = "**better, beyond the interval**"
            better.append(name)
        elif high < 0:
            verdict = "**worse, beyond the interval**"
            worse.append(name)
        else:
            verdict = "no difference beyond the interval"
        ours, theirs = (
            rows[key, item["split"]]["interval_95"] for key in (item["first"], item["second"])
        )
        overlap = ours[0] <= theirs[1] and theirs[0] <= ours[1]
        lines.append(
            f"- {item['split']}, against {titles[item['second']]}: "
            f"{100 * item['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}; "
            f"{item['groups']} groups): {verdict}; the intervals in the table "
            f"{'overlap' if overlap else 'do not overlap'}."
        )
    lines.append("")
    if better:
        lines.append(f"The inception head is better than {'; '.join(better)}.")
    if worse:
        lines.append(f"The inception head is worse than {'; '.join(worse)}.")
    if len(better) + len(worse) < len(comparisons):
        rest = "In the other comparisons" if better or worse else "In none of the comparisons"
        verb = "it does not differ" if better or worse else "does it differ"
        lines.append(
            f"{rest} {verb} from the simpler head beyond the interval: on frozen features these "
            "data show no gain or loss through the multi-scale module there."
        )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _fact(key: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if key == "parameters":
        return f"{value / 1e6:.2f} M parameters"
    return f"{value:.1f} {key}" if value != round(value) else f"{round(value)} {key}"


# ---------------------------------------------------------------- the command


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    names = [entry.name for entry in ENTRIES]
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.baselines",
        description=__doc__,
        epilog=f"entries: {', '.join(names)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--backbone-weights",
        default="imagenet",
        metavar="FILE",
        help="ImageNet weights of the bare backbone (default: download them)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        choices=range(1, 11),
        default=3,
        metavar="N",
        help="of the three heads, 1 to 10 (default: %(default)s)",
    )
    parser.add_argument("--only", metavar="NAME,...", help="measure these entries (default: all)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=DEFAULT_WEIGHTS, help="(default: weights/)"
    )
    parser.add_argument(
        "--minutes-per-run",
        type=float,
        default=4.0,
        metavar="N",
        help="limit for each network that is trained from scratch (default: %(default)g)",
    )
    arguments = parser.parse_args(argv)
    arguments.only = arguments.only.split(",") if arguments.only is not None else names
    if unknown := [name for name in arguments.only if name not in names]:
        parser.error(f"--only: expected names of {', '.join(names)}; received {unknown[0]!r}")
    if not arguments.minutes_per_run > 0:
        parser.error(f"--minutes-per-run: expected more than 0, got {arguments.minutes_per_run}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    require_scikit_learn()
    index = index_dataset(arguments.data, cli.progress)
    cli.say(index.describe())
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = read_result(arguments.out / JSON_NAME, describe_dataset(index))
    cli.import_keras()

    from mseenet.device import prepare_device

    cli.say(f"computing on {prepare_device()}")
    backbone = arguments.backbone_weights
    source = backbone if backbone == "imagenet" else ""
    inputs = Inputs(index, backbone, arguments.minutes_per_run)
    for entry in (entry for entry in ENTRIES if entry.name in arguments.only):
        if entry.on_features:
            inputs.pooled  # noqa: B018 - made here, so that no row is charged for it
            source = source or file_sha256(Path(backbone))
        if len(entry.splits) > 1:
            inputs.duplicates  # noqa: B018 - the same
        for split in entry.splits:
            row = measure_row(entry, split, inputs, arguments.seeds)
            if entry.on_features:
                row["backbone"] = source
            cli.say(
                f"{entry.name}, {split}: {100 * row['accuracy']:.2f} % of {row['n']}, "
                f"{row['minutes']:.1f} min"
            )
            result["rows"] = merge(result["rows"], [row])
            result["comparisons"] = compare(result["rows"], inputs)
            write_atomically(arguments.out / JSON_NAME, json.dumps(result) + "\n")
            write_atomically(arguments.out / TEXT_NAME, markdown(result))
    print(markdown(result))
    return 0


def require_scikit_learn() -> None:
    """Raises `UsageError` where scikit-learn, which users do not need, is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the baselines need scikit-learn, found none; run: pip install -r requirements-dev.txt"
        ) from error


if __name__ == "__main__":
    cli.run(main)
