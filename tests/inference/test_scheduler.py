"""Several cases at once through one network: full batches, in turn, with the answers of each alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import encode

from mseenet.errors import MSEENetError
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference import scheduler as scheduling
from mseenet.inference.classifier import ROWS, Prediction
from mseenet.inference.scheduler import BusyError, Scheduler


class Counting:
    """Stands for a classifier: its answer to a number is that number, and a gate lets batches go."""

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.gate = gate
        self.batches: list[list] = []
        self.begun = threading.Event()

    def read(self, image, pool):
        if image == "defect":
            raise ArithmeticError("a defect")
        return image

    def answers(self, images):
        assert len(images) <= ROWS
        self.batches.append(list(images))
        self.begun.set()
        if self.gate is not None:
            assert self.gate.acquire(timeout=60)
        return [Prediction("ok", reasons=(str(image),)) for image in images]

    def observe(self, fields):
        self.batches.append(fields)
        return "observed", len(fields)


def submitted(scheduler, name, count, answers, **options):
    """A job of `count` images, tagged and named by their number."""
    owner = options.pop("owner", name)
    images = [(i, f"{name}{i}") for i in range(count)]
    return scheduler.submit(
        owner, images, lambda tag, found: answers.append((tag, *found.reasons)), **options
    )


def held(classifier: Counting, scheduler: Scheduler) -> None:
    """Waits until the network is at work on an image of a first case, and others may come."""
    submitted(scheduler, "first", 1, [])
    assert classifier.begun.wait(60)


def test_every_case_gets_its_own_answers_in_order():
    scheduler = Scheduler(Counting())
    answers: dict[str, list] = {name: [] for name in "abcdefgh"}

    def analyse(name):
        assert submitted(scheduler, name, 40, answers[name]).wait(60)

    with ThreadPoolExecutor(len(answers)) as pool:
        list(pool.map(analyse, answers))
    for name, given in answers.items():
        assert given == [(i, f"{name}{i}") for i in range(40)]


def test_batches_are_filled_up_with_images_of_several_cases():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier)
    held(classifier, scheduler)
    jobs = [submitted(scheduler, name, 10, []) for name in "abcdef"]
    gate.release(100)
    assert all(job.wait(60) for job in jobs)
    assert [len(batch) for batch in classifier.batches[1:]] == [ROWS] * 5


def test_what_is_observed_takes_its_turn_as_a_batch_of_its_own():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier)
    held(classifier, scheduler)
    seen: list = []
    jobs = [submitted(scheduler, "a", 7, [])]
    jobs.append(scheduler.observe("p", np.zeros((5, 224, 224, 3), np.uint8), seen.append))
    jobs += [submitted(scheduler, name, 20, []) for name in "bc"]
    assert jobs[1].left == 5
    gate.release(100)
    assert all(job.wait(60) for job in jobs)
    assert seen == [("observed", 5)]
    assert jobs[1].left == 0
    kinds = [len(batch) if isinstance(batch, list) else "p" for batch in classifier.batches[1:]]
    assert kinds == [7, "p", ROWS, ROWS, ROWS, 4]


def test_a_large_case_holds_up_a_small_one_by_two_batches():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier)
    large = submitted(scheduler, "large", 2000, [])
    assert classifier.begun.wait(60)
    small = submitted(scheduler, "small", 10, [])
    for _ in range(4):  # the one at work, the one decoded meanwhile, and those with the small case
        gate.release()
    assert small.wait(60)
    assert large.left > 1900
    large.cancel()
    gate.release(100)


def test_cases_beyond_those_that_run_wait_in_line_and_know_their_place():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier, most_running=2)
    jobs = [submitted(scheduler, name, 100, []) for name in "abcd"]
    assert [scheduler.place(job).ahead for job in jobs] == [0, 0, 1, 2]
    assert scheduler.place(jobs[3]).seconds is None
    assert scheduler.is_full()
    gate.release(1000)
    assert all(job.wait(60) for job in jobs)
    first = {
        name: next(i for i, b in enumerate(classifier.batches) if any(name in x for x in b))
        for name in "abcd"
    }
    assert first["a"] <= first["b"] < first["c"] < first["d"]
    assert scheduler.seconds_per_image is not None
    assert not scheduler.is_full()


def test_an_owner_keeps_its_place_from_one_job_to_the_next():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier, most_running=1)
    owner = object()
    early = submitted(scheduler, "early", 100, [], owner=owner)
    late = submitted(scheduler, "late", 100, [])
    early.cancel()  # a click on the page
    again = submitted(scheduler, "early", 100, [], owner=owner)
    assert [scheduler.place(job).ahead for job in (again, late)] == [0, 1]
    for job in (again, late):
        job.cancel()
    gate.release(100)


def test_a_full_line_takes_nobody_in_and_says_when_to_come_again():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier, most_running=2, most_waiting=1)
    jobs = [submitted(scheduler, name, count, []) for name, count in (("a", 100), ("b", 40))]
    jobs.append(submitted(scheduler, "c", 10, []))
    answers: list = []
    with pytest.raises(BusyError, match=r"^3 cases ") as refused:
        submitted(scheduler, "d", 5, answers)
    assert refused.value.seconds is None  # nothing was measured yet
    scheduler.seconds_per_image = 0.5
    with pytest.raises(BusyError) as refused:
        submitted(scheduler, "d", 5, answers)
    # Until the 40 of b are answered, a has had its turn as often, and once more.
    assert refused.value.seconds == 0.5 * (40 + 40 + ROWS)
    gate.release(1000)
    assert all(job.wait(60) for job in jobs)
    assert answers == []
    assert submitted(scheduler, "d", 5, answers).wait(60)
    assert len(answers) == 5


def test_a_case_that_comes_in_parts_is_in_line_between_them():
    scheduler = Scheduler(Counting(), most_running=1, most_waiting=1)
    assert submitted(scheduler, "parts", 10, [], owner="parts", later=90).wait(60)
    gate = threading.Semaphore(0)
    scheduler._classifier = Counting(gate)
    other = submitted(scheduler, "other", 10, [])
    with pytest.raises(BusyError) as refused:
        submitted(scheduler, "third", 10, [])
    assert refused.value.seconds == pytest.approx(90 * scheduler.seconds_per_image)
    rest = submitted(scheduler, "rest", 90, [], owner="parts")
    assert [scheduler.place(job).ahead for job in (rest, other)] == [0, 1]
    gate.release(100)
    assert all(job.wait(60) for job in (rest, other))
    # With its last part its place is free.
    assert submitted(scheduler, "third", 10, []).wait(60)


def test_a_place_is_not_kept_for_long_nor_for_a_page_that_was_closed(monkeypatch):
    gate = threading.Semaphore(0)
    scheduler = Scheduler(Counting(gate), most_running=1, most_waiting=1)
    there = True
    closed = submitted(scheduler, "closed", 100, [], wanted=lambda: there, later=900)
    gone = submitted(scheduler, "gone", 10, [], later=90)
    with pytest.raises(BusyError):
        submitted(scheduler, "next", 10, [])
    there = False
    gate.release(100)
    assert closed.wait(60)
    assert gone.wait(60)
    assert submitted(scheduler, "next", 10, []).wait(60)  # in the place of the closed one
    assert submitted(scheduler, "early", 10, [], later=10).wait(60)
    with pytest.raises(BusyError):
        submitted(scheduler, "last", 10, [])
    monkeypatch.setattr(scheduling, "TICKET", 0.0)
    assert submitted(scheduler, "last", 10, []).wait(60)


def test_a_page_that_is_closed_between_its_parts_keeps_no_place():
    scheduler = Scheduler(Counting(), most_running=1, most_waiting=1)
    there = True
    assert submitted(scheduler, "closed", 10, [], wanted=lambda: there, later=90).wait(60)
    assert submitted(scheduler, "here", 10, [], later=10).wait(60)
    with pytest.raises(BusyError):
        submitted(scheduler, "next", 10, [])
    there = False
    assert submitted(scheduler, "next", 10, []).wait(60)


def test_work_that_nobody_wants_ends_with_the_batch_at_work():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier)
    there = True
    answers: list = []
    closed = submitted(scheduler, "closed", 2000, answers, wanted=lambda: there)
    assert classifier.begun.wait(60)
    there = False
    other = submitted(scheduler, "other", 10, [])
    gate.release(100)
    assert closed.wait(60)
    assert other.wait(60)
    assert len(answers) <= ROWS
    assert not any("closed" in image for batch in classifier.batches[1:] for image in batch)


def test_once_a_case_is_stopped_no_answer_comes_any_more():
    gate = threading.Semaphore(0)
    classifier = Counting(gate)
    scheduler = Scheduler(classifier)
    answers: list = []
    stopped = submitted(scheduler, "stopped", 100, answers)
    assert classifier.begun.wait(60)
    stopped.cancel()
    gate.release(100)
    assert submitted(scheduler, "next", 30, []).wait(60)
    assert answers == []
    # What was decoded for it does not go through the network either.
    assert not any("stopped" in image for batch in classifier.batches[1:] for image in batch)


def test_a_defect_ends_its_own_case_only():
    scheduler = Scheduler(Counting())
    answers: list = []
    broken = scheduler.submit("broken", [(0, "defect")], lambda *_: None)
    whole = submitted(scheduler, "whole", 30, answers)
    with pytest.raises(ArithmeticError):
        broken.wait(60)
    assert whole.wait(60)
    assert len(answers) == 30


def test_a_network_that_is_lost_ends_every_case_and_later_ones_are_tried_anew():
    class Lost(Counting):
        lost = True

        def answers(self, images):
            found = super().answers(images)
            if self.lost:
                raise MSEENetError("the service does not answer")
            return found

    gate = threading.Semaphore(0)
    classifier = Lost(gate)
    scheduler = Scheduler(classifier)
    jobs = [submitted(scheduler, name, 40, []) for name in "ab"]
    assert classifier.begun.wait(60)
    gate.release()
    for job in jobs:
        with pytest.raises(MSEENetError, match="does not answer"):
            job.wait(60)
    assert len(classifier.batches) == 1
    classifier.lost = False
    gate.release(100)
    answers: list = []
    assert submitted(scheduler, "c", 20, answers).wait(60)
    assert answers == [(i, f"c{i}") for i in range(20)]


def test_a_job_without_images_has_ended():
    assert Scheduler(Counting()).submit("a", [], lambda *_: None).wait(0)


def same_bits(one: Prediction, other: Prediction) -> bool:
    return all(
        np.array_equal(getattr(one, part), getattr(other, part)) for part in ("heatmap", "nuclei")
    ) and all(
        getattr(one, part) == getattr(other, part)
        for part in ("status", "reasons", "probabilities", "novelty", "nucleated_cells")
    )


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [encode(render_field(STYLES[i % 4], seed=i)) for i in range(20)]


def test_an_answer_does_not_depend_on_the_other_images_of_a_batch(gated_classifier, files):
    alone = gated_classifier.predict(files[:3], "predicted", include_rejected=True, filled=True)
    beside = gated_classifier.predict(
        [*files[:3], *files[10:19]], "predicted", include_rejected=True, filled=True
    )
    assert all(same_bits(one, two) for one, two in zip(alone, beside, strict=False))


def test_answers_of_a_case_are_those_of_predict_bit_for_bit(gated_classifier, files):
    case = [*files, b"no image"]
    found: dict[int, Prediction] = {}
    assert Scheduler(gated_classifier).submit("a", enumerate(case), found.__setitem__).wait(300)
    alone = gated_classifier.predict(case, "predicted", include_rejected=True, filled=True)
    assert all(same_bits(found[i], expected) for i, expected in enumerate(alone))


def test_answers_among_other_cases_are_those_of_predict_but_for_rounding(gated_classifier, files):
    cases = {"a": files[:7], "b": [*files[7:12], b"no image"], "c": files[12:]}
    scheduler = Scheduler(gated_classifier)
    found: dict[str, dict[int, Prediction]] = {name: {} for name in cases}
    jobs = [
        scheduler.submit(name, enumerate(images), found[name].__setitem__)
        for name, images in cases.items()
    ]
    assert all(job.wait(300) for job in jobs)
    for name, images in cases.items():
        alone = gated_classifier.predict(images, "predicted", include_rejected=True, filled=True)
        for number, expected in enumerate(alone):
            together = found[name][number]
            assert (together.status, together.reasons) == (expected.status, expected.reasons)
            if expected.probabilities is not None:
                assert together.class_name == expected.class_name
                assert together.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
                np.testing.assert_allclose(together.heatmap, expected.heatmap, atol=1e-5)
                np.testing.assert_array_equal(together.nuclei, expected.nuclei)


def test_a_filled_batch_answers_as_any_other_but_for_the_last_bits(gated_classifier):
    pixels = [render_field(STYLES[i % 4], seed=i) for i in range(3)]
    filled, other = (gated_classifier.predict(pixels, filled=filled) for filled in (True, False))
    for one, two in zip(filled, other, strict=True):
        assert one.status == two.status
        assert one.novelty == pytest.approx(two.novelty, abs=1e-4)
