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

KNOWN_SLIDES = (
    "Probabilities are calibrated on fields of slides that the network knows. "
    "On a new slide, stain or laboratory they can be far too sure."
)
