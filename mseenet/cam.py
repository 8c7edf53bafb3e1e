"""Class activation maps by other methods than the closed form of `mseenet.explain`.

tf-keras-vis computes them. Their raw values have no common unit, so each map is scaled to
its own maximum: it says where, not how strongly. How strong the evidence for a class is
comes from `explain`.
"""

import threading
from dataclasses import dataclass
from functools import partial

import numpy as np

from mseenet.config import CLASS_NAMES, IMAGE_SIZE, TARGET_LAYER

CHANNELS = 16
"""Score-CAM tries the channels that vary most, one forward pass each; all 384 would take
a quarter of a minute on a CPU."""


@dataclass(frozen=True)
class Method:
    """One method of tf-keras-vis.

    Attributes:
        module: Its module.
        name: Its class there.
        layer: Whose activations are weighted.
        options: Further arguments of the call.
    """

    module: str
    name: str
    layer: str
    options: dict


METHODS = {
    "Grad-CAM++": Method("gradcam_plus_plus", "GradcamPlusPlus", TARGET_LAYER, {}),
    "Score-CAM": Method("scorecam", "Scorecam", TARGET_LAYER, {"max_N": CHANNELS}),
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
    """Computes maps for one network; safe to call in threads, one at a time.

    Args:
        model: The `keras.Model` of `build_model`.
    """

    def __init__(self, model):
        import keras

        # Softmax would let the other classes' gradients in.
        self._network = keras.Model(model.input, model.get_layer("logits").output)
        # Score-CAM predicts, with a progress bar on the server's output otherwise.
        self._network.predict = partial(self._network.predict, verbose=0)
        self._lock = threading.Lock()

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
        with self._lock:  # Score-CAM calls keras.Model.predict, which threads must not share
            cam = explain(self._network, clone=False)(
                CategoricalScore(CLASS_NAMES.index(class_name)),
                pixels[None].astype(np.float32),
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
