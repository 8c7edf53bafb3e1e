"""All that the page does to parts of Streamlit that are not its public interface.

Each touch is one small function. Where a version of Streamlit has moved the part, the function
leaves everything as Streamlit made it, which costs time or memory but no result, and says so once
in the log. The tests of this module fail then, so that a new version is not taken by chance.
"""

import logging
import re
import time
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec

import streamlit
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

_P = ParamSpec("_P")

TEST_IDS = (
    "stFileUploaderDropzone",
    "stFileUploaderDropzoneInput",
    "stCameraInput",
    "stCameraInputButton",
    "stSlider",
    "stCheckbox",
    "stProgress",
    "stAlertContainer",
    "stCaptionContainer",
    "stExpanderDetails",
    "stMarkdownContainer",
    "stVerticalBlock",
    "stHorizontalBlock",
    "stColumn",
    "stElementContainer",
)
"""Values of `data-testid` that the page's scripts and styles rely on.

Without the first two files are sent one by one, without the others the page looks less tidy.
"""


def _left_alone_if_moved(touch: Callable[_P, None]) -> Callable[_P, None]:
    """Turns any failure of a touch into one line in the log."""

    @wraps(touch)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            touch(*args, **kwargs)
        except Exception as error:  # whatever another version of Streamlit brings
            _log_once(touch.__name__, f"{type(error).__name__}: {error}")

    return guarded


@cache
def _log_once(name: str, reason: str) -> None:
    logging.getLogger(__name__).warning(
        "%s: this version of Streamlit differs from the one expected (%s); left alone", name, reason
    )


@_left_alone_if_moved
def keep_compiled_functions() -> None:
    """Keeps Streamlit from clearing Keras before each run of a page.

    It calls `keras.backend.clear_session` then, which throws TensorFlow's compiled functions
    away (0.7 s to make them again); the app builds no model after its one, so that there is
    nothing to clear. Streamlit calls it from one function of its script runner, which is
    replaced; Keras itself stays as it is.
    """
    from streamlit.runtime.scriptrunner import script_runner

    if not callable(script_runner._clean_problem_modules):
        raise TypeError("expected a function `_clean_problem_modules`")
    script_runner._clean_problem_modules = lambda: None


def streamlit_scripts() -> list[str]:
    """The scripts that Streamlit's own page holds, rather than loads from a file."""
    page = Path(streamlit.__file__).parent / "static" / "index.html"
    pattern = r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>"
    return re.findall(pattern, page.read_text("utf-8"), re.DOTALL) if page.is_file() else []


@_left_alone_if_moved
def ask_nobody_outside() -> None:
    """Keeps Streamlit from asking an address outside for this machine's own.

    It does so, for up to two seconds in which no page is served, whenever a page of another site
    tries to connect, to let in pages of its own external address. Behind a proxy that address is
    not this machine's, and `server.corsAllowedOrigins` names those that are meant.
    """
    from streamlit import net_util

    if not callable(net_util.get_external_ip):
        raise TypeError("expected a function `get_external_ip`")
    net_util.get_external_ip = lambda: None


ASKED, MADE = 10.0, 60.0
"""Seconds for which a click may still ask for a file that a session offered before its last run,
and for which a file that was made is there to be fetched."""


@_left_alone_if_moved
def keep_downloads() -> None:
    """Lets a click on a download get its file, whatever runs meanwhile.

    Streamlit has the file made when the click is heard. What makes it is forgotten as soon as the
    session's script has begun anew, as it does with the same click, and the script of any other
    session ends; the file itself with the second end of any script. On a busy server that is
    before the browser has fetched it. Both are held a while here: for Streamlit, by a session more.
    """
    from streamlit.runtime.media_file_manager import MediaFileManager

    held, until = "held for downloads", {}
    fresh = MediaFileManager(None)
    for name in ("_lock", "_files_by_session_and_coord", "_deferred_callables"):
        getattr(fresh, name)
    clear, execute = MediaFileManager.clear_session_refs, MediaFileManager.execute_deferred
    remove = MediaFileManager.remove_orphaned_files

    def hold(manager: MediaFileManager, place: str, file: str, seconds: float) -> None:
        manager._files_by_session_and_coord[held][place] = file
        until[place] = time.monotonic() + seconds

    def clear_session_refs(manager: MediaFileManager, session_id: str | None = None) -> None:
        session = running_session() if session_id is None else session_id
        with manager._lock:
            for file in manager._files_by_session_and_coord.get(session or "", {}).values():
                if file in manager._deferred_callables:
                    hold(manager, file, file, ASKED)
        clear(manager, session_id)

    def execute_deferred(manager: MediaFileManager, file_id: str) -> str:
        entry = manager._deferred_callables.get(file_id)
        url = execute(manager, file_id)
        if entry is not None:
            place = f"{entry['session_id']} {entry['coordinates']}"  # the next click's takes it
            with manager._lock:
                hold(manager, place, url.rpartition("/")[2].partition(".")[0], MADE)
        return url

    def remove_orphaned_files(manager: MediaFileManager) -> None:
        with manager._lock:
            files, now = manager._files_by_session_and_coord[held], time.monotonic()
            for place in [place for place in files if until.get(place, 0.0) < now]:
                del files[place]
                until.pop(place, None)
        remove(manager)

    MediaFileManager.clear_session_refs = clear_session_refs
    MediaFileManager.execute_deferred = execute_deferred
    MediaFileManager.remove_orphaned_files = remove_orphaned_files


def session_lives(session: str) -> bool:
    """Whether the server still has a session, connected or waiting for its page to come back.

    Of a version of Streamlit that cannot be asked every session lives.
    """
    try:
        return Runtime.instance()._session_mgr.get_session_info(session) is not None
    except Exception as error:  # whatever another version of Streamlit brings
        _log_once("session_lives", f"{type(error).__name__}: {error}")
        return True


def running_session() -> str | None:
    """Name of the session whose script runs in this thread; None in a test without one."""
    context = get_script_run_ctx()
    return context.session_id if context is not None and Runtime.exists() else None


def is_connected(session: str | None) -> bool:
    """Whether a session's page is open and connected; so is that of a test without one."""
    if session is None:
        return True
    return Runtime.exists() and Runtime.instance().is_active_session(session)


@_left_alone_if_moved
def close_session(session: str) -> None:
    """Ends a session, with all that Streamlit keeps for it; called in the server's own thread."""
    Runtime.instance().close_session(session)


@_left_alone_if_moved
def keep_uploads_in_memory(most: int) -> None:
    """Lets the server receive uploads without writing them to disk.

    Starlette, which parses the requests, puts what is larger than 1 MB into temporary files.

    Args:
        most: Largest upload, in bytes.
    """
    from starlette.formparsers import MultiPartParser

    if not isinstance(MultiPartParser.spool_max_size, int):
        raise TypeError("expected a number `spool_max_size`")
    MultiPartParser.spool_max_size = most


@_left_alone_if_moved
def forget_upload(file_id: str) -> None:
    """Makes Streamlit drop its own copy of an upload, which would last as long as the session.

    Args:
        file_id: Of an `UploadedFile` of this session.
    """
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    if context is None:  # a test without a session
        return
    manager = context.uploaded_file_mgr
    if isinstance(manager, MemoryUploadedFileManager):  # that of AppTest is another one
        manager.remove_file(context.session_id, file_id)
