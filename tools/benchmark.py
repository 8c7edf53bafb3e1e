"""Measures what prediction costs, as ratios within one run.

    mseenet benchmark [--app | --load]

The yardstick is one compiled forward pass of the bare network over pixels that are
already in memory. Against it: `Classifier.predict` from an encoded image to a prediction
with heatmap, and what most projects do instead, `model.predict` followed by tf-keras-vis
Grad-CAM over the whole model. The measurements take turns, so that a busy machine slows
all of them alike; medians are compared.

With --app it times instead what a user waits for, in headless Chromium on the real server
(needs Chromium and the extra `dev`). With --load it lets 20 users at once, and a small case beside
a large one, wait on a real server, against one user alone.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mseenet import console


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("benchmark", __doc__)
    parser.add_argument("--weights", type=Path, metavar="DIR", help="(default: weights/)")
    parser.add_argument(
        "--rounds", type=int, default=30, metavar="N", help="turns of each (default: %(default)s)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--app", action="store_true", help="time the page in a browser")
    what.add_argument("--load", action="store_true", help="time a server with many users")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.import_keras()

    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from mseenet.case.pictures import encoded
    from mseenet.imaging.synthetic import STYLES, render_field
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.inference.classifier import Classifier
    from mseenet.inference.network import build_model

    classifier = Classifier.load(arguments.weights or DEFAULT_WEIGHTS)
    if arguments.app:
        from tools.page_timing import time_app

        time_app(classifier, max(3, arguments.rounds // 4))
        return 0
    if arguments.load:
        from tools.load import time_load

        time_load(classifier)
        return 0
    memory_loaded = _peak_memory()
    model = build_model(classifier.card.model)
    model.load_weights(classifier.card.weights_path)
    bare = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    pixels = np.stack([render_field(STYLES[i % 4], seed=i) for i in range(32)])
    files = [encoded(Image.fromarray(field), "JPEG", quality=95) for field in pixels]
    one, many = (tf.constant(pixels[:n], tf.float32) for n in (1, 32))
    gradcam = _peer_gradcam(model)

    def peer() -> None:
        probabilities = model.predict(pixels[:1].astype(np.float32), verbose=0)
        gradcam(pixels[:1].astype(np.float32), int(probabilities.argmax()))

    single = _medians(
        {
            "bare forward pass": lambda: bare(one).numpy(),
            "predict + heatmap": lambda: classifier.predict(files[:1], heatmaps="predicted"),
            "predict": lambda: classifier.predict(files[:1]),
        },
        arguments.rounds,
    )
    batch = _medians(
        {
            "bare forward pass": lambda: bare(many).numpy(),
            "predict + heatmap": lambda: classifier.predict(files, heatmaps="predicted"),
        },
        max(3, arguments.rounds // 4),
    )
    peers = _medians(
        {
            "predict + heatmap": lambda: classifier.predict(files[:1], heatmaps="predicted"),
            "model.predict + tf-keras-vis": peer,
        },
        max(3, arguments.rounds // 4),
    )

    print(f"device: {classifier.device}; weights {classifier.card.sha256[:12]}")
    _table("one image", single, "bare forward pass")
    _table("32 images", batch, "bare forward pass")
    _table("one image, against the usual way", peers, "predict + heatmap")
    print(
        f"peak memory: {memory_loaded:.0f} MiB with the classifier loaded, "
        f"{_peak_memory():.0f} MiB at the end of all of the above"
    )
    return 0


def _peer_gradcam(model) -> Callable:
    """Grad-CAM over the whole model through tf-keras-vis, as its documentation shows it."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    from mseenet.config import TARGET_LAYER
    from mseenet.inference.network import logits_model

    gradcam = Gradcam(logits_model(model), clone=False)

    def explain(images, class_index: int):
        return gradcam(
            CategoricalScore([class_index]),
            images,
            penultimate_layer=TARGET_LAYER,
            seek_penultimate_conv_layer=False,
        )

    return explain


def _medians(actions: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median seconds of each action over rounds in which they take turns."""
    seconds = {name: [] for name in actions}
    for turn in range(rounds + 2):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _table(title: str, medians: dict[str, float], yardstick: str) -> None:
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:<30}{1000 * seconds:>9.1f} ms {seconds / medians[yardstick]:>8.2f} x")


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB here


if __name__ == "__main__":
    console.run(main)
