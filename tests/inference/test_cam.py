from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from tf_keras_vis.utils.scores import CategoricalScore

from mseenet.config import CLASS_NAMES
from mseenet.imaging.decoding import ImageError
from mseenet.inference.cam import METHODS
from mseenet.inference.network import logits_model


@pytest.mark.parametrize("method", METHODS)
def test_maps_have_their_own_maximum_and_differ_by_class(classifier, fields, method):
    maps = [classifier.heatmap(fields[2], name, method) for name in CLASS_NAMES]
    for heat in maps:
        assert heat.shape == (224, 224)
        assert heat.dtype == np.float32
        assert heat.min() >= 0
        assert heat.max() == pytest.approx(1) or not heat.any()
    shown = [heat for heat in maps if heat.any()]
    assert len(shown) >= 2
    assert np.abs(shown[0] - shown[1]).max() > 0.05


def test_layercam_finds_the_cells_more_finely_than_gradcam(classifier, fields):
    """Steepness of the map: a 28 x 28 grid can change within a cell of the 7 x 7 one."""

    def steepness(heat: np.ndarray) -> float:
        return float(np.abs(np.diff(heat, axis=0)).max())

    name = classifier.predict([fields[2]])[0].class_name
    fine = classifier.heatmap(fields[2], name, "LayerCAM 28 x 28")
    coarse = classifier.heatmap(fields[2], name, "Grad-CAM++")
    assert steepness(fine) > 2 * steepness(coarse)


def test_gradcam_is_that_of_the_prediction(classifier, fields):
    (prediction,) = classifier.predict([fields[1]], heatmaps="predicted")
    heat = classifier.heatmap(fields[1], prediction.class_name)
    np.testing.assert_allclose(heat, prediction.heatmap, atol=1e-5)


def test_unusable_arguments(classifier, fields):
    with pytest.raises(ValueError, match="expected a class and a method"):
        classifier.heatmap(fields[0], "Pre-C")
    with pytest.raises(ValueError, match="expected a class and a method"):
        classifier.heatmap(fields[0], "Pre-B", "Eigen-CAM")
    with pytest.raises(ImageError):
        classifier.heatmap(b"no image", "Pre-B")


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_network_in_one_piece(classifier, network, fields, method):
    """What runs is compiled in two halves; tf-keras-vis alone goes layer by layer."""
    chosen = METHODS[method]
    explain = getattr(import_module(f"tf_keras_vis.{chosen.module}"), chosen.name)
    (cam,) = explain(logits_model(network), clone=False)(
        CategoricalScore(1),
        fields[2][None].astype(np.float32),
        penultimate_layer=chosen.layer,
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
        **chosen.options,
    )
    cam = Image.fromarray(np.asarray(cam, np.float32)).resize((224, 224), Image.Resampling.BILINEAR)
    heat = classifier.heatmap(fields[2], CLASS_NAMES[1], method)
    assert heat.any()
    np.testing.assert_allclose(heat, np.asarray(cam) / np.max(cam), atol=1e-4)
