"""Where images come in: files, folders, archives, the clipboard, a camera, examples."""

from collections.abc import Iterable, Iterator
from functools import partial

import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from mseenet.case import words
from mseenet.case.archive import ENCODINGS
from mseenet.case.fields import Case, Field, LeftOut, server_full
from mseenet.case.limits import MEGABYTE
from mseenet.case.pictures import encoded
from mseenet.imaging.decoding import SUFFIXES
from mseenet.imaging.synthetic import example_fields
from mseenet.inference.classifier import Classifier
from mseenet.ui.analysis import scales_of
from mseenet.ui.bundle import unbundled
from mseenet.ui.frame import plain
from mseenet.ui.saved_case import open_saved
from mseenet.ui.session import CaseView
from mseenet.ui.sessions import forget_counted
from mseenet.ui.shared import privacy
from mseenet.ui.streamlit_internals import forget_upload

TYPES = [suffix.lstrip(".") for suffix in SUFFIXES]
WAYS = ("Files or ZIP", "Folder", "Paste", "Camera")


def draw_intake(view: CaseView, classifier: Classifier) -> bool:
    """Draws the ways to add images, and says whether something has come in."""
    case = view.case
    st.session_state.setdefault("way", WAYS[0])
    with st.container(key="intake"):
        way = st.segmented_control(
            "Source of the images",
            WAYS,
            required=True,
            key="way",
            label_visibility="collapsed",
        )
        # A new key after each intake empties the widget: the case itself lists what is in it.
        key = f"{way}-{view.intakes}"
        if way == "Camera":
            photo = st.camera_input("Photograph through the eyepiece or of the screen", key=key)
            taken = [photo] if photo else []
        elif way == "Paste":
            pasted = st.chat_input(
                "Click here, paste an image (Ctrl+V), press Enter",
                accept_file="multiple",
                file_type=TYPES,
                key=key,
            )
            taken = pasted.files if pasted else []
        else:
            folder = way == "Folder"
            taken = st.file_uploader(
                "Folder of peripheral blood smear fields"
                if folder
                else "Peripheral blood smear fields",
                accept_multiple_files="directory" if folder else True,
                key=key,
                label_visibility="collapsed",
            )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{words.INTAKE} {case.limits}", width="stretch")
            # In a case of a user they would count among its fields.
            if not case.fields and st.button(
                "Try synthetic examples", key="examples", type="tertiary"
            ):
                case.take_in(_examples().items(), synthetic=True)
                _next_intake(view)
                return True
        if case.room.left < MEGABYTE:
            st.warning(f"T{server_full(case.room)[1:]}.", icon=":material/hourglass_top:")
        st.caption(privacy())
    if taken:
        files, left_out = unbundled(contents_of(taken), case.limits)
        files, notices = open_saved(view, files, left_out)
        with st.spinner(words.CUTTING, show_time=True):
            case.take_in(files, left_out, scales=partial(scales_of, view, classifier))
        case.notices += notices
        _next_intake(view)
    return bool(taken)


def contents_of(taken: Iterable[UploadedFile]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of uploads, each forgotten by the server as it is handed on."""
    for file in taken:
        content = file.getvalue()
        file.close()
        forget_upload(file.file_id)
        forget_counted(file.file_id)
        yield file.name, content


def _next_intake(view: CaseView) -> None:
    """Empties the uploader, and lets a stopped analysis go on."""
    view.intakes += 1
    view.paused = False


def draw_messages(case: Case) -> None:
    """Draws what of the latest intake could not be taken in, or was there already."""
    for problem in case.problems:
        st.error(plain(problem), icon=":material/folder_off:")
    for notice in case.notices:
        st.caption(f":material/info: {plain(notice)}")
    for archive in case.encodings:
        _draw_encoding(case, archive)


def _draw_encoding(case: Case, archive: str) -> None:
    """Says that an archive's names are a guess, and lets the user choose how to read them."""
    key = f"encoding-{archive}"
    with st.container(horizontal=True, vertical_alignment="center", key=f"names-{archive}"):
        st.caption(
            f":material/translate: {plain(archive)} does not say how its file names are encoded. "
            f"If they look wrong, such as {plain(_example(case, archive))}, choose another way to "
            "read them.",
            width="stretch",
        )
        st.selectbox(
            "File names are in",
            list(ENCODINGS),
            index=list(ENCODINGS).index(case.encodings[archive]),
            format_func=ENCODINGS.__getitem__,
            key=key,
            width=280,
            label_visibility="collapsed",
            on_change=lambda: case.read_names_in(archive, st.session_state[key]),
        )


def _example(case: Case, archive: str) -> str:
    """A name from the archive, as it is read now."""
    items: list[Field | LeftOut] = [*case.fields.values(), *case.left_out]
    of_archive = (
        item.name.removeprefix(f"{archive}/")
        for item in items
        if item.origin is not None and item.origin.archive == archive
    )
    return next(of_archive, "")


@st.cache_data(show_spinner="Rendering examples ...")
def _examples() -> dict[str, bytes]:
    return {name: encoded(Image.fromarray(rgb), "PNG") for name, rgb in example_fields().items()}
