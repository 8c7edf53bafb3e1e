"""What is fuzzed: which files it reads, how they can be changed, and what it may say of them."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mseenet.errors import MSEENetError
from tools.fuzz.mutation import Sound, damaged, other_json

if TYPE_CHECKING:
    from mseenet.inference.card import Card
    from mseenet.inference.profile import SiteProfile

LONGEST_ERROR = 1000
"""Characters: what is wrong is said in a line that a person can read."""

Change = Callable[[Sound, np.random.Generator], tuple[str, bytes]]


@dataclass(frozen=True)
class Target:
    """One reader of foreign files.

    Attributes:
        sound: Gives its sound files.
        read: Reads one, and the names of what came of it; it raises `MSEENetError` where the file
            cannot be used, and `AssertionError` where what it gives is not sound.
        changes: How files are changed, each as often as the others.
    """

    sound: Callable[[], Sound]
    read: Callable[[bytes], str]
    changes: tuple[Change, ...] = field(default=(damaged,))


def mutated(target: Target, sound: Sound, seed: int, number: int) -> tuple[str, bytes]:
    """File `number`: the name of the sound file that it was, and the changed content."""
    random = np.random.default_rng([seed, number])
    change = target.changes[random.integers(len(target.changes))]
    return change(sound, random)


def outcome(target: Target, content: bytes) -> tuple[str, str]:
    """What comes of a file: a word of `Target.read`, the class of an error, or "FAILURE"."""
    try:
        return target.read(content), ""
    except MSEENetError as error:
        text = str(error)
        if len(text) > LONGEST_ERROR:
            return "FAILURE", f"an error of {len(text)} characters: {text[:200]}"
        return type(error).__name__, text
    except BaseException as error:  # what this search is for
        return "FAILURE", repr(error)


# Images


def _images() -> Sound:
    from tools.fuzz.images import sound_files

    return sound_files()


def _decode(content: bytes) -> str:
    from mseenet.imaging.decoding import decode_image

    rgb = decode_image(content)
    assert (rgb.dtype, rgb.ndim, rgb.shape[2]) == (np.uint8, 3, 3), (rgb.dtype, rgb.shape)
    return "decoded"


# Cards

BEHIND = b"\n-- arrays --\n"
"""Between a JSON file and the file of arrays that it names, where a target reads both."""

WEIGHTS = b"weights are hashed, never read, when a card is"


@cache
def _card_folder() -> Path:
    folder = Path(mkdtemp(prefix="mseenet-fuzz-"))
    (folder / "a.weights.h5").write_bytes(WEIGHTS)
    return folder


def _novelty(content: bytes) -> Path:
    path = _card_folder() / f"novelty-{hashlib.sha256(content).hexdigest()[:8]}.npz"
    path.write_bytes(content)
    return path


def _cards() -> Sound:
    from mseenet.config import CLASS_NAMES
    from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS
    from mseenet.inference.novelty import Novelty

    content = json.loads((DEFAULT_WEIGHTS / CARD_NAME).read_text(encoding="utf-8"))
    reference = Novelty(np.eye(len(CLASS_NAMES), 6), np.eye(6)).to_bytes()
    content["weights"] |= {"file": "a.weights.h5", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    gated = {"file": "novelty.npz", "sha256": hashlib.sha256(reference).hexdigest()}
    card = content | {"novelty": content["novelty"] | gated}
    without = content | {"novelty": None}
    return [
        ("card", json.dumps(card).encode() + BEHIND + reference),
        ("card without gate", json.dumps(without).encode() + BEHIND),
    ]


def _other_text(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    """A JSON file that says something else, and its arrays whole."""
    name, content = sound[random.integers(len(sound))]
    text, _, arrays = content.partition(BEHIND)
    return name, other_json(text, random) + BEHIND + arrays


def _other_reference(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    """A changed novelty reference whose hash is in the card, as a training may have made it."""
    name, content = sound[0]
    text, _, reference = content.partition(BEHIND)
    _, changed = damaged([(name, reference)], random)
    if random.random() < 0.5:
        changed = _other_arrays(reference, random)
    card = json.loads(text)
    card["novelty"]["sha256"] = hashlib.sha256(changed).hexdigest()
    return name, json.dumps(card).encode() + BEHIND + changed


def _other_arrays(reference: bytes, random: np.random.Generator) -> bytes:
    """The archive with an array's header or values changed, and whole checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(reference)) as archive, zipfile.ZipFile(stream, "w") as other:
        for name in archive.namelist():
            changed = bytearray(archive.read(name))
            if random.random() < 0.7:
                _, content = damaged([(name, bytes(changed))], random)
                changed = bytearray(content)
            other.writestr(name, bytes(changed))
    return stream.getvalue()


def _read_card(content: bytes) -> str:
    """Reads the card and asks it for probabilities, as the network would."""
    from mseenet.inference.card import CARD_NAME, read_card
    from mseenet.metrics import softmax

    folder = _card_folder()
    text, _, reference = content.partition(BEHIND)
    (folder / CARD_NAME).write_bytes(text)
    (folder / "novelty.npz").write_bytes(reference)
    card = read_card(folder)
    assert len(card.release) == 12
    novelty = np.ones(1)
    if card.novelty is not None:
        width = card.novelty.reference.means.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            novelty = card.novelty.reference.distances(np.ones((1, width), np.float32))
        if not np.isfinite(novelty).all():
            return "read, but names nothing"  # see `classifier.NOT_FINITE`
        novelty = novelty / card.novelty.reject
    temperatures = card.calibration.temperatures(novelty)
    probabilities = softmax(np.array([[9.0, 1.0, -2.0, 0.0]]), temperatures)
    assert np.isfinite(probabilities).all(), (novelty, temperatures)
    assert probabilities.argmax() == 0
    return "read"


# Site profiles

EXTREMES = (0.0, 1e-30, 0.9, -1.0, 20.0, 1e4, 1e30)
"""What arrays of a profile are multiplied by."""


def _packed(profile: "SiteProfile") -> bytes:
    arrays, text = profile.files("site").values()
    return text + BEHIND + arrays


@cache
def _shipped_card() -> "Card":
    from mseenet.inference.card import DEFAULT_WEIGHTS, read_card

    return read_card(DEFAULT_WEIGHTS)  # which takes a hash of all weights


def _profiles() -> Sound:
    return [("profile", _packed(_profile())), ("with a last layer", _packed(_profile(True)))]


def _profile(layer: bool = False) -> "SiteProfile":
    from mseenet.imaging.quality import Thresholds
    from mseenet.inference.normalisation import Normalisation
    from mseenet.inference.profile import SiteProfile

    card = _shipped_card()
    assert card.novelty is not None
    change = Normalisation(
        np.zeros((5, 3), np.float32),
        np.diag([1.2, 0.8, 1.1]).astype(np.float32),
        np.array([0.1, 0.0, -0.1], np.float32),
        0.9,
    )
    return SiteProfile(
        "A site",
        card.release,
        change,
        card.calibration,
        card.novelty,
        0.9,
        (np.ones((384, 4), np.float32), np.zeros(4, np.float32)) if layer else None,
        {},
        Thresholds(sharpness=0.42),
    )


def _extreme_profile(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    """A profile that is whole and says what no laboratory's does."""
    from mseenet.inference.novelty import Novelty

    name, _ = sound[0]
    profile = _profile()
    change, gate = profile.normalisation, profile.gate

    def times(array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return (array + 0.1) * np.float32(random.choice(EXTREMES))

    reference = Novelty(times(gate.reference.means), times(gate.reference.whitening))
    with suppress(ValueError):  # beyond its bounds, which files of `_other_text` are
        change = replace(
            change,
            light=times(change.light),
            matrix=times(change.matrix),
            offset=times(change.offset),
            zoom=float(random.choice([0.75, 1.0, 1.35])),
        )
    gate = replace(gate, reference=reference)
    return name, _packed(replace(profile, normalisation=change, gate=gate))


def _read_profile(content: bytes) -> str:
    """Reads the profile and does to a field and an answer what a classifier would."""
    from mseenet.inference.profile import read_profile

    text, _, arrays = content.partition(BEHIND)
    path = _card_folder() / "site.json"
    path.write_bytes(text)
    path.with_suffix(".npz").write_bytes(arrays)
    profile = read_profile(path)
    card = profile.applied_to(_shipped_card())
    assert card.novelty is not None
    field = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    seen = profile.normalisation.apply(field)
    assert (seen.dtype, seen.shape) == (np.uint8, field.shape)
    back = profile.normalisation.back(seen[..., 0].astype(np.float32))
    assert back.shape == field.shape[:2]
    assert np.isfinite(back).all()
    features = np.ones((1, len(card.novelty.reference.whitening)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        novelty = card.novelty.reference.distances(features) / card.novelty.reject
    if not np.isfinite(novelty).all():
        return "read, but names nothing"  # see `classifier.NOT_FINITE`
    assert np.isfinite(card.calibration.temperatures(novelty)).all()
    return "read"


# Saved cases


def _cases() -> Sound:
    from mseenet.case.fields import Case, Source
    from mseenet.case.saved import Reading, save_case
    from mseenet.case.verdicts import Verdict
    from mseenet.config import CLASS_NAMES
    from mseenet.inference.classifier import Prediction

    made = datetime(2026, 1, 1, tzinfo=UTC)
    case = Case(label="A case", reader="A reader")
    case.take_in(
        (f"slide {i % 2}/field {i}.png", b"\x89PNG\r\n\x1a\n" + bytes([i])) for i in range(4)
    )
    first, second, third, _ = case.fields.values()
    probabilities = dict(zip(CLASS_NAMES, (0.7, 0.2, 0.05, 0.05), strict=True))
    heatmap = np.tile(np.linspace(0, 1, 224, dtype=np.float32), (224, 1))
    first.prediction = Prediction(
        "ok",
        CLASS_NAMES[0],
        MappingProxyType(probabilities),
        0.7,
        heatmap,
        CLASS_NAMES[0],
        0.5,
        ("a reason",),
        7,
        np.packbits(heatmap > 0.9),
    )
    first.verdict = Verdict(CLASS_NAMES[1], made, "a comment", "A reader", blind=True)
    second.prediction = Prediction("rejected", reasons=("unlike",), novelty=1.5, nucleated_cells=0)
    third.prediction = Prediction("error", reasons=("damaged",))
    source = Source("0123456789ab", "ab" * 32, "1.0")
    return [
        ("case", save_case(case, source, made, Reading(True, first.key, [first.key]))),
        ("empty case", save_case(Case(), source, made)),
    ]


def _other_case(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    """A case whose manifest says something else, and whose other entries are whole."""
    from mseenet.case.saved import MANIFEST

    name, content = sound[random.integers(len(sound))]
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(stream, "w") as other:
        for entry in archive.namelist():
            part = archive.read(entry)
            if entry == MANIFEST:
                part = other_json(part, random)
            elif random.random() < 0.05:
                part = part[: int(random.integers(len(part) + 1))]
            other.writestr(entry, part)
    return name, stream.getvalue()


def _open_case(content: bytes) -> str:
    """Opens a case and writes all that leaves it, as the page would."""
    from mseenet.case.fields import Case
    from mseenet.case.limits import Limits
    from mseenet.case.records import FORMATS, record
    from mseenet.case.saved import is_saved_case, open_case

    limits = Limits(file=2**20, case=2**22, fields=10)
    is_saved_case(content)
    opened = open_case(content, limits)
    case = Case(limits=limits)
    case.put_back(opened.fields)
    assert 0 <= opened.opacity <= 1
    for item in case.done():
        prediction = item.prediction
        assert prediction is not None
        if prediction.class_name is not None:
            values = (prediction.probabilities or {}).values()
            assert all(map(math.isfinite, values)), values
            assert prediction.confidence == max(values)
        assert prediction.novelty is None or math.isfinite(prediction.novelty)
        assert prediction.heatmap is None or np.isfinite(prediction.heatmap).all()
        for _, line in FORMATS.values():
            line(record(item.name, prediction, "0" * 64, "0" * 12, item.slide))
    return "opened with damages" if opened.damaged or opened.notices else "opened"


# ZIP archives


def _archives() -> Sound:
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
    sound = []
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for file in ("a.png", "folder/Ж.png", "folder/", ".hidden.png", "notes.txt", "a.png/"):
                archive.writestr(file, b"" if file.endswith("/") else png)
        sound.append((name, stream.getvalue()))
    # As archivers of other countries write names: their own encoding, and no mark of it.
    foreign = sound[0][1].replace("Ж".encode(), b"\x9f\x8d").replace(b"\x00\x08", b"\x00\x00")
    return [*sound, ("foreign names", foreign)]


def _take_in(content: bytes) -> str:
    from mseenet.case.archive import ENCODINGS, ArchiveError, named, open_archive
    from mseenet.case.fields import Case
    from mseenet.case.limits import Limits

    case = Case(limits=Limits(file=2**20, case=2**22, fields=10))
    case.take_in([("an archive.zip", content)])  # raises nothing, and names what it left out
    assert case.fields or case.left_out
    contents = open_archive(content)
    refused = 0
    for entry in (*contents.images, *contents.others):
        if entry.raw is not None:
            assert all(isinstance(named(entry.raw, encoding), str) for encoding in ENCODINGS)
        try:
            assert len(entry.read(1000)) <= 1000
        except ArchiveError:
            refused += 1
    return "read in part" if refused else "read"


# Bundles


def _bundles() -> Sound:
    from mseenet.ui.bundle import MAGIC

    members: tuple[tuple[str, bytes, str | None], ...] = (
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(200), None),
        ("folder/b.png", b"b" * 50, None),
        ("c.txt", b"", "kind"),
        ("folder/.hidden.png", b"x", None),
        ("large.tif", b"", "proxy"),
    )
    sound = []
    for chosen in (members, members[:1], ()):
        head = [{"name": n, "size": len(c), "left_out": why} for n, c, why in chosen]
        parts = b"".join(content for _, content, _ in chosen)
        sound.append((f"{len(chosen)} members", MAGIC + json.dumps(head).encode() + b"\n" + parts))
    return sound


def _other_bundle(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    from mseenet.ui.bundle import MAGIC

    name, content = sound[random.integers(len(sound))]
    head, _, parts = content.removeprefix(MAGIC).partition(b"\n")
    return name, MAGIC + other_json(head, random) + b"\n" + parts


def _unbundle(content: bytes) -> str:
    from mseenet.case.fields import Case
    from mseenet.case.limits import Limits
    from mseenet.ui.bundle import MAGIC, unbundled, unpack

    limits = Limits(file=2**20, case=2**22, fields=10)
    case = Case(limits=limits)
    case.take_in(*unbundled([("bundle", content)], limits))  # raises nothing
    if not content.startswith(MAGIC):
        return "no bundle"
    for member in unpack(content):
        assert member.name.encode() is not None  # text that can be shown
        assert len(member.content) <= len(content)
    return "unpacked"


TARGETS = {
    "decoder": Target(_images, _decode),
    "card": Target(_cards, _read_card, (damaged, _other_text, _other_text, _other_reference)),
    "profile": Target(_profiles, _read_profile, (damaged, _other_text, _extreme_profile)),
    "case": Target(_cases, _open_case, (damaged, _other_case, _other_case)),
    "zip": Target(_archives, _take_in),
    "bundle": Target(_bundles, _unbundle, (damaged, _other_bundle)),
}
"""By the name that `python -m tools.fuzz` knows them by."""
