"""From images to predictions: the one way in for the command line, the app and others."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from mseenet.config import CLASS_NAMES, FROZEN_LAYER, IMAGE_SIZE, TARGET_LAYER
from mseenet.imaging.decoding import ImageError, ImageSource, decode_image, squeeze
from mseenet.imaging.nuclei import FoundCells, NucleatedCells, find_cells, unpacked
from mseenet.imaging.quality import Finding, Thresholds, check_quality
from mseenet.inference import cellularity, scale
from mseenet.inference.cam import METHODS, CamExplainer
from mseenet.inference.card import DEFAULT_WEIGHTS, Card, WeightsError, read_card
from mseenet.inference.normalisation import Normalisation
from mseenet.inference.profile import ProfileError, SiteProfile
from mseenet.inference.scale import ScaleReference

_PREDICTED = -1

ROWS = 12
"""Images in a batch that is filled up. Of 4 to 36 it is the smallest number whose rows were all
computed alike on processors: novelty and heatmap of an image are the same bits in any row, and its
probabilities agree but for rounding. Of other numbers the last rows differ in heatmaps, too."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says about one image.

    Attributes:
        status: "ok"; "review" if a person should look first (low confidence, unlike most
            training fields, poor quality); "rejected" if the image lies outside of what
            the network was validated for; "error" if it could not be read.
        class_name: The most probable class, one of `CLASS_NAMES`. None, like all fields
            down to `heatmap_class`, for an error, and for a rejected image unless the
            network's output was asked for all the same.
        probabilities: Calibrated probability of each class, by name, in the order of
            `CLASS_NAMES`; read-only.
        confidence: The largest of them.
        heatmap: Evidence for `heatmap_class`, read-only float32 (224, 224) in [0, 1] over
            the squeezed image, or None if none was asked for (see `mseenet.inference.heatmaps`).
        heatmap_class: The class that the heatmap explains.
        novelty: Distance from the training fields in units of the distance from which on
            an image is rejected: below 1 inside, from 1 on outside. None for an error and
            for weights without a novelty gate.
        reasons: Why the status is what it is, in words for the user.
        nucleated_cells: How many were found by their colour; touching ones may count as one.
            None for an error.
        nuclei: Where these lie in the squeezed image, as bits, read-only uint8 (6272,); see
            `nucleus_mask`. None for an error.
        scale: How many times larger the cells look than in the training fields, > 0; with a site
            profile, after its preparation. None for an error, for weights that tell no size
            (`mseenet.inference.scale`), and for what is too unlike a smear.
    """

    status: Literal["ok", "review", "rejected", "error"]
    class_name: str | None = None
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None
    heatmap: np.ndarray | None = None
    heatmap_class: str | None = None
    novelty: float | None = None
    reasons: tuple[str, ...] = ()
    nucleated_cells: int | None = None
    nuclei: np.ndarray | None = None
    scale: float | None = None

    def nucleus_mask(self) -> np.ndarray | None:
        """Where the nucleated cells lie in the squeezed image, bool (224, 224); None for an error."""
        return None if self.nuclei is None else unpacked(self.nuclei)


NOT_FINITE = "the network's answer is not a finite number: the weights do not suit this image"


def without_answer(prediction: Prediction) -> Prediction:
    """The same without class, probabilities and heatmap: what is known of a rejected field."""
    return replace(
        prediction,
        class_name=None,
        probabilities=None,
        confidence=None,
        heatmap=None,
        heatmap_class=None,
    )


class Observed(NamedTuple):
    """What the network makes of N fields before calibration and gate.

    Attributes:
        frozen: Output of the frozen blocks, averaged over the image, float32 (N, 96).
        pooled: What the last layer reads, float32 (N, 384).
        logits: What it makes of that, float32 (N, C).
        sizes: Natural logarithms of how many times larger the cells look than in training,
            float32 (N,); None where the weights tell no size.
    """

    frozen: np.ndarray
    pooled: np.ndarray
    logits: np.ndarray
    sizes: np.ndarray | None


class Outputs(NamedTuple):
    """What the network says of N fields, before anything is judged by it.

    Attributes:
        probabilities: Calibrated, float32 (N, C) in [0, 1], in the order of `CLASS_NAMES`.
        novelties: Distances from the training fields over that of rejection, float32 (N,); 0
            without a gate.
        sizes: Natural logarithms of how many times larger the cells look than in training,
            float32 (N,); 0 where the weights tell no size.
        heatmaps: float32 (N, 224, 224) in [0, 1], or None if none were asked for.
    """

    probabilities: np.ndarray
    novelties: np.ndarray
    sizes: np.ndarray
    heatmaps: np.ndarray | None = None


class _Field(NamedTuple):
    """One decoded image: uint8 (224, 224, 3), what its quality will leave to be desired, its cells."""

    pixels: np.ndarray
    findings: Future[tuple[Finding, ...]]
    cells: Future[FoundCells]


ReadImage = _Field | ImageError
"""What `Classifier.read` gives: an image that was decoded, or why it could not be."""


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
        self._change = None if card.profile is None else card.profile.normalisation
        self._sizes = _scale_reference(model, card)
        self._infer, self._infer_with_heatmap, self._observe = _compile(model, card, self._sizes)
        self._cam = CamExplainer(model)
        self._last = model.get_layer("logits")

    @classmethod
    def load(
        cls, weights: str | os.PathLike = DEFAULT_WEIGHTS, profile: SiteProfile | None = None
    ) -> "Classifier":
        """Checks and loads the weights in a folder and compiles the network.

        Args:
            weights: Folder with `card.json` and the weights file that it names.
            profile: What the laboratory needs whose fields are to be answered.

        Returns:
            A classifier that answers at full speed from the first call on.

        Raises:
            WeightsError: Card or weights are missing, altered or for another version.
            ProfileError: The profile is for other weights.
        """
        card = read_card(Path(weights))
        if profile is not None:
            card = profile.applied_to(card)

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from mseenet.inference.device import prepare_device
        from mseenet.inference.network import build_model

        device = prepare_device()
        model = build_model(card.model)
        try:
            model.load_weights(card.weights_path)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{card.weights_path}: expected weights of this network ({error})"
            ) from error
        if not all(np.isfinite(values).all() for values in model.get_weights()):
            raise WeightsError(f"{card.weights_path}: expected finite weights")
        if card.novelty is not None:
            width = model.get_layer(FROZEN_LAYER).output.shape[-1]
            received = card.novelty.reference.means.shape[1]
            if received != width:
                raise WeightsError(
                    f"{card.weights_path.parent}: expected a novelty reference of {width} features "
                    f"as the network has, received {received}"
                )
        if profile is not None and profile.layer is not None:
            last = model.get_layer("logits")
            if last.kernel.shape != profile.layer[0].shape:
                raise ProfileError(
                    f"profile {profile.name}: expected a last layer of {tuple(last.kernel.shape)}, "
                    f"received {profile.layer[0].shape}"
                )
            last.set_weights(list(profile.layer))
        return cls(card, model, device)

    def predict(
        self,
        images: Iterable[ImageSource],
        heatmaps: str | None = None,
        batch_size: int = 32,
        include_rejected: bool = False,
        filled: bool = False,
    ) -> list[Prediction]:
        """Predicts all images; see `stream` for the arguments."""
        return list(self.stream(images, heatmaps, batch_size, include_rejected, filled))

    def stream(
        self,
        images: Iterable[ImageSource],
        heatmaps: str | None = None,
        batch_size: int = 32,
        include_rejected: bool = False,
        filled: bool = False,
    ) -> Iterator[Prediction]:
        """Predicts images one batch at a time, so that memory does not grow with them.

        Args:
            images: Anything that `mseenet.imaging.decoding.decode_image` takes, in any number; an
                iterator is read two batches ahead.
            heatmaps: None; "predicted" for a heatmap of each image's predicted class; or
                one of `CLASS_NAMES` for a heatmap of that class.
            batch_size: Images that go through the network at once.
            include_rejected: Also give class, probabilities and heatmap of rejected images; their
                status stays "rejected".
            filled: Gives the network `ROWS` images at once instead, black ones where there are
                fewer, so that the bits of an answer do not depend on how many images there are.

        Yields:
            One prediction an image, in order. An image that cannot be read gets status
            "error" and does not disturb the others.

        Raises:
            TypeError: `images` is one image instead of several.
            ValueError: `heatmaps` is none of the above, or `batch_size` is below 1.
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
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of 1 or more; received {batch_size}")
        size = ROWS if filled else batch_size
        return self._stream(iter(images), heatmaps, size, include_rejected, filled)

    def scales(self, images: Iterable[ImageSource]) -> list[float | None]:
        """How large the cells of images look: `Prediction.scale` of each, for `areas.find_area`."""
        return [prediction.scale for prediction in self.predict(images)]

    def heatmap(self, image: ImageSource, class_name: str, method: str = "Grad-CAM") -> np.ndarray:
        """Where in one image the evidence for a class lies.

        Args:
            image: As for `mseenet.imaging.decoding.decode_image`.
            class_name: One of `CLASS_NAMES`.
            method: "Grad-CAM", in units that all images share, or a key of
                `mseenet.inference.cam.METHODS`, relative to the map's own maximum.

        Returns:
            float32 (224, 224) in [0, 1] over the squeezed image.

        Raises:
            ImageError: The image cannot be read.
            ValueError: Class or method are none of the above.
        """
        if class_name not in CLASS_NAMES or method not in ("Grad-CAM", *METHODS):
            raise ValueError(f"expected a class and a method; received {class_name!r}, {method!r}")
        pixels = _prepared(squeeze(decode_image(image)), self._change)
        found = self._heatmap(pixels, class_name, method)
        return found if self._change is None else self._change.back(found)

    def outputs(
        self, fields: np.ndarray, heatmaps: str | None = None, filled: bool = False
    ) -> Outputs:
        """What the network says of fields that go through it in one batch.

        Args:
            fields: RGB pixels, squeezed and, with a profile, prepared by it, uint8
                (N, 224, 224, 3) in [0, 255].
            heatmaps: As for `stream`.
            filled: Fills the batch up to `ROWS` with black.
        """
        count = len(fields)
        if filled:
            missing = max(0, ROWS - count)
            fields = np.pad(fields, ((0, missing), (0, 0), (0, 0), (0, 0)))
        if heatmaps is None:
            found = self._infer(fields)
        else:
            index = _PREDICTED if heatmaps == "predicted" else CLASS_NAMES.index(heatmaps)
            found = self._infer_with_heatmap(fields, np.int32(index))
        return Outputs(*(tensor.numpy()[:count] for tensor in found))

    def observe(self, fields: np.ndarray) -> Observed:
        """What the network makes of fields before calibration and gate.

        Args:
            fields: RGB pixels, squeezed and, with a profile, prepared by it, uint8
                (N, 224, 224, 3) in [0, 255].
        """
        parts = [
            [tensor.numpy() for tensor in self._observe(fields[i : i + 32])]
            for i in range(0, len(fields), 32)
        ]
        frozen, pooled, logits = map(np.concatenate, zip(*parts, strict=True))
        sizes = None if self._sizes is None else self._sizes.logarithms(frozen)
        return Observed(frozen, pooled, logits, sizes)

    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (F, C) and bias (C,) that make logits of pooled features, float32."""
        kernel, bias = self._last.get_weights()
        return kernel, bias

    @property
    def tells_size(self) -> bool:
        """Whether the size of cells is known with these weights."""
        return self._sizes is not None

    @property
    def trouble(self) -> str:
        """What answers wait for beside the network, in words; with one of its own for nothing."""
        return ""

    def warm_up(self) -> None:
        """Compiles what `heatmap` needs for the methods of `mseenet.inference.cam.METHODS`.

        Optional: their first maps, which take seconds otherwise, are then as quick as later ones.
        """
        self._cam.warm_up()

    def _heatmap(self, pixels: np.ndarray, class_name: str, method: str) -> np.ndarray:
        """As `heatmap`, of pixels as the network is to see them."""
        if method != "Grad-CAM":
            return self._cam.heatmap(pixels, class_name, method)
        index = np.int32(CLASS_NAMES.index(class_name))
        return self._infer_with_heatmap(pixels[None], index)[3].numpy()[0]

    def _stream(
        self,
        images: Iterator[ImageSource],
        heatmaps: str | None,
        batch_size: int,
        include_rejected: bool,
        filled: bool,
    ) -> Iterator[Prediction]:
        # While the network works on one batch, its quality is checked and the next one decoded.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            upcoming = [pool.submit(self.read, image, pool) for image in islice(images, batch_size)]
            while upcoming:
                current = upcoming
                upcoming = [
                    pool.submit(self.read, image, pool) for image in islice(images, batch_size)
                ]
                fields = [job.result() for job in current]
                yield from self._predict_batch(fields, heatmaps, include_rejected, filled)

    def read(self, image: ImageSource, pool: ThreadPoolExecutor) -> ReadImage:
        """Decodes an image, for `answers`; a step of `stream`.

        Args:
            image: As for `mseenet.imaging.decoding.decode_image`.
            pool: Where its quality and its cells are looked at meanwhile.
        """
        return _read(image, pool, self._change, self.card.quality)

    def answers(self, images: Sequence[ReadImage]) -> list[Prediction]:
        """Predicts images that were read, with heatmaps of the predicted class; a step of `stream`.

        Args:
            images: At most `ROWS`, which go through the network in one filled batch.

        Returns:
            What `stream` yields with `heatmaps="predicted"`, `include_rejected` and `filled`.
        """
        return list(self._predict_batch(list(images), "predicted", True, True))

    def _predict_batch(
        self,
        fields: list[ReadImage],
        heatmaps: str | None,
        include_rejected: bool,
        filled: bool,
    ) -> Iterator[Prediction]:
        readable = [field.pixels for field in fields if isinstance(field, _Field)]
        if readable:
            probabilities, novelties, sizes, heat = self.outputs(
                np.stack(readable), heatmaps, filled
            )
        row = 0
        for field in fields:
            if isinstance(field, ImageError):
                yield Prediction("error", reasons=(str(field),))
                continue
            values = probabilities[row]
            if not np.isfinite([*values, novelties[row], sizes[row]]).all():
                yield Prediction("error", reasons=(NOT_FINITE,))
                row += 1
                continue
            found = field.cells.result()
            size = self._size(float(novelties[row]), float(sizes[row]))
            status, novelty, reasons = judged(
                self.card,
                field.findings.result(),
                found.cells,
                values,
                float(novelties[row]),
                size,
            )
            if status == "rejected" and not include_rejected:
                yield Prediction(
                    status,
                    novelty=novelty,
                    reasons=reasons,
                    nucleated_cells=found.cells.count,
                    nuclei=self._shown(found.packed),
                    scale=size,
                )
                row += 1
                continue
            predicted = CLASS_NAMES[values.argmax()]
            heatmap = None
            if heat is not None:
                heatmap = heat[row].copy()  # a view would keep the whole batch in memory
                if self._change is not None:
                    heatmap = self._change.back(heatmap).copy()
                heatmap.flags.writeable = False
            yield Prediction(
                status=status,
                class_name=predicted,
                probabilities=MappingProxyType(
                    {name: float(p) for name, p in zip(CLASS_NAMES, values, strict=True)}
                ),
                confidence=float(values.max()),
                heatmap=heatmap,
                heatmap_class=predicted if heatmaps == "predicted" else heatmaps,
                novelty=novelty,
                reasons=reasons,
                nucleated_cells=found.cells.count,
                nuclei=self._shown(found.packed),
                scale=size,
            )
            row += 1

    def _size(self, novelty: float, logarithm: float) -> float | None:
        return None if self._sizes is None else scale.told(logarithm, novelty)

    def _shown(self, packed: np.ndarray) -> np.ndarray:
        """Where nuclei lie in the field as it was given, as `Prediction.nuclei`."""
        if self._change is None or self._change.zoom == 1:
            return packed
        packed = np.packbits(self._change.back(unpacked(packed)))
        packed.flags.writeable = False
        return packed


def judged(
    card: Card,
    findings: tuple[Finding, ...],
    cells: NucleatedCells,
    probabilities: np.ndarray,
    novelty: float,
    size: float | None = None,
) -> tuple[Literal["ok", "review", "rejected"], float | None, tuple[str, ...]]:
    """Status, novelty and reasons of a field; the reasons for a rejection come first.

    Args:
        card: Of the weights that answered.
        findings: Of `check_quality`.
        cells: That were found in the field.
        probabilities: Calibrated, (C,).
        novelty: Distance from the training fields over that of rejection.
        size: How many times larger the cells look than in training; None if that is not known.

    Returns:
        Status; the novelty, None for weights without a gate; reasons in words.
    """
    rejecting = [finding.reason for finding in findings if finding.severe]
    reviewing = [finding.reason for finding in findings if not finding.severe]
    gate = card.novelty
    if gate is not None:
        border = gate.review / gate.reject
        if novelty >= 1:
            rejecting.append(
                "unlike the fields that the network was trained and validated on: novelty "
                f"{novelty:.2f}, expected below 1"
            )
        elif novelty >= border:
            reviewing.append(
                f"at the border of what the network was validated on: novelty {novelty:.2f}; "
                f"99 % of fields like those of training stay below {border:.2f}"
            )
    confidence = float(probabilities.max())
    # How sure the network is of a field that it should not judge has no meaning, and what is
    # found by colour in one of another kind need not be cells.
    if not rejecting and (without_cells := cellularity.refusal(cells, confidence)):
        rejecting.append(without_cells)
    if not rejecting and (too_few := cellularity.doubt(cells)):
        reviewing.append(too_few)
    # Of a field that is refused the size may be the explanation, whatever the network says.
    if doubt := scale.doubt(size, 1.0 if rejecting else confidence):
        reviewing.append(doubt)
    if not rejecting and confidence < card.review_confidence:
        reviewing.append(
            f"low confidence: {100 * confidence:.1f} %; expected at least "
            f"{100 * card.review_confidence:.1f} %"
        )
    known = None if gate is None else novelty
    if rejecting:
        return "rejected", known, (*rejecting, *reviewing)
    return "review" if reviewing else "ok", known, tuple(reviewing)


def _read(
    source: ImageSource,
    pool: ThreadPoolExecutor,
    change: Normalisation | None,
    thresholds: Thresholds,
) -> _Field | ImageError:
    try:
        rgb = decode_image(source)
    except ImageError as error:
        return error
    # What was decoded may be large; nothing holds it after this.
    field = _prepared(squeeze(rgb), change)
    quality = pool.submit(check_quality, field, rgb.shape[:2], thresholds)
    return _Field(field, quality, pool.submit(find_cells, field))


def _prepared(field: np.ndarray, change: Normalisation | None) -> np.ndarray:
    """A squeezed field as the network is to see it."""
    return field if change is None else change.apply(field)


def _scale_reference(model, card: Card) -> ScaleReference | None:
    """What tells the size of cells with these weights; None where nothing does."""
    from mseenet.inference.network import frozen_blocks

    if card.novelty is None:
        return None
    reference = scale.read_reference()
    same = scale.fingerprint(frozen_blocks(model).get_weights()) == reference.blocks
    return reference if same else None


def _compile(model, card: Card, sizes: ScaleReference | None):
    """Compiles the network for any batch size; the results are safe to call in threads."""
    import tensorflow as tf

    from mseenet.inference.backend import keras
    from mseenet.inference.heatmaps import evidence_maps, heatmaps_of

    names = (TARGET_LAYER, "logits", FROZEN_LAYER)
    network = keras.Model(model.input, [model.get_layer(name).output for name in names])
    kernel = model.get_layer("logits").kernel
    images = tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 3), tf.uint8)

    def look(images):
        activations, logits, frozen = network(tf.cast(images, tf.float32), training=False)
        novelty = scales = tf.zeros(tf.shape(logits)[0])
        pooled = tf.reduce_mean(frozen, axis=(1, 2))
        if sizes is not None:
            scales = sizes.logarithms(pooled, keras.ops)
        if card.novelty is not None:
            distances = card.novelty.reference.distances(pooled, keras.ops)
            novelty = distances / card.novelty.reject
        temperatures = card.calibration.temperatures(novelty, keras.ops)
        found = tf.nn.softmax(logits / temperatures), novelty, scales
        return found, activations, (pooled, tf.reduce_mean(activations, (1, 2)), logits)

    def draw(activations, probabilities, class_index):
        predicted = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        chosen = tf.where(class_index == _PREDICTED, predicted, class_index)
        return heatmaps_of(evidence_maps(activations, kernel), chosen, card.heatmap_scale)

    # Concrete functions are traced here, once; no call can trace them again. Tracing the whole
    # network takes seconds, so one function gives all that is asked of it.
    # Autograph, which nothing here needs, would write source files to the disk.
    look = tf.function(look, autograph=False).get_concrete_function(images)
    activations = tf.TensorSpec(network.outputs[0].shape, tf.float32)
    probabilities = tf.TensorSpec((None, len(CLASS_NAMES)), tf.float32)
    index = tf.TensorSpec((), tf.int32)
    draw = tf.function(draw, autograph=False).get_concrete_function(
        activations, probabilities, index
    )

    def infer(images):
        return look(images)[0]

    def infer_with_heatmap(images, class_index):
        found, activations, _ = look(images)
        return *found, draw(activations, found[0], class_index)

    def observe(images):
        return look(images)[2]

    infer_with_heatmap(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), np.int32(_PREDICTED))
    return infer, infer_with_heatmap, observe
