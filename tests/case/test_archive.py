"""Names in ZIP archives, in the encodings that archivers use without saying so."""

import io
import struct
import zipfile
import zlib

import pytest

from mseenet.case.archive import ENCODINGS, ArchiveError, guessed_encoding, open_archive
from mseenet.case.fields import Case

NAMES = {
    "gb18030": ["病人张三_血涂片01.png", "病例二/图像2.png"],
    "cp932": ["患者山田_血液塗抹.png", "スメア01.png", "表示.png"],
    "cp1252": ["Müller_Ausstrich.png", "Señor Muñoz.png", "Größe.png"],
    "cp1256": ["مريض أحمد.png", "مسحة الدم.png"],
    "cp1251": ["Мазок Иванов.png"],
    "cp866": ["Мазок Иванов.png"],
    "cp850": ["Müller_Ausstrich.png", "Größe.png"],
    "cp949": ["환자 김철수.png"],
    "big5": ["病人王小明血片.png"],
}


def archive(
    raw_names: list[bytes], flag: int = 0, extra=lambda raw: b"", holds: bytes = b"content"
) -> bytes:
    """An archive with names of these bytes, whose UTF-8 flag is as told."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for number, raw in enumerate(raw_names):
            # Names of the same length, replaced below: zipfile writes no other encodings.
            info = zipfile.ZipInfo(_placeholder(number, raw))
            info.extra = extra(raw)
            target.writestr(info, b"%s %d" % (holds, number))
    content = buffer.getvalue()
    for number, raw in enumerate(raw_names):
        content = content.replace(_placeholder(number, raw).encode(), raw)
    if flag:
        content = bytearray(content)
        for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = content.find(signature)
            while start >= 0:
                content[start + place + 1] |= flag >> 8
                start = content.find(signature, start + 1)
        content = bytes(content)
    return content


def _placeholder(number: int, raw: bytes) -> str:
    return chr(ord("P") + number) * len(raw)


def names(case: Case) -> list[str]:
    return [field.name.removeprefix("case.zip/") for field in case.fields.values()]


@pytest.mark.parametrize("encoding", NAMES)
def test_names_of_unstated_encoding_are_read_as_they_were_meant(encoding):
    case = Case()
    case.take_in([("case.zip", archive([name.encode(encoding) for name in NAMES[encoding]]))])
    assert names(case) == NAMES[encoding]
    assert list(case.encodings) == ["case.zip"]


@pytest.mark.parametrize("encoding", NAMES)
def test_the_user_may_choose_another_encoding(encoding):
    case = Case()
    case.take_in([("case.zip", archive([name.encode(encoding) for name in NAMES[encoding]]))])
    case.read_names_in("case.zip", "cp1256" if encoding == "cp1251" else "cp1251")
    assert names(case) != NAMES[encoding]
    case.read_names_in("case.zip", encoding)
    assert names(case) == NAMES[encoding]


def test_names_of_files_that_were_left_out_follow_the_choice():
    case = Case()
    names_inside = ("Größe.png", "Länge.png", "Übersicht.txt")
    raws = [name.encode("cp850") for name in names_inside]
    content = archive(raws).replace(b"content 1", b"content X")  # its checksum is wrong now
    case.take_in([("case.zip", content)])
    case.read_names_in("case.zip", "cp1252")
    assert not any("Ü" in item.name for item in case.left_out)
    case.read_names_in("case.zip", "cp850")
    assert names(case) == ["Größe.png"]
    left_out = {item.name for item in case.left_out}
    assert left_out == {"case.zip/Länge.png", "case.zip/Übersicht.txt"}


@pytest.mark.parametrize("flag", [0, 0x800])
def test_utf8_is_known_with_and_without_its_flag(flag):
    case = Case()
    case.take_in([("case.zip", archive(["Größe 血.png".encode(), b"plain.png"], flag))])
    assert names(case) == ["Größe 血.png", "plain.png"]
    assert case.encodings == {}


def unicode_path(raw: bytes) -> bytes:
    name = raw.decode("cp932").encode()
    return struct.pack("<HHBL", 0x7075, 5 + len(name), 1, zlib.crc32(raw)) + name


def test_the_unicode_path_field_is_believed_before_any_guess():
    raws = [name.encode("cp932") for name in NAMES["cp932"]]
    case = Case()
    case.take_in([("case.zip", archive(raws, extra=unicode_path))])
    assert names(case) == NAMES["cp932"]
    assert case.encodings == {}


def test_a_unicode_path_field_of_another_name_is_not_believed():
    raw = "Größe.png".encode("cp850")
    contents = open_archive(archive([raw], extra=lambda raw: unicode_path(b"other.png")))
    assert [entry.name for entry in contents.images] == ["Größe.png"]


@pytest.mark.parametrize(
    "raw", [b"\x81.png", b"\xff\xfe\xfd.png", bytes(range(128, 256)) + b".png"]
)
def test_whatever_the_bytes_a_name_comes_out(raw):
    assert guessed_encoding([raw]) in ENCODINGS
    case = Case()
    case.take_in([("case.zip", archive([raw]))])
    assert len(case.fields) == 1


def test_two_archives_of_one_name_are_told_apart():
    case = Case()
    case.take_in([("case.zip", archive(["Größe.png".encode("cp850")]))])
    other = archive(["Länge.png".encode("cp1252"), b"x.png"], holds=b"another")
    case.take_in([("case.zip", other)])
    assert case.encodings == {"case.zip": "cp850", "case (2).zip": "cp1252"}
    case.read_names_in("case.zip", "cp850")
    assert [field.name for field in case.fields.values()] == [
        "case.zip/Größe.png",
        "case (2).zip/Länge.png",
        "case (2).zip/x.png",
    ]


def test_a_compression_that_cannot_be_read_is_named():
    content = bytearray(archive([b"a.png"]))
    content[content.find(b"PK\x01\x02") + 10] = content[8] = 9  # Deflate64
    case = Case()
    case.take_in([("case.zip", bytes(content))])
    (problem,) = case.problems
    assert "compressed by method 9" in problem


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_unpacks_all_at_once_is_not_read(method):
    """By the standard library; so few bytes may hold more than the memory does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        target.writestr("a.png", bytes(2**24))
        target.writestr("no suffix", bytes(2**24))
    assert len(buffer.getvalue()) < 8192
    case = Case()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", None)  # nothing is unpacked
        case.take_in([("case.zip", buffer.getvalue())])
    assert case.problems == [
        f"case.zip/a.png: compressed by method {method}, which is not read here; expected Deflate"
    ]


def test_an_archive_of_too_many_files_is_not_listed(monkeypatch):
    content = archive([b"%d.png" % i for i in range(5)])
    monkeypatch.setattr("mseenet.case.archive.MOST_FILES", 5)
    assert len(open_archive(content).images) == 5
    monkeypatch.setattr("mseenet.case.archive.MOST_FILES", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", None)  # the directory is not read
        with pytest.raises(ArchiveError, match="at most 4 files"):
            open_archive(content)
        case = Case()
        case.take_in([("case.zip", content)])
    assert case.problems == ["case.zip: expected an archive of at most 4 files"]
    assert len(open_archive(io.BytesIO(content)).images) == 5  # on a disk as many as there are
