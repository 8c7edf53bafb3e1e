"""Heatmaps: where in the image the evidence for a class lies, and how to show it.

Behind the inception module (activations A, of K channels on an h x w grid) the network
is linear up to the logits:

    logit_c = b_c + sum_ij E_c(i, j),    E_c(i, j) = 1 / (h w) sum_k A_k(i, j) W_kc

so the gradient of a logit with respect to A_k is W_kc / (h w) everywhere, and the
Grad-CAM map of class c at the concatenation is max(E_c, 0): no backward pass is needed.
The tests hold this against tf-keras-vis, which does one.

A map is divided by one number of the model (`heatmap_scale` in the card), not by its own
maximum: a faint map stays faint, and an image without evidence for a class gets zeros.

Reference:
    R. R. Selvaraju et al., "Grad-CAM", ICCV 2017; B. Zhou et al., "Learning Deep
    Features for Discriminative Localization", CVPR 2016.
"""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mseenet.config import IMAGE_SIZE, TARGET_LAYER
from mseenet.files import write_atomically
from mseenet.imaging.formats import OVERLAY_SOFTWARE

NO_EVIDENCE = 0.05
"""A heatmap that nowhere reaches this shows no positive evidence for its class: under a
twentieth of what counts as strong evidence for this model (see `evidence_scale`), it
cannot be told from the background in an overlay."""


def evidence_maps(activations, kernel):
    """E_c of the module's docstring, for all classes.

    Args:
        activations: Output of the target layer, (B, h, w, K).
        kernel: Weights of the layer `logits`, (K, C).

    Returns:
        (B, h, w, C), in logits; the sum over h and w, plus the bias, is the logit.
    """
    from mseenet.inference.backend import keras

    cells = activations.shape[1] * activations.shape[2]
    return keras.ops.einsum("bhwk,kc->bhwc", activations, kernel) / cells


def evidence_scale(model, images: np.ndarray, batch_size: int = 32) -> float:
    """What counts as strong evidence for this model: its `heatmap_scale`.

    Args:
        model: The `keras.Model` of `build_model`.
        images: RGB in [0, 255], (N, 224, 224, 3), that the model was not trained on.
        batch_size: Images at once.

    Returns:
        The 95th percentile over the images of the largest E_c of the predicted class, in
        logits: one field in twenty saturates its map somewhere.
    """
    from mseenet.inference.backend import keras

    outputs = [model.get_layer(TARGET_LAYER).output, model.output]
    explainer = keras.Model(model.input, outputs)
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    strongest = []
    for start in range(0, len(images), batch_size):
        batch = explainer.predict_on_batch(images[start : start + batch_size])
        activations, probabilities = (keras.ops.convert_to_numpy(output) for output in batch)
        maps = keras.ops.convert_to_numpy(evidence_maps(activations, kernel))
        predicted = probabilities.argmax(axis=1)
        strongest += [maps[i, :, :, c].max() for i, c in enumerate(predicted)]
    return float(np.quantile(strongest, 0.95))


def heatmaps_of(maps, class_index, scale: float, size: int = IMAGE_SIZE):
    """Heatmaps of one class for each image, at the size of the network's input.

    Args:
        maps: Evidence maps, (B, h, w, C), in logits.
        class_index: The class to explain for each image, int32 (B,).
        scale: Evidence that becomes 1, in logits.
        size: Height and width of the result, in pixels.

    Returns:
        float32 (B, size, size) in [0, 1]: max(E_c, 0) / scale, clipped at 1, enlarged
        bilinearly with each cell in the middle of the pixels that it covers.
    """
    from mseenet.inference.backend import keras

    chosen = keras.ops.take_along_axis(maps, class_index[:, None, None, None], axis=3)
    heat = keras.ops.clip(chosen / scale, 0, 1)
    heat = keras.ops.image.resize(heat, (size, size), interpolation="bilinear")
    return keras.ops.squeeze(heat, axis=3)


def has_evidence(heatmap: np.ndarray) -> bool:
    """Whether a heatmap shows any positive evidence for its class."""
    return bool(heatmap.max() >= NO_EVIDENCE)


_STOPS = {
    "Inferno": "000004 1b0c41 4a0c6b 781c6d a52c60 cf4446 ed6925 fb9b06 f7d13d fcffa4",
    "Viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "Cividis": "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838",
}
"""Evenly spaced colours of each map, in hex. Inferno and Viridis are by Nathaniel J. Smith and
Stefan van der Walt (CC0), Cividis by J. R. Nuñez, C. R. Anderton and R. S. Renslow, PLOS ONE 13(7),
2018 (CC0 in matplotlib); the ten samples are those of Plotly's colour scales (MIT)."""

COLOR_MAPS = tuple(_STOPS)
"""Their lightness rises evenly, so that they can be read with any colour vision. The warm
end of Inferno stands out from the blue and purple of a stained smear."""


@cache
def colormap(name: str = COLOR_MAPS[0]) -> np.ndarray:
    """One of `COLOR_MAPS` as read-only RGB uint8 (256, 3), from dark to bright."""
    stops = np.array([list(bytes.fromhex(color)) for color in _STOPS[name].split()])
    places = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(places, np.arange(len(stops)), channel) for channel in stops.T]
    table = np.column_stack(channels).round().astype(np.uint8)
    table.flags.writeable = False  # cached: all callers have the same one
    return table


def overlay(
    rgb: np.ndarray, heatmap: np.ndarray, opacity: float = 0.6, color_map: str = COLOR_MAPS[0]
) -> np.ndarray:
    """Blends a heatmap over the image that it explains.

    A pixel is covered in proportion to its heat: where there is no evidence, the image
    stays as it is.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255], of any size.
        heatmap: float32 (h, w) in [0, 1]; stretched over the image.
        opacity: Proportion of the heat's colour where the heat is 1, in [0, 1].
        color_map: One of `COLOR_MAPS`.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        ValueError: `opacity` is outside [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"expected opacity in [0, 1]; received {opacity}")
    height, width = rgb.shape[:2]
    if heatmap.shape != (height, width):
        resized = Image.fromarray(heatmap).resize((width, height), Image.Resampling.BILINEAR)
        heatmap = np.clip(np.asarray(resized), 0, 1)
    color = colormap(color_map)[np.round(heatmap * 255).astype(np.uint8)]
    weight = opacity * heatmap[..., None]
    return np.round(rgb * (1 - weight) + color * weight).astype(np.uint8)


def encode_overlay(rgb: np.ndarray, compress_level: int = 6) -> bytes:
    """An overlay as a PNG file that says what it is.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        compress_level: Of PNG, 0 to 9; 1 is a tenth larger at a fraction of the time.

    Returns:
        The content of the file.
    """
    texts = PngInfo()
    texts.add_text("Software", OVERLAY_SOFTWARE)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", pnginfo=texts, compress_level=compress_level)
    return buffer.getvalue()


def save_overlay(path: Path, rgb: np.ndarray) -> None:
    """Writes an overlay, in one step: nobody sees half of it.

    Args:
        path: The PNG file, which is replaced.
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        OSError: The file cannot be written; one that was there is as before.
    """
    write_atomically(path, encode_overlay(rgb))


def is_overlay(path: Path) -> bool:
    """Whether a file is an overlay that `save_overlay` or the page made."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == OVERLAY_SOFTWARE
    except (OSError, SyntaxError, ValueError):  # no PNG image, or a damaged one
        return False
