"""Who may use the service: bearer tokens (RFC 6750), of which it keeps only hashes."""

import hashlib
import hmac
from pathlib import Path

from mseenet.errors import UsageError

SHORTEST = 20
"""Characters of a token; `openssl rand -hex 32` makes 64."""


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """SHA-256 of each token in a file, one a line; empty lines and those that begin with # are none.

    Raises:
        UsageError: The file cannot be read, or holds no token or a short one.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise UsageError(
            f"{path}: expected a readable file of tokens ({error.strerror})"
        ) from error
    tokens = [line for line in lines if line and not line.startswith(b"#")]
    if not tokens:
        raise UsageError(f"{path}: expected a token a line, found none")
    if any(len(token) < SHORTEST or b" " in token for token in tokens):
        raise UsageError(
            f"{path}: expected tokens of at least {SHORTEST} characters without spaces; "
            "`openssl rand -hex 32` makes one"
        )
    return tuple(hashlib.sha256(token).digest() for token in tokens)


def may_enter(authorization: str | None, tokens: tuple[bytes, ...]) -> bool:
    """Whether a request's header `Authorization` carries one of the tokens.

    Args:
        authorization: The header, if there is one.
        tokens: SHA-256 of each; empty lets everybody in.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if not tokens:
        return True
    if scheme.lower() != "bearer":
        return False
    received = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
    return any(hmac.compare_digest(received, known) for known in tokens)
