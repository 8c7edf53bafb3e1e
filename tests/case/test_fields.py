"""What goes into a case and in which order it is listed; no browser, no network."""

import io
import zipfile

import numpy as np
import pytest
from conftest import encode
from PIL import Image

from mseenet.case.fields import EXAMPLES_DROPPED, EXAMPLES_KEPT_OUT, Case, Field, by_doubt
from mseenet.case.slides import PatternError
from mseenet.inference.classifier import Prediction

IMAGES = [encode(np.full((8, 8, 3), value, np.uint8)) for value in (10, 20, 30)]


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return buffer.getvalue()


def test_equal_content_is_one_field_with_all_its_names():
    case = Case()
    for name, content in (("a.png", IMAGES[0]), ("b.png", IMAGES[1]), ("copy.png", IMAGES[0])):
        case.take_in([(name, content)])
    assert [field.name for field in case.fields.values()] == ["a.png", "b.png"]
    assert [field.repeats for field in case.fields.values()] == [["copy.png"], []]


def test_an_intake_says_what_was_there_already():
    case = Case()
    case.take_in([("a.png", IMAGES[0]), ("b.png", IMAGES[1])])
    assert case.notices == []
    case.take_in([("c.png", IMAGES[2]), ("again.png", IMAGES[0]), ("c2.png", IMAGES[2])])
    (notice,) = case.notices
    assert notice.startswith("1 file added. 2 files left out")
    assert notice.endswith("again.png, c2.png")
    case.take_in([("case.zip", b"PK\x03\x04")])
    assert case.notices == []
    assert len(case.problems) == 1
    case.take_in([("b again.png", IMAGES[1])])
    assert case.problems == []
    assert case.notices[0].startswith("0 files added. 1 file left out")


def test_an_archive_gives_its_images_and_nothing_else():
    case = Case()
    members = {
        "slide/1.png": IMAGES[0],
        "slide/2.PNG": IMAGES[1],
        "__MACOSX/slide/._1.png": b"x",
        ".hidden/3.png": IMAGES[2],
        "notes.txt": b"x",
        "empty/": b"",
        "again.png": IMAGES[0],
        "upload of a phone": IMAGES[2],
        "../beside.png": IMAGES[2] + b"1",
    }
    case.take_in([("case.zip", archive(members))])
    assert [field.name for field in case.fields.values()] == [
        "case.zip/slide/1.png",
        "case.zip/slide/2.PNG",
        "case.zip/upload of a phone",
        "case.zip/../beside.png",
    ]
    assert case.problems == []
    assert case.notices == [
        "4 files added. 1 file left out, as the case already holds the same content: "
        "case.zip/again.png",
        "1 file left out, not an image: case.zip/notes.txt",
        "1 file left out, hidden by a name that begins with a dot: case.zip/.hidden/3.png",
    ]


def test_an_archive_of_zeros_fills_no_memory():
    zeros = bytes(30 * 2**20)
    content = archive({f"{number}.png": zeros for number in range(20)} | {"good.png": IMAGES[0]})
    assert len(content) < 2**20
    case = Case()
    case.take_in([("case.zip", content)])
    assert [field.name for field in case.fields.values()] == ["case.zip/good.png"]
    assert case.size == len(IMAGES[0])
    (problem,) = case.problems
    assert problem.startswith("20 files: expected a file that unpacks to at most 100 times")


def test_an_archive_of_hidden_images_alone_says_so():
    case = Case()
    case.take_in([("case.zip", archive({".a/1.png": IMAGES[0]}))])
    assert case.problems == ["case.zip: expected images in the archive, found none but hidden ones"]


def test_a_damaged_member_does_not_spoil_the_others():
    content = bytearray(archive({"bad.png": IMAGES[0] * 20, "good.png": IMAGES[1]}))
    content[60] ^= 0xFF  # inside the compressed bytes of the first
    case = Case()
    case.take_in([("case.zip", bytes(content))])
    assert [field.name for field in case.fields.values()] == ["case.zip/good.png"]
    (problem,) = case.problems
    assert problem == (
        "case.zip/bad.png: expected a readable ZIP archive; this part of it is damaged"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and then nothing", "expected a readable ZIP archive"),
        (archive({"notes.txt": b"x"}), "expected images in the archive, found none"),
        (
            archive({"[Content_Types].xml": b"x", "ppt/media/1.png": IMAGES[0]}),
            "an Office document",
        ),
        (archive({"mimetype": b"x", "Pictures/1.png": IMAGES[0]}), "an OpenDocument"),
    ],
)
def test_an_unusable_archive_is_named(content, message):
    case = Case()
    case.take_in([("case.zip", content)])
    assert not case.fields
    assert message in case.problems[0]


@pytest.mark.parametrize("method", ["ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
def test_whatever_is_damaged_an_archive_raises_nothing(method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", getattr(zipfile, method)) as stream:
        for name, content in {"\u00e9.png": IMAGES[0], "b.png": IMAGES[1]}.items():
            stream.writestr(name, content)
    content = buffer.getvalue()
    random = np.random.default_rng(0)
    intact = 0
    for _ in range(200):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 3):
            damaged[place] = random.integers(256)
        case = Case()
        case.take_in([("case.zip", bytes(damaged))])
        assert case.fields or case.problems
        intact += not case.problems
    assert intact < 200


def test_an_image_named_as_such_is_never_unpacked():
    case = Case()
    case.take_in([("odd.png", archive({"a.png": IMAGES[0]}))])
    assert [field.name for field in case.fields.values()] == ["odd.png"]


def test_the_most_doubtful_come_first():
    def field(name: str, status: str, confidence: float | None, novelty: float) -> Field:
        prediction = Prediction(status, confidence=confidence, novelty=novelty)
        return Field(name, name, b"", prediction=prediction)

    fields = [
        field("sure", "ok", 0.99, 0.5),
        field("less sure", "ok", 0.95, 0.5),
        field("unread", "error", None, 0),
        field("foreign", "rejected", None, 1.4),
        field("more foreign", "rejected", None, 2.4),
        field("doubtful", "review", 0.6, 0.5),
    ]
    assert [f.name for f in by_doubt(fields)] == [
        "doubtful",
        "more foreign",
        "foreign",
        "unread",
        "less sure",
        "sure",
    ]


def test_pictures_of_a_field_hold_no_metadata_and_keep_its_shape():
    image = Image.fromarray(np.full((3000, 1500, 3), 90, np.uint8))
    exif = image.getexif()
    exif[0x010E] = "name of a patient"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    field = Field("k", "x.jpg", buffer.getvalue())
    assert field.pixels().shape == (1024, 512, 3)
    assert Image.open(io.BytesIO(field.picture)).size == (512, 1024)
    assert b"patient" not in field.picture + field.thumbnail
    assert Image.open(io.BytesIO(field.thumbnail)).size == (100, 200)


def test_waiting_done_and_removed():
    case = Case()
    case.take_in([("a.png", IMAGES[0])])
    case.take_in([("b.png", IMAGES[1])])
    first, second = case.fields.values()
    first.prediction = Prediction("ok")
    assert (case.done(), case.waiting()) == ([first], [second])
    with pytest.raises(RuntimeError, match="received one that waits"):
        _ = second.result
    case.remove(first.key)
    assert list(case.fields.values()) == [second]


def test_names_are_unique_in_a_case():
    case = Case()
    case.take_in([("image.png", content) for content in IMAGES])
    case.take_in([("image.png", b"another"), ("image.png", IMAGES[0])])
    names = [field.name for field in case.fields.values()]
    assert names == ["image.png", "image (2).png", "image (3).png", "image (4).png"]
    case.remove(next(iter(case.fields)))
    case.take_in([("image.png", b"one more")])
    assert list(case.fields.values())[-1].name == "image.png"


def test_problems_of_one_kind_are_one_message():
    case = Case()
    broken = [(f"{i}.zip", b"PK\x03\x04") for i in range(7)]
    case.take_in([*broken, ("slides.pptx", archive({"[Content_Types].xml": b"x"}))])
    assert len(case.problems) == 2
    assert case.problems[0] == (
        "7 files: expected a readable ZIP archive: 0.zip, 1.zip, 2.zip, 3.zip, 4.zip, ..."
    )
    assert case.problems[1].startswith("slides.pptx: ")
    assert not case.fields


def test_an_encrypted_archive_is_one_message():
    content = bytearray(archive({f"{i}.png": IMAGES[0] for i in range(120)}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(signature, place + 1)
    case = Case()
    case.take_in([("locked.zip", bytes(content))])
    (problem,) = case.problems
    assert problem.startswith("120 files: encrypted; expected an archive without a password: ")
    assert problem.count("locked.zip/") == 5
    assert len(case.left_out) == 120


def test_examples_and_fields_of_a_user_never_share_a_case():
    case = Case()
    case.take_in([("example.png", IMAGES[0])], synthetic=True)
    case.take_in([("mine.png", IMAGES[1])])
    assert [field.name for field in case.fields.values()] == ["mine.png"]
    assert case.notices == [EXAMPLES_DROPPED]
    case.take_in([("example.png", IMAGES[0])], synthetic=True)
    assert [field.name for field in case.fields.values()] == ["mine.png"]
    assert case.notices == [EXAMPLES_KEPT_OUT]


def test_what_brings_no_field_leaves_examples_alone():
    case = Case()
    case.take_in([("example.png", IMAGES[0])], synthetic=True)
    case.take_in([("broken.zip", b"PK\x03\x04")])
    assert [field.name for field in case.fields.values()] == ["example.png"]


def test_fields_are_of_the_slides_of_their_folders(fields):
    case = Case()
    a, b, c, d = map(encode, fields)
    with_folders = archive({"s 1/a.png": a, "s 2/b.png": b})
    case.take_in([("case.zip", with_folders), ("s 3/c.png", c), ("d.png", d)])
    assert [f.slide for f in case.fields.values()] == ["case/s 1", "case/s 2", "s 3", None]


def test_a_pattern_tells_slides_but_not_against_the_hand(fields):
    case = Case()
    case.take_in([(f"s/S{i % 2}_{i}.png", encode(field)) for i, field in enumerate(fields)])
    keys = list(case.fields)
    case.put_on_slide(keys[:1], "mine")
    case.name_slides("{slide}_*")
    assert [f.slide for f in case.fields.values()] == ["mine", "S1", "S0", "S1"]
    with pytest.raises(PatternError):
        case.name_slides("no slide")
    assert case.slide_pattern == "{slide}_*"
    case.take_in(
        [("S7_x.png", encode(fields[0][::-1].copy())), ("y.png", encode(fields[1][::-1].copy()))]
    )
    assert [f.slide for f in case.fields.values()][-2:] == ["S7", None]
    case.put_on_slide(keys, None)
    assert [f.slide for f in case.fields.values()][:2] == ["S0", "S1"]
    case.name_slides("")
    assert {f.slide for f in case.fields.values()} == {"s", None}
