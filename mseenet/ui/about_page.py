"""The page about the app: what it does and does not, its words, its sources."""

import html

import streamlit as st

from mseenet.case import words
from mseenet.config import CLASS_NAMES
from mseenet.ui.shared import privacy

_STYLE = """
<style>
.st-key-about-page h2 { font-size: 1.5rem; padding: 1.4rem 0 .4rem; }
.st-key-about-page h3 { font-size: 1.1rem; padding: .2rem 0 0; }
.st-key-about-page th { color: inherit !important; }
.mseenet-terms { display: grid; gap: 1rem 1.5rem; margin: .3rem 0 !important;
  padding: 0 !important; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.mseenet-terms.wide { grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); }
.mseenet-terms > div { border-top: 3px solid #7a5bc0; padding-top: .5rem; }
.mseenet-terms dt { font-weight: 600; }
.mseenet-terms dd { margin: .15rem 0 0 !important; font-size: .95rem; line-height: 1.45; }
</style>
"""

DOES = (
    "Names one of four classes for a field of a peripheral blood smear: "
    f"{', '.join(CLASS_NAMES[:-1])} or {CLASS_NAMES[-1]}.",
    "Gives a calibrated probability of each class.",
    "Shows where in the field the evidence lies, for any class.",
    "Refuses fields unlike those it was validated on, and flags doubtful ones.",
)

DOES_NOT = (
    "Diagnose. It is for research and teaching only, and not a medical device.",
    "Judge severity, suggest a therapy, or triage patients or slides.",
    "Know other diseases: AML, CLL, T-cell ALL and healthy blood are not among its classes.",
    "Read bone marrow, single-cell crops or other magnifications.",
    "Read blasts alone: in the training data the slide's background goes with the class. The page "
    "Model says what was done about it, and how often the same cells are right on another background.",
    "Replace flow cytometry: nobody has shown that morphology alone can tell these subtypes apart.",
)

PRIVACY = (
    "Uploads are held in memory only, and dropped when you remove them or begin a new case. Of a page that is "
    "closed, or whose connection is lost, the server keeps the case for {life}, in case the browser comes back, and "
    "drops it when a page is next opened after that. A page that is loaded anew begins a new case.",
    "Nothing about an image is written to disk or logged, and no usage statistics are collected.",
    "EXIF data is never shown or exported; only the orientation in it is applied.",
    "File names are shown to you and stand in what you export: keep names of patients out of them.",
)

KEYS = (
    ("Tab, Shift + Tab", "next, previous control"),
    ("Space or Enter", "press a button, flip a switch, open a list"),
    ("N, P", "next, previous field of the case"),
    ("Arrow keys", "move a slider, choose in a list"),
    ("+, -, 0, arrow keys", "on the pictures: zoom, show the whole field, move"),
    ("Esc", "close a list"),
)

REFERENCES = (
    "**Network.** F. H. Najjar, S. A. Kadum, N. B. Hassan: Integrating Multi-scale Feature "
    "Extraction into EfficientNet for Acute Lymphoblastic Leukemia Classification, 2025. This app "
    "is an independent implementation with a training recipe and safeguards of its own.",
    "**Dataset.** M. G. M. Aria, D. Bashash, H. Abolghasemi, F. Asadi, A. Hosseini: Acute "
    "Lymphoblastic Leukemia (ALL) image dataset, Kaggle `mehradaria/leukemia`, 2021. "
    "[doi:10.34740/KAGGLE/DSV/2175623](https://doi.org/10.34740/KAGGLE/DSV/2175623). Its authors "
    "ask that it is cited and not redistributed; none of its images is part of this project.",
    "**Dataset, article.** M. Ghaderzadeh, M. Aria, A. Hosseini, F. Asadi, D. Bashash, "
    "H. Abolghasemi: A fast and efficient CNN model for B-ALL diagnosis and its subtypes "
    "classification using peripheral blood smear images, International Journal of Intelligent "
    "Systems 37(8), 5113-5133, 2022. [doi:10.1002/int.22753](https://doi.org/10.1002/int.22753).",
)

LICENCE = (
    "MIT for code and weights, without warranty of any kind; the text is in the project's file "
    "LICENSE. The weights were trained from Keras's ImageNet weights for EfficientNetV2B0 "
    "(Apache-2.0) on the dataset above."
)


def draw_about_page() -> None:
    """Draws what a user should know before relying on anything the app says."""
    with st.container(key="about-page"):
        st.html(_STYLE)
        st.header("What it is for", anchor="purpose")
        st.markdown(f"**{words.RESEARCH_USE}** {words.UNSEEN_SLIDES}")
        left, right = st.columns(2, gap="medium")
        with left.container(border=True, height="stretch"):
            st.subheader("It does", anchor=False)
            _draw_list(DOES)
        with right.container(border=True, height="stretch"):
            st.subheader("It does not", anchor=False)
            _draw_list(DOES_NOT)

        st.header("The four classes", anchor="classes")
        _draw_terms([(words.CLASS_TITLES[name], words.CLASS_NOTES[name]) for name in CLASS_NAMES])

        st.header("What the answers mean", anchor="words")
        statuses = [(words.STATUS_TITLES[name], note) for name, note in words.STATUS_NOTES.items()]
        _draw_terms(
            [
                *((term, f"{term} {meaning}") for term, meaning in words.TERMS.items()),
                *((f"{name[:1].upper()}{name[1:]}", note) for name, note in statuses),
            ],
            "wide",
        )

        left, right = st.columns(2, gap="large")
        with left:
            st.header("Your images", anchor="privacy")
            life = in_words(st.get_option("server.disconnectedSessionTTL"))
            lines = PRIVACY if privacy() == words.PRIVACY else (*PRIVACY, words.PIXELS_SENT)
            _draw_list(line.format(life=life) for line in lines)
        with right:
            st.header("With the keyboard", anchor="keyboard")
            st.table(
                {"Key": [k for k, _ in KEYS], "Does": [does for _, does in KEYS]},
                border="horizontal",
                hide_index=True,
                alt="Keys and what they do",
            )

        st.header("Sources and licence", anchor="sources")
        _draw_list(REFERENCES)
        st.markdown(LICENCE)


def in_words(seconds: int) -> str:
    """A time such as "2 hours", in the largest unit in which it is a whole number."""
    units = {3600: "hour", 60: "minute", 1: "second"}
    size = next((size for size in units if seconds and seconds % size == 0), 1)
    count = seconds // size
    return f"{count} {units[size]}" if count == 1 else f"{count} {units[size]}s"


def _draw_list(lines) -> None:
    st.markdown("\n".join(f"- {line}" for line in lines))


def _draw_terms(terms, width: str = "") -> None:
    cells = "".join(
        f"<div><dt>{html.escape(term)}</dt><dd>{html.escape(note)}</dd></div>"
        for term, note in terms
    )
    st.html(f'<dl class="mseenet-terms {width}">{cells}</dl>')
