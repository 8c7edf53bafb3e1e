"""Who comes in with which token."""

import pytest

from mseenet.errors import UsageError
from mseenet.serve.tokens import may_enter, read_tokens

FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def tokens(tmp_path) -> tuple[bytes, ...]:
    path = tmp_path / "tokens"
    path.write_text(f"# of the laboratory\n{FIRST}\r\n\n {SECOND} \n")
    return read_tokens(path)


def test_only_known_tokens_enter(tokens):
    assert len(tokens) == 2
    assert may_enter(f"Bearer {FIRST}", tokens)
    assert may_enter(f"bearer  {SECOND}", tokens)
    foreign = (None, "", "Bearer", f"Basic {FIRST}", FIRST, f"Bearer {FIRST}x", "Bearer \udcff")
    assert not any(may_enter(header, tokens) for header in foreign)
    assert may_enter(None, ())


@pytest.mark.parametrize(
    "text", ["", "# none\n", "short\n", f"{FIRST}\nwith a space in it anywhere\n"]
)
def test_unusable_files_are_named(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"{path}: expected") as caught:
        read_tokens(path)
    assert FIRST not in str(caught.value)
    with pytest.raises(UsageError, match="absent: expected a readable file"):
        read_tokens(tmp_path / "absent")
