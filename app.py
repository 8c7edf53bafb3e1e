"""MSEENet in the browser: upload, predict, show.

streamlit run app.py
"""

import streamlit as st

from mseenet.ui.frame import draw_empty_state, draw_footer, draw_header, page_icon
from mseenet.ui.intake import take_in
from mseenet.ui.results import draw_results, draw_summary, predict_uploads
from mseenet.ui.shared import load_classifier


def main() -> None:
    st.set_page_config("MSEENet", page_icon=page_icon(), layout="wide")
    draw_header()
    uploads = take_in()
    classifier = load_classifier()
    if uploads:
        results = predict_uploads(classifier, uploads)
        draw_summary(uploads, results)
        draw_results(classifier, uploads, results)
    else:
        draw_empty_state()
    draw_footer(classifier.card, classifier.device)


main()
