"""MSEENet in the browser: analyse a case, try it in a laboratory, look at the model, read about it.

streamlit run app.py

Streamlit reads this file twice: once to make the server, then as the script of each session.
"""

import streamlit as st

from mseenet.ui.about_page import draw_about_page
from mseenet.ui.access import require_sign_in
from mseenet.ui.analyse_page import draw_analyse_page
from mseenet.ui.bundler import upload_limit
from mseenet.ui.frame import draw_footer, draw_header, page_icon, page_scripts
from mseenet.ui.guard import admit, middleware, network_loading
from mseenet.ui.laboratory_page import draw_laboratory_page
from mseenet.ui.model_page import draw_model_page
from mseenet.ui.session import current_view, keep_settings, require_limits
from mseenet.ui.sessions import session_mark
from mseenet.ui.shared import load_classifier
from mseenet.ui.streamlit_internals import (
    ask_nobody_outside,
    keep_downloads,
    keep_uploads_in_memory,
)


def main() -> None:
    st.set_page_config("MSEENet", page_icon=page_icon(), layout="wide")
    require_limits()
    view = current_view()
    draw_header(view.unsaved() or view.laboratory.unsaved(), session_mark(), view.held())
    require_sign_in()
    admit()
    keep_uploads_in_memory(upload_limit() + 2**20)  # and what frames it in a request
    keep_settings()
    classifier = load_classifier()
    page = st.navigation(
        [
            st.Page(lambda: draw_analyse_page(classifier), title="Analyse", default=True),
            st.Page(
                lambda: draw_laboratory_page(classifier),
                title="Your laboratory",
                url_path="laboratory",
            ),
            st.Page(lambda: draw_model_page(classifier), title="Model", url_path="model"),
            st.Page(draw_about_page, title="About", url_path="about"),
        ],
        position="top",
    )
    page.run()
    draw_footer(classifier.card, classifier.device)


if __name__ == "__main__":
    main()
else:
    ask_nobody_outside()
    keep_downloads()
    app = st.App(__file__, lifespan=network_loading, middleware=middleware(page_scripts()))
