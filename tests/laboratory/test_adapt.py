"""Site profiles: how slides are left out, what each part does, and when none is written."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import FEW_LOOKS

from mseenet.imaging.appearance import appearance_of
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.calibration import Calibration
from mseenet.inference.classifier import ROWS, Observed
from mseenet.inference.novelty import Novelty
from mseenet.laboratory import alignment
from mseenet.laboratory.adapt import (
    adapt,
    extended,
    folds_of,
    may_refit,
    objections,
    refitted,
    takes,
    warmed,
    without_adapted,
)
from mseenet.laboratory.answers import Answers, joined
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import Images, LaboratoryFields
from mseenet.laboratory.foreign import ForeignImages
from mseenet.metrics import cross_entropy


def laboratory(labels, slides, images: Images | None = None) -> LaboratoryFields:
    """Fields of a laboratory; without images of theirs they are tiny, of any colours."""
    count = len(labels)
    if images is None:
        random = np.random.default_rng(0)
        images = Images(random.integers(0, 255, (count, 4, 4, 3)).astype(np.uint8))
    return LaboratoryFields(
        names=tuple(map(str, range(count))),
        slides=np.array(slides),
        labels=np.array(labels),
        looks=(None,) * count,
        marks=tuple(map(str, range(count))),
        sources=(b"",) * count,
        problems=(),
        images=images,
        sizes=np.full((count, 2), 224),
    )


def said(predicted, named=None) -> Answers:
    predicted = np.array(predicted)
    named = np.ones(len(predicted), bool) if named is None else np.array(named, bool)
    return Answers(
        np.where(named, "ok", "rejected"),
        np.where(np.arange(4) == predicted[:, None], 0.97, 0.01),
        np.zeros(len(predicted)),
        ((),) * len(predicted),
    )


def test_no_slide_is_in_two_folds_and_classes_are_dealt_out():
    labels = np.repeat([0, 1, 2, 3], 30)
    slides = [f"{label}/{i // 10}" for i, label in enumerate(labels)]
    fields = laboratory(labels, slides)
    folds = folds_of(fields)
    assert len(folds) == 5
    assert sorted(np.concatenate(folds)) == list(range(120))
    for one in folds:
        rest = np.setdiff1d(np.arange(120), one)
        assert not set(fields.slides[one]) & set(fields.slides[rest])
        assert set(labels[rest]) == {0, 1, 2, 3}


def test_answers_of_folds_come_in_the_order_of_the_fields():
    rows = [np.array([3, 0]), np.array([1, 2])]
    parts = [said([3, 0]), said([1, 2])]
    assert joined(parts, rows).predicted.tolist() == [0, 1, 2, 3]


def test_slides_that_a_profile_was_made_from_are_known_again():
    fields = laboratory([0, 0, 1, 1], ["a", "a", "b", "b"])

    class Profile:
        content = {"made_from": {"pixels": ["1"]}}  # noqa: RUF012

    assert without_adapted(fields, Profile).tolist() == [False, False, True, True]


def test_a_better_profile_has_no_objections():
    labels = np.repeat([0, 1, 2, 3], 5)
    before = said(labels, np.arange(20) < 8)
    assert objections(labels, before, said(labels), {}, {}) == []
    (reason,) = objections(labels, before, said(labels), {}, {}, "does not hold")
    assert "does not hold" in reason


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (([0, 1, 2, 3], [1, 1, 1, 1]), ([0, 1, 2, 3], [1, 1, 1, 1]), "Not better"),
        (([0, 1, 2, 3], [1, 1, 0, 0]), ([0, 0, 2, 3], [1, 1, 1, 1]), "1 fewer"),
        (([0, 1, 2, 3], [1, 0, 0, 0]), ([0, 1, 3, 2], [1, 1, 1, 1]), "50.0 % are right"),
    ],
)
def test_what_gets_worse_is_said(before, after, word):
    labels = np.arange(4)
    found = objections(labels, said(*before), said(*after), {}, {})
    assert any(word in sentence for sentence in found)


def test_no_more_foreign_images_may_pass():
    labels = np.repeat([0, 1, 2, 3], 5)
    before, after = said(labels, np.arange(20) < 8), said(labels)
    nothing, one = said([0, 0], [0, 0]), said([0, 0], [0, 1])
    assert objections(labels, before, after, {"photo": one}, {"photo": one}) == []
    (reason,) = objections(labels, before, after, {"photo": nothing}, {"photo": one})
    assert "photo 1 with it, 0 without" in reason


def test_the_reference_only_grows():
    random = np.random.default_rng(0)
    own = Novelty(random.normal(size=(4, 6)).astype(np.float32), np.eye(6, dtype=np.float32))
    frozen = (own.means[np.repeat(np.arange(4), 10)] + 3).astype(np.float32)
    labels = np.repeat(np.arange(4), 10)
    wider = extended(own, frozen, labels)
    assert wider.means.shape == (8, 6)
    assert wider.distances(frozen).max() < own.distances(frozen).min()
    others = random.normal(size=(50, 6)).astype(np.float32) * 5
    assert (wider.distances(others) <= own.distances(others) + 1e-6).all()


def test_the_temperature_follows_errors_and_is_held_without_any():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 200)
    logits = 6 * np.eye(4)[labels]
    own = Calibration(1.2, 0.2)
    novelty = np.full(200, 0.6)
    assert 1.0 <= warmed(own, logits, novelty, labels).value <= own.value
    wrong = np.where(random.random(200) < 0.2, (labels + 1) % 4, labels)
    assert warmed(own, logits, novelty, wrong).value > 2 * own.value
    few = warmed(own, logits[:3], novelty[:3], (labels[:3] + 1) % 4).value
    many = warmed(own, logits, novelty, (labels + 1) % 4).value
    assert own.value < few <= many


def test_the_last_layer_learns_and_stays_near():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    pooled = np.abs(random.normal(size=(160, 8)) + 2 * np.eye(8)[labels]).astype(np.float32)
    kernel, bias = np.zeros((8, 4), np.float32), np.zeros(4, np.float32)
    new = refitted(kernel, bias, pooled, labels)
    before = cross_entropy(pooled @ kernel + bias, labels)
    assert cross_entropy(pooled @ new[0] + new[1], labels) < 0.9 * before
    assert np.abs(new[0]).max() < 1


def test_the_last_layer_waits_for_slides():
    few = laboratory(np.repeat([0, 1, 2, 3], 2), [f"{i}" for i in range(8)])
    many = laboratory(np.repeat([0, 1, 2, 3], 3), [f"{i}" for i in range(12)])
    assert not may_refit(few)
    assert may_refit(many)


def test_the_work_is_known_before_and_asks_the_network_in_small_parts(
    gated_classifier, monkeypatch
):
    for name, value in FEW_LOOKS.items():  # enough to count
        monkeypatch.setattr(alignment, name, value)
    count, taken, asked = 14, [], []
    labels, slides = np.arange(count) % 4, [f"{i % 7}" for i in range(count)]
    images = [render_field(STYLES[label], i) for i, label in enumerate(labels)]
    looks = [appearance_of(rgb) for rgb in images]
    fields = replace(
        laboratory(labels, slides),
        images=Images(images, lambda: taken.append(1)),
        looks=tuple(looks),
    )
    foreign = {"noise": ForeignImages(Images(images[:2], lambda: taken.append(1)), fields.sizes)}

    some = gated_classifier.observe(np.stack(images[:ROWS]))

    class Watched:
        """Says of all fields what the network says of some: what is counted is how often."""

        card, last_layer = gated_classifier.card, gated_classifier.last_layer

        def observe(self, pixels):
            asked.append(len(pixels))
            rows = np.arange(len(pixels)) % len(some.frozen)
            return Observed(*(part if part is None else part[rows] for part in some))

    training, now = read_training_fields(), datetime(2026, 11, 27, tzinfo=UTC)
    for foreign_images in ({}, foreign):
        taken.clear()
        adaptation = adapt(Watched(), fields, training, "x", now, foreign_images)
        assert len(taken) == takes(gated_classifier.card, fields, 2 * len(foreign_images))
        assert adaptation.report["adaptation"]["folds"] == 5
    assert max(asked) == ROWS
    taken.clear()
    few = fields.chosen(np.array([0, 7]))
    assert (
        "1 slides" in adapt(Watched(), few, training, "x", now).report["adaptation"]["because"][0]
    )
    assert len(taken) == takes(gated_classifier.card, few) == 2
