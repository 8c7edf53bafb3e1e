import numpy as np
import pytest

from mseenet.imaging.nuclei import NucleatedCells, blank_nuclei, nucleus_mask
from mseenet.inference import cellularity
from mseenet.inference.cellularity import DOUBTFUL, EVEN, FEWEST, SURE, doubt, refusal, refuses


@pytest.mark.parametrize(
    ("cells", "confidence", "words"),
    [
        (NucleatedCells(0, 0), SURE - 0.01, "no nucleated cell found"),
        (NucleatedCells(0, 0), SURE, None),
        (NucleatedCells(0, 0), 0.3, "no nucleated cell found"),
        (NucleatedCells(4, 0), DOUBTFUL - 0.01, "no nucleated cell found: 4 pieces have"),
        (NucleatedCells(1, 0), DOUBTFUL - 0.01, "no nucleated cell found: one piece has"),
        (NucleatedCells(4, 0), DOUBTFUL, None),
        (NucleatedCells(4, 2), EVEN - 0.01, "recognises none of its classes"),
        (NucleatedCells(4, 2), EVEN, None),
    ],
)
def test_a_field_without_cells_is_refused_and_the_reason_says_what_was_found(
    cells, confidence, words
):
    reason = refusal(cells, confidence)
    assert (reason is None) == (words is None)
    assert words is None or words in reason
    assert "no nucleated cell" not in (reason or "") or cells.clear == 0


def test_arrays_are_judged_as_single_fields():
    count, clear = np.array([0, 4, 4, 4, 4]), np.array([0, 0, 0, 2, 2])
    confidence = np.array([0.8, 0.5, 0.7, 0.3, 0.5])
    refused = refuses(count, clear, confidence)
    assert refused.tolist() == [True, True, False, True, False]
    single = [
        refusal(NucleatedCells(*c), p) for *c, p in zip(count, clear, confidence, strict=True)
    ]
    assert refused.tolist() == [reason is not None for reason in single]


def test_few_cells_are_for_a_person():
    assert doubt(NucleatedCells(1, 1)).startswith("too few cells to judge: 1 nucleated cell found")
    assert f"at least {FEWEST}" in doubt(NucleatedCells(FEWEST - 1, 0))
    assert doubt(NucleatedCells(0, 0)).startswith("too few cells to judge: 0 nucleated cells found")
    assert doubt(NucleatedCells(FEWEST, 0)) is None


def test_a_field_whose_cells_are_gone_names_no_class(classifier, fields):
    emptied = blank_nuclei(fields[0], nucleus_mask(fields[0]))
    full, empty, shown = (
        *classifier.predict([fields[0], emptied]),
        *classifier.predict([emptied], include_rejected=True),
    )
    assert full.status == "ok"
    assert full.nucleated_cells == 5
    assert full.nucleus_mask().shape == (224, 224)
    assert not full.nuclei.flags.writeable
    assert (empty.status, empty.class_name, empty.nucleated_cells) == ("rejected", None, 0)
    assert not empty.nucleus_mask().any()
    assert empty.reasons[0].startswith("no nucleated cell found")
    assert shown.status == "rejected"
    assert shown.class_name is not None


def test_few_cells_lead_to_review(classifier, fields, monkeypatch):
    monkeypatch.setattr(cellularity, "FEWEST", 6)
    (prediction,) = classifier.predict([fields[0]])
    assert prediction.status == "review"
    assert prediction.reasons[0].startswith("too few cells to judge: 5 nucleated cells")


def test_what_cannot_be_read_has_no_cells(classifier):
    (prediction,) = classifier.predict([b""])
    assert prediction.nucleated_cells is prediction.nucleus_mask() is None
