"""Parts of Streamlit behind its public interface: these tests fail when a version moves them."""

import logging
import re
import subprocess
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest
import streamlit
from conftest import ROOT, run_async
from starlette import formparsers
from streamlit import net_util
from streamlit.runtime import media_file_manager, scriptrunner
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.media_file_storage import MediaFileStorageError
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import script_runner
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest
from streamlit.web.server.server_util import is_url_from_allowed_origins

from mseenet.ui import streamlit_internals
from mseenet.ui.streamlit_internals import (
    TEST_IDS,
    ask_nobody_outside,
    forget_upload,
    keep_compiled_functions,
    keep_downloads,
    keep_uploads_in_memory,
    streamlit_scripts,
)


@pytest.fixture(autouse=True)
def _nothing_logged_yet():
    streamlit_internals._log_once.cache_clear()


def runs_that_clear_keras(monkeypatch) -> int:
    """How often Streamlit clears Keras in one run of a page."""
    calls = []
    monkeypatch.setattr(keras.backend, "clear_session", lambda *_, **__: calls.append(1))
    AppTest.from_string("import streamlit as st; st.text(1)").run()
    return len(calls)


def test_streamlit_clears_keras_before_each_run_unless_it_is_kept_from_it(monkeypatch):
    # The runner's own function, which another test's page may have replaced in this process.
    monkeypatch.setattr(script_runner, "_clean_problem_modules", original_cleaner())
    assert runs_that_clear_keras(monkeypatch) == 1
    keep_compiled_functions()
    assert runs_that_clear_keras(monkeypatch) == 0


def original_cleaner():
    """`_clean_problem_modules` as the module's source has it."""
    fresh = types.ModuleType("fresh")
    source = Path(script_runner.__file__).read_text("utf-8")
    fresh.__dict__.update(vars(script_runner))
    exec(compile(source, script_runner.__file__, "exec"), fresh.__dict__)
    return fresh._clean_problem_modules


def test_streamlit_asks_nobody_outside_for_its_own_address(monkeypatch):
    calls = []
    monkeypatch.setattr(net_util, "get_external_ip", net_util.get_external_ip)
    monkeypatch.setattr(net_util, "_make_blocking_http_get", lambda *_, **__: calls.append(1))
    origin = "http://evil.example"
    assert not is_url_from_allowed_origins(origin)
    assert calls  # what has to be kept from happening
    calls.clear()
    ask_nobody_outside()
    assert not is_url_from_allowed_origins(origin)
    assert not calls


def test_the_scripts_of_streamlits_page_are_found():
    assert streamlit_scripts()


def test_large_uploads_are_not_spooled_to_disk(monkeypatch):
    monkeypatch.setattr(formparsers.MultiPartParser, "spool_max_size", 2**20)
    content = bytes(3 * 2**20)
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'

    async def parsed():
        async def body():
            yield head + content + b"\r\n--x--\r\n"

        headers = formparsers.Headers({"content-type": "multipart/form-data; boundary=x"})
        return await formparsers.MultiPartParser(headers, body()).parse()

    def received():
        return run_async(parsed())["f"]

    assert received().file._rolled  # what has to be kept from happening
    keep_uploads_in_memory(4 * 2**20)
    upload = received()
    assert upload.size == len(content)
    assert not upload.file._rolled


def test_streamlit_keeps_no_copy_of_an_upload_that_is_forgotten(monkeypatch):
    manager = MemoryUploadedFileManager("/upload")
    for name in ("a.png", "b.png"):
        manager.add_file("session", UploadedFileRec(name, name, "image/png", b"x"))
    context = SimpleNamespace(session_id="session", uploaded_file_mgr=manager)
    monkeypatch.setattr(scriptrunner, "get_script_run_ctx", lambda: context)
    forget_upload("a.png")
    assert [record.name for record in manager.get_files("session", ["a.png", "b.png"])] == ["b.png"]


@pytest.fixture
def downloads(monkeypatch):
    """What keeps the files of downloads; the session "a" has offered one."""
    for name in ("clear_session_refs", "execute_deferred", "remove_orphaned_files"):
        monkeypatch.setattr(MediaFileManager, name, getattr(MediaFileManager, name))
    monkeypatch.setattr(media_file_manager, "_get_session_id", lambda: "a")
    return MediaFileManager(MemoryMediaFileStorage("/media"))


def offer(manager: MediaFileManager) -> str:
    return manager.add_deferred(lambda: b"content", "text/csv", "place", "a.csv")


def test_a_click_on_a_download_is_answered_while_other_sessions_run(downloads):
    offered = offer(downloads)
    downloads.clear_session_refs("a")  # the click also lets the script begin anew
    downloads.remove_orphaned_files()  # the script of another session ends
    with pytest.raises(MediaFileStorageError):  # what has to be kept from happening
        downloads.execute_deferred(offered)
    keep_downloads()
    offered = offer(downloads)
    downloads.clear_session_refs("a")
    downloads.remove_orphaned_files()
    assert downloads.execute_deferred(offered).endswith(".csv")


def test_a_file_that_was_made_waits_for_the_browser(downloads, monkeypatch):
    def made() -> str:
        return downloads.execute_deferred(offer(downloads)).rpartition("/")[2]

    file = made()
    for _ in range(2):  # scripts that end
        downloads.remove_orphaned_files()
    with pytest.raises(MediaFileStorageError):  # what has to be kept from happening
        downloads._storage.get_file(file)
    keep_downloads()
    file = made()
    for _ in range(4):
        downloads.remove_orphaned_files()
    assert downloads._storage.get_file(file).content == b"content"
    downloads.clear_session_refs("a")
    later = time.monotonic() + streamlit_internals.MADE + 1
    monkeypatch.setattr(streamlit_internals.time, "monotonic", lambda: later)
    for _ in range(2):
        downloads.remove_orphaned_files()
    assert downloads._deferred_callables == {}
    with pytest.raises(MediaFileStorageError):
        downloads._storage.get_file(file)


def test_the_test_ids_that_scripts_and_styles_rely_on_are_there():
    folder = Path(streamlit.__file__).parent / "static" / "static"
    shipped = "".join(path.read_text("utf-8") for path in folder.rglob("*.js"))
    assert [name for name in TEST_IDS if name not in shipped] == []


def test_scripts_and_styles_rely_on_these_test_ids_and_no_others():
    folder = Path(streamlit_internals.__file__).parent
    files = [file for file in folder.iterdir() if file.suffix in (".py", ".js", ".css", ".html")]
    text = "".join(file.read_text("utf-8") for file in files)
    assert set(re.findall(r"data-testid=[\"']?(\w+)", text)) == set(TEST_IDS)


@pytest.mark.parametrize(
    ("touch", "arguments", "module", "attribute"),
    [
        (ask_nobody_outside, (), net_util, "get_external_ip"),
        (keep_compiled_functions, (), script_runner, "_clean_problem_modules"),
        (keep_uploads_in_memory, (2**20,), formparsers.MultiPartParser, "spool_max_size"),
        (forget_upload, ("a.png",), scriptrunner, "get_script_run_ctx"),
        (keep_downloads, (), MediaFileManager, "execute_deferred"),
    ],
)
def test_what_has_moved_is_left_alone_and_logged_once(
    monkeypatch, caplog, touch, arguments, module, attribute
):
    monkeypatch.delattr(module, attribute)
    with caplog.at_level(logging.WARNING):
        touch(*arguments)
        touch(*arguments)
    assert not hasattr(module, attribute)
    (message,) = (r.getMessage() for r in caplog.records if r.name == streamlit_internals.__name__)
    assert touch.__name__ in message


def test_without_starlette_nothing_is_touched(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "starlette.formparsers", None)
    keep_uploads_in_memory(2**20)
    assert "left alone" in caplog.text


def test_what_charts_look_up_in_other_modules_is_imported_before_the_first_page():
    """Half imported by another page's script, it ended a page with an error."""
    code = "import sys, mseenet.ui.analyse_page; assert {'pandas', 'pyarrow'} <= sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
