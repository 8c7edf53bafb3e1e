import numpy as np
import pytest

from mseenet.case.summary import summarize_case
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction


def prediction(values, status="ok") -> Prediction:
    name = CLASS_NAMES[int(np.argmax(values))]
    probabilities = dict(zip(CLASS_NAMES, values, strict=True))
    return Prediction(status, name, probabilities, max(values))


BENIGN = prediction((0.7, 0.1, 0.1, 0.1))
PRE_B = prediction((0.1, 0.2, 0.6, 0.1))
PRE_B_REVIEW = prediction((0.1, 0.3, 0.4, 0.2), "review")
PRO_B_REJECTED = prediction((0.0, 0.0, 0.0, 1.0), "rejected")
REFUSED = Prediction("rejected", novelty=1.5, reasons=("unlike",))
UNREAD = Prediction("error", reasons=("no image",))


def test_only_named_fields_count_for_classes_and_means():
    summary = summarize_case([BENIGN, PRE_B, PRE_B_REVIEW, PRO_B_REJECTED, REFUSED, UNREAD])
    assert (summary.fields, summary.named) == (6, 3)
    assert summary.by_class == {"Benign": 1, "Early Pre-B": 0, "Pre-B": 2, "Pro-B": 0}
    assert summary.by_status == {"ok": 2, "review": 1, "rejected": 2, "error": 1}
    means = {name: mean.value for name, mean in summary.probabilities.items()}
    expected = {"Benign": 0.9 / 3, "Early Pre-B": 0.2, "Pre-B": 1.1 / 3, "Pro-B": 0.4 / 3}
    assert means == pytest.approx(expected)
    assert list(means) == list(CLASS_NAMES)
    assert summary.malignant.value == pytest.approx(1 - 0.3)


def test_malignant_mirrors_benign():
    summary = summarize_case([BENIGN, PRE_B, PRE_B_REVIEW])
    benign, malignant = summary.probabilities["Benign"], summary.malignant
    assert malignant.interval == pytest.approx((1 - benign.interval[1], 1 - benign.interval[0]))
    assert 0.1 <= benign.interval[0] < benign.value < benign.interval[1] <= 0.7


@pytest.mark.parametrize("rest", [[], [REFUSED, UNREAD, PRO_B_REJECTED]])
def test_one_named_field_has_no_interval(rest):
    summary = summarize_case([PRE_B, *rest])
    assert summary.named == 1
    assert summary.malignant.value == pytest.approx(0.9)
    assert summary.malignant.interval is None
    assert all(mean.interval is None for mean in summary.probabilities.values())


@pytest.mark.parametrize("predictions", [[], [UNREAD], [REFUSED, PRO_B_REJECTED]])
def test_without_a_named_field_there_is_no_mean(predictions):
    summary = summarize_case(predictions)
    assert (summary.fields, summary.named) == (len(predictions), 0)
    assert summary.probabilities == {}
    assert summary.malignant is None
    assert sum(summary.by_status.values()) == len(predictions)


def test_intervals_repeat_and_match_the_normal_approximation():
    rng = np.random.default_rng(1)
    values = rng.dirichlet((1, 2, 4, 1), size=300)
    predictions = [prediction(tuple(row)) for row in values.tolist()]
    summary = summarize_case(iter(predictions))
    assert summary == summarize_case(predictions) == summarize_case(reversed(predictions))
    for column, name in enumerate(CLASS_NAMES):
        mean = values[:, column].mean()
        half = 1.96 * values[:, column].std(ddof=1) / np.sqrt(300)
        low, high = summary.probabilities[name].interval
        assert summary.probabilities[name].value == pytest.approx(mean)
        assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)
