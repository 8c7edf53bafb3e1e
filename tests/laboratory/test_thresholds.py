"""Thresholds of image quality for a laboratory: how they are fitted, bounded, tried and reported."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from test_adapt import laboratory

from mseenet.commands.verify import terminal_text
from mseenet.imaging.appearance import appearance_of
from mseenet.imaging.perturbations import blur, brightness, contrast
from mseenet.imaging.quality import SHIPPED, Measures, Thresholds, check_quality, measured
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.normalisation import Normalisation
from mseenet.inference.profile import LOOSEST, SiteProfile
from mseenet.laboratory import adapt as module
from mseenet.laboratory import alignment
from mseenet.laboratory.adapt import folds_of
from mseenet.laboratory.answers import QUALITY, Answers
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import Images, LaboratoryFields
from mseenet.laboratory.page import report_html
from mseenet.laboratory.thresholds import (
    loosened,
    quality_record,
    quality_rows,
    too_few,
    useless,
)

GOOD = Measures(contrast=60.0, dark=200.0, sharpness=0.6, stained=0.1)


def fitted(values, name="sharpness", slides=None, good=None, side=224) -> Thresholds:
    """Thresholds from fields of which one measure is given, each on a slide of its own."""
    count = len(values)
    return loosened(
        [GOOD._replace(**{name: value}) for value in values],
        np.arange(count) if slides is None else np.array(slides),
        np.ones(count, bool) if good is None else np.array(good),
        np.full(count, side),
    )


def said(reasons, statuses=None, right=None) -> Answers:
    """Answers with one reason each, empty for none; a field that is right is called 0."""
    reasons = tuple((reason,) if reason else () for reason in reasons)
    wrong = np.zeros(len(reasons)) if right is None else 1 - np.array(right)
    return Answers(
        np.array(statuses or ["review" if r else "ok" for r in reasons]),
        np.column_stack([1 - wrong, wrong, 0 * wrong, 0 * wrong]),
        np.zeros(len(reasons)),
        reasons,
    )


@pytest.mark.parametrize(
    ("name", "needed"),
    [("contrast", 18.0), ("dark", 90.0), ("sharpness", 0.42), ("stained", 0.045)],
)
def test_a_threshold_falls_to_what_all_slides_but_one_need_and_the_others_stay(name, needed):
    least = 0.97 * needed
    found = fitted([getattr(GOOD, name), needed, needed + 0.001, least], name)
    assert found == replace(SHIPPED, **{name: needed})


def test_one_slide_alone_moves_nothing_however_many_fields_it_has():
    values, slides = [0.42] * 30 + [0.6] * 4, ["soft"] * 30 + ["a", "b", "c", "d"]
    assert fitted(values, slides=slides) == SHIPPED
    assert fitted([*values, 0.43], slides=[*slides, "e"]) == Thresholds(sharpness=0.43)


def test_none_falls_below_its_bound_and_none_rises():
    for name in Measures._fields:
        bound = getattr(LOOSEST, name)
        # A range of grey levels below that of no picture says nothing at all.
        far_below = 9.0 if name == "contrast" else 0.001
        assert fitted([far_below] * 9, name) == replace(SHIPPED, **{name: bound})
        assert fitted([getattr(SHIPPED, name) * 1.5] * 9, name) == SHIPPED
        assert 0 < bound < getattr(SHIPPED, name)


def test_fields_that_are_not_good_ask_for_nothing():
    values = [0.42] * 6
    assert fitted(values) != SHIPPED
    assert fitted(values, good=[True] + [False] * 5) == SHIPPED
    assert fitted(values, good=[False] * 6) == SHIPPED
    assert fitted(values, side=150) == SHIPPED  # enlarged: flagged for its resolution instead
    assert fitted([5.0] * 6, "contrast") == SHIPPED  # no picture


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)
def test_what_is_spoiled_is_flagged_with_the_loosest_thresholds(style):
    field = render_field(style, seed=5)
    for name, spoiled in (
        ("out of focus", blur(field, 4.0)),
        ("too dark", brightness(field, 0.2)),
        ("low contrast", contrast(field, 0.08)),
    ):
        assert name in [finding.name for finding in check_quality(spoiled, None, LOOSEST)]
    for grey in (0, 128, 255):
        (finding,) = check_quality(np.full_like(field, grey), None, LOOSEST)
        assert finding.severe


def test_few_fields_or_slides_fit_none():
    def reason(slides_each, fields_each):
        labels = np.repeat(np.arange(4), slides_each * fields_each)
        slides = [f"{i // fields_each}" for i in range(len(labels))]
        return too_few(np.array(slides), folds_of(laboratory(labels, slides)))

    assert reason(2, 5) is None
    assert "18 fields of 6 slides" in reason(2, 3)
    assert reason(1, 7) is None
    assert "15 fields of 3 slides" in reason(1, 5)
    two = np.repeat(["a", "b"], 50)
    assert "50 fields of 1 slides" in too_few(two, [np.arange(50), np.arange(50, 100)])


def test_thresholds_are_used_where_fields_that_lose_their_remark_are_right():
    labels = np.zeros(20, int)
    shipped = said(["out of focus: x"] * 20)
    assert useless(labels, shipped, said([""] * 20)) is None
    assert useless(labels, shipped, said([""] * 20, right=[1] * 19 + [0])) is None
    assert "90.0 % are right" in useless(labels, shipped, said([""] * 20, right=[1] * 18 + [0] * 2))
    assert "no field" in useless(labels, shipped, shipped)
    # What stays to review for another reason is not let pass by a threshold.
    assert "no field" in useless(labels, shipped, said(["low confidence: x"] * 20))


def test_reasons_begin_as_they_are_counted():
    field = render_field(STYLES[0], seed=1)
    spoiled = {
        "contrast": contrast(field, 0.12),
        "dark": brightness(field, 0.25),
        "sharpness": blur(field, 4.0),
        "stained": contrast(field, 0.2),
    }
    for name, rgb in spoiled.items():
        reasons = [finding.reason for finding in check_quality(rgb)]
        assert any(reason.startswith(QUALITY[name]) for reason in reasons)


def test_the_report_counts_fields_with_and_without():
    before = said(["out of focus: x", "too dark: x", "too dark: x", "low confidence: x"])
    shipped = said(["out of focus: x", "too dark: x", "", ""])
    after = said(["", "too dark: x", "", ""])
    record = quality_record(Thresholds(sharpness=0.42), None, (before, shipped, after))
    assert record["fitted"]
    assert "out of focus" in record["because"]
    assert (record["n"], record["flagged"]) == (4, [3, 2, 1])
    assert record["checks"]["sharpness"] == {
        "flags": "out of focus",
        "shipped": 0.44,
        "here": 0.42,
        "loosest": 0.4,
        "flagged": [1, 1, 0],
    }
    assert record["checks"]["dark"]["flagged"] == [2, 1, 1]
    rows = {row[0]: row[1:] for row in quality_rows(record)}
    assert rows["out of focus"] == ("1 of 4", "1 of 4", "0 of 4", "0.44", "0.42", "0.4")
    assert rows["any of these"][:3] == ("3 of 4", "2 of 4", "1 of 4")

    kept = quality_record(SHIPPED, "The shipped thresholds stay: why.", (before, shipped, shipped))
    assert not kept["fitted"]
    assert kept["because"].endswith("why.")
    assert kept["checks"]["sharpness"]["here"] == 0.44


@pytest.fixture(scope="module")
def rendered() -> LaboratoryFields:
    """Four fields of each of two slides of each class."""
    labels = np.repeat(np.arange(4), 8)
    images = [render_field(STYLES[label], seed) for seed, label in enumerate(labels)]
    return replace(
        laboratory(labels, [f"{i // 4}" for i in range(32)], Images(images)),
        looks=tuple(map(appearance_of, images)),
    )


def test_they_are_fitted_to_fields_as_the_network_sees_them(
    rendered, gated_classifier, monkeypatch
):
    for name, value in (("MOST", 2), ("ROUNDS", 1), ("SIZES", (1.0,))):  # enough to change colours
        monkeypatch.setattr(alignment, name, value)
    asked = []

    def stand_in(*arguments):
        asked.append(arguments)
        return LOOSEST

    monkeypatch.setattr(module, "loosened", stand_in)
    few = rendered.chosen(np.arange(0, 32, 4))
    few = replace(few, sizes=np.full((8, 2), (300, 210)))
    training = read_training_fields()
    assert module.fit(gated_classifier, few, training, "x", loosens=False).quality == SHIPPED
    assert asked == []
    profile = module.fit(gated_classifier, few, training, "x")
    assert profile.quality == LOOSEST
    ((measures, slides, good, sides),) = asked
    seen = [measured(profile.normalisation.apply(rgb)) for rgb in few.images]
    assert np.array(measures) == pytest.approx(np.array(seen))
    assert list(slides) == list(few.slides)
    assert good.dtype == bool
    assert sides.tolist() == [210] * 8


@pytest.fixture
def adapted(rendered, monkeypatch):
    """Makes the adaptation that follows from answers with shipped and with own thresholds."""
    card = read_card(DEFAULT_WEIGHTS)
    assert card.novelty is not None
    unchanged = Normalisation(
        np.zeros((5, 3), np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0
    )
    whole = SiteProfile(
        "x", card.release, unchanged, card.calibration, card.novelty, 0.9, None, {}, LOOSEST
    )

    def make(own: Answers, quality: Thresholds = LOOSEST):
        right = np.eye(4)[rendered.labels]
        focus = ["out of focus: x"] * 32
        before = replace(said(focus, ["rejected"] * 32), probabilities=right)
        shipped = replace(said(focus), probabilities=right)
        both = (
            shipped,
            replace(own, probabilities=np.where(own.probabilities[:, :1], right, right[:, ::-1])),
        )
        monkeypatch.setattr(module, "answers_with", lambda *_: before)
        monkeypatch.setattr(module, "crossfitted", lambda *_: both)
        monkeypatch.setattr(module, "fit", lambda *_: replace(whole, quality=quality))
        now = datetime(2026, 11, 27, tzinfo=UTC)
        network = SimpleNamespace(card=card)
        return module.adapt(network, rendered, read_training_fields(), "x", now)

    return make


def test_a_profile_has_them_where_they_are_of_use_and_the_report_says_so(adapted):
    found = adapted(said([""] * 32))
    assert found.profile.quality == LOOSEST
    record = found.report["adaptation"]["image_quality"]
    assert record["fitted"]
    assert record["flagged"] == [32, 32, 0]
    assert found.profile.content["measured"]["image_quality"] == record
    shown = report_html(found.report)
    assert "<h3>Thresholds of image quality</h3>" in shown
    row = shown[shown.index("<th scope=row>out of focus</th>") :]
    assert row.startswith(
        "<th scope=row>out of focus</th><td>32 of 32</td><td>32 of 32</td>"
        "<td>0 of 32</td><td>0.44</td><td>0.4</td><td>0.4</td></tr>"
    )
    lines = terminal_text(found.report).splitlines()
    assert any("image quality: 0 of 32 fields with it, 32 without" in line for line in lines)


@pytest.mark.parametrize(
    ("own", "quality", "why"),
    [
        (said(["out of focus: x"] * 32), LOOSEST, "no field of a slide left out loses"),
        (said([""] * 32, right=[0] * 4 + [1] * 28), LOOSEST, "87.5 % are right"),
        (said(["out of focus: x"] * 32), SHIPPED, "no fields of two slides"),
    ],
)
def test_the_shipped_ones_stay_where_others_are_of_no_use(adapted, own, quality, why):
    found = adapted(own, quality)
    assert found.profile.quality == SHIPPED
    record = found.report["adaptation"]["image_quality"]
    assert not record["fitted"]
    assert why in record["because"]
    assert record["flagged"] == [32, 32, 32]
    assert report_html(found.report).count(why) == 1
