"""A site profile: what one laboratory needs so that the network holds there.

It lies beside no weights and holds none but, where there were slides enough, the last layer:
a change of colours and size (`mseenet.inference.normalisation`), a temperature, the gate's
reference and thresholds, and, where the laboratory's fields need them, thresholds of image quality. It is of one release of the weights and refused for every other.

Two files: a JSON file that says what it is, and beside it a NumPy archive that the JSON file names
with its SHA-256.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.errors import MSEENetError, shown
from mseenet.files import write_atomically
from mseenet.imaging.quality import SHIPPED, Thresholds
from mseenet.inference.calibration import BOUNDS, Calibration
from mseenet.inference.card import Card, NoveltyGate
from mseenet.inference.normalisation import Normalisation
from mseenet.inference.novelty import Novelty

SCHEMA, SCHEMA_OF_QUALITY = 1, 2
"""Versions of the files: without and with thresholds of image quality. Others are refused, and an
earlier program refuses the second, whose fields it would judge by other thresholds."""

KIND = "MSEENet site profile"

PROFILE_VARIABLE = "MSEENET_PROFILE"
"""Environment variable that names the profile's JSON file for the page and for commands."""

STEM = "site-profile"
"""How the names of a new profile's files begin."""

LONGEST_NAME = 60
"""Characters of a profile's name."""

LONGEST_FILE_NAME = 255
"""Characters of the name of the arrays' file; no usual file system has longer ones."""

LARGEST_FILE = 4 * 2**20
"""Bytes that either file may have; a profile takes some tens of thousands."""

MOST_REFERENCES = 64
"""Class means that the gate's reference may have."""

WIDEST_GATE = 1.5
"""A profile may let fields be this much farther from the reference than the card does."""

LOOSEST = Thresholds(contrast=16.0, dark=65.0, sharpness=0.40, stained=0.041)
"""No profile's thresholds of image quality are lower. Of every fifth of the training and validation
fields (502) all are still flagged blurred by 3 pixels (sharpness, largest 0.399), at brightness
x0.25 (plasma, largest 64.0) and at contrast x0.2 (stained, largest 0.0406); at contrast x0.1 nine
in ten have a range of grey levels below 16, twice what is no picture at all."""

_ARRAYS = ("light", "matrix", "offset", "means", "whitening")
_LAYER = ("kernel", "bias")


class ProfileError(MSEENetError):
    """A site profile is missing, damaged, or of other weights; the message says which."""


@dataclass(frozen=True, eq=False)
class SiteProfile:
    """What one laboratory needs.

    Attributes:
        name: In the laboratory's words.
        release: Of the weights that it is for (`Card.release`).
        normalisation: What is done to each field.
        calibration: Instead of the card's.
        gate: Instead of the card's.
        review_confidence: Instead of the card's, in [0, 1].
        layer: Kernel (F, C) and bias (C,) of the last layer instead of the weights'; None to
            leave it.
        content: All that its JSON file says, such as what it was made from.
        quality: Thresholds of image quality instead of the shipped ones: of these none is higher,
            of `LOOSEST` none lower.

    Raises:
        ValueError: A threshold of image quality is out of these bounds, or no number.
    """

    name: str
    release: str
    normalisation: Normalisation
    calibration: Calibration
    gate: NoveltyGate
    review_confidence: float
    layer: tuple[np.ndarray, np.ndarray] | None
    content: dict
    quality: Thresholds = SHIPPED

    def __post_init__(self):
        for name, value in asdict(self.quality).items():
            lowest, highest = (getattr(bounds, name) for bounds in (LOOSEST, SHIPPED))
            try:
                _number(value, lowest, highest)
            except ValueError as error:
                raise ValueError(f"image quality, {name}: {error}") from error

    @property
    def identity(self) -> str:
        """The first 12 hex digits of a SHA-256 over all that answers depend on."""
        basis = [self.release, self._settings(), hashlib.sha256(self.arrays()).hexdigest()]
        canonical = json.dumps(basis, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Name and identity, as answers and exports show them."""
        return f"{self.name} ({self.identity})"

    def applied_to(self, card: Card) -> Card:
        """The card with this profile's calibration, gate and thresholds.

        Raises:
            ProfileError: It is for another release, or its last layer does not fit.
        """
        if card.release != self.release:
            raise ProfileError(
                f"profile {self.name}: expected weights of release {self.release}, for which it "
                f"was made; these are of release {card.release}"
            )
        if card.novelty is None:
            raise ProfileError(f"profile {self.name}: expected weights with a novelty gate")
        if self.gate.reject > WIDEST_GATE * card.novelty.reject:
            raise ProfileError(
                f"profile {self.name}: expected a gate at most {WIDEST_GATE} times as wide as that "
                "of the weights"
            )
        width = card.novelty.reference.means.shape[1]
        if self.gate.reference.means.shape[1] != width:
            raise ProfileError(f"profile {self.name}: expected a reference of {width} features")
        return replace(
            card,
            calibration=self.calibration,
            novelty=self.gate,
            review_confidence=self.review_confidence,
            profile=self,
            quality=self.quality,
        )

    def _settings(self) -> dict:
        # Without thresholds of its own it is, and is named, as before there were any.
        own = {} if self.quality == SHIPPED else {"quality": asdict(self.quality)}
        return {
            "zoom": self.normalisation.zoom,
            "calibration": {"value": self.calibration.value, "slope": self.calibration.slope},
            "novelty": {"review": self.gate.review, "reject": self.gate.reject},
            "review_confidence": self.review_confidence,
            **own,
        }

    def arrays(self) -> bytes:
        """Its arrays as a NumPy archive, the same for the same profile."""
        buffer = io.BytesIO()
        named = {
            "light": self.normalisation.light,
            "matrix": self.normalisation.matrix,
            "offset": self.normalisation.offset,
            "means": self.gate.reference.means,
            "whitening": self.gate.reference.whitening,
        }
        if self.layer is not None:
            named |= dict(zip(_LAYER, self.layer, strict=True))
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in named.items():
                content = io.BytesIO()
                np.save(content, np.ascontiguousarray(array, np.float32))
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
        return buffer.getvalue()

    def files(self, stem: str) -> dict[str, bytes]:
        """Both files by their names.

        Args:
            stem: Begins the names.
        """
        arrays = self.arrays()
        record = self.content | {
            "kind": KIND,
            "schema": SCHEMA if self.quality == SHIPPED else SCHEMA_OF_QUALITY,
            "name": self.name,
            "release": self.release,
            "identity": self.identity,
            "class_names": list(CLASS_NAMES),
            **self._settings(),
            "arrays": {"file": f"{stem}.npz", "sha256": hashlib.sha256(arrays).hexdigest()},
        }
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        return {f"{stem}.npz": arrays, f"{stem}.json": text.encode()}

    def write(self, path: Path) -> None:
        """Writes both files; the JSON file, without which the other is nothing, last.

        Args:
            path: Of the JSON file.
        """
        for name, content in self.files(path.stem).items():
            write_atomically(path.with_name(name), content)


def chosen_profile(option: str | None = None) -> SiteProfile | None:
    """The profile that an option or else `PROFILE_VARIABLE` names; None if neither does.

    Args:
        option: Path of the JSON file; empty for no profile whatever the variable says.

    Raises:
        ProfileError: There is no usable profile there.
    """
    path = os.environ.get(PROFILE_VARIABLE) if option is None else option
    return read_profile(Path(path)) if path else None


def profile_name(text: str) -> str:
    """A name for a profile from any text: printable, of `LONGEST_NAME` characters at most."""
    name = "".join(char if char.isprintable() else " " for char in text).strip()
    return name[:LONGEST_NAME] or "site"


def read_profile(path: Path) -> SiteProfile:
    """Reads a profile and checks all of it.

    Args:
        path: Of its JSON file.

    Raises:
        ProfileError: A file is missing, damaged or of another version.
    """
    content = _json(path)
    arrays = content.get("arrays")
    name = arrays.get("file") if isinstance(arrays, dict) else None
    if not isinstance(name, str) or not _names_a_file(name):
        raise ProfileError(f"{path}: expected the name of its arrays' file, got {shown(name)}")
    packed = _bytes(path.with_name(name))
    if hashlib.sha256(packed).hexdigest() != content["arrays"].get("sha256"):
        raise ProfileError(
            f"{path.with_name(name)}: expected the file that {path.name} names, this one was "
            "altered or is of another profile"
        )
    try:
        profile = _checked(content, _unpacked(packed))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProfileError(f"{path}: expected a site profile ({error})") from error
    if profile.identity != content.get("identity"):
        raise ProfileError(f"{path}: altered since it was written")
    return profile


def _names_a_file(name: str) -> bool:
    """Whether it is a name that a file beside another may have anywhere."""
    return 0 < len(name) <= LONGEST_FILE_NAME and name.isprintable() and Path(name).name == name


def _checked(content: dict, arrays: dict[str, np.ndarray]) -> SiteProfile:
    """A profile of the content of its files; raises all kinds of errors for what is none."""
    name, release = content["name"], content["release"]
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(f"name {shown(name)}")
    if not isinstance(release, str) or not re.fullmatch(r"[0-9a-f]{12}", release):
        raise ValueError(f"release {shown(release)}")
    calibration, novelty = content["calibration"], content["novelty"]
    (coldest, warmest), (flattest, steepest) = BOUNDS
    review, reject = _number(novelty["review"], 0, 1e3), _number(novelty["reject"], 0, 1e3)
    if not 0 < review <= reject:
        raise ValueError(f"thresholds {review} and {reject}")
    if arrays["means"].ndim != 2 or len(arrays["means"]) > MOST_REFERENCES:
        raise ValueError(f"a reference of {arrays['means'].shape}")
    layer = None
    if set(_LAYER) & set(arrays):
        kernel, bias = (arrays[part] for part in _LAYER)
        if kernel.ndim != 2 or kernel.shape[1:] != bias.shape or bias.shape != (len(CLASS_NAMES),):
            raise ValueError(f"a last layer of {kernel.shape} and {bias.shape}")
        layer = (kernel, bias)
    buffer = io.BytesIO()
    np.savez(buffer, means=arrays["means"], whitening=arrays["whitening"])
    return SiteProfile(
        name,
        release,
        Normalisation(
            arrays["light"], arrays["matrix"], arrays["offset"], _number(content["zoom"], 0, 10)
        ),
        Calibration(
            _number(calibration["value"], coldest, warmest),
            _number(calibration["slope"], flattest, steepest),
        ),
        NoveltyGate(Novelty.from_bytes(buffer.getvalue()), review, reject),
        _number(content["review_confidence"], 0, 1),
        layer,
        content,
        _thresholds(content),
    )


def _thresholds(content: dict) -> Thresholds:
    """Thresholds of image quality; the shipped ones for a profile without any of its own."""
    if (content["schema"] == SCHEMA_OF_QUALITY) != ("quality" in content):
        raise ValueError(
            f"schema {content['schema']}: expected thresholds of image quality with schema "
            f"{SCHEMA_OF_QUALITY}, and with no other"
        )
    if "quality" not in content:
        return SHIPPED
    record, known = content["quality"], {field.name for field in fields(Thresholds)}
    if not isinstance(record, dict) or set(record) != known:
        raise ValueError(
            f"image quality: expected {', '.join(sorted(known))}; received {shown(record)}"
        )
    return Thresholds(**record)


def _number(value: Any, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {shown(value)}")
    if not lowest <= value <= highest:
        raise ValueError(f"expected a number in [{lowest}, {highest}], got {value}")
    return float(value)


def _unpacked(packed: bytes) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as members:
            if any(info.compress_type != zipfile.ZIP_STORED for info in members.infolist()):
                raise ValueError("expected arrays that are not compressed")
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            known = [name for name in (*_ARRAYS, *_LAYER) if name in archive]
            if missing := [name for name in _ARRAYS if name not in known]:
                raise ValueError(f"no array {missing[0]}")
            arrays = {name: archive[name] for name in known}
    except Exception as error:  # NumPy and zipfile raise anything on damaged archives
        raise ValueError(f"no NumPy archive: {shown(error)}") from error
    for name, array in arrays.items():
        # An archive may hold anything, which comes as bytes if it does not begin as an array.
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != np.float32
            or not np.isfinite(array).all()
        ):
            raise ValueError(f"{name} is no array of finite float32")
    return arrays


def _json(path: Path) -> dict:
    try:
        content = json.loads(_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: expected a readable JSON file ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ProfileError(f"{path}: expected a site profile, as `mseenet verify` writes it")
    known = (SCHEMA, SCHEMA_OF_QUALITY)
    if content.get("schema") not in known or content.get("class_names") != list(CLASS_NAMES):
        raise ProfileError(
            f"{path}: expected schema {SCHEMA} or {SCHEMA_OF_QUALITY} and the classes {', '.join(CLASS_NAMES)}; this "
            "profile is for another version"
        )
    return content


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ProfileError(f"{path}: expected a site profile ({error.strerror})") from error
    if len(content) > LARGEST_FILE:
        raise ProfileError(f"{path}: expected a file of at most {LARGEST_FILE:,} bytes")
    return content
