"""The images in a ZIP archive, with their names as they were meant."""

import io
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from charset_normalizer import from_bytes

from mseenet.errors import MSEENetError
from mseenet.imaging.formats import HEAD, SUFFIXES, is_image

MAGIC = b"PK\x03\x04"
"""How a ZIP archive begins."""

NOT_AN_ARCHIVE = "expected a readable ZIP archive"
ENCRYPTED = "encrypted; expected an archive without a password"
DAMAGED = f"{NOT_AN_ARCHIVE}; this part of it is damaged"
NO_IMAGES = "expected images in the archive, found none"

MOST_UNPACKED = 100
"""How many times its packed size a file may take. No picture of a smear is packed so well: what
is consists of little but zeros, and would fill the memory from a small archive."""

ALWAYS_UNPACKED = 2**20
"""Files up to this size, in bytes, are unpacked however well they are packed."""

MOST_FILES = 100_000
"""In an archive that is held in memory. Its directory is read as a whole, which takes ten times its
size; no case holds as many."""

ENCODINGS = {
    "cp1252": "Western European (Windows)",
    "cp850": "Western European (DOS)",
    "cp1250": "Central European (Windows)",
    "cp1251": "Cyrillic (Windows)",
    "cp866": "Cyrillic (DOS)",
    "cp1253": "Greek (Windows)",
    "cp1254": "Turkish (Windows)",
    "cp1255": "Hebrew (Windows)",
    "cp1256": "Arabic, Persian (Windows)",
    "cp874": "Thai (Windows)",
    "gb18030": "Chinese, simplified (GBK)",
    "big5": "Chinese, traditional (Big5)",
    "cp932": "Japanese (Shift-JIS)",
    "cp949": "Korean (Windows)",
    "cp437": "English (DOS)",
}
"""Encodings that archivers use for names without saying so, in words."""

_DOCUMENTS = {
    "[Content_Types].xml": "an Office document",
    "mimetype": "an OpenDocument or EPUB file",
    "META-INF/MANIFEST.MF": "a Java program",
    "AndroidManifest.xml": "an Android program",
    "Index/Document.iwa": "an iWork document",
}
"""Entries by which files of other kinds, which are ZIP archives inside, are known."""

READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that are unpacked piece by piece. Of the others zipfile unpacks all that a few kilobytes
hold at once, however little is asked for, and a millionfold of them may be zeros."""

_IN_DIRECTORY = b"PK\x01\x02"
"""What each file's place in the directory begins with."""

_UTF8_FLAG, _ENCRYPTED_FLAG, _UNICODE_PATH = 0x800, 0x1, 0x7075


class ArchiveError(MSEENetError):
    """An archive, or one of its files, cannot be read; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    Attributes:
        name: Inside the archive.
        raw: The name's bytes where the archive does not say how they are encoded and ASCII
            does not say it either; else None.
        read: Gives the content, at most so many bytes of it.

    `read` raises `ArchiveError`.
    """

    name: str
    raw: bytes | None
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Attributes:
        images: Files that are named as images, or begin as one.
        others: All other files but hidden ones.
        hidden: Names of files that the user's system hides, without those of `is_litter`.
        encoding: How the names were read that the archive itself leaves open, a key of
            `ENCODINGS`; None if there are none.
    """

    images: list[Entry]
    others: list[Entry]
    hidden: list[str]
    encoding: str | None


def is_archive(name: str, content: bytes) -> bool:
    """Whether a file is to be unpacked: a ZIP archive that is not named as an image."""
    return content.startswith(MAGIC) and not name.lower().endswith(SUFFIXES)


def is_litter(name: str) -> bool:
    """Whether operating systems put it beside a user's files, who do not know of it."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return "__MACOSX" in folders or file == ".DS_Store" or file.startswith("._")


def is_hidden(name: str) -> bool:
    """Whether the name, or that of a folder in it, begins with a dot."""
    return any(part.startswith(".") and part != ".." for part in PurePosixPath(name).parts)


def open_archive(content: bytes | BinaryIO) -> Contents:
    """Lists an archive; nothing is unpacked before an entry is read.

    Args:
        content: Of the archive, or a file that stays open while entries are read.

    Raises:
        ArchiveError: It cannot be read, is a document of another kind, or holds no image.
    """
    archive, files = _listed(content)
    for info in files:
        if kind := _DOCUMENTS.get(info.filename):
            raise ArchiveError(f"expected images or a ZIP archive of them; this is {kind}")
    raws = {id(info): _undeclared(info) for info in files}
    unknown = [raw for raw in raws.values() if raw is not None]
    encoding = guessed_encoding(unknown) if unknown else None
    images: list[Entry] = []
    others: list[Entry] = []
    hidden: list[str] = []
    for info in files:
        raw = raws[id(info)]
        name = _declared_name(info) if raw is None or encoding is None else named(raw, encoding)
        if is_litter(name):
            continue
        if is_hidden(name):
            hidden.append(name)
            continue
        entry = Entry(name, raw, _reader(archive, info))
        named_so = name.lower().endswith(SUFFIXES)
        (images if named_so or _begins_as_image(entry.read) else others).append(entry)
    if not images:
        raise ArchiveError(f"{NO_IMAGES} but hidden ones" if hidden else NO_IMAGES)
    return Contents(images, others, hidden, encoding)


def entries_of(content: bytes) -> dict[str, Entry]:
    """All files of an archive by their names, of whatever kind; of equal names the last one.

    Raises:
        ArchiveError: It cannot be read.
    """
    archive, files = _listed(content)
    return {info.filename: Entry(info.filename, None, _reader(archive, info)) for info in files}


def named(raw: bytes, encoding: str) -> str:
    """A name from its bytes; what the encoding lacks becomes a replacement character."""
    return raw.decode(encoding, "replace")


def guessed_encoding(names: list[bytes]) -> str:
    """The encoding, a key of `ENCODINGS`, in which names of one archive read best.

    A guess: a few short names say little, so the user is told of it and may choose another.
    """
    text = b"\n".join(names)
    for encoding, script in _ALPHABETS:
        if _decodes(text, encoding) and _reads_as(text.decode(encoding), script):
            return encoding
    # The older and smaller sets: the rare characters that wrong guesses are full of are not in
    # them.
    narrow = {"gb2312": "gb18030", "big5": "big5", "shift_jis": "cp932", "euc_kr": "cp949"}
    for isolated in (list(narrow), list(ENCODINGS)):
        best = from_bytes(text, cp_isolation=isolated).best()
        if best is not None and narrow.get(best.encoding, best.encoding) in ENCODINGS:
            return narrow.get(best.encoding, best.encoding)
    return "cp437"  # has a character for every byte


_ALPHABETS = (
    *(("cp1252", "LATIN"), ("cp850", "LATIN"), ("cp1250", "LATIN"), ("cp1251", "CYRILLIC")),
    *(("cp866", "CYRILLIC"), ("cp1253", "GREEK"), ("cp1255", "HEBREW"), ("cp1256", "ARABIC")),
)
"""Single-byte encodings and their scripts. Thai is left out, as any Chinese reads as Thai."""

_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜ")
_CENTRAL = frozenset("ąćčďęěłľńňőřśšťůűźżžĄĆČĎĘĚŁĽŃŇŐŘŚŠŤŮŰŹŻŽáäéíóöôúüýÁÄÉÍÓÖÔÚÜÝß")


def _reads_as(text: str, script: str) -> bool:
    """Whether all that is not ASCII forms words such as the script has."""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    foreign = {char for char in text if not char.isascii()}
    if script == "LATIN":
        accented = [sum(not char.isascii() for char in word) for word in words]
        return (_WESTERN >= foreign or _CENTRAL >= foreign) and all(
            count <= max(1, len(word) / 2) for count, word in zip(accented, words, strict=True)
        )
    letters = all(re.match(rf"{script} .*LETTER", unicodedata.name(c, "")) for c in foreign)
    well_formed = all(
        not any(char.isascii() for char in word)
        and (word[1:] == word[1:].lower() or word.isupper())
        for word in words
    )
    # Two letters may be one Chinese character.
    return letters and well_formed and max(map(len, words), default=0) >= 3


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _listed(content: bytes | BinaryIO) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    if isinstance(content, bytes) and content.count(_IN_DIRECTORY) > MOST_FILES:
        raise ArchiveError(f"expected an archive of at most {MOST_FILES:,} files")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content)
        # A damaged directory may hold an empty name, at which `is_dir` fails.
        files = [info for info in archive.infolist() if info.filename and not info.is_dir()]
    except Exception as error:  # zipfile raises anything on damaged directories
        raise ArchiveError(NOT_AN_ARCHIVE) from error
    return archive, files


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    encoding = "utf-8" if info.flag_bits & _UTF8_FLAG else "cp437"  # as zipfile decodes
    return info.orig_filename.encode(encoding, "surrogateescape")


def _undeclared(info: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a name that neither the archive nor ASCII or UTF-8 explains; else None."""
    if info.flag_bits & _UTF8_FLAG or _unicode_path(info) is not None:
        return None
    raw = _raw_name(info)
    return None if _decodes(raw, "utf-8") else raw


def _declared_name(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _UTF8_FLAG:
        return info.filename
    return _unicode_path(info) or _raw_name(info).decode("utf-8", "replace")


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name as UTF-8 in Info-ZIP's extra field, unless the name was changed behind it."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5:
            version, check = struct.unpack("<BL", field[:5])
            if version == 1 and check == zlib.crc32(_raw_name(info)):
                return field[5:].decode("utf-8", "replace")
    return None


def _begins_as_image(read: Callable[[int], bytes]) -> bool:
    try:
        return is_image(read(HEAD))
    except ArchiveError:  # what cannot be read and is not named as an image is none
        return False


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[int], bytes]:
    """What gives a file's content, within the limits above."""

    def read(size: int) -> bytes:
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise ArchiveError(ENCRYPTED)
        if info.compress_type not in READ_METHODS:
            raise ArchiveError(
                f"compressed by method {info.compress_type}, which is not read here; "
                "expected Deflate"
            )
        if info.file_size > max(ALWAYS_UNPACKED, MOST_UNPACKED * info.compress_size):
            raise ArchiveError(
                f"expected a file that unpacks to at most {MOST_UNPACKED} times its size"
            )
        try:
            with archive.open(info) as stream:
                return stream.read(size)
        except Exception as error:  # decompressors raise anything on damaged data
            raise ArchiveError(DAMAGED) from error

    return read
