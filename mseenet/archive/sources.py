"""Where the images of an archive lie: folders, lists, ZIP and TAR files, object stores.

Listing and reading are apart: one process lists, and workers, maybe on other machines, read what
was listed. A place is a path, or an address such as `s3://bucket/folder`, which pyarrow opens, or
fsspec where pyarrow does not know the scheme.
"""

import io
import lzma
import os
import tarfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from typing import BinaryIO, Literal, NamedTuple

from mseenet.archive.digests import digest
from mseenet.case.archive import MAGIC, ArchiveError, Contents, is_hidden, is_litter, open_archive
from mseenet.case.limits import MEGABYTE
from mseenet.errors import MSEENetError
from mseenet.imaging.decoding import unreadable_named
from mseenet.imaging.errors import ImageError
from mseenet.imaging.formats import HEAD, SUFFIXES, is_image

LIST_SUFFIX = ".txt"
"""Ending of a file that names images, one path or address a line."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings by which a folder is searched for archives; one that is named itself is told by content."""

OPEN_ARCHIVES = 4
"""How many archives a worker keeps open."""


_DAMAGE = (ArchiveError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
"""What the content of archives raises. On damage of BZ2 that is an `OSError`."""


class SourceError(MSEENetError):
    """A folder, a list or an archive cannot be read; the message names it."""


class Reference(NamedTuple):
    """Where one image lies.

    Attributes:
        name: As records name it: the place, and inside an archive also the name there, with a
            number behind the second and later ones of one name. Bytes of a path that are no text
            stand as backslash escapes.
        place: Absolute path or address of the file, or of the archive that it lies in.
        kind: What the file at `place` is.
        position: In a ZIP archive, which of its images; in a TAR archive, the first byte of the
            content, unpacked. -1 for a file.
        size: In a TAR archive, of the content in bytes. -1 else.
    """

    name: str
    place: str
    kind: Literal["file", "zip", "tar"] = "file"
    position: int = -1
    size: int = -1


def references(sources: list[str], report: Callable[[str], None]) -> Iterator[Reference]:
    """Lists images in a fixed order; of the listing one folder is held in memory, and those above it.

    Args:
        sources: Files, folders, lists, archives and addresses. A name that is none of these
            counts as an image, whether or not it can be read; so does an address at which there is
            nothing, if it ends as an image does.
        report: Is told, in words, of each folder, list or archive that cannot be read; the others
            are listed all the same, those beside it in the same folder or list too.
    """
    for source in sources:
        yield from _of_source(source, report, listed=source.lower().endswith(LIST_SUFFIX))


def _of_source(
    source: str, report: Callable[[str], None], listed: bool = False
) -> Iterator[Reference]:
    try:
        if listed:
            for line in _lines(source):
                yield from _of_source(line, report)
        elif _is_folder(source):
            yield from _of_folder(source, report)
        else:
            kind = _kind(source)
            if kind == "file":
                yield Reference(_shown(source), _absolute(source))
            else:
                yield from _of_archive(source, kind)
    except SourceError as error:
        report(str(error))


def _of_folder(folder: str, report: Callable[[str], None]) -> Iterator[Reference]:
    found = False

    def told(problem: str) -> None:  # what is said of a part need not be said of the whole
        nonlocal found
        found = True
        report(problem)

    for place in _walk(folder, told):
        if place.lower().endswith(ARCHIVE_SUFFIXES) and (kind := _kind(place)) != "file":
            try:
                yield from _of_archive(place, kind)
            except SourceError as error:
                told(str(error))
        elif place.lower().endswith(SUFFIXES) or is_image(_head(place)):
            yield Reference(_shown(place), _absolute(place))
        else:
            continue
        found = True
    if not found:
        raise SourceError(f"{_shown(folder)}: expected images or archives of them, found none")


def _of_archive(place: str, kind: Literal["file", "zip", "tar"]) -> Iterator[Reference]:
    members = _zip_members if kind == "zip" else _tar_members
    try:
        with open_place(place) as stream:
            named: dict[bytes, int] = {}
            for name, position, size in members(stream):
                known = f"{_shown(place)}/{_apart(_shown(name), named)}"
                yield Reference(known, _absolute(place), kind, position, size)
    except (OSError, *_DAMAGE) as error:
        raise SourceError(f"{_shown(place)}: {_words(error)}") from error


def _apart(name: str, named: dict[bytes, int]) -> str:
    """A name of its own for a member of an archive, which may hold several of one name.

    Args:
        name: Of the member.
        named: For each name that was given, how often; the digests take less than the names.
    """
    first = key = digest(name)
    own, number = name, named.get(first, 0)
    while key in named:
        number += 1
        own = f"{name} ({number})"
        key = digest(own)
    named[first] = max(number, 1)
    named.setdefault(key, 1)
    return own


def _zip_members(stream: BinaryIO) -> Iterator[tuple[str, int, int]]:
    for position, entry in enumerate(open_archive(stream).images):
        yield entry.name, position, -1


def _tar_members(stream: BinaryIO) -> Iterator[tuple[str, int, int]]:
    with tarfile.open(fileobj=stream) as archive:
        for member in archive:
            if not member.isfile() or is_litter(member.name) or is_hidden(member.name):
                continue
            content = archive.extractfile(member)
            named = member.name.lower().endswith(SUFFIXES)
            if named or (content is not None and is_image(content.read(HEAD))):
                yield member.name, member.offset_data, member.size
            archive.members = []  # type: ignore[attr-defined] # else all headers of a large archive would stay in memory


def _open_tar(stream: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream)


class Reader:
    """Reads listed images; the archives that it read from last stay open. For several threads.

    Args:
        largest: Of an image, in bytes.
    """

    def __init__(self, largest: int):
        self._largest = largest
        self._open: OrderedDict[str, tuple[BinaryIO, Contents | tarfile.TarFile]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, reference: Reference) -> bytes:
        """The content of an image's file.

        Raises:
            ImageError: It cannot be read, or is too large.
        """
        if reference.kind == "file":
            with unreadable_named(), open_place(reference.place) as stream:
                return self._checked(stream.read(self._largest + 1))
        with self._lock, unreadable_named():
            try:
                return self._checked(self._from_archive(reference))
            except (IndexError, *_DAMAGE) as error:
                raise ImageError(f"{reference.place}: {_words(error)}") from error

    def _from_archive(self, reference: Reference) -> bytes:
        archive = self._archive(reference)
        if isinstance(archive, Contents):
            return archive.images[reference.position].read(self._largest + 1)
        assert archive.fileobj is not None
        archive.fileobj.seek(reference.position)
        content = archive.fileobj.read(min(reference.size, self._largest + 1))
        if len(content) < min(reference.size, self._largest + 1):
            raise EOFError("expected a whole TAR archive; this one ends early")
        return content

    def _archive(self, reference: Reference) -> Contents | tarfile.TarFile:
        if reference.place not in self._open:
            stream = open_place(reference.place)
            opened = open_archive if reference.kind == "zip" else _open_tar
            self._open[reference.place] = stream, opened(stream)
        self._open.move_to_end(reference.place)
        if len(self._open) > OPEN_ARCHIVES:
            _, (stream, _) = self._open.popitem(last=False)
            stream.close()
        return self._open[reference.place][1]

    def _checked(self, content: bytes) -> bytes:
        if len(content) > self._largest:
            raise ImageError(
                f"expected at most {self._largest // MEGABYTE:,} MB, got a larger file"
            )
        return content


def open_place(place: str) -> BinaryIO:
    """Opens the file at a path or an address, to be read at any position.

    Raises:
        OSError: It cannot be opened.
    """
    if not _is_address(place):
        return open(place, "rb")
    filesystem, path = _filesystem_of(place)
    with _as_os_error():
        return io.BufferedReader(filesystem.open_input_file(path), MEGABYTE)


def _lines(place: str) -> Iterator[str]:
    try:
        with open_place(place) as stream:
            for line in stream:
                if name := line.strip():
                    yield os.fsdecode(name)
    except OSError as error:
        raise SourceError(f"{_shown(place)}: expected a readable list ({_words(error)})") from error


def _is_folder(place: str) -> bool:
    if not _is_address(place):
        return os.path.isdir(place)
    from pyarrow.fs import FileType

    try:
        filesystem, path = _filesystem_of(place)
        with _as_os_error():
            kind = filesystem.get_file_info(path).type
    except OSError as error:
        raise SourceError(f"{place}: expected a readable address ({_words(error)})") from error
    if kind == FileType.NotFound and not place.lower().endswith(SUFFIXES):
        raise SourceError(f"{place}: expected a file or a folder, found neither at this address")
    return kind == FileType.Directory


def _walk(folder: str, report: Callable[[str], None]) -> Iterator[str]:
    """All files of a folder at any depth but hidden ones, sorted."""
    for place, is_folder in _children(folder):
        if os.path.basename(place).startswith("."):
            continue
        if not is_folder:
            yield place
            continue
        try:
            yield from _walk(place, report)
        except SourceError as error:
            report(str(error))


def _children(folder: str) -> Iterator[tuple[str, bool]]:
    """What lies in a folder, and whether that is a folder."""
    try:
        if not _is_address(folder):
            with os.scandir(folder) as entries:
                return iter(
                    sorted((entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries)
                )
        from pyarrow.fs import FileSelector, FileType

        filesystem, path = _filesystem_of(folder)
        with _as_os_error():
            found = filesystem.get_file_info(FileSelector(path))
    except OSError as error:
        raise SourceError(
            f"{_shown(folder)}: expected a readable folder ({_words(error)})"
        ) from error
    found.sort(key=lambda entry: entry.base_name)
    below = folder if folder.endswith("://") else folder.rstrip("/") + "/"
    # Whole addresses of millions of objects would take as much again.
    return ((f"{below}{e.base_name}", e.type == FileType.Directory) for e in found)


def _kind(place: str) -> Literal["file", "zip", "tar"]:
    if place.lower().endswith(SUFFIXES):
        return "file"
    try:
        with open_place(place) as stream:
            if stream.read(len(MAGIC)) == MAGIC:
                return "zip"
            stream.seek(0)
            tarfile.open(fileobj=stream).close()
            return "tar"
    except (OSError, ValueError, *_DAMAGE):  # what it is instead, its row will say
        return "file"


def _head(place: str) -> bytes:
    try:
        with open_place(place) as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _absolute(place: str) -> str:
    """The place as workers find it, who are at home in another folder."""
    return place if _is_address(place) else os.path.join(os.getcwd(), place)


def _is_address(place: str) -> bool:
    return "://" in place


def _filesystem_of(address: str):
    """The pyarrow file system of an address, and the path in it."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    host, _, path = rest.partition("/")
    with _as_os_error():
        filesystem, root = _filesystem(scheme, host)
    return filesystem, address if root is None else f"{root.rstrip('/')}/{path}".rstrip("/")


@cache
def _filesystem(scheme: str, host: str):
    """The file system behind an address, and the path of its root; None if paths are addresses."""
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    if scheme in ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"):
        return FileSystem.from_uri(f"{scheme}://{host}" if scheme != "file" else "file:///")
    import fsspec

    return PyFileSystem(FSSpecHandler(fsspec.filesystem(scheme))), None


class _as_os_error:
    """Turns what libraries for object stores raise, which is anything, into an `OSError`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise OSError(_words(error)) from error


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
