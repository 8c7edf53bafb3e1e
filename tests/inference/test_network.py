import numpy as np
import pytest

from mseenet.config import FEATURE_LAYER, TARGET_LAYER, ModelConfig
from mseenet.errors import UsageError
from mseenet.inference.network import (
    blank_corner,
    build_backbone,
    build_model,
    feature_extractor,
    freeze_backbone,
    freeze_batch_normalization,
    head_on_features,
    logits_model,
)


@pytest.fixture(scope="module")
def model():
    return build_model()


def test_parameter_counts(model):
    head = 128 * 1281 + (96 * 1281 + 128 * 865) + (32 * 1281 + 64 * 801) + 64 * 1281 + 4 * 385
    assert model.count_params() == 5_919_312 + head == 6_492_756
    assert feature_extractor(model).count_params() == 5_919_312
    assert head_on_features(model).count_params() == head


def test_the_graph_is_flat_and_its_layers_are_named(model):
    import keras

    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    shapes = {
        FEATURE_LAYER: (None, 7, 7, 1280),
        "inception_1x1": (None, 7, 7, 128),
        "inception_3x3_reduce": (None, 7, 7, 96),
        "inception_3x3": (None, 7, 7, 128),
        "inception_5x5_reduce": (None, 7, 7, 32),
        "inception_5x5": (None, 7, 7, 64),
        "inception_pool": (None, 7, 7, 1280),
        "inception_pool_project": (None, 7, 7, 64),
        TARGET_LAYER: (None, 7, 7, 384),
        "pooled": (None, 384),
        "logits": (None, 4),
        "probabilities": (None, 4),
    }
    assert {name: model.get_layer(name).output.shape for name in shapes} == shapes
    kernels = {f"inception_{n}x{n}": (n, n) for n in (1, 3, 5)}
    assert {name: model.get_layer(name).kernel_size for name in kernels} == kernels


def test_widths_follow_the_settings():
    small = build_model(ModelConfig(8, 4, 8, 4, 8, 8), image_size=64)
    assert small.get_layer(TARGET_LAYER).output.shape == (None, 2, 2, 32)


def test_pixels_are_scaled_exactly_once(model):
    """Guards against a second division by 255, which nothing else would show."""
    import keras

    (normalization,) = (x for x in model.layers if isinstance(x, keras.layers.Normalization))
    normalized = keras.Model(model.input, normalization.output)
    pixels = np.stack([np.full((224, 224, 3), value, np.float32) for value in (0, 255)])
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    received = keras.ops.convert_to_numpy(normalized(pixels))[:, 0, 0]
    np.testing.assert_allclose(received[0], -mean / deviation, rtol=1e-5)
    np.testing.assert_allclose(received[1], (1 - mean) / deviation, rtol=1e-5)
    rescaling = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert len(rescaling) == 1


def test_outputs_are_probabilities_and_the_softmax_is_applied_once(model):
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.float32)
    probabilities = np.asarray(model(images))
    logits = np.asarray(logits_model(model)(images))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    exponentials = np.exp(logits)
    np.testing.assert_allclose(
        probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-4
    )


def test_parts_share_weights_and_compose_to_the_whole(model):
    images = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32)
    composed = head_on_features(model)(feature_extractor(model)(images))
    np.testing.assert_allclose(composed, logits_model(model)(images), atol=1e-5)


def test_frozen_batch_normalization_uses_its_statistics_in_training():
    import keras

    model = build_model(image_size=64)
    freeze_batch_normalization(model)
    images = np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3)).astype(np.float32)
    features = keras.Model(model.input, model.get_layer("stem_bn").output)
    np.testing.assert_array_equal(features(images, training=True), features(images, training=False))
    frozen = [layer for layer in model.layers if not layer.trainable]
    assert {type(layer).__name__ for layer in frozen} == {"BatchNormalization"}


def test_with_a_frozen_backbone_only_the_head_is_trained():
    model = build_model(image_size=64)
    freeze_backbone(model, True)
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert trained == {
        "inception_1x1",
        "inception_3x3",
        "inception_3x3_reduce",
        "inception_5x5",
        "inception_5x5_reduce",
        "inception_pool_project",
        "logits",
    }
    freeze_backbone(model, False)
    untrained = [layer for layer in model.layers if not layer.trainable]
    assert {type(layer).__name__ for layer in untrained} == {"BatchNormalization"}


def test_unusable_backbone_weights(tmp_path):
    with pytest.raises(UsageError, match=r"expected a \.weights\.h5 file, found none"):
        build_backbone(tmp_path / "absent.weights.h5", image_size=64)
    (tmp_path / "text.weights.h5").write_text("hello")
    with pytest.raises(UsageError, match=r"could not use .*text\.weights\.h5"):
        build_backbone(tmp_path / "text.weights.h5", image_size=64)
    head_on_features(build_model(image_size=64)).save_weights(tmp_path / "head.weights.h5")
    with pytest.raises(UsageError, match=r"could not use .*head\.weights\.h5"):
        build_backbone(tmp_path / "head.weights.h5", image_size=64)


def test_the_corner_is_filled_with_the_background():
    images = np.full((2, 64, 64, 3), (200.0, 180.0, 160.0), np.float32)
    images[:, ::5] = 90  # cells
    images[0, -8:, -8:] = 0  # scale bar
    images[1, -8:, -8:] = (255, 0, 0)
    blanked = np.asarray(blank_corner(images))
    np.testing.assert_array_equal(blanked[0], blanked[1])
    np.testing.assert_allclose(blanked[0, -1, -1], (200, 180, 160))
    np.testing.assert_array_equal(blanked[:, :-11], images[:, :-11])
