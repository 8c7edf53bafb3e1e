"""Trains MSEENet on the ALL image dataset and writes the weights and their card.

    python -m mseenet.train --data DIR [--recipe robust|paper]

The images are divided as in the paper, 80/10/10 at random, 224x224 pixels.

robust: the lower layers keep their ImageNet weights and are run once over augmented
copies of the images; the upper layers are fine-tuned on that. The scale-bar corner is
blanked inside the network. What is shipped.

paper: no augmentation; first the head on a frozen backbone, then the whole network, each
with early stopping and a learning rate that drops on a plateau.

After Ctrl-C or a kill, the same command with --resume goes on from the last whole epoch
and comes to the same result. `python -m mseenet.crossvalidate` then measures the recipe
on unseen slides and calibrates the weights for them.
"""

import argparse
import hashlib
import json
import platform
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mseenet import __version__, cli
from mseenet.calibration import Calibration
from mseenet.card import CARD_NAME, DEFAULT_WEIGHTS, HISTORY_NAME, publish
from mseenet.config import (
    RECIPES,
    TARGET_LAYER,
    TRUNK_LAYER,
    ModelConfig,
    PhaseConfig,
    RobustConfig,
    TrainingConfig,
)
from mseenet.data import SPLIT_NAMES, index_dataset, load_images, random_split, split_csv
from mseenet.device import prepare_device
from mseenet.errors import UsageError
from mseenet.explain import evidence_scale
from mseenet.files import file_sha256, write_atomically
from mseenet.metrics import fit_temperature, measure, softmax, wilson_interval

PATH_OPTIONS = {
    "--data": "DIR",
    "--out": "DIR",
    "--checkpoint": "DIR",
    "--cache": "DIR",
    "--backbone-weights": "FILE",
}
"""Options whose values say nothing to others; the card shows these words instead."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    config = TrainingConfig()
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the dataset, with a folder a class"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where weights and card go (default: weights/)"
    )
    parser.add_argument(
        "--backbone-weights",
        default="imagenet",
        metavar="FILE",
        help="ImageNet weights of the bare backbone (default: download them)",
    )
    parser.add_argument(
        "--recipe", choices=RECIPES, default="robust", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep the robust recipe's trunk features here for other runs, 38 kB an image and "
        "copy (default: with the checkpoint, removed at the end)",
    )
    parser.add_argument(
        "--seed", type=int, default=config.seed, help="of split and training (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=config.batch_size, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--copies",
        type=_positive,
        default=RobustConfig().copies,
        metavar="N",
        help="augmented copies of each image in the robust recipe (default: %(default)s)",
    )
    for phase in ("head", "fine-tune", "crown"):
        parser.add_argument(
            f"--{phase}-epochs",
            type=_natural,
            metavar="N",
            help="at most; 0 skips the phase (default: the recipe's)",
        )
        parser.add_argument(
            f"--{phase}-learning-rate",
            type=float,
            metavar="RATE",
            help="the largest one (default: the recipe's)",
        )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="where it is kept (default: OUT/.checkpoint)"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="try the whole path in a minute: synthetic images, random backbone, few epochs; "
        "without --out the result goes to a temporary folder and is removed",
    )
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        if arguments.data or arguments.backbone_weights != "imagenet":
            parser.error(
                "--smoke makes its own images and backbone; leave out --data and --backbone-weights"
            )
    elif arguments.data is None:
        parser.error("expected --data DIR, the folder of the dataset (or --smoke)")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    command = recorded_command(sys.argv[1:] if argv is None else argv)
    with ExitStack() as stack:
        if arguments.smoke:
            from mseenet.synthetic import write_dataset

            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_dataset(work / "data", per_class=20)
            arguments.data, arguments.backbone_weights = work / "data", None
            arguments.out = arguments.out or work / "weights"
            # A random backbone's features are a hundred times smaller than ImageNet's, and
            # there are few images: a higher rate and smaller batches make up for it.
            arguments.batch_size = 8
            arguments.head_epochs, arguments.head_learning_rate = 30, 1e-2
            arguments.fine_tune_epochs = arguments.crown_epochs = arguments.copies = 1
            arguments.crown_learning_rate = 1e-5  # a random crown has nothing to be tuned
        try:
            train(arguments, command)
        except KeyboardInterrupt:
            if (checkpoint_folder(arguments) / "state.json").is_file():
                cli.say("the same command with --resume goes on from the last whole epoch")
            raise
    return 0


def train(arguments: argparse.Namespace, command: str) -> None:
    """Trains both phases, then calibrates, measures and publishes the result."""
    config = training_config(arguments)
    robust = isinstance(config, RobustConfig)
    model_config = ModelConfig(blank_corner=robust)
    out = arguments.out or DEFAULT_WEIGHTS
    started = time.monotonic()

    index = index_dataset(arguments.data, cli.progress)
    cli.say(index.describe())
    split = random_split(index.samples, config.seed)
    split_content = split_csv(split, index.samples)
    backbone = backbone_record(arguments.backbone_weights)

    cli.import_keras()
    import keras

    from mseenet.fit import Checkpoint, predict
    from mseenet.model import build_model, freeze_batch_normalization, logits_model

    settings = {
        "training": asdict(config),
        "model": asdict(model_config),
        "backbone": backbone,
        "split": hashlib.sha256(split_content).hexdigest(),
        "keras backend": keras.backend.backend(),
    }
    checkpoint = Checkpoint(checkpoint_folder(arguments), settings)
    if arguments.resume:
        checkpoint.open()
    elif checkpoint.exists():
        raise UsageError(
            f"{checkpoint.folder}: an interrupted run left a checkpoint; "
            "add --resume to go on, or remove the folder to start anew"
        )

    device = prepare_device()
    images = load_images(index.samples, progress=cli.progress)
    labels = index.labels
    rows = {name: split.indices(index.samples, name) for name in SPLIT_NAMES}
    cli.say(f"{', '.join(f'{name} {len(r)}' for name, r in rows.items())} images; device: {device}")

    keras.utils.set_random_seed(config.seed)
    model = build_model(model_config, arguments.backbone_weights)
    freeze_batch_normalization(model)
    gate = {}
    if robust:
        from mseenet.robust import fit_head_then_crown, trunk_features

        cache = arguments.cache or checkpoint.folder
        features = trunk_features(model, index.samples, images, config, backbone, cache)
        train = (features.draw(rows["train"]), labels[rows["train"]])
        val = (features.copies[0][rows["val"]].astype(np.float32), labels[rows["val"]])
        fit_head_then_crown(model, train, val, config, checkpoint)
        gate = novelty_gate(features.pooled(), labels, rows)
    else:
        fit_head_then_all(model, images, labels, rows, config, checkpoint)
    network = logits_model(model)

    cli.say("measuring")
    val_logits = predict(network, images[rows["val"]], "val")
    test_logits = predict(network, images[rows["test"]], "test")
    refuse_if_useless(val_logits, labels[rows["val"]])
    # One temperature until cross-validation has seen errors on unseen slides.
    calibration = Calibration(fit_temperature(val_logits, labels[rows["val"]]))
    scale = evidence_scale(model, images[rows["val"]])
    split_name = f"split-{split.protocol}-seed{split.seed}.csv"
    out.mkdir(parents=True, exist_ok=True)
    (out / split_name).write_bytes(split_content)
    write_atomically(
        out / HISTORY_NAME,
        json.dumps({name: checkpoint.history(name) for name in checkpoint.phases()}, indent=1)
        + "\n",
    )
    card = publish(
        out,
        model,
        {
            "model": asdict(model_config),
            "calibration": calibration.record() | {"fitted_on": "val", "n": len(val_logits)},
            "novelty": gate.get("record"),
            "heatmap": {
                "layer": TARGET_LAYER,
                "scale": scale,
                "unit": "logits per cell",
                "fitted_on": "val",
                "n": len(val_logits),
            },
            "training": {
                "command": command,
                "recipe": arguments.recipe,
                "settings": asdict(config),
                "backbone": backbone,
                "history": HISTORY_NAME,
                "best_epoch": {name: checkpoint.best_epoch(name) for name in checkpoint.phases()},
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "minutes": round((time.monotonic() - started) / 60, 1),
                "device": device,
            },
            "split": {
                "protocol": split.protocol,
                "seed": split.seed,
                "file": split_name,
                "sha256": settings["split"],
                "n": {name: len(r) for name, r in rows.items()},
            },
            "metrics": {
                "val": measure(softmax(val_logits, calibration.value), labels[rows["val"]]),
                "test": measure(softmax(test_logits, calibration.value), labels[rows["test"]]),
            },
            "versions": versions(),
            "intended_use": "research only; not a medical device",
        },
        novelty=gate.get("reference"),
    )
    checkpoint.delete()
    for name in ("val", "test"):
        figures = card.content["metrics"][name]
        cli.say(
            f"{name}: n {figures['n']}, accuracy {figures['accuracy']:.4f}, mcc {figures['mcc']:.4f}"
        )
    cli.say(f"wrote {card.weights_path} and {out / CARD_NAME}")


def fit_head_then_all(model, images, labels, rows, config: TrainingConfig, checkpoint) -> None:
    """The paper's recipe: the head on features of the frozen backbone, then all layers."""
    from mseenet.fit import predict, run_phase
    from mseenet.model import feature_extractor, head_on_features, logits_model

    if not checkpoint.knows("fine_tune"):
        extractor = feature_extractor(model)
        train, val = (
            (predict(extractor, images[rows[name]], f"features of {name}"), labels[rows[name]])
            for name in ("train", "val")
        )
        run_phase("head", head_on_features(model), train, val, config, checkpoint)
        del train, val  # 250 kB an image
    train, val = ((images[rows[name]], labels[rows[name]]) for name in ("train", "val"))
    run_phase("fine_tune", logits_model(model), train, val, config, checkpoint)


def novelty_gate(pooled: np.ndarray, labels: np.ndarray, rows: dict[str, np.ndarray]) -> dict:
    """The reference of the novelty gate, and what the card says of it.

    Args:
        pooled: Of `TrunkFeatures.pooled`, (copies, N, D).
        labels: (N,).
        rows: Positions of the images of "train" and "val".
    """
    from mseenet.novelty import fit_novelty, thresholds

    train = rows["train"]
    reference = fit_novelty(
        pooled[:, train].reshape(-1, pooled.shape[-1]), np.tile(labels[train], len(pooled))
    )
    review, reject = thresholds(reference.distances(pooled[0, rows["val"]]))
    record = {
        "layer": TRUNK_LAYER,
        "review": review,
        "reject": reject,
        "fitted_on": "train, with augmented, compressed and dimmed copies",
        "thresholds_from": "val",
        "n": len(rows["val"]),
    }
    return {"reference": reference, "record": record}


def training_config(arguments: argparse.Namespace) -> TrainingConfig | RobustConfig:
    """The recipe's settings with what the command line changes."""
    robust = arguments.recipe == "robust"
    config = RobustConfig(copies=arguments.copies) if robust else TrainingConfig()
    if robust and arguments.smoke:
        config = replace(config, mixed=0.0)  # rendered classes differ in their style alone
    phases = {}
    for name, phase in vars(config).items():
        if isinstance(phase, PhaseConfig):
            given = {s: getattr(arguments, f"{name}_{s}") for s in ("epochs", "learning_rate")}
            phases[name] = replace(phase, **{s: v for s, v in given.items() if v is not None})
    return replace(config, seed=arguments.seed, batch_size=arguments.batch_size, **phases)


def checkpoint_folder(arguments: argparse.Namespace) -> Path:
    """Where an interrupted run is kept."""
    return arguments.checkpoint or (arguments.out or DEFAULT_WEIGHTS) / ".checkpoint"


def refuse_if_useless(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raises `TrainingError` for a network that is no better than chance on `val`."""
    from mseenet.fit import TrainingError

    correct = int(np.sum(logits.argmax(axis=1) == labels))
    chance = np.bincount(labels).max() / len(labels)
    lowest, _ = wilson_interval(correct, len(labels))
    if not np.isfinite(logits).all() or lowest <= chance:
        raise TrainingError(
            f"{correct} of {len(labels)} validation images are right, which is not better than "
            f"always naming the largest class ({chance:.1%}); the weights were not replaced"
        )


def recorded_command(argv: list[str]) -> str:
    """The command as the card keeps it: the paths of one machine say nothing to others."""
    words, replacement = [], None
    for word in argv:
        option, equals, _ = word.partition("=")
        if replacement:
            word, replacement = replacement, None
        elif option in PATH_OPTIONS:
            replacement = None if equals else PATH_OPTIONS[option]
            word = f"{option}={PATH_OPTIONS[option]}" if equals else word
        words.append(word)
    return shlex.join(["python", "-m", "mseenet.train", *words])


def backbone_record(weights: str | None) -> dict:
    """Where the backbone's weights come from; a file is known by its SHA-256."""
    if weights is None:
        return {"name": "EfficientNetV2B0", "weights": "random"}
    if weights == "imagenet":
        return {"name": "EfficientNetV2B0", "weights": "imagenet"}
    try:
        sha256 = file_sha256(Path(weights))
    except OSError as error:
        raise UsageError(
            f"{weights}: expected the backbone's weights ({error.strerror})"
        ) from error
    return {"name": "EfficientNetV2B0", "weights": "file", "sha256": sha256}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the result depends on."""
    names = ("mseenet", "tensorflow", "keras", "numpy", "pillow")
    return {"python": platform.python_version()} | {
        name: __version__ if name == "mseenet" else version(name) for name in names
    }


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {value}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


if __name__ == "__main__":
    cli.run(main)
