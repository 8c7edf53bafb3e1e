"""`evaluate` and `audit` from their command to their reports: the shipped network, rendered fields."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import encode
from made_up_answers import stress_answers
from scipy import ndimage

from mseenet.case.words import protocol_title
from mseenet.commands import audit, evaluate
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.evaluation.audit import occlude
from mseenet.evaluation.known import BRIGHTNESS_FACTORS, foreign_images, measure_statuses
from mseenet.evaluation.out_of_fold import OutOfFold, out_of_fold_csv
from mseenet.evaluation.unseen import measure_unseen, out_of_fold_of, stress_of
from mseenet.evaluation.unseen_stress import stress_npz
from mseenet.imaging.cells import GRID_CELL
from mseenet.imaging.nuclei import nucleus_mask, scale_bar_corner
from mseenet.imaging.perturbations import PERTURBATIONS, brightness
from mseenet.imaging.synthetic import write_dataset
from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS, read_card, update_card
from mseenet.inference.classifier import Classifier
from mseenet.training.dataset import DatasetError, index_dataset, load_images
from mseenet.training.splits import EMBARGOES, random_split, split_csv

PER_CLASS = 10
PROTOCOLS = ("series", "blocks-100")
OUT_OF_FOLD_NAME = "out-of-fold-12345678.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten rendered fields a class, numbered so far apart that an embargo leaves some."""
    folder = tmp_path_factory.mktemp("evaluated") / "data"
    write_dataset(folder, per_class=PER_CLASS)
    for class_folder in folder.iterdir():
        for i, path in enumerate(sorted(class_folder.iterdir())):
            path.rename(path.with_name(f"field-{200 * i:05d}.png"))
    return folder


@pytest.fixture(scope="module")
def index(data):
    return index_dataset(data)


@pytest.fixture(scope="module")
def images(index) -> np.ndarray:
    return load_images(index.samples)


@pytest.fixture(scope="module")
def split(index):
    return random_split(index.samples, 0)


def out_of_fold(index, seed: int) -> OutOfFold:
    """Made-up answers: each block of each class in one fold, one answer in eight wrong."""
    rng = np.random.default_rng(seed)
    labels = index.labels
    folds = np.tile(np.repeat(np.arange(5), PER_CLASS // 5), 4)
    named = np.where(rng.random(len(labels)) < 1 / 8, (labels + 1) % 4, labels)
    logits = 5 * np.eye(4)[named] + rng.normal(size=(len(labels), 4))
    files = [sample.file for sample in index.samples]
    parts = np.array([f"{CLASS_NAMES[c]} {f}" for c, f in zip(labels, folds, strict=True)])
    return OutOfFold(files, folds, parts, labels, logits, rng.uniform(1, 16, len(labels)))


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory, index, split) -> Path:
    """The shipped weights with a split of the rendered fields and answers about them."""
    folder = tmp_path_factory.mktemp("cross-validated") / "weights"
    folder.mkdir()
    card = json.loads((DEFAULT_WEIGHTS / CARD_NAME).read_text(encoding="utf-8"))
    history = card["training"]["history"]
    for name in (card["weights"]["file"], card["novelty"]["file"], history, CARD_NAME):
        shutil.copy(DEFAULT_WEIGHTS / name, folder)
    # The shipped card may name answers that are not here.
    card |= {"out_of_fold": None, "stress": None}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    content = split_csv(split, index.samples)
    (folder / "split.csv").write_bytes(content)
    results = {protocol: out_of_fold(index, i) for i, protocol in enumerate(PROTOCOLS)}
    answers = out_of_fold_csv(results).encode()
    (folder / OUT_OF_FOLD_NAME).write_bytes(answers)
    stress = stress_npz({"series": stress_answers(results["series"], 0)})
    (folder / "stress.npz").write_bytes(stress)
    parts = {part: len(split.indices(index.samples, part)) for part in ("train", "val", "test")}
    update_card(
        folder,
        {
            "split": {
                "protocol": "random",
                "seed": 0,
                "file": "split.csv",
                "sha256": hashlib.sha256(content).hexdigest(),
                "n": parts,
            },
            "out_of_fold": {
                "file": OUT_OF_FOLD_NAME,
                "sha256": hashlib.sha256(answers).hexdigest(),
            },
            "stress": {
                "file": "stress.npz",
                "sha256": hashlib.sha256(stress).hexdigest(),
            },
        },
    )
    return folder


@pytest.fixture
def loaded(gated_classifier) -> Classifier:
    """The network with the calibration and the gate of these weights, which are the shipped ones."""
    return gated_classifier


@pytest.fixture
def weights(cross_validated, loaded, tmp_path, monkeypatch) -> Path:
    """A copy of the weights; the network itself is compiled once for all tests."""
    folder = tmp_path / "weights"
    shutil.copytree(cross_validated, folder)

    def load(asked: Path) -> Classifier:
        card = read_card(asked)
        assert card.sha256 == loaded.card.sha256
        assert card.calibration == loaded.card.calibration
        return loaded

    monkeypatch.setattr(Classifier, "load", load)
    return folder


@pytest.fixture
def foreign(tmp_path) -> Path:
    """Two kinds of foreign images, and a file that is none."""
    folder = tmp_path / "foreign"
    rng = np.random.default_rng(0)
    for kind in ("coarse_noise", "grey_walls"):
        (folder / kind).mkdir(parents=True)
    for i in range(3):
        noise = rng.integers(0, 256, (14, 14, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        (folder / "coarse_noise" / f"{i}.png").write_bytes(encode(noise))
    (folder / "coarse_noise" / "broken.png").write_bytes(b"no image")
    (folder / "grey_walls" / "a.png").write_bytes(encode(np.full((224, 224, 3), 90, np.uint8)))
    (folder / "notes.txt").write_text("not a folder of images")
    return folder


def unused(*_):
    raise AssertionError("nothing may be computed before the input was checked")


@pytest.fixture(scope="module")
def parts(index, split, images):
    """Images and labels by part of the split."""
    rows = {part: split.indices(index.samples, part) for part in ("train", "val", "test")}
    return {part: (images[i], index.labels[i]) for part, i in rows.items()}


def right(classifier: Classifier, images, labels) -> int:
    predictions = classifier.predict(list(images), include_rejected=True)
    return sum(p.class_name == CLASS_NAMES[k] for p, k in zip(predictions, labels, strict=True))


def test_of_fields_without_a_remark_the_report_says_how_many_are_right():
    answers = [("ok", 0), ("ok", 1), ("ok", 2), ("review", 3), ("rejected", None), ("error", None)]

    class Answering:
        def stream(self, images):
            for status, label in answers[: len(images)]:
                name = None if label is None else CLASS_NAMES[label]
                yield SimpleNamespace(status=status, class_name=name)

    fields, labels, groups = (
        np.zeros((5, 8, 8, 3), np.uint8),
        np.array([0, 1, 1, 0, 0]),
        np.arange(5),
    )
    found = measure_statuses(Answering(), fields, labels, groups, {"cats": ["a"] * 6})
    assert (found["test"]["review"]["proportion"], found["cats"]["review"]["n"]) == (1 / 5, 5)
    for factor in BRIGHTNESS_FACTORS:
        record = found[f"test, brightness x{factor}"]["right_of_ok"]
        assert (record["n"], record["proportion"]) == (3, pytest.approx(2 / 3))
    assert "right_of_ok" not in found["cats"]
    answers[:3] = [("review", 0)] * 3
    statuses = measure_statuses(Answering(), fields, labels, groups, {})
    assert statuses["test"]["right_of_ok"] is None


def test_evaluate(weights, data, foreign, loaded, parts, capsys):
    before = read_card(weights)
    command = ["--data", str(data), "--weights", str(weights), "--foreign", str(foreign)]
    assert evaluate.main(command) == 0
    result = json.loads((weights / "evaluation.json").read_text())
    assert result["release"] == before.release
    for part, (images, labels) in parts.items():
        figures = result["parts"][part]
        assert figures["n"] == len(labels)
        assert np.trace(figures["confusion"]) == right(loaded, images, labels)

    images, labels = parts["test"]
    statuses = [p.status for p in loaded.predict([brightness(rgb, 0.8) for rgb in images])]
    found = result["statuses"]["test, brightness x0.8"]
    assert found["rejected"]["proportion"] == statuses.count("rejected") / len(labels)
    assert found["review"]["proportion"] == statuses.count("review") / len(labels)
    assert [name for name in result["statuses"] if not name.startswith("test")] == [
        "coarse noise",
        "grey walls",
    ]
    noise = result["statuses"]["coarse noise"]["rejected"]
    assert (noise["proportion"], noise["n"]) == (1, 3)  # the broken file does not count

    change = PERTURBATIONS["gamma"]["0.7"]
    darkened = [change(rgb) for rgb in images]
    record = result["robustness"]["gamma"]["0.7"]
    assert record["proportion"] == right(loaded, darkened, labels) / len(labels)

    # One field of each class: nothing can lend a background of the same class.
    tests = result["stress"]["tests"]
    assert "restained like a field of another class" in tests
    assert not [name for name in tests if "of the same class" in name]
    assert tests["as they are"]["right"]["proportion"] == right(loaded, images, labels) / len(
        labels
    )

    recipe = before.content["training"]["recipe"]
    answers, stress = out_of_fold_of(before), stress_of(before)
    expected = json.loads(json.dumps(measure_unseen(answers, before.novelty, stress, recipe)))
    assert result["unseen"] == expected
    assert "stress" in expected["series"]
    assert "stress" not in expected["blocks-100"]
    assert result["operating_point"] == before.content["malignant"]
    assert expected["series"]["malignant"]["called_benign"]["n"] == 3 * PER_CLASS

    after = read_card(weights)
    assert after.release == before.release
    assert after.content["metrics"]["test"]["n"] == len(labels)
    for protocol in PROTOCOLS:
        kept = after.content["metrics"][protocol]
        assert kept["n"] == 4 * PER_CLASS
        assert kept["interval_95"] == expected[protocol]["interval_95"]
    text = (weights / "EVALUATION.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert f"Release `{before.release}`" in text
    assert "## Unseen slides" in text
    assert "| Najjar et al. (2025) | MSEENet, the paper | 98.77 | 98.99 | 98.49 |" in text
    best = before.content["training"]["best_epoch"]["fine_tune"]
    assert f"| fine-tune | **{best}** |" in text
    assert "![" not in text
    assert "## Shortcuts" not in (weights / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_evaluate_elsewhere_leaves_the_weights_alone(weights, data, tmp_path, capsys):
    update_card(weights, {"out_of_fold": None, "stress": None, "metrics": {}})
    card = (weights / CARD_NAME).read_bytes()
    out = tmp_path / "report"
    command = ["--data", str(data), "--weights", str(weights), "--out", str(out)]
    assert evaluate.main(command) == 0
    assert "unseen slides are left out" in capsys.readouterr().err
    result = json.loads((out / "evaluation.json").read_text())
    assert "unseen" not in result
    assert "operating_point" not in result
    assert "## Unseen slides" not in (out / "EVALUATION.md").read_text(encoding="utf-8")
    assert (weights / CARD_NAME).read_bytes() == card
    assert not (weights / "evaluation.json").exists()


def test_audit(weights, data, loaded, parts, capsys):
    assert audit.main(["--data", str(data), "--weights", str(weights)]) == 0
    result = json.loads((weights / "audit.json").read_text())
    images, labels = parts["test"]
    assert result["release"] == read_card(weights).release
    assert result["n"] == len(labels)

    # The rendered classes differ in stain: colour alone tells them apart.
    assert result["color_alone"]["random test"]["proportion"] == 1
    for embargo in EMBARGOES:
        assert result["color_alone"][f"unseen blocks, embargo {embargo}"]["n"] == 4 * PER_CLASS
    for protocol, answers in out_of_fold_of(read_card(weights)).items():
        record = result["network"][protocol_title(protocol)]
        expected = np.mean(answers.logits.argmax(axis=1) == answers.labels)
        assert record["proportion"] == pytest.approx(expected)
    assert len(result["frozen_features"]) == 2 * 3

    variants = occlude(images, labels, [nucleus_mask(rgb) for rgb in images])
    plain = result["network"]["as they are"]
    for name, changed in variants.items():
        predictions = loaded.predict(changed, heatmaps="predicted", include_rejected=True)
        figures = result["network"][name]
        count = right(loaded, changed, labels)
        assert figures["proportion"] == count / len(labels)
        named = [p.class_name for p in predictions]
        assert figures["named"] == {name: named.count(name) for name in CLASS_NAMES}
        if name == "as they are":
            heat = [p.heatmap for p in predictions]
            masks = [nucleus_mask(rgb) for rgb in images]
            on_cells = [h[m].sum() / h.sum() for h, m in zip(heat, masks, strict=True) if h.sum()]
            total = sum(on_cells) / len(images)
            assert plain["heat_on_cells"] == pytest.approx(total, rel=1e-4)
            assert all(m.any() for m in masks)
            near = [ndimage.distance_transform_edt(~m) <= GRID_CELL for m in masks]
            on_cells = [h[m].sum() / h.sum() for h, m in zip(heat, near, strict=True) if h.sum()]
            assert plain["heat_near_cells"] == pytest.approx(sum(on_cells) / len(images), rel=1e-4)
            assert plain["area_near_cells"] == pytest.approx(np.mean(near))
    assert plain["changed"]["proportion"] == 0

    text = (weights / "AUDIT.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    for part, title in (("network", "network"), ("color_alone", "colour alone")):
        for name, record in result[part].items():
            assert (
                f"| {title} | {name} | {record['n']} | {100 * record['proportion']:.2f} (" in text
            )

    # The model card takes the findings over while they are of its release, not afterwards.
    card = read_card(weights)
    assert evaluate.read_audit(weights, card)["summary"] == result["summary"]
    recalibrated = update_card(
        weights, {"calibration": {**card.content["calibration"], "value": 2.0}}
    )
    assert evaluate.read_audit(weights, recalibrated) is None
    assert "of another release" in capsys.readouterr().err


def test_occlusion_changes_what_it_says_and_nothing_else(images, index):
    chosen = [0, PER_CLASS, 2 * PER_CLASS, 3 * PER_CLASS]
    fields, labels = images[chosen], index.labels[chosen]
    masks = [nucleus_mask(rgb) for rgb in fields]
    variants = occlude(fields, labels, masks)
    corner = scale_bar_corner((224, 224))
    for i, mask in enumerate(masks):
        assert mask.any()
        blanked = variants["nucleated cells blanked out"][i]
        assert np.ptp(blanked[mask].reshape(-1, 3), axis=0).max() == 0
        others = variants["all but nucleated cells blanked out"][i]
        np.testing.assert_array_equal(others[mask], fields[i][mask])
        black = variants["scale-bar corner black"][i]
        assert not black[corner].any()
        np.testing.assert_array_equal(black[~corner], fields[i][~corner])
        lent = variants["scale-bar corner of another class"][i]
        np.testing.assert_array_equal(lent[corner], fields[(i + 1) % 4][corner])
        np.testing.assert_array_equal(lent[~corner], fields[i][~corner])


def test_altered_stress_tests_are_refused_before_any_work(weights, data, monkeypatch):
    (weights / "stress.npz").write_bytes(b"other")
    monkeypatch.setattr(Classifier, "load", unused)
    with pytest.raises(DatasetError, match="expected the answers that the card's calibration"):
        evaluate.main(["--data", str(data), "--weights", str(weights)])


@pytest.mark.parametrize("command", [evaluate.main, audit.main])
def test_altered_answers_are_refused_before_any_work(command, weights, data, monkeypatch):
    path = weights / OUT_OF_FOLD_NAME
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setattr(Classifier, "load", unused)
    with pytest.raises(DatasetError, match="expected the answers that the card's calibration"):
        command(["--data", str(data), "--weights", str(weights)])


@pytest.mark.parametrize("command", [evaluate.main, audit.main])
def test_an_altered_split_is_refused_before_any_work(command, weights, data, monkeypatch):
    (weights / "split.csv").write_text("split,file,sha256\n")
    monkeypatch.setattr(Classifier, "load", unused)
    with pytest.raises(DatasetError, match="expected the split file that the card names"):
        command(["--data", str(data), "--weights", str(weights)])


@pytest.mark.parametrize("command", [evaluate.main, audit.main])
def test_a_dataset_that_lacks_an_image_is_refused(command, weights, data, tmp_path, monkeypatch):
    shutil.copytree(data, tmp_path / "less")
    next((tmp_path / "less" / "Pre-B").glob("*.png")).unlink()
    monkeypatch.setattr(Classifier, "load", unused)
    with pytest.raises(DatasetError, match=r"1 of the 40 images that split\.csv lists are missing"):
        command(["--data", str(tmp_path / "less"), "--weights", str(weights)])


@pytest.mark.parametrize("made", [[], ["foreign"], ["foreign/empty"]])
def test_foreign_images_are_looked_for_first(made, weights, tmp_path, monkeypatch):
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(evaluate, "index_dataset", unused)
    arguments = ["--data", "d", "--weights", str(weights), "--foreign", str(tmp_path / "foreign")]
    with pytest.raises(UsageError, match="foreign: expected"):
        evaluate.main(arguments)


@pytest.mark.parametrize("names", [["test"], ["test, brightness x0.8"], ["a_b", "a b"]])
def test_kinds_that_the_report_could_not_tell_apart_are_refused(names, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(UsageError, match="is taken in the report"):
        foreign_images(tmp_path)


@pytest.mark.parametrize(
    ("command", "section"),
    [(evaluate.main, "split"), (evaluate.main, "training"), (audit.main, "split")],
)
def test_a_card_without_what_is_measured_is_refused(command, section, weights, data, monkeypatch):
    update_card(weights, {section: None})
    monkeypatch.setattr(Classifier, "load", unused)
    with pytest.raises(DatasetError, match=f"expected a card that names its {section}"):
        command(["--data", str(data), "--weights", str(weights)])


def test_figures_of_one_release_do_not_go_into_the_card_of_another(weights):
    card = read_card(weights)
    update_card(weights, {"calibration": {**card.content["calibration"], "value": 2.0}})
    before = (weights / CARD_NAME).read_bytes()
    with pytest.raises(UsageError, match="another release was published"):
        evaluate.write_reports({"parts": {"val": {}, "test": {}}}, card, {}, weights)
    assert (weights / CARD_NAME).read_bytes() == before
    assert not (weights / "evaluation.json").exists()


def test_audit_names_what_is_missing_before_any_work(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr(audit, "index_dataset", unused)
    with pytest.raises(UsageError, match=r"pip install 'mseenet\[train\]'"):
        audit.main(["--data", "d", "--weights", str(weights)])
