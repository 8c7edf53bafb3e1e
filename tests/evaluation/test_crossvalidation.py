import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.crossvalidation import (
    OutOfFold,
)
from mseenet.evaluation.out_of_fold import (
    MALIGNANT_SENSITIVITY,
    TRUSTED_ACCURACY,
    calibrate,
    out_of_fold_csv,
    read_out_of_fold,
)
from mseenet.evaluation.unseen import measure_blocks, without_own_fold
from mseenet.inference.calibration import Calibration
from mseenet.metrics import softmax
from mseenet.training.dataset import DatasetError

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
    return OutOfFold(files, folds, labels, temperatures * logits, distances)


def test_calibration_finds_the_temperature_and_keeps_its_promises():
    results = [overconfident(0), overconfident(1)]
    card = calibrate(results, REJECT)
    assert card["calibration"]["value"] == pytest.approx(3, abs=0.3)
    assert card["calibration"]["slope"] == pytest.approx(2, abs=0.3)
    assert card["calibration"]["n"] == 4000

    labels = np.concatenate([r.labels for r in results])
    calibration = Calibration(*(card["calibration"][name] for name in ("value", "slope")))
    novelty = np.concatenate([r.novelty for r in results]) / REJECT
    probabilities = softmax(
        np.concatenate([r.logits for r in results]), calibration.temperatures(novelty)
    )
    trusted = probabilities.max(axis=1) >= card["review_confidence"]["value"]
    assert trusted.any()
    assert np.mean(probabilities.argmax(axis=1)[trusted] == labels[trusted]) >= TRUSTED_ACCURACY
    malignant = 1 - probabilities[labels != 0, 0]
    assert np.mean(malignant >= card["malignant"]["threshold"]) >= MALIGNANT_SENSITIVITY
    assert card["malignant"]["sensitivity"] >= MALIGNANT_SENSITIVITY


def test_results_go_through_the_file(tmp_path):
    result = overconfident(2, 40)
    (tmp_path / "out-of-fold.csv").write_text(out_of_fold_csv({50: result, 100: result}))
    again = read_out_of_fold(tmp_path)
    assert list(again) == [50, 100]
    assert again[100].files == result.files
    np.testing.assert_array_equal(again[50].labels, result.labels)
    np.testing.assert_array_equal(again[50].folds, result.folds)
    np.testing.assert_allclose(again[50].logits, result.logits, atol=1e-4)


@pytest.mark.parametrize("content", [None, "fold,file\n1,x\n", "embargo,fold,file\nx,1,y\n"])
def test_an_unusable_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "out-of-fold.csv").write_text(content)
    with pytest.raises(DatasetError, match=r"out-of-fold\.csv: expected"):
        read_out_of_fold(tmp_path)


def test_figures_on_unseen_slides():
    folds = {50: overconfident(3), 100: overconfident(4)}
    figures = measure_blocks(folds, REJECT * 1.4, REJECT)["50"]
    result = folds[50]
    correct = result.logits.argmax(axis=1) == result.labels
    assert figures["mean_accuracy"] == pytest.approx(
        np.mean([correct[result.folds == k].mean() for k in range(5)])
    )
    assert figures["after_calibration"]["ece"] < 0.05 < figures["before_calibration"]["ece"]
    assert figures["selective"]["n"] == 1700
    assert figures["selective"]["proportion"] > figures["accuracy"]
    assert figures["risk_coverage"][-1] == [1.0, pytest.approx(correct.mean())]
    low, high = figures["interval_95"]["accuracy"]
    assert low < correct.mean() < high
    flagged = figures["flagged"]
    assert flagged["errors"]["n"] == np.sum(~correct)
    assert flagged["errors"]["proportion"] > flagged["fields"]["proportion"]
    assert flagged["rest_right"]["proportion"] > correct.mean()


def test_no_field_has_a_part_in_its_own_calibration():
    folds = {50: overconfident(3), 100: overconfident(4)}
    before = without_own_fold(folds, REJECT)
    for result in folds.values():
        mine = result.folds == 0
        result.labels[mine] = (result.labels[mine] + 1) % 4  # all that was right is wrong now
    after = without_own_fold(folds, REJECT)
    for embargo, result in folds.items():
        mine = result.folds == 0
        for old, new in zip(before[embargo], after[embargo], strict=True):
            np.testing.assert_array_equal(old[mine], new[mine])
        assert not np.allclose(before[embargo][0][~mine], after[embargo][0][~mine])


def test_novel_fields_are_flagged_however_sure_the_network_is():
    folds = {50: overconfident(3), 100: overconfident(4)}
    flagged = measure_blocks(folds, 0.0, REJECT)["50"]["flagged"]
    assert flagged["fields"]["proportion"] == flagged["errors"]["proportion"] == 1


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


@pytest.mark.slow
def test_from_the_command_to_the_card(measured, smoke_data, monkeypatch):
    folder, command = measured
    monkeypatch.setattr(crossvalidate, "EMBARGOES", (50,))
    before = read_card(folder)
    (folder / "out-of-fold.csv").write_text("mine")  # no card names it

    # One process trains the folds; the next finds them, trains nothing and completes the card.
    assert crossvalidate.main([*command, "--embargo", "50"]) == 0
    assert read_card(folder).content == before.content
    (work,) = (folder / ".checkpoint").glob("folds-*")
    assert len(list(work.glob("*.npz"))) == 5
    monkeypatch.setattr(crossvalidation, "_train_and_test", None)
    assert crossvalidate.main(command) == 0

    card = read_card(folder)
    assert card.release != before.release
    assert card.sha256 == before.sha256
    assert not (folder / ".checkpoint").exists()
    assert (folder / "out-of-fold.csv").read_text() == "mine"
    (result,) = out_of_fold_of(card).values()
    samples = index_dataset(smoke_data).samples
    assert result.files == [sample.file for sample in samples]
    np.testing.assert_array_equal(result.labels, [sample.label for sample in samples])
    # Blocks of file order: each class of 20 in five of 4.
    np.testing.assert_array_equal(result.folds, np.tile(np.repeat(np.arange(5), 4), 4))
    assert np.mean(result.logits.argmax(axis=1) == result.labels) > 0.5
    assert np.isfinite(result.novelty).all()
    expected = calibrate([result], card.novelty.reject)
    assert card.content["calibration"]["n"] == 80
    assert card.calibration.value == pytest.approx(expected["calibration"]["value"], abs=0.01)
    assert card.review_confidence == pytest.approx(expected["review_confidence"]["value"], abs=0.01)


@pytest.mark.slow
def test_another_backbone_would_measure_another_recipe(measured, tmp_path):
    _, command = measured
    (tmp_path / "other.weights.h5").write_bytes(b"other")
    with pytest.raises(UsageError, match="expected the file that the weights were trained from"):
        crossvalidate.main([*command, "--backbone-weights", str(tmp_path / "other.weights.h5")])


@pytest.fixture
def folds() -> Folds:
    samples = samples_of({label: [1] * 10 for label in range(4)})
    numbered = [
        replace(s, file=f"{s.file.split('/')[0]}/{1000 * i}.png") for i, s in enumerate(samples)
    ]
    index = DatasetIndex(Path(), tuple(numbered), ())
    images = np.zeros((40, 1, 1, 3), np.uint8)
    record = {"name": "b", "weights": "file", "sha256": "0"}
    return Folds(index, images, [], RobustConfig(), ModelConfig(), "b.weights.h5", record)


@pytest.mark.parametrize(
    "change",
    [
        {"config": RobustConfig(seed=1)},
        {"config": RobustConfig(fine_tune=PhaseConfig(epochs=3, learning_rate=3e-4, cosine=True))},
        {"model_config": ModelConfig(dropout=0.1)},
        {"backbone": {"name": "b", "weights": "imagenet"}},
        {"duplicates": [(0, 1)]},
    ],
)
def test_folds_of_anything_else_are_not_reused(folds, change):
    assert replace(folds).key() == folds.key()
    assert replace(folds, **change).key() != folds.key()


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
    tested = folds.tested(2, 50)
    path = tmp_path / "embargo50-fold2.npz"
    answers = {"logits": np.zeros((len(tested), 4)), "novelty": np.zeros(len(tested))}
    assert not crossvalidation._is_kept(folds, tmp_path, 50, 2)
    np.savez(path, files=tested, **answers)
    assert crossvalidation._is_kept(folds, tmp_path, 50, 2)
    np.savez(path, files=tested[::-1], **answers)
    assert not crossvalidation._is_kept(folds, tmp_path, 50, 2)


def test_folds_are_put_in_the_order_of_the_index(folds, tmp_path):
    position = {s.file: i for i, s in enumerate(folds.index.samples)}
    for fold in range(5):
        files = folds.tested(fold, 50)
        rows = np.array([position[file] for file in files])
        np.savez(
            tmp_path / f"embargo50-fold{fold}.npz",
            files=files,
            logits=rows[:, None] + np.arange(4) / 10,
            novelty=rows,
        )
    result = collect(folds, tmp_path, 50)
    assert result.files == [s.file for s in folds.index.samples]
    np.testing.assert_array_equal(result.novelty, np.arange(40))
    np.testing.assert_allclose(result.logits[:, 3], np.arange(40) + 0.3)
    (tmp_path / "mine.txt").touch()
    remove_folds(tmp_path, (50,))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
