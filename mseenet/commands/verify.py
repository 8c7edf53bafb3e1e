"""Says whether the network holds in a laboratory, by its own fields with known classes.

    mseenet verify --data DIR [--adapt | --profile FILE] [--foreign DIR] [--output DIR]

DIR holds folders of the classes (Benign, Early, Pre, Pro) and in these a folder a slide; or
labels.csv with the columns file, class and slide. The report says how many fields are refused and
why, how many are answered rightly, how far confidence can be believed, each with an interval over
slides, and in what the fields look different from those of training; and what that allows to say.
It goes to verification.html for people and verification.json for programs.

With --adapt it also makes a site profile: colours and size of cells changed to those of training,
the gate, thresholds, also of image quality, and temperature of the laboratory. It is tried on slides left out of it, and
site-profile.json and site-profile.npz are written only if it is better there, no answer gets
worse, requirements can be met, and no more foreign images pass. --profile FILE, or the setting MSEENET_PROFILE, uses it;
slides that it was made from are then left out of the report.

With --foreign DIR each folder in DIR is a kind of image that should be refused.
The exit status is 0 if a report was made, whatever it says. For research use only.
"""

import argparse
from datetime import datetime
from pathlib import Path

from mseenet import console
from mseenet.console import add_profile_option
from mseenet.errors import UsageError
from mseenet.files import one_writer, write_atomically

NAMES = ("verification.html", "verification.json")
"""Files that are written into --output."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("verify", __doc__)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", required=True, help="fields with known classes"
    )
    parser.add_argument(
        "--foreign", type=Path, metavar="DIR", help="folders of images that are to be refused"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=Path(), help="(default: where you are)"
    )
    parser.add_argument("--adapt", action="store_true", help="make a site profile, if it is of use")
    parser.add_argument(
        "--name", metavar="NAME", help="of the profile (default: the folder's name)"
    )
    add_profile_option(parser)
    parser.add_argument("--force", action="store_true", help="replace reports that are there")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of weights and card (default: weights/)"
    )
    parser.add_argument(
        "--training-fields",
        type=Path,
        metavar="FILE",
        help="what the fields look like that the weights were trained on, if not the shipped ones",
    )
    arguments = parser.parse_args(argv)
    if arguments.adapt and arguments.profile:
        parser.error("expected --adapt or --profile, got both")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
    from mseenet.inference.profile import STEM, chosen_profile, profile_name
    from mseenet.laboratory.adapt import adapt
    from mseenet.laboratory.color import TRAINING_PATH, read_training_fields
    from mseenet.laboratory.fields import find_fields, read_fields, see_fields
    from mseenet.laboratory.foreign import find_foreign, read_foreign
    from mseenet.laboratory.page import report_html, report_json
    from mseenet.laboratory.verify import verify

    # All that can be refused is read before minutes of computing.
    made = [*NAMES, *((f"{STEM}.json", f"{STEM}.npz") if arguments.adapt else ())]
    refuse_to_overwrite(arguments.output, made, arguments.force)
    weights = arguments.weights or DEFAULT_WEIGHTS
    profile = None if arguments.adapt else chosen_profile(arguments.profile)
    card = read_card(weights)
    if profile is not None:
        profile.applied_to(card)
    load = console.network_of(weights, profile)
    name = profile_name(arguments.name or arguments.data.resolve().name)
    training = read_training_fields(arguments.training_fields or TRAINING_PATH)
    foreign = find_foreign(arguments.foreign) if arguments.foreign else {}
    found = find_fields(arguments.data)

    adapted = None
    with one_writer(arguments.output):
        if arguments.adapt:
            fields = read_fields(*found, progress=console.progress)
            others = {
                kind: read_foreign(arguments.foreign / kind, files)
                for kind, files in foreign.items()
            }
            now = datetime.now().astimezone()
            adaptation = adapt(load(), fields, training, name, now, others)
            adapted, report = adaptation.profile, adaptation.report
        else:
            seen = see_fields(*found, progress=console.progress)
            report = verify(load(), seen, training, datetime.now().astimezone(), foreign)
        print(terminal_text(report))
        refuse_to_overwrite(arguments.output, made, arguments.force)  # what came meanwhile
        page, record = (arguments.output / name for name in NAMES)
        write_atomically(page, report_html(report))
        write_atomically(record, report_json(report))
        console.say(f"wrote {page} and {record}")
        if adapted is not None:
            adapted.write(arguments.output / f"{STEM}.json")
            console.say(f"wrote {arguments.output / STEM}.json and .npz: profile {adapted.title}")
    return 0


def refuse_to_overwrite(folder: Path, names: list[str], force: bool) -> None:
    """Raises `UsageError` where a report would take the place of a file.

    Args:
        folder: Where they go.
        names: Of all files that may be written.
        force: Whether they may replace others.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder for the report, found a file")
    if not force and (held := [name for name in names if (folder / name).exists()]):
        raise UsageError(f"{folder / held[0]} exists; add --force to replace it")


def terminal_text(report: dict) -> str:
    """The conclusion and the figures that it rests on, for the terminal."""
    from mseenet.laboratory.figures import percent, span
    from mseenet.laboratory.page import VERDICTS

    fields = report["fields"]
    lines = [f"{fields['n']} fields of {fields['slides']} slides", VERDICTS[report["verdict"]]]
    lines += _figures(report["criteria"])
    for kind, record in report["foreign"].items():
        shown = f"{percent(record['proportion'])} of {record['n']}"
        lines.append(f"  {kind}: {shown} refused ({span(*record['interval_95'])})")
    lines += [f"- {sentence}" for sentence in report["because"]]
    if adaptation := report.get("adaptation"):
        written = "a profile was written" if adaptation["written"] else "no profile was written"
        lines.append(f"With a site profile, on slides that had no part in it: {written}")
        lines += [f"- {sentence}" for sentence in adaptation["because"]]
        lines += _figures(adaptation.get("criteria", []))
        lines += [
            f"  {kind}: {after} refused with it, {before} without it"
            for kind, (before, after) in adaptation.get("foreign_refused", {}).items()
        ]
        if quality := adaptation.get("image_quality"):
            without, _, with_it = quality["flagged"]
            lines.append(
                f"  flagged for image quality: {with_it} of {quality['n']} fields with it, "
                f"{without} without it. {quality['because']}"
            )
    return "\n".join(lines)


def _figures(criteria: list[dict]) -> list[str]:
    from mseenet.laboratory.figures import percent, span

    lines = []
    for criterion in criteria:
        value = criterion["value"]
        shown = "none to count" if value is None else percent(value)
        lines.append(
            f"  {criterion['title']}: {shown} ({span(*criterion['interval_95'])}), "
            f"{criterion['verdict']}"
        )
    return lines
