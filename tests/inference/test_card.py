import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mseenet import Classifier
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.files import file_sha256
from mseenet.inference.card import (
    CARD_NAME,
    WeightsError,
    publish,
    read_card,
    refuse_foreign_release,
    store,
)
from mseenet.inference.novelty import Novelty


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
        (lambda c: c["calibration"].update(value=0), r"expected calibration.value in \(0, 20\], got 0"),
        (lambda c: c["calibration"].update(value=1e308), r"expected calibration.value in \(0, 20\], got 1e\+308"),
        (lambda c: c["calibration"].update(slope=99), r"expected calibration.slope in \[0, 6\], got 99"),
        (lambda c: c["calibration"].update(value=float("nan")), r"expected calibration.value in \(0, 20\], got nan"),
        (lambda c: c["heatmap"].update(scale="1"), r"expected heatmap.scale in \(0, 1e\+06\], got '1'"),
        (lambda c: c["heatmap"].update(layer="top_conv"), "expected heatmap layer inception_concat"),
        (lambda c: c["novelty"].update(layer="top_conv"), "expected novelty layer block4c_add"),
        (lambda c: c["model"].pop("dropout"), "expected model settings"),
        (lambda c: c["model"].update(filters_1x1=10**12), r"a whole number in \[1, 4096\], got 10{12}"),
        (lambda c: c.pop("novelty"), "entry 'novelty' is missing"),
        (lambda c: c.pop("weights"), "entry 'weights.file' is missing"),
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


@pytest.fixture
def small_model():
    from mseenet.inference.backend import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")])


def release(folder) -> tuple[dict, dict]:
    """What `publish` is given for another release than that in `folder`."""
    content = read_card(folder).content
    names = ("model", "calibration", "heatmap", "novelty", "training", "split", "metrics")
    gate = read_card(folder).novelty.reference
    files = {
        "novelty": replace(gate, means=gate.means + 1),
        "history": {"head": [{"epoch": 0}]},
        "split": b"split,file,sha256\n",
    }
    return {name: content[name] for name in names}, files


def listing(folder) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in folder.iterdir()}


def test_publishing_takes_the_place_of_the_old_release_and_leaves_other_files(
    weights_copy, small_model
):
    # These could be taken for files of a release, but no card names them.
    foreign = ["mseenet-mine.weights.h5", "novelty-mine.npz", "history.json", "split-mine.csv"]
    for name in foreign:
        (weights_copy / name).write_text("mine")
    old = {name: read_card(weights_copy).content[name]["file"] for name in ("weights", "novelty")}
    content, files = release(weights_copy)
    content["training"] = content["training"] | {"history": "absent.json"}
    edit(weights_copy, lambda card: card["training"].update(history="absent.json"))

    card = publish(weights_copy, small_model, content, **files)

    assert card.sha256 == file_sha256(card.weights_path)
    names = {path.name for path in weights_copy.iterdir()}
    assert names >= set(foreign)
    assert all((weights_copy / name).read_text() == "mine" for name in foreign)
    assert not names & set(old.values())
    record = card.content
    new = {
        CARD_NAME,
        record["weights"]["file"],
        record["novelty"]["file"],
        record["split"]["file"],
        record["training"]["history"],
    }
    assert names == new | set(foreign)
    for name, key in (("weights", "file"), ("novelty", "file"), ("split", "file")):
        sha256 = file_sha256(weights_copy / record[name][key])
        assert sha256 == record[name]["sha256"]
        assert sha256[:8] in record[name][key]


def test_publishing_the_same_again_changes_nothing(weights_copy, small_model):
    content, files = release(weights_copy)
    publish(weights_copy, small_model, content, **files)
    before = listing(weights_copy)
    publish(weights_copy, small_model, content, **files)
    assert listing(weights_copy) == before


def test_whichever_step_fails_one_release_is_whole(
    weights_copy, small_model, monkeypatch, tmp_path
):
    content, files = release(weights_copy)
    before, aborted = listing(weights_copy), 0
    calls = [(os, "fsync"), (os, "replace"), (Path, "open"), (Path, "replace")]
    calls += [(Path, "unlink"), (type(small_model), "save_weights")]
    for failing in itertools.count(1):
        folder = shutil.copytree(weights_copy, tmp_path / str(failing))
        steps = itertools.count(1)
        with monkeypatch.context() as patch:
            for owner, name in calls:
                patch.setattr(owner, name, failing_at(failing, steps, getattr(owner, name)))
            with suppress(OSError, WeightsError):
                publish(folder, small_model, content, **files)
        if file_sha256(folder / CARD_NAME) == before[CARD_NAME]:
            aborted += 1
            assert listing(folder) == before, f"step {failing}"
        else:
            card = read_card(folder)
            assert card.sha256 != before[CARD_NAME]
            sha256 = hashlib.sha256(files["split"]).hexdigest()
            assert card.content["split"]["sha256"] == sha256
        shutil.rmtree(folder)
        if next(steps) <= failing:  # this time no step was left to fail
            break
    assert aborted > 15


def failing_at(failing: int, steps: Iterator[int], call: Callable) -> Callable:
    """`call`, but the disk is full at one of the steps."""

    def step(*arguments, **options):
        if next(steps) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(*arguments, **options)

    return step


def test_a_card_that_could_not_be_read_back_is_not_published(weights_copy, small_model):
    content, files = release(weights_copy)
    before = listing(weights_copy)
    content["heatmap"] = content["heatmap"] | {"scale": float("inf")}
    with pytest.raises(WeightsError, match=r"heatmap\.scale"):
        publish(weights_copy, small_model, content, **files)
    assert listing(weights_copy) == before


def test_only_an_earlier_release_is_replaced(weights_copy, tmp_path):
    refuse_foreign_release(weights_copy)
    refuse_foreign_release(tmp_path / "new")
    (tmp_path / "foreign").mkdir()
    refuse_foreign_release(tmp_path / "foreign")
    (tmp_path / "foreign" / CARD_NAME).write_text('{"name": "a visiting card"}')
    with pytest.raises(UsageError, match=r"it holds card\.json"):
        refuse_foreign_release(tmp_path / "foreign")


def test_a_release_without_its_card_can_be_gone_on_with(weights_copy):
    """As a kill leaves it when weights, reference, history and split are there already."""
    for path in (weights_copy / CARD_NAME, *weights_copy.glob("out-of-fold*")):
        path.unlink()
    for stem, suffix in (("split-random-seed0", ".csv"), ("history", ".json")):
        store(weights_copy, stem, suffix, b"of a release")
    assert len(list(weights_copy.iterdir())) == 4
    refuse_foreign_release(weights_copy)
    (path,) = weights_copy.glob("*.weights.h5")
    path.write_bytes(b"not what its name says")
    with pytest.raises(UsageError, match=rf"it holds {path.name}"):
        refuse_foreign_release(weights_copy)


@pytest.mark.parametrize("value", ["x" * 10**6, [[0] * 1000] * 100, 10**4000])
@pytest.mark.parametrize("entry", ["format", "calibration", "heatmap", "training", "model"])
def test_an_error_repeats_little_of_a_large_value(weights_copy, entry, value):
    edit(weights_copy, lambda card: card.update({entry: value}))
    with pytest.raises(WeightsError) as caught:
        read_card(weights_copy)
    assert len(str(caught.value)) < 1000


WRONG = (None, True, "1", [], {}, {"a": 1}, -1, float("inf"), float("nan"))


@pytest.mark.parametrize("entry", [
    "format", "class_names", "input", "weights", "weights.file", "weights.sha256", "model",
    "model.filters_1x1", "model.dropout", "model.blank_corner", "calibration",
    "calibration.value", "calibration.slope", "calibration.fitted_on", "heatmap", "heatmap.layer",
    "heatmap.scale", "review_confidence", "review_confidence.value", "novelty.file",
    "novelty.review", "novelty.reject", "malignant.threshold", "training.recipe",
    "training.settings", "split.file", "metrics.val",
])  # fmt: skip
def test_values_of_any_wrong_type_and_missing_ones_are_refused(weights_copy, entry):
    path = weights_copy / CARD_NAME
    original = path.read_text(encoding="utf-8")
    *sections, last = entry.split(".")
    for value in (*WRONG, "missing"):
        card = json.loads(original)
        section = card
        for name in sections:
            section = section[name]
        right = section[last]
        if isinstance(value, type(right)) and entry not in ("weights", "model", "input"):
            continue  # of the right type; ranges have tests of their own
        if isinstance(value, bool) and isinstance(right, bool):
            continue
        if value == "missing":
            del section[last]
            if entry in ("review_confidence", "metrics.val"):
                continue  # may be absent
        else:
            section[last] = value
        path.write_text(json.dumps(card), encoding="utf-8")
        with pytest.raises(WeightsError):
            read_card(weights_copy)


DEEP = '{"metrics": ' + '{"a": ' * 900 + "1" + "}" * 901


@pytest.mark.parametrize("content", ["[]", "null", "7", '"card"', "[" * 100_000, DEEP])
def test_json_of_another_kind_is_no_card(weights_copy, content):
    (weights_copy / CARD_NAME).write_text(content)
    with pytest.raises(WeightsError):
        read_card(weights_copy)


def with_gate(folder, content: bytes) -> None:
    """Puts another novelty reference, with its hash, in the place of that in `folder`."""
    (path,) = folder.glob("novelty-*.npz")
    path.write_bytes(content)
    edit(folder, lambda card: card["novelty"].update(sha256=file_sha256(path)))


@pytest.mark.parametrize(
    ("means", "width", "message"),
    [
        (np.full((4, 96), np.nan), 96, "expected finite means"),
        (np.zeros((3, 96)), 96, "expected number of class means 4, got 3"),
        (np.zeros((4, 95)), 95, "expected a novelty reference of 96 features"),
    ],
)
def test_a_gate_of_other_numbers_is_refused(weights_copy, means, width, message):
    gate = Novelty(means.astype(np.float32), np.eye(width, dtype=np.float32))
    with_gate(weights_copy, gate.to_bytes())
    with pytest.raises(WeightsError, match=message):
        Classifier.load(weights_copy)


def test_weights_that_are_no_numbers_are_refused(weights_copy):
    (path,) = weights_copy.glob("*.weights.h5")
    with h5py.File(path, "a") as file:
        arrays = []
        file.visititems(lambda _, item: arrays.append(item) if hasattr(item, "shape") else None)
        arrays[-1][...] = np.nan
    edit(weights_copy, lambda card: card["weights"].update(sha256=file_sha256(path)))
    with pytest.raises(WeightsError, match="expected finite weights"):
        Classifier.load(weights_copy)


def test_a_damaged_novelty_file_with_its_own_hash_is_refused(weights_copy):
    (path,) = weights_copy.glob("novelty-*.npz")
    whole = path.read_bytes()
    for content in (b"", whole[:-100], b"PK\x03\x04" + bytes(100)):
        with_gate(weights_copy, content)
        with pytest.raises(WeightsError, match="expected a NumPy archive"):
            read_card(weights_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["novelty"].pop("reject"), "entry 'novelty.reject' is missing"),
        (lambda c: c["novelty"].update(reject=10**400), r"expected novelty.reject in \(0, 1000\]"),
        (lambda c: c["novelty"].update(reject=1e300), r"expected novelty.reject in \(0, 1000\]"),
        (lambda c: c["novelty"].update(review=999), "expected 0 < review <= reject"),
        (lambda c: c["novelty"].update(sha256="0" * 64), "altered or damaged"),
        (lambda c: c["novelty"].update(file="../n.npz"), "name of a file beside it"),
        (
            lambda c: c["review_confidence"].update(value=2),
            r"expected review_confidence.value in \[0, 1\], got 2",
        ),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(weights_copy, change, message):
    edit(weights_copy, change)
    with pytest.raises(WeightsError, match=message):
        read_card(weights_copy)
