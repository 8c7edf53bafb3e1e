"""What a case may hold, whichever way the files come in."""

import gc
import io
import threading
import zipfile

import pytest

from mseenet.case.fields import Case
from mseenet.case.limits import MEGABYTE, VARIABLES, Limits, Room, Share, configured_limits
from mseenet.errors import UsageError
from mseenet.inference.classifier import NOT_FINITE, Prediction

SMALL = Limits(file=1000, case=2500, fields=4)


def content(number: int) -> bytes:
    """What begins as an image, so that it is kept until somebody has looked at it: 1000 bytes."""
    return b"\x89PNG\r\n\x1a\n" + bytes([number]) * 992


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(f"{name}.png", content)
    return buffer.getvalue()


def handed_over(way: str, files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Files one by one, or in one archive."""
    if way == "files":
        return [(f"{name}.png", content) for name, content in files.items()]
    return [("a.zip", archive(**files))]


def taken(case: Case) -> list[str]:
    return [field.name.removeprefix("a.zip/") for field in case.fields.values()]


@pytest.mark.parametrize("way", ["files", "archive"])
def test_a_file_over_the_limit_is_left_out(way):
    case = Case(SMALL)
    case.take_in(handed_over(way, {"large": bytes(1001), "fits": b"x" * 1000}))
    assert taken(case) == ["fits.png"]
    (problem,) = case.problems
    assert "large.png: expected at most" in problem


@pytest.mark.parametrize("way", ["files", "archive"])
def test_a_case_takes_no_more_bytes_than_its_limit(way):
    case = Case(SMALL)
    case.take_in(handed_over(way, {f"f{i}": content(i) for i in range(5)}))
    assert taken(case) == ["f0.png", "f1.png"]
    assert case.size == 2000
    (problem,) = case.problems
    assert problem.startswith("3 files: expected a case of at most")
    assert [item.name.removeprefix("a.zip/") for item in case.left_out] == [
        "f2.png",
        "f3.png",
        "f4.png",
    ]


@pytest.mark.parametrize("way", ["files", "archive"])
def test_a_case_takes_no_more_fields_than_its_limit(way):
    case = Case(SMALL)
    case.take_in(handed_over(way, {f"f{i}": bytes([i]) for i in range(6)}))
    assert len(case.fields) == 4
    assert len(case.left_out) == 2
    case.remove(next(iter(case.fields)))
    case.take_in(handed_over(way, {"f5": bytes([5])}))
    assert len(case.fields) == 4


def test_what_is_left_over_of_a_full_case_is_not_unpacked(monkeypatch):
    case = Case(SMALL)
    files = handed_over("archive", {f"f{i}": content(i) for i in range(50)})
    opened = []
    known = zipfile.ZipFile.open
    monkeypatch.setattr(
        zipfile.ZipFile, "open", lambda self, *args: (opened.append(args), known(self, *args))[1]
    )
    case.take_in(files)
    assert len(opened) == 3
    assert len(case.left_out) == 48


def test_the_operator_sets_the_limits():
    assert configured_limits(environment={}) == Limits()
    environment = dict(
        zip((v for v, _ in VARIABLES.values()), ("10", "20", "30", "40", "5", "6"), strict=True)
    )
    limits = configured_limits(environment=environment)
    assert limits == Limits(10 * MEGABYTE, 20 * MEGABYTE, 30, 40 * MEGABYTE, 5, 6)
    assert str(limits) == (
        "At most 10 MB a file, and 30 fields or 20 MB a case; all cases on this server together "
        "at most 40 MB."
    )
    assert configured_limits(5 * MEGABYTE, environment).file == 4 * MEGABYTE
    assert configured_limits(50 * MEGABYTE, environment).file == 10 * MEGABYTE


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "many", "\u0661"])
def test_a_limit_that_is_no_number_is_refused(value):
    with pytest.raises(UsageError, match="MSEENET_LARGEST_FILE_MB: expected a whole number"):
        configured_limits(environment={"MSEENET_LARGEST_FILE_MB": value})


@pytest.mark.parametrize("way", ["files", "archive"])
def test_all_cases_share_the_room_of_the_server(way):
    room = Room(3000)
    one, other = Case(SMALL, room), Case(SMALL, room)
    one.take_in(handed_over(way, {f"f{i}": content(i) for i in range(2)}))
    other.take_in(handed_over(way, {f"g{i}": content(10 + i) for i in range(3)}))
    assert (len(one.fields), len(other.fields), room.taken) == (2, 1, 3000)
    (problem,) = other.problems
    assert problem.startswith("2 files: this server is full")
    assert one.size == 2000  # nobody's case is touched
    one.end()
    other.take_in(handed_over(way, {"g1": content(11)}))
    assert (len(other.fields), room.taken) == (2, 2000)


def test_a_case_that_is_forgotten_gives_its_bytes_back():
    room = Room(3000)
    case = Case(SMALL, room)
    case.take_in(handed_over("files", {"f": content(1)}))
    case.remove(next(iter(case.fields)))
    assert room.taken == 0
    case.take_in(handed_over("files", {"f": content(1)}))
    assert room.taken == 1000
    del case
    gc.collect()
    assert room.taken == 0


@pytest.mark.parametrize("way", ["files", "archive"])
def test_what_does_not_begin_as_an_image_takes_no_room(way):
    room = Room(3000)
    case = Case(SMALL, room)
    case.take_in(handed_over(way, {f"f{i}": bytes([i]) * 1000 for i in range(3)}))
    assert (case.size, room.taken) == (0, 0)
    for field in case.fields.values():
        assert (field.content, field.size, field.result.status) == (b"", 1000, "error")
        assert field.result.reasons[0]
    assert case.waiting() == []


def test_what_turns_out_to_be_unreadable_takes_no_room_any_more():
    room = Room(3000)
    case = Case(SMALL, room)
    case.take_in(handed_over("files", {f"f{i}": content(i) for i in range(2)}))
    first, second = case.fields.values()
    case.settle(first, Prediction("error", reasons=("cut short",)))
    case.settle(second, Prediction("error", reasons=(NOT_FINITE,)))  # an image all the same
    assert (first.content, len(second.content), room.taken) == (b"", 1000, 1000)
    case.remove(second.key)
    case.settle(second, Prediction("error", reasons=("cut short",)))  # of an analysis that went on
    assert room.taken == 0


def test_a_room_is_never_taken_twice():
    room = Room(1000)
    shares = [Share(room) for _ in range(8)]

    def take_and_give(share: Share) -> None:
        for _ in range(200):
            if share.take(300):
                assert room.taken <= 1000
                share.give_back(300)
        share.take(100)

    threads = [threading.Thread(target=take_and_give, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.taken == sum(share.size for share in shares) <= 1000
    for share in shares:
        share.end()
        share.end()
        assert not share.take(1)
    assert room.taken == 0
