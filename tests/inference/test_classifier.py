import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import encode

from mseenet import Classifier
from mseenet.config import CLASS_NAMES, TARGET_LAYER
from mseenet.inference.card import WeightsError
from mseenet.inference.heatmaps import evidence_maps
from mseenet.inference.network import frozen_blocks, logits_model


def values(prediction) -> np.ndarray:
    return np.array(list(prediction.probabilities.values()))


def test_predictions_are_those_of_the_bare_network(classifier, network, fields):
    predictions = classifier.predict(fields)
    logits = np.asarray(logits_model(network)(np.stack(fields).astype(np.float32)))
    scaled = np.exp(logits / classifier.card.calibration.temperatures(np.zeros(1)))
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([values(p) for p in predictions], expected, atol=1e-5)
    for prediction, row in zip(predictions, expected, strict=True):
        assert prediction.status == "ok"
        assert list(prediction.probabilities) == list(CLASS_NAMES)
        assert prediction.class_name == CLASS_NAMES[row.argmax()]
        assert prediction.confidence == max(prediction.probabilities.values())
        assert prediction.heatmap is None
        assert prediction.heatmap_class is None
        assert prediction.reasons == ()


def test_bad_images_keep_their_place_and_spoil_nothing(classifier, fields, tmp_path):
    good = encode(fields[1])
    alone = classifier.predict([good], heatmaps="predicted")[0]
    mixed = [b"", good, tmp_path / "absent.png", b"text", None, good, good[:500]]
    predictions = classifier.predict(mixed, heatmaps="predicted")
    assert [p.status for p in predictions] == [
        "error",
        "ok",
        "error",
        "error",
        "error",
        "ok",
        "error",
    ]
    for prediction in predictions:
        if prediction.status == "ok":
            np.testing.assert_allclose(values(prediction), values(alone), atol=1e-5)
            np.testing.assert_allclose(prediction.heatmap, alone.heatmap, atol=1e-4)
        else:
            assert prediction.class_name is prediction.probabilities is prediction.heatmap is None
            assert len(prediction.reasons) == 1
            assert "expected" in prediction.reasons[0]


def test_a_foreign_image_is_rejected_and_named_only_on_request(gated_classifier, foreign):
    photo = (
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8).repeat(5, 0).repeat(5, 1)
    )
    for image in (foreign, photo):
        (plain,) = gated_classifier.predict([image], heatmaps="predicted")
        assert plain.status == "rejected"
        assert plain.novelty >= 1
        assert plain.class_name is plain.probabilities is plain.confidence is plain.heatmap is None
        assert "unlike the fields" in plain.reasons[0]
        (shown,) = gated_classifier.predict([image], heatmaps="predicted", include_rejected=True)
        assert (shown.status, shown.reasons) == (plain.status, plain.reasons)
        assert shown.class_name in CLASS_NAMES
        assert shown.heatmap is not None


def test_novelty_is_the_distance_of_the_pooled_frozen_features(gated_classifier, network, fields):
    gate = gated_classifier.card.novelty
    features = np.asarray(frozen_blocks(network)(np.stack(fields).astype(np.float32))).mean(
        axis=(1, 2)
    )
    expected = gate.reference.distances(features) / gate.reject
    received = [p.novelty for p in gated_classifier.predict(fields)]
    np.testing.assert_allclose(received, expected, rtol=1e-3)


def test_an_empty_frame_is_rejected_whatever_the_network_says(classifier):
    white = np.full((224, 224, 3), 250, np.uint8)
    (prediction,) = classifier.predict([white])
    assert prediction.status == "rejected"
    assert prediction.class_name is None


def test_the_scale_bar_has_no_say(classifier, fields):
    covered = fields[0].copy()
    covered[190:, 190:] = (255, 0, 0)
    plain, other = classifier.predict([fields[0], covered], include_rejected=True)
    np.testing.assert_allclose(values(plain), values(other), atol=0.02)


@pytest.mark.skipif("MSEENET_DATA" not in os.environ, reason="needs the dataset in MSEENET_DATA")
def test_real_fields_pass_and_foreign_images_do_not(gated_classifier):
    data = Path(os.environ["MSEENET_DATA"])
    own = sorted((data / "Original").rglob("*.jpg"))[::40]
    statuses = [p.status for p in gated_classifier.predict(own)]
    assert statuses.count("rejected") <= 0.03 * len(own)
    for folder in sorted((data / "ood").iterdir()):
        images = sorted(folder.iterdir())[::4]
        statuses = [p.status for p in gated_classifier.predict(images)]
        assert statuses.count("rejected") >= 0.98 * len(images), folder.name


def test_results_do_not_depend_on_the_batch(classifier, fields):
    images = [*fields, *fields[::-1], fields[2]]
    together = classifier.predict(images, heatmaps="Pro-B")
    for batch_size in (1, 2, 7):
        apart = classifier.predict(images, heatmaps="Pro-B", batch_size=batch_size)
        for a, b in zip(together, apart, strict=True):
            np.testing.assert_allclose(values(a), values(b), atol=1e-5)
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-4)


def test_heatmaps_of_each_class(classifier, fields):
    for class_name in CLASS_NAMES:
        (prediction,) = classifier.predict(fields[:1], heatmaps=class_name)
        assert prediction.heatmap_class == class_name
        assert prediction.heatmap.shape == (224, 224)
        assert prediction.heatmap.dtype == np.float32
        assert 0 <= prediction.heatmap.min() <= prediction.heatmap.max() <= 1
    (prediction,) = classifier.predict(fields[:1], heatmaps="predicted")
    assert prediction.heatmap_class == prediction.class_name
    (named,) = classifier.predict(fields[:1], heatmaps=prediction.class_name)
    np.testing.assert_array_equal(prediction.heatmap, named.heatmap)


def test_results_are_read_only(classifier, fields):
    (prediction,) = classifier.predict(fields[:1], heatmaps="predicted")
    with pytest.raises(ValueError, match="read-only"):
        prediction.heatmap[0, 0] = 1
    with pytest.raises(TypeError):
        prediction.probabilities["Pro-B"] = 1.0
    with pytest.raises(AttributeError):
        prediction.status = "error"


def test_several_threads_get_the_results_of_one(classifier, fields):
    requests = [(fields[i % 4], CLASS_NAMES[i % 3]) for i in range(24)]
    expected = [classifier.predict([image], heatmaps=name)[0] for image, name in requests]
    with ThreadPoolExecutor(8) as pool:
        received = pool.map(lambda r: classifier.predict([r[0]], heatmaps=r[1])[0], requests)
        for a, b in zip(received, expected, strict=True):
            np.testing.assert_allclose(values(a), values(b), atol=1e-5)
            np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-4)


def test_no_images_give_no_predictions(classifier):
    assert classifier.predict([]) == []
    assert classifier.predict(iter([])) == []


def test_a_stream_is_read_as_it_is_needed(classifier, fields):
    taken = []

    def source():
        for i in range(100):
            taken.append(i)
            yield fields[i % 4]

    stream = classifier.stream(source(), batch_size=4)
    assert next(stream).status == "ok"
    assert len(taken) == 8
    stream.close()
    assert len(taken) == 8


def test_the_stream_keeps_no_finished_result(classifier, fields):
    stream = classifier.stream(fields * 4, heatmaps="predicted", batch_size=4)
    first = weakref.ref(next(stream).heatmap)
    for _ in range(8):
        next(stream)
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("one", ["field.png", b"bytes", np.zeros((8, 8, 3), np.uint8)])
def test_one_image_instead_of_a_list_is_pointed_out(classifier, one):
    with pytest.raises(TypeError, match="pass a list"):
        classifier.predict(one)


def test_an_unknown_class_is_pointed_out(classifier, fields):
    with pytest.raises(ValueError, match="received 'Pre'"):
        classifier.predict(fields, heatmaps="Pre")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_pointed_out(classifier, fields, batch_size):
    with pytest.raises(ValueError, match=f"received {batch_size}"):
        classifier.predict(fields, batch_size=batch_size)


def test_unusable_weights_never_predict(weights_copy, tmp_path):
    with pytest.raises(WeightsError):
        Classifier.load(tmp_path / "nowhere")
    (path,) = weights_copy.glob("*.weights.h5")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="altered or damaged"):
        Classifier.load(weights_copy)


def test_numbers_that_are_not_finite_name_no_class(classifier, fields, monkeypatch):
    import tensorflow as tf

    whole = classifier._infer

    def broken(batch):
        probabilities, novelty, sizes = (tensor.numpy() for tensor in whole(batch))
        probabilities[0, 2] = np.nan
        novelty[1] = np.inf
        sizes[2] = np.nan
        return tf.constant(probabilities), tf.constant(novelty), tf.constant(sizes)

    monkeypatch.setattr(classifier, "_infer", broken)
    *wrong, right = classifier.predict([*fields[:3], fields[0]])
    assert [prediction.status for prediction in wrong] == ["error"] * 3
    assert all("not a finite number" in prediction.reasons[0] for prediction in wrong)
    assert all(prediction.class_name is None for prediction in wrong)
    assert right.class_name is not None


def test_evidence_maps_equal_gradcam_of_tf_keras_vis(network, fields):
    """The closed form against a library that computes gradients, for every class."""
    import keras
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    images = np.stack(fields).astype(np.float32)
    activations = keras.Model(network.input, network.get_layer(TARGET_LAYER).output)(images)
    maps = np.asarray(evidence_maps(activations, network.get_layer("logits").kernel))
    gradcam = Gradcam(logits_model(network), clone=False)
    for label in range(len(CLASS_NAMES)):
        expected = gradcam(
            CategoricalScore([label] * len(images)),
            images,
            penultimate_layer=TARGET_LAYER,
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        assert np.max(expected) > 0
        np.testing.assert_allclose(np.maximum(maps[..., label], 0), expected, atol=1e-4)


def test_evidence_and_bias_add_up_to_the_logit(network, fields):
    import keras

    images = np.stack(fields).astype(np.float32)
    outputs = [network.get_layer(name).output for name in (TARGET_LAYER, "logits")]
    activations, logits = keras.Model(network.input, outputs)(images)
    head = network.get_layer("logits")
    maps = np.asarray(evidence_maps(activations, head.kernel))
    np.testing.assert_allclose(
        maps.sum(axis=(1, 2)) + np.asarray(head.bias), logits, rtol=1e-3, atol=1e-3
    )
