"""What a user reads about classes and results, in a haematologist's words."""

CLASS_TITLES = {
    "Benign": "Benign (haematogones)",
    "Early Pre-B": "Early Pre-B ALL",
    "Pre-B": "Pre-B ALL",
    "Pro-B": "Pro-B ALL",
}
"""Headline for each class."""

CLASS_NOTES = {
    "Benign": "Haematogones: normal B-cell precursors that resemble blasts. Not the same as healthy blood.",
    "Early Pre-B": "B-lymphoblastic leukaemia; labelled Early Pre-B by flow cytometry in the training data.",
    "Pre-B": "B-lymphoblastic leukaemia; labelled Pre-B by flow cytometry in the training data.",
    "Pro-B": "B-lymphoblastic leukaemia; labelled Pro-B by flow cytometry in the training data.",
}
"""What the label means in the data that the network learned from."""

RESEARCH_USE = "For research use only. Not a medical device, not a diagnosis."

PRIVACY = "Images stay in this app's memory; they are not stored or logged."

SYNTHETIC = "Synthetic: rendered by a program, not a real smear. What the network says about it has no meaning."

NOT_READ = "This file was not read"

REJECTED = "Rejected, no class is named"

REJECTED_SHOWN = "Rejected; what follows has no validated meaning"

REVIEW = "Look at this one yourself"

UNSEEN_SLIDES = (
    "Probabilities are calibrated on slides that the network had not seen, of one laboratory. "
    "On another laboratory's stain or camera they have not been validated."
)

INTAKE = (
    "PNG, JPEG, TIFF, BMP, WebP or HEIC, or a ZIP of them; whole fields at 100x, as in the training "
    "data. A saved case is opened here, too."
)


def missing_from_exports(waiting: int, left_out: int) -> str:
    """What exports of a case say is missing from it; empty if nothing is."""
    parts = []
    if waiting:
        fields = "1 field waits" if waiting == 1 else f"{waiting} fields wait"
        parts.append(f"{fields} for analysis and count in no result of the exports.")
    if left_out:
        files = "1 file was" if left_out == 1 else f"{left_out} files were"
        parts.append(f"{files} left out; the exports name them.")
    return " ".join(parts)


STATUS_NOTES = {
    "review": "A class is named, but look at the field yourself: confidence is low, the field is "
    "at the border of what the network knows, or the image is poor. The reason is named.",
    "rejected": "No class is named: the field is unlike those of the training data, or there is "
    "nothing to judge.",
    "error": "The file could not be read; the others go on.",
}
"""What each status that is not plain "ok" means."""

SPLITS = (
    "**Known slides**: the random test holds fields of slides whose other fields were trained on, "
    "as in the paper; it is optimistic. **Unseen slides**: whole stretches of the dataset were "
    "left out of training, and an *embargo* of further files around them, so that most of their "
    "slides are new to the network; with the narrower embargo some of a slide may stay. All of it "
    "comes from one laboratory."
)

STATUS_TITLES = {"ok": "ok", "review": "to review", "rejected": "rejected", "error": "not read"}

NOVELTY = "Distance from the training fields: from 1 on a field is rejected."

MOSTLY = 0.5
"""Evidence of which a smaller proportion lies on nucleated cells is called mostly background."""

BACKGROUND_EVIDENCE_SHORT = "Mostly background: a reason for doubt."

BACKGROUND_EVIDENCE = (
    "Most of the evidence lies beside the nucleated cells: the answer rests on stain, plasma and "
    "red cells as well. That is common for this network (see Model), and a reason for doubt."
)

OUTPUT_WITHOUT_MEANING = "Output without validated meaning"

METHODS = (
    "Grad-CAM is in units that all fields share. The others are relative to their own maximum: "
    "they say where, not how strongly. LayerCAM shows finer detail, Score-CAM takes longest."
)

TERMS = {
    "Confidence": "is the calibrated probability of the predicted class: of all answers given with "
    "90 %, nine in ten should be right. It holds for slides of one laboratory.",
    "Novelty": "says how far the field lies from those of training, whatever its class. From 1 on no "
    "class is named. Below 1 does not mean that the answer is right.",
    "Heatmap": "shows where in the field something speaks for a class. It does not show what, "
    "and not that a cell there is a blast.",
}

TRAINING_FOLDER = (
    "The uploaded files of all fields for which you name a class, in one folder a class, for "
    "`mseenet train --data` after unpacking. Add them to the data that you train with."
)

NOT_A_CASE_RESULT = "Fields of one slide are not independent, and this is no result for a patient."
