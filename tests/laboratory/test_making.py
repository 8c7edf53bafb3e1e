"""A site profile made beside other work: the same as by the command, and it can rest and go on."""

import json
from datetime import datetime

import numpy as np
import pytest
from conftest import FEW_LOOKS, encode

from mseenet.case.limits import Room, Share
from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.remote import ServerError
from mseenet.inference.scheduler import BusyError, Scheduler
from mseenet.laboratory import making as module
from mseenet.laboratory.adapt import adapt
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import LabelledField, read_fields, see_fields
from mseenet.laboratory.foreign import read_foreign
from mseenet.laboratory.making import Making

MINUTES = 120  # in seconds


@pytest.fixture(autouse=True)
def few_folds(monkeypatch):
    monkeypatch.setattr("mseenet.laboratory.adapt.FOLDS", 2)
    for name, value in FEW_LOOKS.items():
        monkeypatch.setattr(f"mseenet.laboratory.alignment.{name}", value)


@pytest.fixture(scope="module")
def labelled() -> list[LabelledField]:
    """A rendered field of each of two slides of each class."""
    return [
        LabelledField(f"{name}{slide}", f"{name}/{slide}", label, encode(rgb))
        for label, name in enumerate(CLASS_NAMES)
        for slide in range(2)
        for rgb in [render_field(STYLES[label], 10 * label + slide)]
    ]


@pytest.fixture
def others(foreign) -> dict[str, list[bytes]]:
    return {"exchanged": [b"no image", encode(foreign)]}


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def begun(labelled, others, gated_classifier, room):
    """Makes the work on a profile; it ends with the test."""
    made = []

    def begin(classifier=gated_classifier, **options) -> Making:
        share = Share(room)
        share.take(1000)
        scheduler = Scheduler(classifier)
        fields = options.get("fields") or see_fields(labelled)
        arguments = (options.get("foreign", others), classifier, scheduler, read_training_fields())
        made.append(Making(fields, *arguments, "site", share))
        return made[-1]

    yield begin
    for making in made:
        making.end()
        assert making._thread is None or making.wait(MINUTES)


def test_it_is_what_adapt_makes(begun, labelled, others, gated_classifier, room, monkeypatch):
    monkeypatch.setattr("mseenet.laboratory.adapt.objections", lambda *_: [])
    making = begun()
    making.go_on()
    assert making.wait(MINUTES)
    assert making.error is None
    assert making.done == making.total
    assert room.taken == 0
    found = making.adaptation
    expected = adapt(
        gated_classifier,
        read_fields(labelled),
        read_training_fields(),
        "site",
        datetime.fromisoformat(found.report["made"]),
        {kind: read_foreign(kind, files) for kind, files in others.items()},
    )
    assert found.report == expected.report
    assert found.report["foreign"]["exchanged"]["n"] == 1
    assert found.profile.files("a") == expected.profile.files("a")


class Lost:
    """Stands before a classifier and does not answer until it is mended."""

    def __init__(self, classifier) -> None:
        self.card, self.trouble = classifier.card, ""
        self._classifier = classifier
        self.mended, self.asked = False, 0

    def observe(self, fields):
        self.asked += 1
        if not self.mended and self.asked > 2:
            raise ServerError("lost")
        return self._classifier.observe(fields)

    def last_layer(self):
        return self._classifier.last_layer()


def test_a_lost_network_is_said_and_gone_on_from(begun, gated_classifier):
    network = Lost(gated_classifier)
    making = begun(network, foreign={})
    making.go_on()
    while making.lost is None:
        assert not making.wait(0.01)
    assert str(making.lost) == "lost"
    done = making.done
    assert 8 < done < making.total
    network.mended = True
    making.go_on()
    assert making.lost is None
    assert making.wait(MINUTES)
    assert making.error is None
    assert making.done == making.total
    assert making.adaptation.report["fields"]["n"] == 8


def test_a_full_line_is_said_and_gone_on_from(begun, monkeypatch):
    observe, busy = Scheduler.observe, [BusyError(3, 7.0)]

    def full(self, *arguments):
        if busy:
            raise busy.pop()
        return observe(self, *arguments)

    monkeypatch.setattr(Scheduler, "observe", full)
    making = begun(foreign={})
    making.go_on()
    while making.lost is None:
        assert not making.wait(0.01)
    assert making.lost.cases == 3
    making.go_on()
    assert making.wait(MINUTES)
    assert making.error is None
    assert making.adaptation is not None


def test_it_rests_between_steps_and_gives_its_room_back_when_it_is_given_up(begun, room):
    making = begun()
    with module._processor:  # another profile's turn
        making.go_on()
        assert not making.wait(0.05)
        assert making.done == 0
        making.rest()
    assert not making.wait(0.05)
    assert making.done <= 1
    making.go_on()
    while making.done < 10:
        assert not making.wait(0.01)
    assert room.taken == 1000
    making.end()
    assert making.wait(MINUTES)
    assert making.done < making.total
    assert making.adaptation is None
    assert making.error is None
    assert room.taken == 0
    never = begun()
    never.end()
    assert room.taken == 0


def test_a_kind_of_which_nothing_can_be_read_is_an_error(begun):
    making = begun(foreign={"blank": [b"no image"]})
    making.go_on()
    assert making.wait(MINUTES)
    assert "blank: expected images that can be read" in str(making.error)


def test_an_answer_that_is_no_number_makes_no_profile(begun, gated_classifier):
    class Broken(Lost):
        def observe(self, fields):
            return super().observe(fields)._replace(logits=np.full((len(fields), 4), np.nan))

    making = begun(Broken(gated_classifier), foreign={})
    making.go_on()
    assert making.wait(MINUTES)
    assert "not a finite number" in str(making.error)
    assert json.dumps(making.adaptation) == "null"
