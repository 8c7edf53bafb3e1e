"""Fixtures shared by the tests; none of them needs the dataset or a network."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def encode_pil(image: Image.Image, image_format: str, **options) -> bytes:
    """Encodes a PIL image, of any mode that the format knows, in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def encode(rgb: np.ndarray, image_format: str = "PNG", **options) -> bytes:
    """Encodes pixels in memory."""
    return encode_pil(Image.fromarray(rgb), image_format, **options)


@pytest.fixture(scope="session")
def fields() -> list[np.ndarray]:
    """Four rendered fields, uint8 (224, 224, 3)."""
    from mseenet.imaging.synthetic import example_fields

    return list(example_fields().values())


@pytest.fixture(scope="session")
def field_png(fields) -> bytes:
    """One rendered field, encoded."""
    return encode(fields[0])


@pytest.fixture(scope="session")
def foreign(fields) -> np.ndarray:
    """Foreign to the network: a rendered field with red and blue exchanged."""
    return fields[0][..., ::-1].copy()


@pytest.fixture(scope="session")
def ungated_weights(tmp_path_factory) -> Path:
    """The project's weights with a card without a gate or review threshold.

    Rendered fields, which are what tests have, may pass the gate or not; most tests are
    about what comes after.
    """
    from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS

    folder = tmp_path_factory.mktemp("ungated")
    card = json.loads((DEFAULT_WEIGHTS / CARD_NAME).read_text(encoding="utf-8"))
    card |= {"novelty": None, "review_confidence": {"value": 0.0}}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    shutil.copy(DEFAULT_WEIGHTS / card["weights"]["file"], folder)
    return folder


@pytest.fixture(scope="session")
def classifier(ungated_weights):
    """The network that comes with the project, which refuses nothing here."""
    from mseenet import Classifier

    return Classifier.load(ungated_weights)


@pytest.fixture(scope="session")
def gated_classifier():
    """The classifier as it comes with the project."""
    from mseenet import Classifier

    return Classifier.load()


@pytest.fixture(scope="session")
def network(classifier):
    """The bare keras.Model with the weights that come with the project."""
    from mseenet.inference.network import build_model

    model = build_model(classifier.card.model)
    model.load_weights(classifier.card.weights_path)
    return model


@pytest.fixture
def weights_copy(tmp_path) -> Path:
    """A copy of the project's card and weights that a test may damage."""
    from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS

    folder = tmp_path / "weights"
    folder.mkdir()
    kept = (*DEFAULT_WEIGHTS.glob("*.weights.h5"), *DEFAULT_WEIGHTS.glob("*.npz"))
    for path in (DEFAULT_WEIGHTS / CARD_NAME, *kept):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def smoke_data(tmp_path_factory) -> Path:
    """The dataset of `smoke_weights`: 20 rendered fields a class; not to be changed."""
    from mseenet.training.smoke import write_smoke_data

    folder = tmp_path_factory.mktemp("smoke") / "data"
    write_smoke_data(folder)
    return folder


@pytest.fixture(scope="session")
def smoke_weights(smoke_data) -> Path:
    """What a smoke run of the robust recipe leaves: weights, card, gate, split, history.

    Not to be changed; a test that writes beside the weights copies the folder first. Beside
    the folder are `random.weights.h5`, the backbone that it began with, and `killed`, the
    folder as it was after the third epoch, as a kill at that moment would have left it.
    """
    from mseenet.commands.train import main
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.smoke import write_smoke_backbone

    folder = smoke_data.parent
    save = Checkpoint.save

    def save_and_copy(self, name, state, model):
        save(self, name, state, model)
        if (name, state.epoch) == ("head", 3):
            shutil.copytree(folder / "weights", folder / "killed")

    write_smoke_backbone(folder / "random.weights.h5", seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_copy)
        assert main(["--smoke", "--out", str(folder / "weights")]) == 0
    return folder / "weights"
