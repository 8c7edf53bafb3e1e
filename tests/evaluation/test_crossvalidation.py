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
