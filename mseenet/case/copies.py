"""One field in several files: as PNG, JPEG and TIFF, in another size, or photographed twice."""

from collections.abc import Sequence

import numpy as np

from mseenet.case.fields import Field

SAME = 3.5
"""Largest difference between copies of a field, root mean square in grey levels of `Field.look`.

JPEG of quality 50 differs by 2.9, enlarging to 1024 x 768 by 0.6. Different fields of the dataset
differ by 14.7 and more; a few neighbouring captures, which show one field twice, by 1.9 to 5.5."""


def copies_among(fields: Sequence[Field]) -> list[list[Field]]:
    """Groups of at least two readable fields that show the same.

    Args:
        fields: In the order in which they came.

    Returns:
        Each group in that order, and the groups in that of their first fields.
    """
    readable = [field for field in fields if field.readable]
    if len(readable) < 2:
        return []
    looks = np.stack([field.look for field in readable]).astype(np.float32)
    means = looks.mean(axis=(1, 2))  # (N, 3); no copy's differ by more than `SAME`
    groups: list[list[Field]] = []
    grouped: set[int] = set()
    for i in range(len(readable)):
        if i in grouped:
            continue
        near = np.flatnonzero(np.abs(means[i + 1 :] - means[i]).max(axis=1) <= SAME) + i + 1
        distances = np.sqrt(((looks[near] - looks[i]) ** 2).mean(axis=(1, 2, 3)))
        copies = [int(j) for j in near[distances <= SAME] if int(j) not in grouped]
        if copies:
            grouped.update(copies)
            groups.append([readable[j] for j in (i, *copies)])
    return groups
