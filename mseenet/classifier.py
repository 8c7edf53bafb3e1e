"""From images to predictions: the one way in for the command line, the app and others."""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

from mseenet.card import DEFAULT_WEIGHTS, Card, WeightsError, read_card
from mseenet.config import CLASS_NAMES, IMAGE_SIZE, TARGET_LAYER
from mseenet.images import ImageError, ImageSource, load_image

_PREDICTED = -1


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says about one image.

    Attributes:
        status: "ok", or "error" if the image could not be read; then `reasons` says why
            and all other fields are None.
        class_name: The most probable class, one of `CLASS_NAMES`.
        probabilities: Calibrated probability of each class, by name, in the order of
            `CLASS_NAMES`; read-only.
        confidence: The largest of them.
        heatmap: Evidence for `heatmap_class`, read-only float32 (224, 224) in [0, 1] over
            the squeezed image, or None if none was asked for (see `mseenet.explain`).
        heatmap_class: The class that the heatmap explains.
        reasons: Why the status is what it is, in words for the user.
    """

    status: Literal["ok", "error"]
    class_name: str | None = None
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    heatmap: np.ndarray | None = None
    heatmap_class: str | None = None
    reasons: tuple[str, ...] = ()


class Classifier:
    """The trained network, ready to predict; made by `Classifier.load`.

    It keeps nothing of any image, and several threads may use one classifier at once.

    Attributes:
        card: The checked card of the weights in use.
        device: Where the network runs, such as "CPU".
    """

    def __init__(self, card: Card, model, device: str):
        self.card = card
        self.device = device
        self._infer, self._infer_with_heatmap = _compile(model, card)

    @classmethod
    def load(cls, weights: str | os.PathLike = DEFAULT_WEIGHTS) -> "Classifier":
        """Checks and loads the weights in a folder and compiles the network.

        Args:
            weights: Folder with `card.json` and the weights file that it names.

        Returns:
            A classifier that answers at full speed from the first call on.

        Raises:
            WeightsError: Card or weights are missing, altered or for another version.
        """
        card = read_card(Path(weights))

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from mseenet.device import prepare_device
        from mseenet.model import build_model

        device = prepare_device()
        model = build_model(card.model)
        try:
            model.load_weights(card.weights_path)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{card.weights_path}: expected weights of this network ({error})"
            ) from error
        return cls(card, model, device)

    def predict(
        self, images: Iterable[ImageSource], heatmaps: str | None = None, batch_size: int = 32
    ) -> list[Prediction]:
        """Predicts all images; see `stream` for the arguments."""
        return list(self.stream(images, heatmaps, batch_size))

    def stream(
        self, images: Iterable[ImageSource], heatmaps: str | None = None, batch_size: int = 32
    ) -> Iterator[Prediction]:
        """Predicts images one batch at a time, so that memory does not grow with them.

        Args:
            images: Anything that `mseenet.images.decode_image` takes, in any number; an
                iterator is read two batches ahead.
            heatmaps: None; "predicted" for a heatmap of each image's predicted class; or
                one of `CLASS_NAMES` for a heatmap of that class.
            batch_size: Images that go through the network at once.

        Yields:
            One prediction an image, in order. An image that cannot be read gets status
            "error" and does not disturb the others.

        Raises:
            TypeError: `images` is one image instead of several.
            ValueError: `heatmaps` is none of the above.
        """
        if isinstance(images, str | bytes | os.PathLike | Image.Image) or (
            isinstance(images, np.ndarray) and images.ndim < 4
        ):
            raise TypeError("expected several images; for one image pass a list of it: [image]")
        if heatmaps not in (None, "predicted", *CLASS_NAMES):
            raise ValueError(
                f'expected heatmaps to be None, "predicted" or one of {CLASS_NAMES}; '
                f"received {heatmaps!r}"
            )
        return self._stream(iter(images), heatmaps, batch_size)

    def _stream(
        self, images: Iterator[ImageSource], heatmaps: str | None, batch_size: int
    ) -> Iterator[Prediction]:
        # While the network works on one batch, the next one is decoded.
        with ThreadPoolExecutor() as pool:
            upcoming = [pool.submit(_read, image) for image in islice(images, batch_size)]
            while upcoming:
                current = upcoming
                upcoming = [pool.submit(_read, image) for image in islice(images, batch_size)]
                yield from self._predict_batch([job.result() for job in current], heatmaps)

    def _predict_batch(
        self, decoded: list[np.ndarray | ImageError], heatmaps: str | None
    ) -> Iterator[Prediction]:
        readable = [image for image in decoded if not isinstance(image, ImageError)]
        if readable:
            batch = np.stack(readable)
            if heatmaps is None:
                probabilities = self._infer(batch).numpy()
            else:
                index = _PREDICTED if heatmaps == "predicted" else CLASS_NAMES.index(heatmaps)
                probabilities, heat = (
                    tensor.numpy() for tensor in self._infer_with_heatmap(batch, np.int32(index))
                )
        row = 0
        for image in decoded:
            if isinstance(image, ImageError):
                yield Prediction("error", reasons=(str(image),))
                continue
            values = probabilities[row]
            predicted = CLASS_NAMES[values.argmax()]
            heatmap = None
            if heatmaps is not None:
                heatmap = heat[row].copy()  # a view would keep the whole batch in memory
                heatmap.flags.writeable = False
            yield Prediction(
                status="ok",
                class_name=predicted,
                probabilities=MappingProxyType(
                    {name: float(p) for name, p in zip(CLASS_NAMES, values, strict=True)}
                ),
                confidence=float(values.max()),
                heatmap=heatmap,
                heatmap_class=predicted if heatmaps == "predicted" else heatmaps,
            )
            row += 1


def _read(source: ImageSource) -> np.ndarray | ImageError:
    try:
        return load_image(source)
    except ImageError as error:
        return error


def _compile(model, card: Card):
    """Compiles the network for any batch size; the results are safe to call in threads."""
    import keras
    import tensorflow as tf

    from mseenet.explain import evidence_maps, heatmaps_of

    outputs = [model.get_layer(TARGET_LAYER).output, model.get_layer("logits").output]
    network = keras.Model(model.input, outputs)
    kernel = model.get_layer("logits").kernel
    images = tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 3), tf.uint8)
    index = tf.TensorSpec((), tf.int32)

    def forward(images):
        activations, logits = network(tf.cast(images, tf.float32), training=False)
        return activations, tf.nn.softmax(logits / card.temperature)

    def infer(images):
        return forward(images)[1]

    def infer_with_heatmap(images, class_index):
        activations, probabilities = forward(images)
        predicted = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        chosen = tf.where(class_index == _PREDICTED, predicted, class_index)
        maps = evidence_maps(activations, kernel)
        return probabilities, heatmaps_of(maps, chosen, card.heatmap_scale)

    # Concrete functions are traced here, once; no call can trace them again.
    infer = tf.function(infer).get_concrete_function(images)
    infer_with_heatmap = tf.function(infer_with_heatmap).get_concrete_function(images, index)
    example = tf.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), tf.uint8)
    infer(example)
    infer_with_heatmap(example, tf.constant(_PREDICTED))
    return infer, infer_with_heatmap
