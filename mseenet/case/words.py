"""What a user reads about classes and results, in a haematologist's words."""

from collections.abc import Mapping

from mseenet.case.records import percent
from mseenet.case.slides import FEWEST_FIELDS
from mseenet.imaging.areas import Place
from mseenet.inference.scale import OFF

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

PIXELS_SENT = (
    "The 224 x 224 pixels of a field that the network reads go to the service that holds it."
)
"""Follows `PRIVACY` where a service does."""

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
    "data. Larger pictures, stitched or through an eyepiece, are cut into fields. A saved case is "
    "opened here, too."
)

CUTTING = "Reading; pictures larger than one field are cut into fields ..."


def cut_from(source: str, place: Place) -> str:
    """Where a field lies in the larger picture that it was cut from."""
    return (
        f"Cut from {source}: {place.width} x {place.height} pixels at x {place.x:,}, y {place.y:,}."
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
    "as in the paper; it is optimistic. **Unseen slides**: what is tested was left out of training, "
    "by the camera's series (a series is no patient), or by blocks of file order with an *embargo* "
    "of further files around them. All of it comes from one laboratory."
)

PROTOCOLS = {
    "series": "unseen series",
    "series-siblings": "unseen series and their look-alikes",
    "blocks-50": "unseen blocks, embargo 50",
    "blocks-100": "unseen blocks, embargo 100",
}
"""What each protocol for unseen slides leaves out of training."""

PROTOCOL_NOTES = {
    "series": "Whole series of the camera, or ranges of captures of the longest ones, were left "
    "out of training.",
    "series-siblings": "Series that look alike were left out of training together, so that the "
    "network has seen few fields of their kind.",
    "blocks-50": "Blocks of file order were left out of training, and 50 files on either side; "
    "slides interleave in file order, so that some of one may stay in training.",
    "blocks-100": "Blocks of file order were left out of training, and 100 files on either side.",
}
"""What each of them means, for a reader of its figures."""


def protocol_title(name: str) -> str:
    """What a report calls a protocol for unseen slides."""
    return PROTOCOLS.get(name, name)


def hardest_unseen(metrics: Mapping[str, dict]) -> tuple[str, dict] | None:
    """The protocol that calibration and thresholds come from, and its figures.

    Args:
        metrics: Of the card, or the entry `unseen` of a report.

    Returns:
        None for weights that were not cross-validated.
    """
    return next(
        ((name, figures) for name, figures in metrics.items() if figures.get("hardest")), None
    )


def confidence_kept(metrics: Mapping[str, dict]) -> str:
    """How often answers of some 90 % were right on unseen slides; empty if that is not known.

    Args:
        metrics: Of the card, or the entry `unseen` of a report.
    """
    found = hardest_unseen(metrics)
    if not found or not found[1]["ninety"]["n"]:
        return ""
    name, figures = found
    ninety = figures["ninety"]
    low, high = ninety["interval_95"]
    return (
        f"On {protocol_title(name)} {100 * ninety['proportion']:.1f} % ({100 * low:.1f}-"
        f"{100 * high:.1f}) of the {ninety['n']:,} answers given with 85 to 95 % were right."
    )


SERIES_NEEDED = 10
"""Series on which the class of a slide has to be measured before the page gives one."""

SLIDES_RIGHT = 0.7
"""Lower end of the interval of the proportion of series that are right, from which on it does."""


def slide_evidence(metrics: Mapping[str, dict]) -> str:
    """How often a whole series is given its right class; empty if slides are to be given none.

    Args:
        metrics: Of the card, or the entry `unseen` of a report. The protocol on which fewest series
            are right is quoted.
    """
    measured = {name: f["slides"] for name, f in metrics.items() if "slides" in f}
    if not measured:
        return ""
    name = min(measured, key=lambda name: _slides_right(measured[name]))
    slides = measured[name]
    series = slides["series"]
    low, high = series["interval_95"]
    if series["n"] < SERIES_NEEDED or low < SLIDES_RIGHT:
        return ""
    drawn = ", ".join(
        f"{draw['fields']} fields {100 * draw['right']:.1f} %" for draw in slides["drawn"]
    )
    return (
        f"Measured on {series['n']} series of captures of one laboratory that were left out of "
        f"training ({protocol_title(name)}), each taken for a slide: {series['right']} right, "
        f"{series['wrong']} wrong, {series['without']} without a class; right in "
        f"{100 * series['proportion']:.0f} % (95 % interval over series {100 * low:.0f}-"
        f"{100 * high:.0f}). With a few fields, drawn at random: {drawn} right. A series is no "
        "patient."
    )


def _slides_right(slides: Mapping) -> tuple[float, ...]:
    return (slides["series"]["interval_95"][0], *(draw["right"] for draw in slides["drawn"]))


def operating_point(point: Mapping[str, float], metrics: Mapping[str, dict]) -> str:
    """What the mark from which on a field counts as malignant catches, and what it costs.

    Args:
        point: `malignant` of the card.
        metrics: Of the card, or the entry `unseen` of a report.
    """
    text = (
        f"it was set where {percent(point['sensitivity'])} of the malignant and "
        f"{percent(point['specificity'])} of the benign fields of unseen slides are told rightly"
    )
    found = hardest_unseen(metrics)
    if not found:
        return text
    caught, spared = (found[1]["malignant"][name] for name in ("sensitivity", "specificity"))
    return (
        f"{text}; set without the slides that it is tried on, {percent(caught['proportion'])} and "
        f"{percent(spared['proportion'])}"
    )


STATUS_TITLES = {"ok": "ok", "review": "to review", "rejected": "rejected", "error": "not read"}

NOVELTY = "Distance from the training fields: from 1 on a field is rejected."

NUCLEATED_CELLS = "Nucleated cells found by their colour; touching ones may count as one."

MOSTLY = 0.5
"""Evidence of which a smaller proportion lies on nucleated cells and around them is called mostly background."""

BACKGROUND_EVIDENCE_SHORT = "Mostly background: a reason for doubt."

BACKGROUND_EVIDENCE = (
    "Most of the evidence lies away from the nucleated cells: the answer rests on stain, plasma and "
    "red cells, a reason for doubt."
)

OUTPUT_WITHOUT_MEANING = "Output without validated meaning"

METHODS = (
    "Grad-CAM is in units that all fields share. The others are relative to their own maximum: "
    "they say where, not how strongly. LayerCAM shows finer detail, Score-CAM takes longest."
)

TERMS = {
    "Confidence": "is the calibrated probability of the predicted class. How often answers of one "
    "confidence were right, on unseen slides of one laboratory, is on the page Model.",
    "Novelty": "says how far the field lies from those of training, whatever its class. From 1 on no "
    "class is named. Below 1 does not mean that the answer is right.",
    "Nucleated cells": "are found by their colour, without the network; touching ones may count as one. "
    "A field without any is rejected.",
    "Size of the cells": "is compared with that in the training fields, by the network's frozen "
    f"layers. A field whose cells look {OFF:g} times as large or more, or as small, is to review: another "
    "objective, camera or cut may be the reason, and the network takes size for evidence.",
    "Heatmap": "shows where in the field something speaks for a class. It does not show what, "
    "and not that a cell there is a blast.",
}

TRAINING_FOLDER = (
    "The uploaded files of all fields for which you name a class, in one folder a class, for "
    "`mseenet train --data` after unpacking. Add them to the data that you train with."
)

NOT_A_CASE_RESULT = "Fields of one slide are not independent, and this is no result for a patient."

SLIDES = (
    "Fields of one folder, in a ZIP too, are of one slide. A pattern tells it by the names of files "
    "instead: {slide} stands for the name of the slide, * for anything."
)

SLIDE_RULE = (
    "The class of a slide is that of the highest mean calibrated probability of its fields with a "
    f"class, if there are at least {FEWEST_FIELDS} and the mean is more than one half."
)

NO_SLIDE_CLASS = (
    "Slides are given no class: how often that would be right was not measured for this network, or "
    "not often enough."
)
