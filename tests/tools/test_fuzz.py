"""A small part of what `python -m tools.fuzz` does at length."""

import json

import numpy as np
import pytest

from tools.fuzz.__main__ import main
from tools.fuzz.mutation import other_json
from tools.fuzz.targets import LONGEST_ERROR, TARGETS, Target, mutated, outcome

SOUND = {name: target.sound() for name, target in TARGETS.items()}

REACHED = {
    "decoder": {"decoded", "TruncatedImageError", "AnimatedImageError"},
    "card": {"read", "WeightsError"},
    "profile": {"read", "read, but names nothing", "ProfileError"},
    "case": {"opened", "opened with damages", "SavedCaseError"},
    "zip": {"read", "read in part", "ArchiveError"},
    "bundle": {"unpacked", "no bundle", "BundleError"},
}
"""What has to come of some files: the damage does reach the readers."""


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_raise_nothing_but_errors_of_their_own(name):
    target, sound = TARGETS[name], SOUND[name]
    outcomes = [outcome(target, mutated(target, sound, 2, number)[1]) for number in range(300)]
    assert [text for kind, text in outcomes if kind == "FAILURE"] == []
    assert REACHED[name] <= {kind for kind, _ in outcomes}


@pytest.mark.parametrize(("name", "content"), SOUND["decoder"], ids=dict(SOUND["decoder"]))
def test_sound_images_are_read_or_hold_several(name, content):
    several = "animated" in name or "two" in name
    expected = "AnimatedImageError" if several else "decoded"
    assert outcome(TARGETS["decoder"], content)[0] == expected


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "decoder"])
def test_other_sound_files_are_read(name):
    kinds = {outcome(TARGETS[name], content)[0] for _, content in SOUND[name]}
    assert kinds <= REACHED[name]
    assert not any(kind.endswith("Error") for kind in kinds)


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_is_the_same_whenever_it_is_made(name):
    target, sound = TARGETS[name], SOUND[name]
    files = [[mutated(target, sound, seed, k) for k in range(5)] for seed in (0, 0, 1)]
    assert files[0] == files[1] != files[2]


def test_json_comes_to_say_what_json_should_not():
    random = np.random.default_rng(0)
    texts = [other_json('{"a": [1, {"b": 0.5}], "c": "x"}', random) for _ in range(400)]
    for part in (b"NaN", b"Infinity", b"[[[[", b"1" + 50 * b"0"):
        assert any(part in text for text in texts), part
    sound = [text for text in texts if b"[[[[" not in text and b'{"a":{"a"' not in text]
    assert sound
    for text in sound:
        json.loads(text)  # what is wrong is what it says


def test_failures_of_all_kinds_are_found(monkeypatch):
    def fails(content: bytes) -> str:
        raise {b"k": KeyError("x"), b"m": MemoryError(), b"r": RecursionError()}[content]

    for content in (b"k", b"m", b"r"):
        assert outcome(Target(list, fails), content)[0] == "FAILURE"

    from mseenet.errors import MSEENetError

    def tells_all(content: bytes) -> str:
        raise MSEENetError("x" * (LONGEST_ERROR + 1))

    assert outcome(Target(list, tells_all), b"")[0] == "FAILURE"


@pytest.mark.slow
def test_the_tool_reads_files_in_a_process_and_says_what_came_of_them(capsys):
    assert main(["bundle", "--files", "50"]) == 0
    out = capsys.readouterr().out
    assert "bundle: 50 files" in out
    assert "failures: 0" in out
    assert main(["bundle", "--files", "2", "--seconds", "0"]) == 1  # a new process each
    assert "seconds of processor time" in capsys.readouterr().out
