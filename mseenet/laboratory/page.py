"""The report as files: for people HTML that needs nothing else, for programs JSON."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.imaging.appearance import MEASURES
from mseenet.laboratory.figures import FEWEST_OF_A_CLASS, FEWEST_SLIDES, percent, span
from mseenet.laboratory.thresholds import QUALITY_HEAD, quality_rows

TITLES = {
    "light": "Light",
    "tint": "Colour of the light",
    "falloff": "Light in the corners",
    "stain": "Strength of the stain",
    "hue": "Hue of the stain",
    "size": "Size of cells",
    "sharpness": "Sharpness",
}
"""Names of the measures."""

TRAINING_COLOR, HERE_COLOR = "#8a8a94", "#6b46c1"

LIMITS = (
    "The classes given for these fields count as right; nothing here checks them.",
    "Intervals are over slides, as fields of one slide fail together. Several slides of one "
    "patient would need an interval over patients.",
    "Nothing follows for fields chosen, stained, scanned or compressed in another way, or for "
    "other diseases.",
    "For research use only. This is no clearance as a medical device, and no diagnosis.",
)
"""What holds for each report."""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c1a24;background:#fff;max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid #dcd9e6;vertical-align:top}td.n,th.n{text-align:right}
.wide{overflow-x:auto}.verdict{font-size:1.15rem;font-weight:600;padding:.6rem .9rem;
border-left:6px solid #6b46c1;background:#f4f1fb}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1rem}
figure{margin:0}figcaption{font-size:.9rem}svg{width:100%;height:auto}.note{color:#4d4a58}
"""


def report_html(report: Mapping[str, Any]) -> str:
    """The report as a page.

    Args:
        report: Of `figures.verification`; its text is shown as it is, never as markup.
    """
    parts = [
        "<h1>MSEENet in this laboratory</h1>",
        f"<p class=note>{text(heading(report))}</p>",
        f"<p class=verdict>{text(VERDICTS[report['verdict']])}</p>",
        _listed(report["because"]),
        "<h2>Requirements</h2>",
        _criteria(report["criteria"]),
        *_adaptation(report),
        "<h2>Fields</h2>",
        _table(CLASSES_HEAD, class_rows(report)),
        f"<p>{text(refused_sentence(report))}</p>",
        "<h2>Confusion</h2>",
        _table(
            ("given class", *(f"called {name}" for name in CLASS_NAMES)),
            [
                (name, *map(str, row))
                for name, row in zip(CLASS_NAMES, report["confusion"], strict=True)
            ],
        ),
        "<h2>Confidence and accuracy</h2>",
        f"<div class=plots>{reliability_svg(report['calibration']['bins'])}</div>",
        "<h2>What differs from the training fields</h2>",
        f"<p>{text(APPEARANCE)}</p>",
        "" if report["appearance_of_these_weights"] else f"<p><b>{text(OTHER_WEIGHTS)}</b></p>",
        "<div class=plots>",
        *(_figure(name, measure) for name, measure in report["appearance"].items()),
        "</div>",
        *_foreign(report["foreign"]),
        "<h2>Slides</h2>",
        _table(SLIDES_HEAD, slide_rows(report)),
        "<h2>What this does not say</h2>",
        _listed(LIMITS),
    ]
    if problems := report["fields"]["problems"]:
        parts += ["<h2>Left out</h2>", _listed(problems)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>MSEENet in this laboratory</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


CRITERIA_HEAD = ("requirement", "found", "95 % interval", "required", "verdict")
CLASSES_HEAD = ("class", "fields", "slides", "right", "95 % interval")
SLIDES_HEAD = ("slide", "fields", "refused", "right of named")
"""Columns of the report's tables."""


def report_json(report: Mapping[str, Any]) -> str:
    """The report of `figures.verification` for programs."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


VERDICTS = {
    "holds": "It holds on these fields.",
    "does not hold": "It does not hold on these fields.",
    "cannot be said": "Whether it holds cannot be said from these fields.",
}
"""The conclusion as a sentence."""

APPEARANCE = (
    "Each measure over these fields (violet) and over the fields that the network was trained on "
    "(grey). Where the two lie apart, the network sees something that it has not learned."
)

OTHER_WEIGHTS = "The grey fields are those of other weights than the ones in use."


def text(value: object) -> str:
    """As HTML shows it."""
    return html.escape(str(value))


def heading(report: Mapping[str, Any]) -> str:
    """What was looked at, by what, and when."""
    fields = report["fields"]
    profile = (
        f", profile {report['profile']['name']} ({report['profile']['identity']})"
        if report.get("profile")
        else ""
    )
    return (
        f"{fields['n']} fields of {fields['slides']} slides. Release {report['release']}{profile}, "
        f"weights {report['weights'][:12]}, made {report['made']}. A claim needs at least "
        f"{FEWEST_SLIDES} slides, {FEWEST_OF_A_CLASS} of each class."
    )


def _criteria(criteria: Sequence[Mapping[str, Any]]) -> str:
    return _table(CRITERIA_HEAD, [criterion_row(c) for c in criteria])


def _adaptation(report: Mapping[str, Any]) -> list[str]:
    """What came of a try to adapt; none without one."""
    adaptation = report.get("adaptation")
    if adaptation is None:
        return []
    written = adaptation["written"]
    parts = [
        "<h2>With a site profile</h2>",
        f"<p>{text('A profile was written.' if written else 'No profile was written.')}</p>",
        _listed(adaptation["because"]),
    ]
    if "criteria" in adaptation:
        parts += [
            f"<p>{text(ADAPTED)} {text(VERDICTS[adaptation['verdict']])}</p>",
            _table(ADAPTED_HEAD, adapted_rows(report)),
            _listed(adaptation["says"]),
        ]
    if quality := adaptation.get("image_quality"):
        parts += [
            "<h3>Thresholds of image quality</h3>",
            f"<p>{text(QUALITY)} {text(quality['because'])}</p>",
            _table(QUALITY_HEAD, quality_rows(quality)),
        ]
    return parts


ADAPTED_HEAD = ("requirement", "without it", "with it", "required", "verdict with it")
"""Columns of what changes with a profile; in brackets 95 % intervals."""


def adapted_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each requirement, and foreign images of each kind, under `ADAPTED_HEAD`."""
    adaptation = report["adaptation"]
    rows: list[tuple[str, ...]] = []
    for before, after in zip(report["criteria"], adaptation["criteria"], strict=True):
        shown = [f"{found} ({span})" for _, found, span, *_ in map(criterion_row, (before, after))]
        _, _, _, required, verdict = criterion_row(after)
        rows.append((before["title"], *shown, required, verdict))
    for kind, refused in adaptation["foreign_refused"].items():
        count = report["foreign"][kind]["n"]
        shown = [f"{number:,} of {count:,}" for number in refused]
        rows.append((f"foreign images refused: {kind}", *shown, "no fewer with it", ""))
    return rows


ADAPTED = (
    "Each slide is answered here with a profile made from other slides, so that the figures are of "
    "slides that had no part in the adaptation."
)


QUALITY = (
    "How many fields are flagged, so that a person looks at them first; each slide is looked at with a "
    "profile made from other slides."
)


def criterion_row(criterion: Mapping[str, Any]) -> tuple[str, ...]:
    """A requirement under `CRITERIA_HEAD`."""
    value = criterion["value"]
    bound = "at least" if criterion["at_least"] else "at most"
    return (
        criterion["title"],
        "none to count" if value is None else percent(value),
        span(*criterion["interval_95"]),
        f"{bound} {percent(criterion['required'])}",
        criterion["verdict"],
    )


def class_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each class under `CLASSES_HEAD`."""
    rows: list[tuple[str, ...]] = []
    for name, record in report["by_class"].items():
        counts = report["fields"]["by_class"][name]
        shown = percent(record["proportion"]) if record["n"] else "none named"
        rows.append(
            (
                name,
                str(counts["fields"]),
                str(counts["slides"]),
                shown,
                span(*record["interval_95"]),
            )
        )
    return rows


def slide_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each slide under `SLIDES_HEAD`."""
    return [
        (s["slide"], str(s["fields"]), str(s["refused"]), f"{s['right']} of {s['named']}")
        for s in report["slides"]
    ]


def refused_sentence(report: Mapping[str, Any]) -> str:
    """How many fields are refused, for what, and how many are right of those without a remark."""
    refused = report["refused"]
    reasons = ", ".join(f"{kind} {count}" for kind, count in refused["reasons"].items())
    ok = report["accuracy_of_ok"]
    return (
        f"Refused: {percent(refused['proportion'])} ({span(*refused['interval_95'])})"
        + (f", for: {reasons}" if reasons else "")
        + f". Right of the {ok['n']} fields without a remark: {percent(ok['proportion'])} "
        f"({span(*ok['interval_95'])})."
    )


def _foreign(foreign: Mapping[str, Mapping]) -> list[str]:
    if not foreign:
        return []
    rows = [
        (kind, str(r["n"]), percent(r["proportion"]), span(*r["interval_95"]))
        for kind, r in foreign.items()
    ]
    return [
        "<h2>Foreign images</h2>",
        _table(("kind", "images", "refused", "95 % interval"), rows),
    ]


def _listed(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(sentence)}</li>' for sentence in sentences)}</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = "".join(f"<th scope=col>{text(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{text(row[0])}</th>"
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class=wide><table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def measure_sentence(name: str, measure: Mapping[str, Any]) -> str:
    """What a measure is, and how many fields lie outside of training."""
    outside = measure["outside"]
    note = (
        "not seen in these fields"
        if outside is None
        else f"{percent(outside)} of these fields lie beyond 98 % of the training fields"
    )
    return f"{MEASURES[name]}; {note}."


def _figure(name: str, measure: Mapping[str, Any]) -> str:
    caption = f"<b>{text(TITLES[name])}</b>: {text(measure_sentence(name, measure))}"
    return f"<figure>{distribution_svg(name, measure)}<figcaption>{caption}</figcaption></figure>"


def densities(measure: Mapping[str, Any], bins: int = 40) -> tuple[np.ndarray, list[np.ndarray]]:
    """Both distributions of a measure as curves.

    Args:
        measure: An entry of the report's `appearance`.
        bins: Points of a curve.

    Returns:
        Values (bins,), and the density of training and, if known, here, each (bins,) with
        its highest point at 1.
    """
    kinds = [np.array(measure[kind]) for kind in ("training", "here") if measure[kind]]
    low = min(q[1] for q in kinds)
    high = max(q[-2] for q in kinds)
    margin = 0.08 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, bins + 1)
    curves = []
    for quantiles in kinds:
        # Equal quantiles would be jumps of the distribution function.
        steps = quantiles + np.linspace(0, 1e-6 * (high - low + 1), len(quantiles))
        below = np.interp(edges, steps, np.linspace(0, 1, len(steps)), left=0, right=1)
        curve = np.convolve(np.diff(below), (0.25, 0.5, 0.25), mode="same")
        curves.append(curve / max(curve.max(), 1e-9))
    return (edges[:-1] + edges[1:]) / 2, curves


def distribution_svg(name: str, measure: Mapping[str, Any]) -> str:
    """Both distributions of a measure, drawn over each other."""
    values, curves = densities(measure)
    width, height, base = 320, 130, 105
    x = np.interp(values, (values[0], values[-1]), (8, width - 8))
    shapes = []
    for curve, color in zip(curves, (TRAINING_COLOR, HERE_COLOR), strict=False):
        points = " ".join(f"{a:.1f},{base - 90 * b:.1f}" for a, b in zip(x, curve, strict=True))
        shapes.append(
            f'<polygon points="{x[0]:.1f},{base} {points} {x[-1]:.1f},{base}" fill="{color}" '
            f'fill-opacity=".35" stroke="{color}" stroke-width="1.5"/>'
        )
    ticks = "".join(
        f'<text x="{np.interp(v, (values[0], values[-1]), (8, width - 8)):.0f}" y="{base + 16}" '
        f'font-size="12" text-anchor="{anchor}">{v:.3g}</text>'
        for v, anchor in ((values[0], "start"), (values.mean(), "middle"), (values[-1], "end"))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(TITLES[name])}">'
        f'<line x1="8" x2="{width - 8}" y1="{base}" y2="{base}" stroke="#888"/>'
        f"{''.join(shapes)}{ticks}</svg>"
    )


def reliability_svg(bins: Sequence[Mapping[str, float]]) -> str:
    """Accuracy over confidence; the larger a dot, the more fields."""
    size, edge = 220, 28
    span_ = size - edge - 8

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        return edge + span_ * confidence, 8 + span_ * (1 - accuracy)

    total = max(sum(b["n"] for b in bins), 1)
    dots = ""
    for b in bins:
        x, y = at(b["confidence"], b["accuracy"])
        radius = 3 + 14 * (b["n"] / total) ** 0.5
        dots += (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{HERE_COLOR}" '
            'fill-opacity=".7"/>'
        )
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    return (
        "<figure>"
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="Reliability diagram" '
        f'style="max-width:{size}px">'
        f'<rect x="{x0}" y="{y1}" width="{span_}" height="{span_}" fill="none" stroke="#888"/>'
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#888" stroke-dasharray="4 3"/>'
        f'{dots}<text x="{x0}" y="{size - 6}" font-size="11">0</text>'
        f'<text x="{x1}" y="{size - 6}" font-size="11" text-anchor="end">confidence 1</text>'
        f'<text x="2" y="{y1 + 10}" font-size="11">1</text></svg>'
        "<figcaption>Accuracy over confidence; on the dashed line both agree.</figcaption></figure>"
    )
