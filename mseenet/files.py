"""Files that are whole or absent, folders of one's own, and one writer at a time."""

import errno
import glob
import hashlib
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mseenet.errors import UsageError

LOCK_NAME = ".mseenet.lock"
"""The file in a folder whose lock says that a command writes there."""

FEATURES_PURPOSE = "features"
"""What the marker of a folder of frozen features, `--cache`, says that it is for."""

_DIGITS = "[0-9a-f]" * 8
"""In the name of a file that is being written, as a pattern."""

_KEPT_OF_NAME = 60
"""Characters of a file's name that are in its name while it is written; file systems take 255
bytes."""

_PIECE = 1 << 20

_LOCKED_BYTE = 1 << 30
"""Beyond the text of a lock file, so that others can read who holds it (Windows)."""


@contextmanager
def whole_file(path: Path, replace: bool = True) -> Iterator[Path]:
    """A file that takes its place in one step, complete and on the disk, or not at all.

    What a process that was killed has left of the same file is removed before.

    Args:
        path: Gets its content at the end of the block; untouched if the block raises.
        replace: Whether that may be in the place of a file that is there by then.

    Yields:
        Where to write meanwhile: a name of its own in the same folder, with the same ending. It is
        locked, so that it is not taken for one that was left; HDF5, which locks its files itself,
        cannot write there.

    Raises:
        OSError: It cannot be written, or there is a file that may not be replaced; the error names
            `path`.
    """
    temporary = path
    try:
        _remove_left(path.parent, path.name[-_KEPT_OF_NAME:])
        temporary, stream = _begin(path)
        with stream:
            yield temporary
            sync(temporary)
            _take_place(temporary, stream, path, replace)
    except BaseException as error:
        if temporary != path:
            with suppress(OSError):
                temporary.unlink()
        closed = isinstance(error, BrokenPipeError)  # of another stream than the file
        if isinstance(error, OSError) and not closed and error.filename in (None, str(temporary)):
            raise named(error, path) from error
        raise
    _sync_folder(path.parent)


def named(error: OSError, path: Path) -> OSError:
    """The same error about another path, such as that of the file that was to be made."""
    return OSError(error.errno, error.strerror or str(error), str(path))


def remove_left_weights(folder: Path) -> None:
    """Removes weights that a killed process was writing; for the one who writes in `folder`."""
    for left in folder.glob(f".new-{_DIGITS}.weights.h5"):
        left.unlink(missing_ok=True)


def _begin(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        name = f".new-{secrets.token_hex(4)}-{path.name[-_KEPT_OF_NAME:]}"
        stream = _open_locked(path.with_name(name))
        if stream is not None:
            return path.with_name(name), stream


def _remove_left(folder: Path, ending: str) -> None:
    """Removes what killed processes have begun; what is being written is locked."""
    for left in folder.glob(f".new-{_DIGITS}-{glob.escape(ending)}"):
        with suppress(OSError):
            with left.open("r+b") as stream:
                dead = _lock(stream)
            if dead:
                left.unlink()


def _take_place(temporary: Path, stream: BinaryIO, path: Path, replace: bool) -> None:
    if sys.platform == "win32":
        stream.close()  # Windows renames no open file
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # fails, in one step, where there is such a file
    except FileExistsError as error:
        raise named(error, path) from error
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def sync(path: Path) -> None:
    """Waits until a file's content is on the disk, not only on its way there."""
    with path.open("r+b") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            raise named(error, path) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step: readers see the old content or the new.

    Args:
        path: In a folder that exists.
        content: Text is written as UTF-8 with the line ends that it has.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def ensure_room(folder: Path, size: int) -> None:
    """Makes sure, before a file is written, that the disk takes it.

    For libraries that cannot be stopped halfway: on a full disk HDF5 ends the process.

    Args:
        folder: Where the file is to go.
        size: In bytes.

    Raises:
        OSError: There is no room for it; the error names the folder.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                for _ in range(-(-size // _PIECE)):
                    stream.write(bytes(_PIECE))
    except OSError as error:
        needed = f"{error.strerror}; {size / 1e6:.0f} MB are needed"
        raise OSError(error.errno, needed, str(folder)) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def own_folder(folder: Path, purpose: str) -> Path:
    """A folder that holds nothing but what this program made for one purpose.

    Whatever is written, replaced or removed there later is then its own.

    Args:
        folder: Made and marked if it is missing or empty.
        purpose: A word; a folder marked for another purpose is refused.

    Returns:
        `folder`.

    Raises:
        UsageError: It holds files and is not marked, or is no folder.
    """
    marker = folder / f".mseenet-{purpose}"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder for the {purpose}, found a file")
    folder.mkdir(parents=True, exist_ok=True)
    if not marker.is_file():
        held = sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME)
        # Another process may have marked the folder meanwhile; the mark comes before its files.
        if held and not marker.is_file():
            raise UsageError(
                f"{folder}: expected a new or empty folder for the {purpose}; it holds {held[0]}"
                + (f" and {len(held) - 1} more" if held[1:] else "")
            )
        marker.touch()
    return folder


def remove_own_folder(folder: Path, purpose: str) -> None:
    """Removes a folder of `own_folder` if nothing but its marker is left in it."""
    marker = folder / f".mseenet-{purpose}"
    if folder.is_dir() and list(folder.iterdir()) == [marker]:
        marker.unlink()
        folder.rmdir()


@contextmanager
def one_writer(
    folder: Path, lock: str = LOCK_NAME, wait: bool = False, file: Path | None = None
) -> Iterator[None]:
    """Lets one process at a time write into a folder, or one file of it.

    The operating system holds the lock, and drops it when the process ends however it ends:
    the file that a killed process leaves behind stops nobody.

    Args:
        folder: Made if missing, and removed if nothing was written.
        lock: Name of the lock file; those who use different ones do not exclude each other.
        wait: Whether to wait for another process, for what takes seconds.
        file: What is written, if that is one file; the error names it instead of the folder.

    Raises:
        UsageError: Another process writes there; the message names it.
        OSError: Nobody may write there; the error names folder or file.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / lock
    try:
        stream = _open_locked(path)
        while stream is None and wait:
            time.sleep(0.1)
            stream = _open_locked(path)
    except OSError as error:
        raise named(error, file or folder) from error
    if stream is None:
        holder = ""
        with suppress(OSError):
            holder = path.read_text(encoding="utf-8").strip()
        raise UsageError(
            f"{file or folder}: {holder or 'another process'} is writing there; "
            f"wait until it has ended, or choose another {'file' if file else 'folder'}"
        )
    try:
        with suppress(OSError):  # a full disk; the lock holds without a word on who has it
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        _remove_locked(path, stream)
        if made:
            with suppress(OSError):  # nothing came of it
                folder.rmdir()


def _open_locked(path: Path) -> BinaryIO | None:
    """The lock file, opened and locked; None if another process has it."""
    while True:
        stream = path.open("a+b", buffering=0)
        if _lock(stream) is False:
            stream.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()  # its holder removed it between our opening and our locking


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> bool | None:
        stream.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _remove_locked(path: Path, stream: BinaryIO) -> None:
        stream.close()  # Windows removes no open file
        with suppress(OSError):  # the next one has it open already
            path.unlink()

else:
    import fcntl

    def _lock(stream: BinaryIO) -> bool | None:
        """Whether the lock could be had; None where the file system knows no locks."""
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            # Some network file systems know no locks: there, the user keeps order.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            return None
        return True

    def _remove_locked(path: Path, stream: BinaryIO) -> None:
        with suppress(OSError):
            path.unlink()  # before the lock is dropped, so that it is not the next one's file
        stream.close()


def _sync_folder(folder: Path) -> None:
    """Makes the new name in a folder outlast a power failure, where the system can."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some network file systems sync no folders; the file is there
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
