"""Predicts the class of images from the command line.

    mseenet predict PATH...

Each PATH is an image, a pattern such as 'in/*.jpg' (for shells that leave patterns alone), or a
folder, which is searched for images at any depth. Results go to standard output (or --output),
all else to standard error. An image unlike the fields that the network was validated on is
rejected, and no class is named. A picture larger than one field (a stitched area, a photograph
through an eyepiece, a scan of a slide) is cut into fields, each with a result and its place in the
picture; the DICOM files of one series in a folder are one scan. JSON and CSV name the slide of an
image: the folder that it lies in, or what --slides finds in its name. No file is ever overwritten without --force, and an input never.
The exit status is 0 if every image was read, 1 if any was not, and 2 if the command, a folder or
the weights cannot be used. For research use only.
"""

import argparse
import glob
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TextIO

from mseenet import console
from mseenet.errors import UsageError
from mseenet.files import one_writer, whole_file

if TYPE_CHECKING:
    import numpy as np

    from mseenet.imaging.areas import Place, Scales
    from mseenet.inference.classifier import Classifier

NAME_LENGTH = 200
"""How many bytes of an image's name its overlay's keeps; file systems take 255."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("predict", __doc__)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="an image, a folder of images, or a pattern"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of weights and card (default: weights/)"
    )
    console.add_profile_option(parser)
    parser.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        default="table",
        help="json is one object a line (default: %(default)s)",
    )
    parser.add_argument(
        "--heatmaps",
        type=Path,
        metavar="DIR",
        help="also write each image with the heatmap of its class laid over it, as PNG",
    )
    parser.add_argument(
        "--slides",
        default="",
        metavar="PATTERN",
        help="names of slides are the part {slide} of names of files, such as '{slide}_*', where * "
        "is anything (default: the folder is the slide)",
    )
    parser.add_argument(
        "--include-rejected",
        action="store_true",
        help="show the network's output for rejected images too; their status stays rejected",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="instead of standard output; a CSV file gets the mark by which Excel reads its letters",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace --output, if there is such a file already"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mseenet.case.slides import slide_of

    slide_of("", arguments.slides)  # an unusable pattern is known before all else
    files, bad_folders = find_images(arguments.paths, arguments.heatmaps)
    for message in bad_folders:
        console.say(f"error: {message}")
    if not files:
        if not bad_folders:
            raise UsageError("expected images, found only overlays of an earlier run")
        return 2
    if arguments.output:
        check_output(arguments.output, files, arguments.force)
    targets: dict[int, Path] = {}
    if arguments.heatmaps:
        targets = overlay_targets(arguments.heatmaps, files)

    from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
    from mseenet.inference.profile import chosen_profile

    weights = arguments.weights or DEFAULT_WEIGHTS
    # What cannot be used is known before ten seconds of imports.
    card, profile = read_card(weights), chosen_profile(arguments.profile)
    if profile is not None:
        profile.applied_to(card)
    load = console.network_of(weights, profile)
    with (
        one_writer(arguments.heatmaps) if arguments.heatmaps else nullcontext(),
        written(arguments.output, arguments.format, arguments.force) as output,
    ):
        failed = write_predictions(arguments, files, load, targets, output)
    return 2 if bad_folders else int(failed)


def write_predictions(
    arguments: argparse.Namespace,
    files: list[Path],
    load: Callable[[], "Classifier"],
    targets: dict[int, Path],
    output: TextIO,
) -> bool:
    """Predicts the images and writes what was asked for.

    Args:
        arguments: Of the command line.
        files: The images.
        load: Gives what predicts.
        targets: Of `overlay_targets`, if overlays were asked for.
        output: Gets the results.

    Returns:
        Whether any image could not be read.
    """
    from tqdm import tqdm

    from mseenet.case.names import placed_name
    from mseenet.case.records import FORMATS, record
    from mseenet.case.slides import slide_of

    classifier = load()
    header, line_of = FORMATS[arguments.format]
    failed = False
    if header:
        print(header, file=output)
    fields, ahead = tee(fields_in(files, classifier.scales))
    predictions = classifier.stream(
        (field.image for field in ahead),
        "predicted" if arguments.heatmaps else None,
        include_rejected=arguments.include_rejected,
    )
    card = classifier.card
    title = card.profile.title if card.profile else None
    for field, prediction in console.progress(
        zip(fields, predictions, strict=True), "predicting", total=len(files)
    ):
        file, place = str(files[field.number]), field.place
        name = file if place is None else placed_name(file, place)
        slide = slide_of(file, arguments.slides, cut=place is not None)
        cut = None if place is None else (file, place)
        result = record(name, prediction, card.sha256, card.release, slide, title, cut)
        tqdm.write(line_of(result), file=output)  # keeps clear of the progress bar
        failed = failed or prediction.status == "error"
        if arguments.heatmaps and prediction.heatmap is not None:
            target = _checked_target(targets[field.number], place)
            write_overlay(target, field.image, prediction.heatmap)
    return failed


def find_images(paths: list[str], heatmaps: Path | None = None) -> tuple[list[Path], list[str]]:
    """Lists the images that are meant, in order, and says which folders hold none.

    Args:
        paths: Images, folders, and patterns. What is none of them counts as an image, whether or
            not it can be read.
        heatmaps: Where overlays will be written; it is not searched.

    Returns:
        The images, and what is wrong with folders, in words.

    Raises:
        UsageError: `heatmaps` would have to be searched for other images than overlays.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in (match for text in paths for match in _expanded(text)):
        if not path.is_dir():
            files.append(path)
            continue
        known = len(problems)
        found = []
        for file, beside_overlays in _walk(path, problems, heatmaps):
            if not _is_image(file):
                continue
            if not beside_overlays:
                found.append(file)
            elif not _is_overlay(file):
                raise UsageError(
                    f"--heatmaps {heatmaps}: expected a folder without images of the case; "
                    f"found {file}"
                )
        if not found and len(problems) == known and not (heatmaps and _same(path, heatmaps)):
            problems.append(f"{path}: expected images ({', '.join(_suffixes())}), found none")
        files += sorted(found)
    return _once_a_series(files), problems


def _once_a_series(files: list[Path]) -> list[Path]:
    """Leaves out files of a scan in DICOM but the first: a scan has one for each level."""
    from mseenet.imaging.dicom import series_of

    known: set[tuple[Path, str]] = set()
    kept = []
    for file in files:
        series = series_of(file)
        if series is None or (file.parent, series) not in known:
            kept.append(file)
        if series is not None:
            known.add((file.parent, series))
    return kept


class FieldOfFile(NamedTuple):
    """A field to predict.

    Attributes:
        number: Of its file, from 0.
        image: As for `decode_image`: the file, or the pixels that were cut from it.
        place: Where it was cut from, if it was (`mseenet.imaging.areas.Place`).
    """

    number: int
    image: "Path | np.ndarray | BinaryIO"
    place: "Place | None" = None


class _Refused(io.BytesIO):
    """Instead of an image: whoever reads it gets the error."""

    def __init__(self, error: Exception):
        super().__init__()
        self._error = error

    def seek(self, *_) -> int:
        raise self._error


def fields_in(files: list[Path], scales: "Scales | None" = None) -> Iterator[FieldOfFile]:
    """The fields of all files: each file is one, or a larger picture that is cut into several.

    What becomes of a larger picture is said on standard error.

    Args:
        files: The images.
        scales: As for `mseenet.imaging.areas.find_area`.
    """
    from tqdm import tqdm

    from mseenet.imaging.areas import MOST_FIELDS, area_in
    from mseenet.imaging.errors import ImageError

    for number, file in enumerate(files):
        try:
            area = area_in(file, scales=scales)
            if area is None:
                yield FieldOfFile(number, file)
                continue
            tqdm.write(f"{file}: {area.described(MOST_FIELDS)}", file=sys.stderr)
            for place, rgb in area.fields():
                yield FieldOfFile(number, rgb, place)
        except ImageError as error:  # of a scan, perhaps in the middle of it
            yield FieldOfFile(number, _Refused(error))


def check_output(output: Path, files: list[Path], force: bool) -> None:
    """Refuses a target for the results by which something else would be lost.

    A shell makes `--output a.jpg b.jpg` of `--output *.jpg`.

    Args:
        output: Where results are to go; devices and pipes may always be written to.
        files: The images that are read.
        force: Whether a file of another kind may be replaced.

    Raises:
        UsageError: The target is an input, an image, a folder, in no folder, or there already.
    """
    if any(_same(output, file) for file in files):
        raise UsageError(f"--output {output}: expected a new file; received one of the images")
    if _named_as_image(output) or (output.is_file() and _is_image(output)):
        raise UsageError(f"--output {output}: expected a file for text; received an image's name")
    if output.is_dir():
        raise UsageError(f"--output {output}: expected a file, received a folder")
    if output.is_file() and not force:
        raise UsageError(f"--output {output}: there is such a file already; --force replaces it")
    if not output.parent.is_dir():
        raise UsageError(
            f"{output}: cannot be written (No such file or directory); expected a folder "
            f"{output.parent}"
        )


def overlay_targets(folder: Path, files: list[Path]) -> dict[int, Path]:
    """Makes the folder for overlays and names them; numbers keep equal names apart.

    Overlays of an earlier run are replaced; any other file of such a name stays.

    Args:
        folder: Where overlays are to go.
        files: The images.

    Returns:
        The path of each image's overlay, by the image's position in `files`.

    Raises:
        UsageError: The folder cannot be made, or a name is taken by a file that is no overlay.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--heatmaps {folder}: expected a folder that can be made ({error.strerror})"
        ) from error
    targets = {i: folder / f"{i + 1:05d}-{_cut(file.stem)}.png" for i, file in enumerate(files)}
    for target in targets.values():
        _checked_target(target)
    return targets


def _checked_target(target: Path, place: "Place | None" = None) -> Path:
    """The path of the overlay of a file, or of the field at a place in it."""
    if place is not None:
        target = target.with_stem(f"{target.stem}-x{place.x}-y{place.y}")
    if os.path.lexists(target) and not _is_overlay(target):
        raise UsageError(
            f"{target}: expected to write an overlay, and there is another file of this name"
        )
    return target


def write_overlay(
    target: Path, image: "Path | np.ndarray | BinaryIO", heatmap: "np.ndarray"
) -> None:
    """Writes the squeezed image with its heatmap.

    Args:
        target: The overlay's path.
        image: As for `decode_image`.
        heatmap: float32 (224, 224) in [0, 1].

    Raises:
        UsageError: The overlay cannot be written.
    """
    from mseenet.imaging.decoding import load_image
    from mseenet.inference.heatmaps import overlay, save_overlay

    try:
        save_overlay(target, overlay(load_image(image), heatmap))
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from error


@contextmanager
def written(output: Path | None, text_format: str, force: bool = False) -> Iterator[TextIO]:
    """Gives the stream for results; a file gets its name when it is complete, not before.

    A file name need not be text; what is not is written as backslash escapes.

    Args:
        output: The file, or None for standard output.
        text_format: "csv" for a byte order mark in front, without which Excel takes UTF-8 for
            the encoding of the country; standard output, which other programs read, has none.
        force: Whether a file of this name that is there in the end is replaced.

    Raises:
        UsageError: The file cannot be written, or another process writes it.
    """
    try:
        with _opened(output, text_format, force) as stream:
            yield stream
            stream.flush()
    except BrokenPipeError:  # of a reader that has enough
        raise
    except OSError as error:
        if output and error.filename not in (None, str(output), str(output.resolve())):
            raise  # of something else
        raise UsageError(
            f"{output or 'standard output'}: cannot be written ({error.strerror})"
        ) from error


@contextmanager
def _opened(output: Path | None, text_format: str, force: bool) -> Iterator[TextIO]:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    target = output.resolve()  # through a link, which then goes on leading there
    if target.exists() and not target.is_file():  # a device or a pipe
        with target.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            yield stream
        return
    encoding = "utf-8-sig" if text_format == "csv" else "utf-8"
    with (
        one_writer(target.parent, f".{_cut(target.name)}.lock", file=output),
        whole_file(target, replace=force) as unfinished,
        unfinished.open("w", encoding=encoding, errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def _expanded(text: str) -> list[Path]:
    """The paths that a pattern fits, if there are any and it is not itself a file's name."""
    path = Path(text)
    if not glob.has_magic(text) or os.path.lexists(path):
        return [path]
    return [Path(match) for match in sorted(glob.glob(text, recursive=True))] or [path]


def _walk(folder: Path, problems: list[str], heatmaps: Path | None) -> Iterator[tuple[Path, bool]]:
    """All files but hidden ones, and whether each lies in the folder for overlays."""

    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: expected a readable folder ({error.strerror})")

    inside: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=note):
        if heatmaps and (parent in inside or _same(Path(parent), heatmaps)):
            inside |= {os.path.join(parent, name) for name in folders} | {parent}
        yield from ((Path(parent, name), parent in inside) for name in names if name[0] != ".")


def _is_image(file: Path) -> bool:
    """Whether a file that was found in a folder is meant as an image: by its content or its name."""
    from mseenet.imaging.dicom import series_of
    from mseenet.imaging.formats import is_image

    return is_image(file) or _named_as_image(file) or series_of(file) is not None


def _named_as_image(file: Path) -> bool:
    return file.suffix.lower() in _suffixes()


def _suffixes() -> tuple[str, ...]:
    from mseenet.imaging import scans
    from mseenet.imaging.decoding import SUFFIXES

    return SUFFIXES + scans.SUFFIXES


def _is_overlay(file: Path) -> bool:
    from mseenet.inference.heatmaps import is_overlay

    return is_overlay(file)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder, through links too."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist
        return False


def _cut(name: str) -> str:
    from mseenet.case.names import cut_to_bytes

    return cut_to_bytes(name, NAME_LENGTH)
