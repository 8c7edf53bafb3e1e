"""What a GPU says, where TensorFlow sees one; elsewhere none of this is run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, encode

from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.card import DEFAULT_WEIGHTS

BOUND = 1e-3
"""By how much probabilities, and novelty in proportion, may differ from the processor's."""

ANSWERS = """
import json, sys
from pathlib import Path
from mseenet import Classifier

classifier = Classifier.load(sys.argv[1])
images = [path.read_bytes() for path in map(Path, sys.argv[2:])]
answers = [
    (p.status, p.class_name, p.probabilities and list(p.probabilities.values()), p.novelty)
    for p in classifier.predict(images, include_rejected=True)
]
json.dump({"device": classifier.device, "answers": answers}, sys.stdout)
"""


def said(images: list[Path], **variables: str) -> dict:
    """What another process says of images, and on which device."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS, str(DEFAULT_WEIGHTS), *map(str, images)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_gpu_gives_the_answers_of_the_processor(tmp_path):
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow sees no GPU here")
    images = []
    for i in range(40):
        images.append(tmp_path / f"{i}.png")
        images[-1].write_bytes(encode(render_field(STYLES[i % len(STYLES)], i)))
    if data := os.environ.get("MSEENET_DATA"):
        images += sorted((Path(data) / "Original").rglob("*.jpg"))[::12]
    gpu, cpu = said(images), said(images, CUDA_VISIBLE_DEVICES="-1")
    assert (gpu["device"][:3], cpu["device"]) == ("GPU", "CPU")
    for path, one, other in zip(images, gpu["answers"], cpu["answers"], strict=True):
        assert one[:2] == other[:2], path
        np.testing.assert_allclose(one[2], other[2], rtol=0, atol=BOUND, err_msg=str(path))
        np.testing.assert_allclose(one[3], other[3], rtol=BOUND, err_msg=str(path))
