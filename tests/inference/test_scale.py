import math
import os

import numpy as np
import pytest

from mseenet.imaging.perturbations import magnified
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference import scale
from mseenet.inference.classifier import Classifier
from mseenet.inference.scale import NEAR, OFF, SURE, doubt, doubtful, fingerprint, read_reference


@pytest.mark.parametrize(
    ("size", "confidence", "words"),
    [
        (None, 0.1, None),
        (1.0, 0.1, None),
        (NEAR * 1.01, SURE, None),
        (NEAR * 1.01, SURE - 0.01, "where at least 95 % confidence is expected; received 94.0 %"),
        (0.99 / NEAR, SURE - 0.01, "where at least 95 %"),
        (1.5, 1.0, "cells look 1.5 x as large as in the training fields (another magnification?)"),
        (0.5, 1.0, "cells look 0.5 x as large as in the training fields (another magnification?)"),
        (0.99 * OFF, 1.0, None),
        (1.01 / OFF, 1.0, None),
    ],
)
def test_cells_of_another_size_are_for_a_person(size, confidence, words):
    reason = doubt(size, confidence)
    assert (reason is None) == (words is None)
    assert words is None or words in reason


def test_arrays_are_judged_as_single_fields():
    sizes, confidence = np.array([1, 0.7, 1.15, 1.15, 1.4]), np.array([0.5, 0.99, 0.9, 0.99, 0.99])
    judged = doubtful(sizes, confidence)
    assert judged.tolist() == [False, True, True, False, True]
    assert judged.tolist() == [
        doubt(*pair) is not None for pair in zip(sizes, confidence, strict=True)
    ]


def test_the_coefficients_belong_to_the_frozen_blocks_that_are_shipped(network):
    from mseenet.inference.network import frozen_blocks

    arrays = frozen_blocks(network).get_weights()
    reference = read_reference()
    assert fingerprint(arrays) == reference.blocks
    assert reference.weights.shape == (96,)
    assert np.isfinite([*reference.weights, reference.bias]).all()
    changed = [arrays[0] + 1e-3, *arrays[1:]]
    assert fingerprint(changed) != reference.blocks


def test_weights_without_a_gate_or_with_other_frozen_blocks_tell_no_size(
    classifier, gated_classifier, fields, monkeypatch
):
    assert classifier.predict([fields[0]])[0].scale is None
    assert gated_classifier._sizes is not None
    card, read = gated_classifier.card, read_reference()
    other = scale.ScaleReference(read.weights, read.bias, "0" * 64)
    monkeypatch.setattr(scale, "read_reference", lambda: other)
    from mseenet.inference.classifier import _scale_reference
    from mseenet.inference.network import build_model

    assert _scale_reference(build_model(card.model), card) is None


def test_the_size_is_that_of_the_frozen_features(gated_classifier, network, fields):
    from mseenet.inference.network import frozen_blocks

    pooled = np.asarray(frozen_blocks(network)(fields[0][None].astype(np.float32)))
    expected = math.exp(read_reference().logarithms(pooled.mean(axis=(1, 2)))[0])
    (prediction,) = gated_classifier.predict([fields[0]])
    assert prediction.novelty < scale.KNOWN
    assert prediction.scale == pytest.approx(expected, abs=0.011)


def test_larger_cells_look_larger(gated_classifier):
    whole = [render_field(style, seed=5) for style in STYLES[:3]]
    sizes = [
        [gated_classifier._size(0.0, float(value)) for value in _logarithms(gated_classifier, part)]
        for part in ([magnified(field, factor) for field in whole] for factor in (0.6, 1.0, 1.7))
    ]
    assert (np.diff(np.log(sizes), axis=0) > 0.2).all()


def _logarithms(classifier: Classifier, fields: list[np.ndarray]) -> np.ndarray:
    return classifier._infer(np.stack(fields))[2].numpy()


def test_nothing_is_said_of_what_is_no_smear(gated_classifier):
    assert gated_classifier._size(scale.KNOWN, 0.1) is None
    assert gated_classifier._size(0.5, 9.0) == scale.FURTHEST
    assert gated_classifier._size(0.5, -9.0) == 1 / scale.FURTHEST
    assert gated_classifier.predict([b""])[0].scale is None


def test_the_reason_stands_with_the_others_and_explains_a_refusal(classifier, fields, monkeypatch):
    monkeypatch.setattr(Classifier, "_size", lambda *_: 1.5)
    (prediction,) = classifier.predict([fields[0]])
    assert (prediction.status, prediction.scale) == ("review", 1.5)
    assert prediction.reasons == (doubt(1.5, 1.0),)
    blank = np.full((224, 224, 3), 240, np.uint8)
    (refused,) = classifier.predict([blank])
    assert refused.status == "rejected"
    assert refused.reasons[-1] == doubt(1.5, 1.0)


@pytest.mark.slow
@pytest.mark.skipif("MSEENET_DATA" not in os.environ, reason="needs the dataset")
@pytest.mark.parametrize("factor", [0.67, 1.5])
def test_real_fields_of_another_size_are_noticed(gated_classifier, factor):
    from pathlib import Path

    from mseenet.imaging.decoding import load_image

    paths = sorted(Path(os.environ["MSEENET_DATA"]).glob("Original/*/*.jpg"))[::140]
    fields = [load_image(path) for path in paths]
    unchanged = gated_classifier.predict(fields)
    changed = gated_classifier.predict([magnified(field, factor) for field in fields])
    assert np.median([p.scale for p in unchanged if p.scale]) == pytest.approx(1, abs=0.08)
    assert np.median([p.scale for p in changed if p.scale]) == pytest.approx(factor, rel=0.1)
    assert np.mean([p.status == "ok" for p in changed]) < 0.1
    assert np.mean([p.status == "ok" for p in unchanged]) > 0.8
