import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mseenet.inference.calibration import Calibration, fit_calibration
from mseenet.metrics import softmax


def test_temperature_grows_with_novelty_and_stays_finite():
    calibration = Calibration(4.0, 2.0)
    temperatures = calibration.temperatures(np.array([0.0, 0.9, 1.0, 1.5, 1e9]))
    assert temperatures.shape == (5, 1)
    assert temperatures[0] == 1
    assert temperatures[2] == pytest.approx(4)
    assert (np.diff(temperatures[:, 0]) > 0).all()
    assert np.isfinite(temperatures).all()


@given(
    st.floats(1, 20),
    st.floats(0, 6),
    st.lists(st.floats(-30, 30), min_size=4, max_size=4),
    st.floats(0, 100),
)
def test_it_never_changes_the_order_of_the_classes(value, slope, logits, novelty):
    temperatures = Calibration(value, slope).temperatures(np.array([novelty]))
    probabilities = softmax(np.array([logits]), temperatures)[0]
    assert (np.diff(probabilities[np.argsort(logits, kind="stable")]) >= -1e-12).all()
    assert probabilities.max() <= softmax(np.array([logits]))[0].max() + 1e-12


@pytest.mark.parametrize(("value", "slope"), [(4.0, 2.0), (2.0, 0.0)])
def test_the_fit_recovers_what_made_the_logits(value, slope):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, size=(20_000, 4))
    novelty = random.uniform(0.5, 1.5, len(logits))
    labels = np.array([random.choice(4, p=p) for p in softmax(logits)])
    made = logits * value * np.exp(slope * (novelty - 1))[:, None]
    found = fit_calibration(made, novelty, labels)
    assert found.value == pytest.approx(value, rel=0.05)
    assert found.slope == pytest.approx(slope, abs=0.15)


def test_errorless_fields_do_not_buy_certainty():
    logits = np.eye(4)[np.arange(200) % 4]
    found = fit_calibration(logits, np.full(200, 0.5), np.arange(200) % 4)
    assert (found.temperatures(np.linspace(0, 1, 5)) >= 1).all()


def test_one_temperature_is_recovered_and_never_below_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    cumulative = softmax(logits).cumsum(axis=1)
    labels = (rng.random(20_000)[:, None] > cumulative).sum(axis=1)
    found = fit_calibration(3 * logits, None, labels)
    assert found.value == pytest.approx(3, abs=0.15)
    assert found.slope == 0
    # What is not sure enough stays as it is.
    assert fit_calibration(0.3 * logits, None, labels).record() == {"value": 1.0, "slope": 0.0}
