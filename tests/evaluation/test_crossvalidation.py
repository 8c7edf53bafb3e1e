import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.out_of_fold import (
    MALIGNANT_SENSITIVITY,
    TRUSTED_ACCURACY,
    OutOfFold,
    calibrate,
    out_of_fold_csv,
    read_out_of_fold,
)
from mseenet.inference.calibration import Calibration
from mseenet.metrics import expected_calibration_error, softmax
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
    results = [overconfident(0, 10_000), overconfident(1, 10_000)]
    card = calibrate(results, REJECT)
    assert card["calibration"]["value"] == pytest.approx(3, abs=0.1)
    assert card["calibration"]["slope"] == pytest.approx(2, abs=0.1)
    assert card["calibration"]["n"] == 20_000

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
