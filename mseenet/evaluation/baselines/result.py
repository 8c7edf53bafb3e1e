"""baselines.json: rows of earlier runs, and how new ones join them."""

import hashlib
import json
from pathlib import Path

from mseenet.evaluation.baselines.table import ENTRIES
from mseenet.training.dataset import DatasetError, DatasetIndex


def read_result(path: Path, index: DatasetIndex) -> dict:
    """The result of earlier runs, or an empty one: `dataset`, `rows` and `comparisons`.

    Raises:
        DatasetError: The file tells of other images, whose rows are not comparable.
    """
    listed = "".join(f"{sample.file} {sample.sha256}\n" for sample in index.samples).encode()
    dataset = {"n": len(index.samples), "sha256": hashlib.sha256(listed).hexdigest()}
    if not path.exists():
        return {"dataset": dataset, "rows": [], "comparisons": []}
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["dataset"] != dataset:
        raise DatasetError(
            f"{path}: its rows are of other images; choose another --out, or remove the file"
        )
    return result


def merge(rows: list[dict], new: dict) -> list[dict]:
    """Replaces the row of the same entry and split, and sorts by the order of the table."""
    by_key = {(row["entry"], row["split"]): row for row in (*rows, new)}
    order = [(entry.name, split) for entry in ENTRIES for split in entry.splits]
    return [by_key[key] for key in order if key in by_key]
