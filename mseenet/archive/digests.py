"""Sets of 128-bit digests in 16 bytes each: what is known of millions of images."""

from hashlib import blake2b

import numpy as np

SIZE = 16
"""Bytes of a digest. That two of 100 million images share one by chance: 1 in 10^23."""


def digest(*parts: str) -> bytes:
    """A digest of texts, `SIZE` bytes; ("ab", "c") and ("a", "bc") differ."""
    joined = b"".join(
        len(encoded).to_bytes(8, "little") + encoded
        for encoded in (part.encode("utf-8", "surrogatepass") for part in parts)
    )
    return blake2b(joined, digest_size=SIZE).digest()


class Digests:
    """A fixed set of digests, which workers on one machine share without a copy.

    Args:
        digests: One behind the other, in any order, repeated or not.
    """

    def __init__(self, digests: bytes | bytearray = b""):
        pairs = _pairs(digests)
        self._pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    def __contains__(self, digest: bytes) -> bool:
        high, low = np.frombuffer(digest, dtype="<u8")
        first = np.searchsorted(self._pairs[:, 0], high)
        last = np.searchsorted(self._pairs[:, 0], high, side="right")
        return bool((self._pairs[first:last, 1] == low).any())

    def __len__(self) -> int:
        return len(self._pairs)


def repeated(digests: bytes | bytearray) -> np.ndarray:
    """Which of the digests, one behind the other, are there before already: their positions, int64."""
    _, first = np.unique(_pairs(digests), axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(digests) // SIZE), first)


def _pairs(digests: bytes | bytearray) -> np.ndarray:
    return np.frombuffer(bytes(digests), dtype="<u8").reshape(-1, 2)
