import json

import pytest

from mseenet.config import CLASS_NAMES, ModelConfig
from mseenet.files import file_sha256
from mseenet.inference.card import CARD_NAME, WeightsError, publish, read_card


def edit(folder, change) -> None:
    path = folder / CARD_NAME
    card = json.loads(path.read_text(encoding="utf-8"))
    change(card)
    path.write_text(json.dumps(card), encoding="utf-8")


def test_the_shipped_card_is_complete_and_true(gated_classifier):
    card = gated_classifier.card
    content = card.content
    assert content["class_names"] == list(CLASS_NAMES)
    assert content["weights"]["bytes"] == card.weights_path.stat().st_size < 30e6
    assert content["weights"]["parameters"] == 6_492_756
    folder = card.weights_path.parent
    assert file_sha256(folder / content["split"]["file"]) == content["split"]["sha256"]
    assert (folder / content["training"]["history"]).is_file()
    assert content["metrics"]["test"]["n"] == content["split"]["n"]["test"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["class_names"].reverse(), r"expected class_names \['Benign', .*got \['Pro-B'"),
        (lambda c: c.update(format=2), "expected format 1, got 2"),
        (lambda c: c["input"].update(value_range=[0, 1]), "expected input"),
        (lambda c: c["calibration"].update(value=0), "expected temperature > 0, got 0"),
        (lambda c: c["calibration"].update(value=float("nan")), "expected temperature > 0, got nan"),
        (lambda c: c["heatmap"].update(scale="1"), "expected heatmap scale > 0, got '1'"),
        (lambda c: c["heatmap"].update(layer="top_conv"), "expected heatmap layer inception_concat"),
        (lambda c: c["novelty"].update(layer="top_conv"), "expected novelty layer block4c_add"),
        (lambda c: c["model"].pop("dropout"), "expected model settings"),
        (lambda c: c.pop("weights"), "'weights' is missing"),
        (lambda c: c["weights"].update(file="../weights.h5"), "name of a file beside it"),
        (lambda c: c["weights"].update(file="other.weights.h5"), "expected the file that card.json names"),
        (lambda c: c["weights"].update(sha256="0" * 64), "altered or damaged; expected SHA-256 000000000000"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_is_refused(weights_copy, change, message):
    edit(weights_copy, change)
    with pytest.raises(WeightsError, match=message):
        read_card(weights_copy)


def test_altered_weights_are_refused(weights_copy):
    (path,) = weights_copy.glob("*.weights.h5")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="altered or damaged"):
        read_card(weights_copy)


def test_missing_and_unreadable_cards(weights_copy, tmp_path):
    with pytest.raises(WeightsError, match=r"found no card\.json"):
        read_card(tmp_path / "nowhere")
    (weights_copy / CARD_NAME).write_text("{")
    with pytest.raises(WeightsError, match="expected a readable JSON file"):
        read_card(weights_copy)


def test_publishing_takes_the_place_of_the_old_weights(weights_copy, network):
    from mseenet.inference.network import build_model

    (old,) = weights_copy.glob("*.weights.h5")
    content = read_card(weights_copy).content
    kept = {name: content[name] for name in ("model", "calibration", "heatmap")}
    card = publish(weights_copy, build_model(ModelConfig()), kept)
    assert [path.name for path in weights_copy.glob("*.weights.h5")] == [card.weights_path.name]
    assert card.weights_path.name != old.name
    assert card.sha256 == file_sha256(card.weights_path)


def test_a_failure_before_the_last_step_leaves_the_old_weights(weights_copy, network, monkeypatch):
    before = read_card(weights_copy)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("mseenet.inference.card.write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        publish(weights_copy, network, {})
    assert read_card(weights_copy).content == before.content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["novelty"].pop("reject"), "'reject' of novelty is missing"),
        (lambda c: c["novelty"].update(review=9e9), "expected 0 < review <= reject"),
        (lambda c: c["novelty"].update(sha256="0" * 64), "altered or damaged"),
        (lambda c: c["novelty"].update(file="../n.npz"), "name of a file beside it"),
        (lambda c: c["review_confidence"].update(value=2), "a review confidence in"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(weights_copy, change, message):
    edit(weights_copy, change)
    with pytest.raises(WeightsError, match=message):
        read_card(weights_copy)
