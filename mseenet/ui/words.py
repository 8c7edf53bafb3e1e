"""What the page says about classes and results, in a haematologist's words."""

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

STATUS = {"review": "to review", "rejected": "rejected", "error": "not read"}
"""What the summary calls each status that is not plain "ok"."""

NOT_READ = "This file was not read"

REJECTED = "Rejected, no class is named"

REJECTED_SHOWN = "Rejected; what follows has no validated meaning"

REVIEW = "Look at this one yourself"

UNSEEN_SLIDES = (
    "Probabilities are calibrated on slides that the network had not seen, of one laboratory. "
    "On another laboratory's stain or camera they have not been validated."
)
