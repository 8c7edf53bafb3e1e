"""Where images come in: files, folders, archives, the clipboard, a camera, examples."""

import contextlib

import streamlit as st
from PIL import Image
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from mseenet.case import words
from mseenet.case.export import encoded
from mseenet.case.fields import Case
from mseenet.imaging.decoding import SUFFIXES
from mseenet.imaging.synthetic import example_fields
from mseenet.ui.bundler import upload_limit
from mseenet.ui.frame import plain

TYPES = [suffix.lstrip(".") for suffix in SUFFIXES]
WAYS = ("Files or ZIP", "Folder", "Paste", "Camera")


def draw_intake(case: Case) -> bool:
    """Draws the ways to add images, and says whether something has come into the case."""
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
        key = f"{way}-{case.intakes}"
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
            st.caption(f"{words.INTAKE} {words.PRIVACY}", width="stretch")
            if st.button("Try synthetic examples", key="examples", type="tertiary"):
                case.take_in(_examples().items(), synthetic=True)
                return True
    if taken:
        case.take_in((file.name, file.getvalue()) for file in taken)
        for file in taken:
            _forget(file)
    return bool(taken)


def keep_uploads_in_memory() -> None:
    """Lets the server receive files of up to Streamlit's limit without writing them to disk.

    Starlette, which parses the requests, puts what is larger than 1 MB into temporary files.
    """
    with contextlib.suppress(ImportError):  # Streamlit has other servers, which do not
        from starlette.formparsers import MultiPartParser

        MultiPartParser.spool_max_size = (upload_limit() + 1) * 2**20


def _forget(file: UploadedFile) -> None:
    """Makes Streamlit drop its own copy, which would last as long as the session."""
    context = get_script_run_ctx()
    if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)


def draw_messages(case: Case) -> None:
    """Draws what of the latest intake could not be taken in, or was there already."""
    for problem in case.problems:
        st.error(plain(problem), icon=":material/folder_off:")
    for notice in case.notices:
        st.caption(f":material/info: {plain(notice)}")


@st.cache_data(show_spinner="Rendering examples ...")
def _examples() -> dict[str, bytes]:
    return {name: encoded(Image.fromarray(rgb), "PNG") for name, rgb in example_fields().items()}
