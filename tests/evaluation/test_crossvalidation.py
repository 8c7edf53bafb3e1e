import inspect
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from mseenet.commands import crossvalidate
from mseenet.config import (
    CLASS_NAMES,
    CellsConfig,
    ModelConfig,
    PhaseConfig,
    RobustConfig,
    recipe_name,
)
from mseenet.errors import UsageError
from mseenet.evaluation import crossvalidation
from mseenet.evaluation.crossvalidation import Folds, collect, remove_folds
from mseenet.evaluation.out_of_fold import (
    MALIGNANT_SENSITIVITY,
    TRUSTED_ACCURACY,
    OutOfFold,
    calibrate,
    hardest,
    out_of_fold_csv,
    read_out_of_fold,
)
from mseenet.evaluation.stress import ANOTHER_CLASS, HALF, STRESS_TESTS, UNCHANGED
from mseenet.evaluation.unseen import measure_unseen, out_of_fold_of, stress_of
from mseenet.files import own_folder
from mseenet.imaging import perturbations
from mseenet.inference import network, novelty
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import read_card, update_card
from mseenet.metrics import expected_calibration_error, softmax
from mseenet.training import augmentation, gate, loop, robust, splits
from mseenet.training.dataset import DatasetError, DatasetIndex, Sample, index_dataset
from mseenet.training.series import read_captures

REJECT = 10.0


def overconfident(seed: int, count: int = 2000) -> OutOfFold:
    """Logits too large for how often they are right, the more so the farther they are."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, size=(count, 4))
    labels = np.array([random.choice(4, p=p) for p in softmax(logits)])
    files = [f"{CLASS_NAMES[label]}/field-{i:04d}.png" for i, label in enumerate(labels)]
    folds = np.arange(count) % 5
    distances = random.uniform(5, 15, count)
    temperatures = 3 * np.exp(2 * (distances / REJECT - 1))[:, None]
    parts = np.array([f"part {i % 20}" for i in range(count)])
    return OutOfFold(files, folds, parts, labels, temperatures * logits, distances)


def test_calibration_finds_the_temperature_and_keeps_its_promises():
    card = calibrate({"series": overconfident(0, 20_000)}, "series", REJECT)
    assert card["calibration"]["value"] == pytest.approx(3, abs=0.1)
    assert card["calibration"]["slope"] == pytest.approx(2, abs=0.1)
    assert card["calibration"]["n"] == 20_000
    assert card["calibration"]["fitted_on"].endswith("protocol series")

    assert card["malignant"]["sensitivity"] >= MALIGNANT_SENSITIVITY

    # What is promised of the fitted fields holds, but for chance, of others of the same kind.
    fresh = overconfident(2, 20_000)
    calibration = Calibration(*(card["calibration"][name] for name in ("value", "slope")))
    probabilities = softmax(fresh.logits, calibration.temperatures(fresh.novelty / REJECT))
    trusted = probabilities.max(axis=1) >= card["review_confidence"]["value"]
    right = probabilities.argmax(axis=1) == fresh.labels
    assert trusted.sum() > 100
    assert right[trusted].mean() == pytest.approx(TRUSTED_ACCURACY, abs=0.01)
    assert right[~trusted].mean() < TRUSTED_ACCURACY - 0.1
    assert expected_calibration_error(probabilities, fresh.labels) < 0.02
    assert expected_calibration_error(softmax(fresh.logits), fresh.labels) > 0.1
    malignant = 1 - probabilities[:, 0]
    caught = malignant >= card["malignant"]["threshold"]
    ill = fresh.labels != 0
    assert caught[ill].mean() == pytest.approx(MALIGNANT_SENSITIVITY, abs=0.005)
    assert (~caught)[~ill].mean() == pytest.approx(card["malignant"]["specificity"], abs=0.03)


def test_the_operating_point_holds_in_every_protocol():
    hard, easy = overconfident(0, 20_000), overconfident(1, 20_000)
    ill = np.flatnonzero(easy.labels != 0)
    easy.logits[ill[:200]] = [9, 0, 0, 0]  # missed in this protocol alone
    results = {"series-siblings": hard, "series": easy}
    both = calibrate(results, "series-siblings", REJECT)
    one = calibrate({"series-siblings": hard}, "series-siblings", REJECT)
    assert both["calibration"] == one["calibration"]
    assert both["review_confidence"] == one["review_confidence"]
    assert both["malignant"]["threshold"] < one["malignant"]["threshold"]
    assert both["malignant"]["specificity"] < one["malignant"]["specificity"]
    calibration = Calibration(*(both["calibration"][name] for name in ("value", "slope")))
    for result in results.values():
        probabilities = softmax(result.logits, calibration.temperatures(result.novelty / REJECT))
        caught = 1 - probabilities[:, 0] >= both["malignant"]["threshold"] - 1e-3
        assert caught[result.labels != 0].mean() >= MALIGNANT_SENSITIVITY - 1e-3


def test_the_hardest_protocol_is_the_one_with_most_errors():
    easy, hard = overconfident(1, 400), overconfident(1, 400)
    hard = replace(hard, logits=np.roll(hard.logits, 1, axis=1))
    assert hardest({"a": easy, "b": hard, "c": easy}) == "b"


def test_results_go_through_the_file(tmp_path):
    result = overconfident(2, 40)
    text = out_of_fold_csv({"series": result, "blocks-100": result})
    (tmp_path / "answers.csv").write_text(text)
    again = read_out_of_fold(tmp_path, "answers.csv")
    assert list(again) == ["series", "blocks-100"]
    assert again["blocks-100"].files == result.files
    for name in ("labels", "folds", "parts"):
        np.testing.assert_array_equal(getattr(again["series"], name), getattr(result, name))
    np.testing.assert_allclose(again["series"].logits, result.logits, atol=1e-4)


@pytest.mark.parametrize("content", [None, "fold,file\n1,x\n", "protocol,fold,file\nx,1,y\n"])
def test_an_unusable_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "answers.csv").write_text(content)
    with pytest.raises(DatasetError, match=r"answers\.csv: expected"):
        read_out_of_fold(tmp_path, "answers.csv")


@pytest.fixture(scope="module")
def measured(smoke_weights, smoke_data, tmp_path_factory):
    """A copy of the smoke weights whose folds cost little, and the command that tests them."""
    folder = tmp_path_factory.mktemp("crossvalidated") / "weights"
    shutil.copytree(smoke_weights, folder)
    settings = read_card(folder).content["training"]["settings"]
    settings["head"]["epochs"], settings["fine_tune"]["epochs"] = 4, 0
    training = read_card(folder).content["training"] | {"settings": settings}
    update_card(folder, {"training": training})
    backbone = smoke_weights.parent / "random.weights.h5"
    command = ["--data", str(smoke_data), "--weights", str(folder), "--backbone-weights"]
    return folder, [*command, str(backbone)]


THREE_FOLDS = """
import sys
from mseenet import cli
from mseenet.evaluation import crossvalidation

crossvalidation.FOLDS = 3
cli.main(["crossvalidate", *sys.argv[1:]])
"""
"""Each fold takes half a minute."""


def interrupted_after_a_fold(command: list[str], folder: Path, temporary: Path) -> dict[Path, int]:
    """Ends a process that trains folds when the first one is kept; gives what that is, and when."""
    process = subprocess.Popen(
        [sys.executable, "-c", THREE_FOLDS, *command],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    pattern = ".checkpoint/folds-*/blocks-50-fold0.npz"
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.1)
    with pytest.raises(UsageError, match=f"process {process.pid} on .* is writing there"):
        crossvalidate.main(command)
    process.terminate()
    _, told = process.communicate(timeout=900)
    assert process.returncode == 143
    assert told.splitlines()[-1].endswith("ended by SIGTERM")
    assert "Traceback" not in told
    assert list(temporary.iterdir()) == []
    kept = sorted(folder.glob(".checkpoint/folds-*/*"))
    assert [path.suffix for path in kept[1:]] == [".npz"] * (len(kept) - 1)
    assert 1 < len(kept) < 4  # the marker and some folds
    return {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
def test_from_the_command_to_the_card(measured, smoke_data, monkeypatch, tmp_path):
    monkeypatch.setattr(crossvalidation, "FOLDS", 3)
    folder, command = measured
    before = read_card(folder)
    (folder / "out-of-fold.csv").write_text("mine")  # no card names it

    # One process trains the folds; the next finds them, trains nothing and completes the card.
    command = [*command, "--protocol", "blocks-50"]
    first = interrupted_after_a_fold(command, folder, tmp_path)
    assert crossvalidate.main([*command, "--folds-only"]) == 0
    assert read_card(folder).content == before.content
    (work,) = (folder / ".checkpoint").glob("folds-*")
    assert len(list(work.glob("*.npz"))) == 3
    assert first.items() <= {path: path.stat().st_mtime_ns for path in work.iterdir()}.items()
    monkeypatch.setattr(crossvalidation, "_train_and_test", None)
    assert crossvalidate.main(command) == 0

    card = read_card(folder)
    assert card.release != before.release
    assert card.sha256 == before.sha256
    assert not (folder / ".checkpoint").exists()
    assert (folder / "out-of-fold.csv").read_text() == "mine"
    ((protocol, result),) = out_of_fold_of(card).items()
    assert protocol == "blocks-50"
    samples = index_dataset(smoke_data).samples
    assert result.files == [sample.file for sample in samples]
    np.testing.assert_array_equal(result.labels, [sample.label for sample in samples])
    # Blocks of file order: each class of 20 in three.
    np.testing.assert_array_equal(result.folds, np.tile(np.repeat(np.arange(3), (7, 7, 6)), 4))
    assert np.mean(result.logits.argmax(axis=1) == result.labels) > 0.5
    assert np.isfinite(result.novelty).all()
    names = [
        f"{CLASS_NAMES[c]} block {f}" for c, f in zip(result.labels, result.folds, strict=True)
    ]
    assert result.parts.tolist() == names
    expected = calibrate({protocol: result}, protocol, card.novelty.reject)
    assert card.content["calibration"]["n"] == 80
    assert card.calibration.value == pytest.approx(expected["calibration"]["value"], abs=0.01)
    assert card.review_confidence == pytest.approx(expected["review_confidence"]["value"], abs=0.01)

    # The stress tests name positions of the very fields, each answered by its own fold.
    tests = stress_of(card)[protocol]
    assert list(tests) == list(STRESS_TESTS)
    unchanged = tests[UNCHANGED]
    np.testing.assert_array_equal(np.sort(unchanged.rows), np.arange(80))
    expected = result.logits[unchanged.rows]
    np.testing.assert_allclose(unchanged.logits, expected, atol=0.05)
    for name in ANOTHER_CLASS.values():
        rows, donors = tests[name].rows, tests[name].donors
        assert (result.labels[donors] != result.labels[rows]).all()
        np.testing.assert_array_equal(result.folds[donors], result.folds[rows])
    figures = measure_unseen(out_of_fold_of(card), card.novelty, stress_of(card), "robust")
    assert figures[protocol]["cells_counted"]
    assert figures[protocol]["stress"]["tests"][UNCHANGED]["n"] == 80


@pytest.mark.slow
def test_another_backbone_would_measure_another_recipe(measured, tmp_path):
    _, command = measured
    (tmp_path / "other.weights.h5").write_bytes(b"other")
    with pytest.raises(UsageError, match="expected the file that the weights were trained from"):
        crossvalidate.main([*command, "--backbone-weights", str(tmp_path / "other.weights.h5")])


@pytest.fixture
def folds() -> Folds:
    samples = [
        Sample(f"{name}/{1000 * i:05d}.png", Path(), label, f"{label}-{i}", f"{label}-{i}")
        for label, name in enumerate(CLASS_NAMES)
        for i in range(10)
    ]
    index = DatasetIndex(Path(), tuple(samples), ())
    images = np.zeros((40, 1, 1, 3), np.uint8)
    record = {"name": "b", "weights": "file", "sha256": "0"}
    return Folds(index, images, [], RobustConfig(), ModelConfig(), "b.weights.h5", record)


@pytest.mark.parametrize(
    "change",
    [
        {"config": RobustConfig(seed=1)},
        {"config": CellsConfig()},
        {"config": RobustConfig(fine_tune=PhaseConfig(epochs=3, learning_rate=3e-4, cosine=True))},
        {"model_config": ModelConfig(dropout=0.1)},
        {"backbone": {"name": "b", "weights": "imagenet"}},
        {"duplicates": [(0, 1)]},
    ],
)
def test_folds_of_anything_else_are_not_reused(folds, change):
    assert replace(folds).key() == folds.key()
    assert replace(folds, **change).key() != folds.key()


@pytest.mark.parametrize(
    "module", [perturbations, network, novelty, augmentation, gate, loop, robust, splits]
)
def test_folds_of_other_code_are_not_reused(folds, module, monkeypatch):
    before, source = folds.key(), inspect.getsource

    def edited(asked):
        return source(asked) + "# edited" * (asked is module)

    monkeypatch.setattr(inspect, "getsource", edited)
    assert folds.key() != before


def test_folds_of_another_dataset_are_not_reused(folds):
    first, *others = folds.index.samples
    for other in (
        replace(first, pixel_sha256="other"),
        replace(first, file="Benign/9.png"),
        replace(first, label=1),
    ):
        index = DatasetIndex(Path(), (other, *others), ())
        assert replace(folds, index=index).key() != folds.key()


def test_a_kept_fold_is_about_the_very_files(folds, tmp_path):
    tested = np.array([folds.index.samples[i].file for i in folds.tested("blocks-50", 2)])
    path = crossvalidation._fold_path(tmp_path, "blocks-50", 2)
    answers = {"logits": np.zeros((len(tested), 4)), "novelty": np.zeros(len(tested))}
    assert not crossvalidation._is_kept(folds, tmp_path, "blocks-50", 2)
    np.savez(path, files=tested, **answers)
    assert crossvalidation._is_kept(folds, tmp_path, "blocks-50", 2)
    assert not crossvalidation._is_kept(folds, tmp_path, "blocks-100", 2)
    np.savez(path, files=tested[::-1], **answers)
    assert not crossvalidation._is_kept(folds, tmp_path, "blocks-50", 2)


def test_folds_are_put_in_the_order_of_the_index(folds, tmp_path):
    own_folder(tmp_path / "work", crossvalidation.PURPOSE)
    for fold in range(5):
        rows = folds.tested("blocks-50", fold)
        n = len(rows)
        np.savez(
            crossvalidation._fold_path(tmp_path / "work", "blocks-50", fold),
            files=[folds.index.samples[i].file for i in rows],
            logits=rows[:, None] + np.arange(4) / 10,
            novelty=rows,
            **{
                f"{HALF}/rows": np.arange(n)[::-1],
                f"{HALF}/donors": np.where(np.arange(n) == 0, -1, 0),
                f"{HALF}/logits": rows[::-1, None] + np.arange(4) / 10,
                f"{HALF}/novelty": rows[::-1],
                **{f"{HALF}/{name}": np.zeros(n, int) for name in ("findings", "cells", "clear")},
            },
        )
    result, stress = collect(folds, tmp_path / "work", "blocks-50")
    assert result.files == [s.file for s in folds.index.samples]
    np.testing.assert_array_equal(result.novelty, np.arange(40))
    np.testing.assert_allclose(result.logits[:, 3], np.arange(40) + 0.3)
    assert list(stress) == [HALF]
    rows, donors = stress[HALF].rows, stress[HALF].donors
    np.testing.assert_array_equal(stress[HALF].novelty, rows)
    assert np.sum(donors == -1) == 5
    np.testing.assert_array_equal(
        result.folds[donors[donors >= 0]], result.folds[rows[donors >= 0]]
    )
    (tmp_path / "work" / "mine.txt").touch()
    remove_folds(folds, tmp_path / "work", ("blocks-50",))
    # Only what `run_folds` made goes.
    assert [p.name for p in (tmp_path / "work").glob("*.[nt]*")] == ["mine.txt"]


@pytest.fixture
def series_folds(folds) -> Folds:
    """Folds over all that the table of captures lists, without pixels."""
    samples = [
        Sample(f"{name}/WBC-{number:04d}.jpg", Path(), CLASS_NAMES.index(name), f"{i}", f"{i}")
        for i, (name, number) in enumerate(read_captures())
    ]
    index = DatasetIndex(Path(), tuple(samples), ())
    images = np.zeros((len(samples), 1, 1, 3), np.uint8)
    return replace(folds, index=index, images=images)


def keep_folds(folds: Folds, work: Path, protocols, cache=None) -> None:
    """What `run_folds` leaves, with logits that are right of all but each fold's first field.

    The hardest protocol is `series-siblings`: there the first forty are wrong.
    """
    own_folder(work, crossvalidation.PURPOSE)
    for protocol in protocols:
        wrong = 40 if protocol == "series-siblings" else 1
        for fold in range(folds.count(protocol)):
            rows = folds.tested(protocol, fold)
            named = folds.index.labels[rows]
            named[:wrong] = (named[:wrong] + 1) % 4
            np.savez(
                crossvalidation._fold_path(work, protocol, fold),
                files=[folds.index.samples[i].file for i in rows],
                logits=np.eye(4)[named],
                novelty=np.ones(len(rows)),
            )


def test_series_protocols_test_every_field_at_most_once(series_folds, tmp_path):
    assert (series_folds.count("series"), series_folds.count("series-siblings")) == (5, 4)
    keep_folds(series_folds, tmp_path / "work", ("series",))
    result, stress = collect(series_folds, tmp_path / "work", "series")
    assert result.files == [sample.file for sample in series_folds.index.samples]
    assert len(set(result.parts)) == 23
    assert stress == {}
    for part in set(result.parts):
        assert len(set(result.labels[result.parts == part])) == 1


def test_series_of_other_images_are_told_before_any_training(folds, tmp_path):
    with pytest.raises(DatasetError, match="expected a file of the published dataset"):
        crossvalidation.run_folds(folds, tmp_path / "work", ("series",))


def test_all_protocols_go_into_one_file_and_the_hardest_into_the_card(
    series_folds, weights_copy, monkeypatch
):
    index, images = series_folds.index, series_folds.images
    monkeypatch.setattr(crossvalidate, "index_dataset", lambda *_: index)
    monkeypatch.setattr(crossvalidate, "load_images", lambda *_, **__: images)
    monkeypatch.setattr(crossvalidate, "near_duplicates", lambda _: [])
    monkeypatch.setattr(crossvalidate, "run_folds", keep_folds)
    before = read_card(weights_copy)
    command = ["--data", "d", "--weights", str(weights_copy)]
    assert crossvalidate.main([*command, "--folds-only"]) == 0
    assert read_card(weights_copy).content == before.content
    assert crossvalidate.main(command) == 0
    card = read_card(weights_copy)
    results = out_of_fold_of(card)
    assert list(results) == ["series", "series-siblings"]
    wrong = {
        name: int(np.sum(result.logits.argmax(axis=1) != result.labels))
        for name, result in results.items()
    }
    assert wrong == {"series": 5, "series-siblings": 160}
    for entry in ("calibration", "review_confidence", "malignant"):
        assert card.content[entry]["fitted_on"].endswith("protocol series-siblings")
        assert card.content[entry]["n"] == len(results["series-siblings"].labels)
    assert card.release != before.release
    assert not (weights_copy / ".checkpoint").exists()


@pytest.mark.parametrize("config", [RobustConfig(copies=2), CellsConfig(donated=1)])
def test_the_recipe_is_read_from_the_card(gated_classifier, config):
    card = gated_classifier.card
    training = {"recipe": recipe_name(config), "settings": asdict(config)}
    assert crossvalidate.recipe_of(replace(card, content={"training": training})) == config
    for wrong in (training | {"recipe": "paper"}, training | {"settings": {"seed": 0}}):
        with pytest.raises(UsageError, match="expected"):
            crossvalidate.recipe_of(replace(card, content={"training": wrong}))
