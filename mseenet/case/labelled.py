"""A reader's verdicts as a folder to train with, made in memory."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from mseenet.case.fields import Field
from mseenet.case.names import entry_name
from mseenet.case.records import csv_row
from mseenet.config import CLASS_NAMES, LABELS_TABLE


def labelled(fields: Iterable[Field]) -> list[tuple[str, Field]]:
    """Fields for which the reader names a class, with it; synthetic and unread ones left out."""
    return [
        (field.verdict.class_name, field)
        for field in fields
        if field.verdict is not None
        and field.verdict.class_name is not None
        and field.readable
        and not field.synthetic
    ]


def missing_classes(fields: Iterable[Field]) -> list[str]:
    """Classes without a labelled field, of which `mseenet train` needs at least one each."""
    counts = Counter(class_name for class_name, _ in labelled(fields))
    return [name for name in CLASS_NAMES if not counts[name]]


def training_folder(fields: Iterable[Field], made: datetime) -> bytes:
    """The uploaded bytes in one folder a class, for `mseenet train` and `mseenet verify`.

    A table beside the folders says which slide each field is of, as far as the case knows.

    Args:
        fields: Those of a case; only what `labelled` gives is taken.
        made: When.

    Returns:
        A ZIP archive. Names of files end in a part of the content's SHA-256, so that no two
        are alike.

    Raises:
        ValueError: No field is labelled.
    """
    chosen = labelled(fields)
    if not chosen:
        raise ValueError("expected fields for which the reader names a class; received none")
    buffer = io.BytesIO()
    rows = [csv_row(("file", "class", "slide"))]
    with zipfile.ZipFile(buffer, "w") as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, made.timetuple()[:6]), content)

        for class_name, field in chosen:
            name = f"{class_name}/{entry_name(field.content_name, field.key[:12])}"
            add(name, field.content)
            rows.append(csv_row((name, class_name, field.slide)))
        table = "".join(f"{row}\r\n" for row in rows)
        add(LABELS_TABLE, table.encode("utf-8-sig", "replace"))
    return buffer.getvalue()
