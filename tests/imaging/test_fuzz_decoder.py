"""A small part of what `python -m tools.fuzz_decoder` does at length."""

import pytest

from tools.fuzz_decoder import mutated, outcome, sound_files

SOUND = sound_files()


@pytest.mark.parametrize(("name", "content"), SOUND, ids=[name for name, _ in SOUND])
def test_the_sound_files_are_read_or_hold_several_images(name, content):
    several = "animated" in name or "two" in name
    assert outcome(content)[0] == ("AnimatedImageError" if several else "decoded")


def test_mutated_files_raise_nothing_but_image_errors():
    outcomes = [outcome(mutated(SOUND, 2, number)[1]) for number in range(400)]
    assert [text for kind, text in outcomes if kind == "FAILURE"] == []
    kinds = {kind for kind, _ in outcomes}
    assert {
        "decoded",
        "TruncatedImageError",
        "AnimatedImageError",
    } <= kinds  # the damage does reach the decoders


def test_a_file_is_the_same_whenever_it_is_made():
    assert mutated(SOUND, 0, 17) == mutated(SOUND, 0, 17)
    assert mutated(SOUND, 0, 17) != mutated(SOUND, 1, 17)
