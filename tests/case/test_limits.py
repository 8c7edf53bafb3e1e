"""What a case may hold, whichever way the files come in."""

import io
import zipfile

import pytest

from mseenet.case.fields import Case
from mseenet.case.limits import MEGABYTE, VARIABLES, Limits, configured_limits
from mseenet.errors import UsageError

SMALL = Limits(file=1000, case=2500, fields=4)


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
    case.take_in(handed_over(way, {f"f{i}": bytes([i]) * 1000 for i in range(5)}))
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
    files = handed_over("archive", {f"f{i}": bytes([i]) * 1000 for i in range(50)})
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
    environment = dict(zip((v for v, _ in VARIABLES.values()), ("10", "20", "30"), strict=True))
    limits = configured_limits(environment=environment)
    assert limits == Limits(10 * MEGABYTE, 20 * MEGABYTE, 30)
    assert str(limits) == "At most 10 MB a file, and 30 fields or 20 MB a case."
    assert configured_limits(5 * MEGABYTE, environment).file == 4 * MEGABYTE
    assert configured_limits(50 * MEGABYTE, environment).file == 10 * MEGABYTE


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "many", "\u0661"])
def test_a_limit_that_is_no_number_is_refused(value):
    with pytest.raises(UsageError, match="MSEENET_LARGEST_FILE_MB: expected a whole number"):
        configured_limits(environment={"MSEENET_LARGEST_FILE_MB": value})
