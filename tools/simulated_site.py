"""A laboratory that does not exist: fields of the dataset as another one might have taken them.

    python -m tools.simulated_site --data DIR --out DIR [--seed N] [--fold N ...] [--weights DIR]

No labelled fields of a second laboratory are at hand. So series of captures that the network
of `tools.fold_network` never saw get another stain, another camera, smaller cells, dark corners
and another compression, all of them stated in `Site` or drawn by `drawn_site`. What comes of it
says how well the adaptation undoes such changes, and nothing of any laboratory that exists.

Writes `adapt` and `test` of the simulated site and the same fields unchanged in `home-adapt` and
`home-test`, each with folders of classes and, in these, of slides. A slide is a series, or a
range of captures of a long one. Series of `adapt` are none of `test`.

With --weights it also prints what such a network says of the test fields, as they are and at the
simulated site, without a profile and with one from the fields of `adapt`. With --seed it does so
only where more than half of the fields of `adapt` are refused without a profile.
"""

import argparse
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mseenet import console
from mseenet.config import CLASS_NAMES, IMAGE_SIZE
from mseenet.files import own_folder, write_atomically
from mseenet.imaging.decoding import decode_image, squeeze
from mseenet.imaging.perturbations import EOSIN, HAEMATOXYLIN
from mseenet.laboratory.color import TRAINING_PATH, read_training_fields
from mseenet.training.dataset import Sample, index_dataset
from mseenet.training.series import SIBLING_FOLDS, find_captures, part_names, read_captures

PURPOSE = "simulated-site"
"""What the marker of a folder of fields says that it is for."""

ADAPT: dict[tuple[int, ...], tuple[tuple, ...]] = {
    (0,): (
        ("Benign", "Snap_NNN (4)"),
        ("Early Pre-B", "Snp_147 (k)"),
        ("Pre-B", "Snap_NNN - Copy"),
        ("Pro-B", "Snap_NNN - Copy"),
    ),
    (1, 2): (
        ("Benign", "Snap_NNN"),
        ("Early Pre-B", "Snap_NNN"),
        ("Pre-B", "Snap_NNN", 2),
        ("Pro-B", "Snap_NNN", 1),
    ),
}
"""By folds of `series-siblings` that the network was trained without, their parts for adaptation;
the others are tested."""

EACH = 10
"""Fields of each of these that are taken."""

TESTED = 40
"""Fields of each other part that are taken, if it has so many."""


@dataclass(frozen=True)
class Site:
    """What another laboratory does to a field.

    Of three ever stronger ones the default is the first where an earlier network refused more
    than half of 20 adaptation fields without a profile. It was chosen by that alone, before any
    adapted answer to it; adapted answers to the first and mildest one had been seen.

    Attributes:
        stains: Optical density of the two dyes in red, green and blue, instead of those of
            `perturbations`.
        amounts: Factors of both dyes and of what is neither.
        camera: From linear red, green and blue to those of the other camera.
        gamma: Exponent of pixel values in [0, 1], after the camera.
        scale: Size of cells relative to the original; what then lies outside is mirrored.
        vignetting: Light lost in the corners, in [0, 1].
        quality: Of the JPEG file.
    """

    stains: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (0.82, 0.50, 0.28),
        (0.22, 0.88, 0.42),
    )
    amounts: tuple[float, float, float] = (1.7, 0.6, 1.0)
    camera: tuple[tuple[float, float, float], ...] = (
        (0.80, 0.14, -0.02),
        (0.06, 0.82, 0.06),
        (0.03, 0.22, 0.55),
    )
    gamma: float = 0.7
    scale: float = 0.9
    vignetting: float = 0.35
    quality: int = 60

    def field(self, rgb: np.ndarray) -> np.ndarray:
        """A field as this laboratory would have taken it.

        Args:
            rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].

        Returns:
            The same kind, before compression.
        """
        density = -np.log10((smaller(rgb, self.scale) + 1.0) / 256)
        amounts = density @ np.linalg.inv(_dyes((HAEMATOXYLIN, EOSIN)))
        stained = amounts * self.amounts @ _dyes(self.stains)
        linear = np.clip(256 * 10.0**-stained - 1, 0, 255) / 255
        linear = linear**2.2 @ np.array(self.camera).T
        light = 1 - self.vignetting * _from_centre(rgb.shape[0]) ** 2
        seen = np.clip(linear * light[..., None], 0, 1) ** (self.gamma / 2.2)
        return np.round(255 * seen).astype(np.uint8)

    def file(self, rgb: np.ndarray) -> bytes:
        """The field as a JPEG file."""
        return encoded(self.field(rgb), self.quality)


def drawn_site(seed: int) -> Site:
    """A site drawn at random, with cells as small as at the stated one."""
    random = np.random.default_rng(seed)
    dyes = np.array([HAEMATOXYLIN, EOSIN]) + random.normal(0, 0.12, (2, 3))
    amounts = np.exp(random.uniform(-0.5, 0.5, 2))
    camera = random.uniform(-0.02, 0.2, (3, 3))
    np.fill_diagonal(camera, random.uniform(0.6, 1.0, 3))
    one, other = dyes.clip(0.05).tolist()
    return Site(
        stains=(tuple(one), tuple(other)),
        amounts=(*amounts.tolist(), 1.0),
        camera=tuple(map(tuple, camera.tolist())),
        gamma=float(np.exp(random.uniform(-0.35, 0.35))),
        vignetting=float(random.uniform(0.1, 0.4)),
        quality=int(random.integers(50, 91)),
    )


def encoded(rgb: np.ndarray, quality: int) -> bytes:
    """Pixels as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def smaller(rgb: np.ndarray, scale: float) -> np.ndarray:
    """A field whose cells are smaller, its borders mirrored, uint8 of the same shape."""
    side = rgb.shape[0]
    inner = squeeze(rgb, round(side * scale))
    before = (side - len(inner)) // 2
    after = side - len(inner) - before
    return np.pad(inner, ((before, after), (before, after), (0, 0)), mode="reflect")


def _dyes(pair: Iterable[Iterable[float]]) -> np.ndarray:
    """Two dyes and what is neither, as rows of unit length, float64 (3, 3)."""
    one, other = (np.array(list(dye)) for dye in pair)
    rows = np.stack([one, other, np.cross(one, other)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _from_centre(side: int) -> np.ndarray:
    """Distance from the centre, 1 in the corners, float64 (side, side)."""
    place = np.linspace(-1, 1, side)
    return np.sqrt((place[:, None] ** 2 + place**2) / 2)


def parts_of(samples: list[Sample], folds: tuple[int, ...]) -> dict[tuple, list[Sample]]:
    """The fields of each part that folds of `series-siblings` leave out of training."""
    captures = find_captures(samples, read_captures())
    names = part_names([sample.label for sample in samples], captures)
    found: dict[tuple, list[Sample]] = {part: [] for n in folds for part in SIBLING_FOLDS[n]}
    for name, sample in zip(names, samples, strict=True):
        if name in found:
            found[name].append(sample)
    return found


def write_fields(out: Path, site: Site, part: tuple, chosen: list[Sample], kind: str) -> None:
    """Writes fields of one part as the simulated site's and as they are."""
    slide = " ".join(map(str, part[1:]))
    for folder in (out / kind, out / f"home-{kind}"):
        (folder / part[0] / slide).mkdir(parents=True, exist_ok=True)
    for sample in console.progress(chosen, f"{kind}, {part[0]} {slide}"):
        rgb = squeeze(decode_image(sample.path), IMAGE_SIZE)
        name = f"{sample.path.stem}.jpg"
        write_atomically(out / kind / part[0] / slide / name, site.file(rgb))
        write_atomically(
            out / f"home-{kind}" / part[0] / slide / sample.path.name, sample.path.read_bytes()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--swapped", action="store_true", help="adapt to the parts that are tested otherwise"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="draw another site")
    parser.add_argument(
        "--fold", type=int, nargs="+", default=[0], metavar="N", help="0 (default), or 1 2"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="of `tools.fold_network` with these folds"
    )
    parser.add_argument(
        "--training-fields",
        type=Path,
        default=TRAINING_PATH,
        metavar="FILE",
        help="of these weights, as `tools.training_fields` writes it (default: the release's)",
    )
    arguments = parser.parse_args()
    folds = tuple(arguments.fold)
    if folds not in ADAPT:
        parser.error(f"argument --fold: expected 0, or 1 2; received {arguments.fold}")
    site = Site() if arguments.seed is None else drawn_site(arguments.seed)
    own_folder(arguments.out, PURPOSE)
    samples = list(index_dataset(arguments.data, console.progress).samples)
    assert {part[0] for part in ADAPT[folds]} == set(CLASS_NAMES)
    for part, members in parts_of(samples, folds).items():
        adapts = (part in ADAPT[folds]) != arguments.swapped
        kind, count = ("adapt", EACH) if adapts else ("test", min(TESTED, len(members)))
        spread = np.linspace(0, len(members) - 1, count).round().astype(int)
        write_fields(arguments.out, site, part, [members[i] for i in spread], kind)
    if arguments.weights:
        chosen = arguments.seed is None
        measure(arguments.out, arguments.weights, arguments.training_fields, chosen)


def measure(site: Path, weights: Path, look: Path, chosen: bool) -> None:
    """Prints a row of refusals, accuracy and calibration for each way to answer the test fields.

    A site that is not chosen already is only measured if it refuses most fields of `adapt`. The
    profile is the one of all fields of `adapt`, whether or not `mseenet verify` would write it.
    """
    from mseenet.inference.classifier import Classifier
    from mseenet.laboratory.adapt import answers_with, fit
    from mseenet.laboratory.fields import find_fields, read_fields
    from mseenet.laboratory.figures import figures_of, percent, span

    network = Classifier.load(weights)
    kinds = ("adapt", "test", "home-test")
    fields = {kind: read_fields(*find_fields(site / kind)) for kind in kinds}
    adapted = fields["adapt"]
    before = answers_with(network, None, adapted.images, adapted.sizes)
    refused, every = int((~before.named).sum()), len(adapted.labels)
    print(f"Refused without a profile: {refused} of {every} fields for adaptation")
    if not chosen and 2 * refused <= every:
        return
    profile = fit(network, adapted, read_training_fields(look), "simulated")
    print("| tested | n | refused | right of the named | calibration error |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, kind, used in (
        ("home", "home-test", None),
        ("simulated site, profile", "test", profile),
        ("simulated site, no profile", "test", None),
    ):
        tested = fields[kind]
        answers = answers_with(network, used, tested.images, tested.sizes)
        found = figures_of(tested, answers)
        right = found["accuracy"]["proportion"] if answers.named.any() else None
        cells = [
            "" if value is None else f"{percent(value)} ({span(*entry['interval_95'])})"
            for entry, value in (
                (found["refused"], found["refused"]["proportion"]),
                (found["accuracy"], right),
                (found["calibration"], found["calibration"]["error"]),
            )
        ]
        print("|", " | ".join([name, str(len(tested.labels)), *cells]), "|")


if __name__ == "__main__":
    main()
