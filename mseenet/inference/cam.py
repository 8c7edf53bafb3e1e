"""Class activation maps by other methods than the closed form of `mseenet.inference.heatmaps`.

tf-keras-vis computes them. Their raw values have no common unit, so each map is scaled to
its own maximum: it says where, not how strongly. How strong the evidence for a class is
comes from the closed form.
"""

import threading
from dataclasses import dataclass

import numpy as np

from mseenet.config import CLASS_NAMES, IMAGE_SIZE, TARGET_LAYER

CHANNELS = 16
"""Score-CAM tries the channels that vary most, one forward pass each; all 384 would take
seconds on a CPU."""


@dataclass(frozen=True)
class Method:
    """One method of tf-keras-vis.

    Attributes:
        module: Its module.
        name: Its class there.
        layer: Whose activations are weighted.
        options: Further arguments of the call.
        differentiates: Whether it needs gradients.
    """

    module: str
    name: str
    layer: str
    options: dict
    differentiates: bool = True


METHODS = {
    "Grad-CAM++": Method("gradcam_plus_plus", "GradcamPlusPlus", TARGET_LAYER, {}),
    "Score-CAM": Method("scorecam", "Scorecam", TARGET_LAYER, {"max_N": CHANNELS}, False),
    "LayerCAM 14 x 14": Method("layercam", "Layercam", "block6a_expand_activation", {}),
    "LayerCAM 28 x 28": Method("layercam", "Layercam", "block4a_expand_activation", {}),
}
"""By the name that users choose.

LayerCAM weights every position by itself, so it can use the finer grids deeper inside the
backbone, where Grad-CAM's one weight a channel means little.

References:
    A. Chattopadhay et al., "Grad-CAM++", WACV 2018; H. Wang et al., "Score-CAM", CVPR
    Workshops 2020; P.-T. Jiang et al., "LayerCAM", IEEE Trans. Image Process. 30 (2021).
"""


class CamExplainer:
    """Computes maps for one network; several threads may use one explainer at once.

    Args:
        model: The `keras.Model` of `build_model`.
    """

    def __init__(self, model):
        from mseenet.inference.network import logits_model

        # Softmax would let the other classes' gradients in.
        self._network = logits_model(model)
        self._halves = {}
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compiles what the methods need, which their first maps would wait for.

        For a thread: the program does not wait for all of it when it ends.
        """
        blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        for method in METHODS:
            if threading.main_thread().is_alive():
                self.heatmap(blank, CLASS_NAMES[0], method)

    def heatmap(self, pixels: np.ndarray, class_name: str, method: str) -> np.ndarray:
        """The map of one class.

        Args:
            pixels: RGB, uint8 (224, 224, 3) in [0, 255].
            class_name: One of `CLASS_NAMES`.
            method: A key of `METHODS`.

        Returns:
            float32 (224, 224) in [0, 1], 1 at its own maximum; all 0 if nothing in the
            image speaks for the class.
        """
        from importlib import import_module

        from PIL import Image
        from tf_keras_vis.utils.scores import CategoricalScore

        chosen = METHODS[method]
        explain = getattr(import_module(f"tf_keras_vis.{chosen.module}"), chosen.name)
        seed = pixels[None].astype(np.float32)
        with self._lock:  # so that nothing is compiled twice
            if chosen.layer not in self._halves:
                self._halves[chosen.layer] = _Halves(self._network, chosen.layer)
        halves = self._halves[chosen.layer]
        if chosen.differentiates:
            network, seed = halves.upper, halves.lower(seed)
        else:
            network = halves.both
        cam = explain(network, clone=False)(
            CategoricalScore(CLASS_NAMES.index(class_name)),
            seed,
            penultimate_layer=chosen.layer,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
            **chosen.options,
        )
        cam = np.nan_to_num(np.asarray(cam, np.float32)[0]).clip(0)
        if not cam.max() > 0:
            return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
        size = (IMAGE_SIZE, IMAGE_SIZE)
        heat = np.asarray(Image.fromarray(cam).resize(size, Image.Resampling.BILINEAR))
        return heat / heat.max()


class _Halves:
    """The network cut behind a layer, each half compiled and a single layer of a model.

    Of the whole network tf-keras-vis would run and differentiate 280 layers one by one,
    which takes several times as long.

    Attributes:
        lower: Image, float32 (B, 224, 224, 3) -> activations of the layer.
        upper: `keras.Model` from those to logits; its layer of that name does nothing.
        both: `keras.Model` from the image to logits, for methods without gradients.
    """

    def __init__(self, network, layer: str):
        import tensorflow as tf

        from mseenet.inference.backend import keras

        def compiled(start, end, name):
            part = keras.Model(start, end)
            run = tf.function(lambda x: part(x, training=False), autograph=False)
            # A concrete function: TensorFlow would warn of several with the same code.
            run = run.get_concrete_function(tf.TensorSpec(start.shape, tf.float32))
            return keras.layers.Lambda(lambda x: run(x), output_shape=end.shape[1:], name=name)  # noqa: PLW0108

        middle = network.get_layer(layer).output
        self.lower = compiled(network.input, middle, layer)
        to_logits = compiled(middle, network.output, "to_logits")
        image, activations = (keras.Input(x.shape[1:]) for x in (network.input, middle))
        identity = keras.layers.Identity(name=layer)
        self.upper = keras.Model(activations, to_logits(identity(activations)))
        self.both = keras.Model(image, to_logits(self.lower(image)))
        # Score-CAM predicts; keras.Model.predict would print a progress bar, and threads must
        # not share it.
        self.both.predict = lambda images, batch_size: self.both(images[0]).numpy()
