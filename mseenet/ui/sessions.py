"""What the server has of each session beside Streamlit's own state, and how a session ends.

The page holds a mark of its session: a name that nobody can guess and that is no key to anything
else. By it a page that was cut off asks whether its case is still there, and a page that is closed
says so, so that what it took is given back at once.
"""

import secrets
import threading
from collections import OrderedDict
from weakref import WeakValueDictionary

from mseenet.case.limits import Room
from mseenet.case.saved import ANSWER
from mseenet.ui.bundle import SMALL
from mseenet.ui.bundler import page_limits
from mseenet.ui.session import CaseView, current_view, server_room
from mseenet.ui.streamlit_internals import close_session, running_session, session_lives

MOST_MARKS = 10_000
"""Sessions that are remembered; the oldest are forgotten, and their pages have to be loaded again."""

MOST_NOTES = 4
"""Small uploads of one session that a full server takes until they are read; a page sends one."""

_marks: OrderedDict[str, str] = OrderedDict()  # of the sessions that have them
_views: WeakValueDictionary[str, CaseView] = WeakValueDictionary()


def mark_of(session: str, view: CaseView) -> str:
    """The mark of a session, whose case is in `view`."""
    _views[session] = view
    mark = _marks.setdefault(session, secrets.token_urlsafe(16))
    _marks.move_to_end(session)
    while len(_marks) > MOST_MARKS:
        _marks.popitem(last=False)
    return mark


def session_mark() -> str:
    """The mark of the running script's session; empty in a test without one."""
    session = running_session()
    return mark_of(session, current_view()) if session else ""


def is_open(mark: str) -> bool:
    """Whether the server still has the session with this mark."""
    session = _session_of(mark)
    return session is not None and session_lives(session)


def end_session(mark: str) -> None:
    """Ends the session with this mark, if there is one, and gives back what it took."""
    session = _session_of(mark)
    if session is None:
        return
    _marks.pop(session, None)
    close_session(session)
    view = _views.pop(session, None)
    if view is not None:
        view.case.end()
        view.laboratory.forget()
    uploads.forget_session(session)


def _session_of(mark: str) -> str | None:
    return next((session for session, known in list(_marks.items()) if known == mark), None)


class Uploads:
    """Bytes of uploads that have come, or are coming, and that no case has taken in yet."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], tuple[int, Room]] = {}
        self._lock = threading.Lock()

    def refusal(self, session: str, file: str, size: int) -> str | None:
        """Counts an upload, unless there is no room for it.

        For a few up to `SMALL` there is always room: a note of what is not sent has to get through.

        Args:
            session: Whose it is.
            file: Its name in Streamlit.
            size: In bytes, with what frames it.

        Returns:
            None where it is counted; else a key of `bundle.reasons`: "room" if no case may
            hold what the session has sent, "full" if the server has no room.

        Raises:
            UsageError: See `page_limits`.
        """
        limits, room = page_limits(), server_room()
        self.forget(session, file)
        with self._lock:
            sizes = [known for (of, _), (known, _) in self._sizes.items() if of == session]
        reason = None
        if sum(sizes) + size > limits.case + limits.fields * ANSWER:
            reason = "room"
        elif not room.take(size):
            self._forget_ended()
            if not room.take(size):
                reason = "full"
        if reason is not None:
            if size > SMALL or sizes.count(0) >= MOST_NOTES:
                return reason
            size = 0
        with self._lock:
            self._sizes[session, file] = size, room
        return None

    def forget(self, session: str, file: str) -> None:
        """Gives back what an upload took, if it is known."""
        with self._lock:
            size, room = self._sizes.pop((session, file), (0, None))
        if room is not None:
            room.give_back(size)

    def forget_session(self, session: str) -> None:
        """Gives back what all uploads of a session took."""
        for of, file in list(self._sizes):
            if of == session:
                self.forget(of, file)

    def _forget_ended(self) -> None:
        for session in {session for session, _ in list(self._sizes)}:
            if not session_lives(session):
                self.forget_session(session)


uploads = Uploads()
"""Of this server."""


def forget_counted(file: str) -> None:
    """Gives back what an upload of the running script's session took."""
    if (session := running_session()) is not None:
        uploads.forget(session, file)
