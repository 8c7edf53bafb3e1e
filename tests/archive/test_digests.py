"""Sets of digests say what is in them, and nothing else."""

import pickle

from mseenet.archive.digests import SIZE, Digests, digest, repeated


def test_parts_are_kept_apart():
    assert len(digest("a")) == SIZE
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a\udcff") != digest("a")


def test_a_set_holds_what_was_put_in():
    known = [digest(str(number)) for number in range(1000)]
    half = bytes(SIZE // 2)
    sharing = [half + known[0][:8], half + known[1][:8]]
    found = pickle.loads(pickle.dumps(Digests(b"".join([*known, *sharing]))))
    assert len(found) == 1002
    assert all(one in found for one in (*known, *sharing))
    assert not any(digest(str(number)) in found for number in range(1000, 2000))
    assert half + known[2][:8] not in found
    assert digest("a") not in Digests()


def test_repeated_digests_are_found_in_place():
    names = ["a", "b", "a", "c", "b", "a"]
    assert repeated(b"".join(map(digest, names))).tolist() == [2, 4, 5]
    assert repeated(b"").tolist() == []
