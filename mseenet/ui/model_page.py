"""The page about the weights: how far to trust them, from the reports beside them."""

import html
import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from mseenet.case import words
from mseenet.config import CLASS_NAMES
from mseenet.inference.calibration import temperature_text
from mseenet.inference.classifier import Classifier
from mseenet.ui.charts import plot
from mseenet.ui.evaluation_charts import (
    accuracy_by_split,
    audit_bars,
    confusion_heatmap,
    interval_text,
    percentage,
    reliability,
    risk_coverage,
    robustness,
    stress_bars,
)
from mseenet.ui.frame import plain

RANDOM = "Random test"

OTHER_RELEASE = (
    "{files}: of another release than the one in use, that is, of other weights, another "
    "calibration or other thresholds. What it says does not hold here and is not shown."
)

# Streamlit's own captions, and its text in charts, are too faint for small text.
_STYLE = """
<style>
.st-key-model-page h2 { font-size: 1.5rem; padding: 1.4rem 0 .4rem; }
.st-key-model-page h3 { font-size: 1.1rem; padding: .6rem 0 0; }
.st-key-model-page h4 { font-size: 1rem; }
.st-key-model-page [data-testid="stCaptionContainer"] { color: inherit; opacity: .85; }
.st-key-model-page th { color: inherit !important; }
.st-key-model-page .js-plotly-plot :is([class$="tick"] text, [class$="title"], .annotation-text,
  .hoverlayer text) { fill: currentColor !important; }
.st-key-model-page [data-testid="stExpanderDetails"] [data-testid="stMarkdownContainer"] {
  overflow-x: auto; font-size: .9rem; }
.st-key-model-page :is(.st-key-chart-audit, [class*="st-key-chart-stress"]) .errorbar path { stroke: currentColor !important; }
.mseenet-measured { display: grid; gap: 1rem; margin: .3rem 0 !important;
  padding: 0 !important; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.mseenet-measured > div { border-top: 3px solid #7a5bc0; padding-top: .5rem; }
.mseenet-measured dt { font-size: .9rem; }
.mseenet-measured dd { margin: 0 !important; font-size: .85rem; line-height: 1.4; }
.mseenet-measured dd:first-of-type { font-size: 1.75rem; font-weight: 650; letter-spacing: -.01em; }
.mseenet-facts { display: grid; grid-template-columns: minmax(8rem, 13rem) 1fr;
  margin: .3rem 0 !important; padding: 0 !important; font-size: .9rem; }
.mseenet-facts dt { font-weight: 600; padding: .35rem 1rem .35rem 0; }
.mseenet-facts dd { margin: 0 !important; padding: .35rem 0; overflow-wrap: anywhere; }
.mseenet-facts dt, .mseenet-facts dd { border-bottom: 1px solid rgba(138, 131, 154, .3); }
</style>
"""


def draw_model_page(classifier: Classifier) -> None:
    """Draws what was measured of the weights in use, and what they are.

    Reports of another release (the weights may be the same, but not their calibration or
    thresholds) are left out, as if they had not been made, and the page says so.
    """
    card = classifier.card
    folder = card.weights_path.parent
    reports = {name: _read(folder / name) for name in ("evaluation.json", "audit.json")}
    other = [
        name for name, report in reports.items() if report and report.get("release") != card.release
    ]
    evaluation, audit = (None if name in other else report for name, report in reports.items())
    with st.container(key="model-page"):
        st.html(_STYLE)
        st.header("How far to trust this network", anchor="trust")
        if other:
            st.warning(
                OTHER_RELEASE.format(files=" and ".join(other)), icon=":material/sync_problem:"
            )
        if evaluation:
            _draw_overview(evaluation)
            _draw_accuracy(evaluation)
            _draw_confidence(evaluation)
            _draw_refused(evaluation)
            _draw_robustness(evaluation)
            _draw_stress(evaluation)
        else:
            _draw_missing(
                "These weights were not evaluated",
                "Accuracy, calibration, robustness and what is refused are not known.",
                "mseenet evaluate --data DIR",
            )
        _draw_audit(audit)
        baselines = _read_text(folder / "BASELINES.md")
        if baselines:  # methods compared on the dataset, whatever the release
            st.header("Is it better than simpler methods?", anchor=False)
            _draw_text(baselines, "All comparisons")
        _draw_card(classifier)


def _draw_overview(evaluation: dict) -> None:
    test = evaluation["parts"]["test"]
    tiles: list[tuple[str, ...]] = [
        (
            "Accuracy, known slides",
            percentage(test["accuracy"]),
            f"95 % interval {interval_text(test['interval_95']['accuracy'])}",
            f"{test['n']:,} fields, random test",
        )
    ]
    if found := words.hardest_unseen(evaluation.get("unseen", {})):
        protocol, worst = found
        title = words.protocol_title(protocol)
        accuracies = [part["right"] / part["n"] for part in worst["parts"]]
        missed = worst["malignant"]["called_benign"]
        tiles += [
            (
                "Accuracy, unseen slides",
                percentage(worst["accuracy"]),
                f"95 % interval {interval_text(worst['interval_95']['accuracy'])}",
                f"single parts {interval_text((min(accuracies), max(accuracies)))}",
                f"{worst['n']:,} fields, {title}",
            ),
            (
                "Malignant fields called Benign",
                percentage(missed["proportion"]),
                f"95 % interval {interval_text(missed['interval_95'])}",
                f"{_count(missed):,} of {missed['n']:,} malignant fields, {title}",
            ),
        ]
    rejected, review = (evaluation["statuses"]["test"][s] for s in ("rejected", "review"))
    tiles.append(
        (
            "Known fields sent to review",
            percentage(review["proportion"]),
            f"95 % interval {interval_text(review['interval_95'])}",
            f"another {percentage(rejected['proportion'])} rejected",
            f"{review['n']:,} fields, random test",
        )
    )
    cells = "".join(
        f"<div><dt>{html.escape(label)}</dt>"
        + "".join(f"<dd>{html.escape(line)}</dd>" for line in lines)
        + "</div>"
        for label, *lines in tiles
    )
    st.html(f'<dl class="mseenet-measured">{cells}</dl>')
    st.markdown(words.SPLITS)


def _draw_accuracy(evaluation: dict) -> None:
    st.header("How often is it right?", anchor="accuracy")
    left, right = st.columns(2, gap="large")
    with left:
        test = evaluation["parts"]["test"]
        rows = [f"random test {_with_interval(test['accuracy'], test['interval_95']['accuracy'])}"]
        rows += [
            f"{words.protocol_title(protocol)}, "
            + _with_interval(figures["accuracy"], figures["interval_95"]["accuracy"])
            + ", by fold "
            + ", ".join(percentage(fold["accuracy"]) for fold in figures["folds"])
            for protocol, figures in evaluation.get("unseen", {}).items()
        ]
        _draw_chart(
            "Accuracy on known and unseen slides",
            "These weights on the random test; networks of the same recipe, one a fold, on unseen slides",
            accuracy_by_split(evaluation),
            f"Dot plot of accuracy: {'; '.join(rows)}.",
            "The dot is the accuracy, the bar its 95 % interval: a bootstrap over what fails together "
            "(series, ranges of captures, blocks of file order). The spread of the folds and parts "
            "says most about the next slide. Nothing here is from another laboratory.",
            "accuracy",
        )
        if "unseen" not in evaluation:
            _draw_missing(
                "Unseen slides were not measured",
                "Known slides alone say little about the next one.",
                "mseenet crossvalidate --data DIR\nmseenet evaluate --data DIR",
            )
    with right:
        _draw_confusion(evaluation)
    if "unseen" in evaluation:
        _draw_parts(evaluation["unseen"])


def _draw_parts(unseen: dict[str, dict]) -> None:
    with st.expander("Each part of unseen slides", icon=":material/table:"):
        for protocol, figures in unseen.items():
            st.markdown(
                f"**{words.protocol_title(protocol).capitalize()}.** "
                f"{words.PROTOCOL_NOTES.get(protocol, '')}"
            )
            parts = figures["parts"]
            st.table(
                {
                    "Part": [plain(part["name"]) for part in parts],
                    "n": [f"{part['n']:,}" for part in parts],
                    "Right": [f"{part['right']:,}" for part in parts],
                    "Percent": [percentage(part["right"] / part["n"]) for part in parts],
                },
                border="horizontal",
                hide_index=True,
                alt=f"Right fields of each part, {words.protocol_title(protocol)}",
            )
    # Reports of earlier versions do not have it.
    if all("slides" in figures for figures in unseen.values()):
        _draw_slides(unseen)


def _draw_slides(unseen: dict[str, dict]) -> None:
    counts = [
        (words.protocol_title(protocol), kind, figures["slides"][kind])
        for protocol, figures in unseen.items()
        for kind in ("parts", "series")
    ]
    st.markdown(
        "**The class of a slide.** Each part, taken for a slide, is given a class by its fields; a "
        "series is wrong if any of its parts is."
    )
    st.table(
        {
            "Protocol": [title for title, _, _ in counts],
            "Counted": [f"{record['n']} {kind}" for _, kind, record in counts],
            **{
                title: [str(record[key]) for _, _, record in counts]
                for title, key in (("Right", "right"), ("Wrong", "wrong"), ("No class", "without"))
            },
            "95 % interval": [interval_text(record["interval_95"]) for _, _, record in counts],
        },
        border="horizontal",
        hide_index=True,
        alt="Whole parts and series that are given their right class",
    )
    evidence = words.slide_evidence(unseen)
    st.caption(plain(f"{words.SLIDE_RULE} {evidence or words.NO_SLIDE_CLASS}"))


@st.fragment
def _draw_confusion(evaluation: dict) -> None:
    matrices = {RANDOM: evaluation["parts"]["test"]}
    for protocol, figures in evaluation.get("unseen", {}).items():
        title = words.protocol_title(protocol)
        matrices[title[:1].upper() + title[1:]] = figures
    heading = st.container()
    chosen = RANDOM
    if len(matrices) > 1:
        chosen = st.segmented_control(
            "Fields of the confusion matrix",
            list(matrices),
            default=RANDOM,
            required=True,
            key="confusion-split",
            label_visibility="collapsed",
        )
    figures = matrices[chosen]
    confusion = figures["confusion"]
    right = ", ".join(
        f"{name} {row[i]} of {sum(row)}"
        for i, (name, row) in enumerate(zip(CLASS_NAMES, confusion, strict=True))
    )
    with heading:
        _draw_title("Which class is taken for which?", f"{chosen}, n = {figures['n']:,}")
    errors = ""
    if "malignant" in figures:
        missed, alarms = (
            f"{_count(record):,} of {record['n']:,}, "
            f"{_with_interval(record['proportion'], record['interval_95'])}"
            for record in (figures["malignant"][m] for m in ("called_benign", "called_malignant"))
        )
        errors = f"Malignant called Benign: {missed}. Benign called malignant: {alarms}. "
    plot(
        confusion_heatmap(confusion, figures.get("by_class")),
        f"Confusion matrix, {chosen}, n = {figures['n']:,}. Called right: {right}.",
        f"chart-confusion-{chosen}",
    )
    st.caption(
        "A row is a true class, with counts and percent of the row; the diagonal is right. "
        + errors
        + "Shares of classes are those of the dataset, not of a clinic. Intervals show on pointing."
    )


def _draw_confidence(evaluation: dict) -> None:
    st.header("Does its confidence mean what it says?", anchor="confidence")
    unseen = evaluation.get("unseen")
    if not unseen:
        _draw_missing(
            "Confidence on unseen slides was not measured",
            "On known slides nearly everything is right, which says nothing about confidence.",
            "mseenet crossvalidate --data DIR\nmseenet evaluate --data DIR",
        )
        return
    errors = [
        f"{words.protocol_title(protocol)}: {percentage(figures['before_calibration']['ece'])} before, "
        f"{percentage(figures['after_calibration']['ece'])} after"
        for protocol, figures in unseen.items()
    ]
    kept = [
        f"{words.protocol_title(protocol)}: most confident "
        f"{100 * figures['selective']['coverage']:.0f} %, "
        + _with_interval(figures["selective"]["proportion"], figures["selective"]["interval_95"])
        for protocol, figures in unseen.items()
    ]
    left, right = st.columns([3, 2], gap="large")
    with left:
        _draw_chart(
            "Reliability on unseen slides",
            f"Expected calibration error, {'; '.join(errors)}",
            reliability(unseen),
            f"Reliability diagrams of unseen slides. Expected calibration error, {'; '.join(errors)}.",
            "A point holds the fields of one range of confidence; the larger, the more fields; bars "
            "are 95 % intervals. On the dotted line confidence and accuracy agree, below it "
            "the network is too sure. It does not show single slides.",
            "reliability",
        )
    with right:
        _draw_chart(
            "Accuracy of the most confident fields",
            f"Unseen slides, {'; '.join(kept)}",
            risk_coverage(unseen),
            f"Curves of accuracy against the share of fields kept. {'; '.join(kept)}.",
            "At the right edge all fields are kept; to the left, only those that the network is "
            "surest of. Bands are 95 % intervals. It does not say that any one confident "
            "answer is right.",
            "coverage",
        )
    _draw_promises(evaluation)


def _draw_promises(evaluation: dict) -> None:
    """What confidence, review threshold and malignant mark promise, and what they give."""
    unseen = evaluation["unseen"]
    too_sure = [
        f"{words.protocol_title(protocol)}: {percentage(b['confidence'])} on average, "
        f"{_with_interval(b['proportion'], b['interval_95'])} right (n = {b['n']:,})"
        for protocol, figures in unseen.items()
        for b in figures["after_calibration"]["bins"]
        if b["too_sure"]
    ]
    lines = [words.confidence_kept(unseen)]
    if too_sure:
        lines.append(f"**Too sure** it is in these ranges of confidence: {'; '.join(too_sure)}.")
    st.markdown(" ".join(line for line in lines if line))
    st.markdown(
        "**What a flag catches on unseen slides.** Fields go to review or are rejected for "
        "confidence, novelty, image quality or want of nucleated cells; thresholds come from "
        "fields that those tested had no part in."
    )
    columns: dict[str, list[str]] = {
        "Tested on": [],
        "Right above the threshold": [],
        "Flagged": [],
        "Errors flagged": [],
        "Right of ok": [],
        "Mark: malignant caught": [],
        "Mark: benign below": [],
    }
    for protocol, figures in unseen.items():
        promise, flagged, malignant = (
            figures[name] for name in ("review_promise", "flagged", "malignant")
        )
        cells = (
            f"promises {100 * promise['promised']:.0f} %, gives {_proportion(promise)}",
            _proportion(flagged["fields"]),
            f"{_proportion(flagged['errors'])} of {flagged['errors']['n']:,}",
            _proportion(flagged["rest_right"]),
            _proportion(malignant["sensitivity"]),
            _proportion(malignant["specificity"]),
        )
        title = words.protocol_title(protocol)
        for name, cell in zip(columns, (title[:1].upper() + title[1:], *cells), strict=True):
            columns[name].append(cell)
    st.table(
        columns,
        border="horizontal",
        hide_index=True,
        alt="What the thresholds promise and give on unseen slides",
    )
    point = evaluation["operating_point"]
    st.caption(
        f"The mark: from {percentage(point['threshold'])} on a field counts as malignant; "
        f"{words.operating_point(point, unseen)}."
    )


def _draw_refused(evaluation: dict) -> None:
    st.header("What does it refuse?", anchor="refused")
    st.markdown(
        "Fields unlike those of the training data are rejected: no class is named. Doubtful ones "
        "are answered and sent to review."
    )
    statuses = evaluation["statuses"]
    columns = {"Images": list(statuses)}
    columns["n"] = [f"{figures['rejected']['n']:,}" for figures in statuses.values()]
    for status, title in (("rejected", "Rejected"), ("review", "To review")):
        columns[f"{title} (95 % interval)"] = [
            _with_interval(figures[status]["proportion"], figures[status]["interval_95"])
            for figures in statuses.values()
        ]
    right = [figures.get("right_of_ok") for figures in statuses.values()]
    columns["Right of the others (95 % interval)"] = [
        _with_interval(record["proportion"], record["interval_95"]) if record else "-"
        for record in right
    ]
    st.table(
        columns,
        border="horizontal",
        hide_index=True,
        alt="Share of each kind of image that is rejected or sent to review",
    )
    st.caption(
        "Rows named test are known fields, which should be answered; the others are foreign and "
        "should be rejected. No foreign image had a part in the thresholds. It does not cover "
        "every kind of foreign image: what is not listed was not tried."
    )


def _draw_robustness(evaluation: dict) -> None:
    st.header("Does it tolerate other light, stain and focus?", anchor="robustness")
    test, changes = evaluation["parts"]["test"], evaluation["robustness"]
    worst = []
    for kind, severities in changes.items():
        severity, figures = min(severities.items(), key=lambda item: item[1]["proportion"])
        worst.append(f"{kind} {severity} {percentage(figures['proportion'])}")
    _draw_chart(
        "Accuracy on changed fields",
        f"Random test, n = {test['n']:,} for each point, 95 % intervals; dashed: unchanged "
        f"({percentage(test['accuracy'])})",
        robustness(changes, test),
        f"Dot plots of accuracy by kind and severity of change. Worst of each: {'; '.join(worst)}.",
        "Further left is worse. The changes are computed on known slides and disregard the gate, which "
        "rejects or flags some of these fields; a real change of microscope or stain may do more.",
        "robustness",
    )


@st.fragment
def _draw_stress(evaluation: dict) -> None:
    st.header("Does it follow the cells or the slide?", anchor="stress")
    tested = {
        words.protocol_title(protocol): figures["stress"]
        for protocol, figures in sorted(
            evaluation.get("unseen", {}).items(), key=lambda item: not item[1]["hardest"]
        )
        if "stress" in figures
    }
    if "stress" in evaluation:
        tested["random test"] = evaluation["stress"]
    tested = {title[:1].upper() + title[1:]: stress for title, stress in tested.items()}
    if not tested:
        _draw_missing(
            "The cells were not put on other backgrounds",
            "Whether the answer goes with the cells or with the slide is not known.",
            "mseenet evaluate --data DIR",
        )
        return
    chosen = next(iter(tested))
    if len(tested) > 1:
        chosen = st.segmented_control(
            "Fields of the stress tests",
            list(tested),
            default=chosen,
            required=True,
            key="stress-fields",
            label_visibility="collapsed",
        )
    tests = tested[chosen]["tests"]
    rows = [
        f"{name} {percentage(figures['right']['proportion'])} right"
        + (
            f", {percentage(figures['donor']['proportion'])} the class of the other field"
            if "donor" in figures
            else ""
        )
        for name, figures in tests.items()
    ]
    _draw_chart(
        "The same cells on other backgrounds",
        f"{chosen}, at most {max(figures['n'] for figures in tests.values()):,} fields a bar; "
        "95 % intervals over what fails together",
        stress_bars(tests),
        f"Bar chart of what is named, {chosen}: {'; '.join(rows)}.",
        "A long orange bar means that the class of the field that lent its background or stain is "
        "named, not that of the cells. Without nucleated cells nothing is right; the bar shows how "
        "often the field's class is named all the same.",
        f"stress-{chosen}",
    )
    st.markdown(" ".join(tested[chosen]["summary"]))


def _draw_audit(audit: dict | None) -> None:
    st.header("Does it look at the blasts?", anchor="shortcuts")
    if not audit:
        _draw_missing(
            "These weights were not searched for shortcuts",
            "Whether the class is read off the cells or off stain and slide is not known.",
            "mseenet audit --data DIR",
        )
        return
    plain = audit["network"]["as they are"]
    rows = [
        f"{part} {name} {percentage(figures['proportion'])}"
        for part, results in (
            ("network,", audit["network"]),
            ("frozen features,", audit["frozen_features"]),
            ("colour alone,", audit["color_alone"]),
        )
        for name, figures in results.items()
    ]
    _draw_chart(
        "What is still right without the cells, and with colour alone",
        f"Random test, n = {audit['n']:,}, unless the bar says unseen; 95 % intervals",
        audit_bars(audit),
        f"Bar chart of accuracy: {'; '.join(rows)}.",
        "A long bar with the nucleated cells blanked out means that the network also reads red "
        "cells, plasma and stain; long bars of colour alone, or of frozen features of fields whose "
        "nucleated cells are painted over, mean that in this dataset these go with the class. Blanked "
        "fields look like no real field, so it does not prove what decides on whole ones.",
        "audit",
    )
    st.markdown(
        f"Of the heatmaps' mass {percentage(plain['heat_on_cells'])} lies on nucleated cells, which "
        f"cover {percentage(plain['area_of_cells'])} of the fields, "
        f"{percentage(plain['heat_near_cells'])} on them with a rim of one grid cell, "
        f"{percentage(plain['area_near_cells'])} of the fields, and "
        f"{percentage(plain['heat_in_corner'])} in the corner of the scale bar, "
        f"{percentage(plain['area_of_corner'])} of the area (n = {plain['n']:,})."
    )


def _draw_card(classifier: Classifier) -> None:
    card, folder = classifier.card, classifier.card.weights_path.parent
    content = card.content
    training, split = content["training"], content["split"]
    facts = {
        "Release": card.release,
        "Weights": content["weights"]["file"],
        "SHA-256": card.sha256,
        "Parameters": f"{content['weights']['parameters']:,}",
        "Runs on": classifier.device,
        "Calibration": temperature_text(content["calibration"]),
        "Training recipe": f"{training['recipe']}, finished {training['finished'][:10]} on "
        f"{training['device']} after {training['minutes']} minutes",
        "Command": training["command"],
        "Settings": json.dumps(training["settings"]).translate(str.maketrans("", "", '{}"')),
        "Split": f"{split['protocol']}, seed {split['seed']}: "
        + ", ".join(f"{n:,} {part}" for part, n in split["n"].items()),
        "Intended use": content["intended_use"],
    }
    st.header("What are these weights?", anchor="card")
    cells = "".join(f"<dt>{k}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items())
    st.html(f'<dl class="mseenet-facts">{cells}</dl>')
    for name, label in (
        ("MODEL_CARD.md", "The whole model card"),
        ("EVALUATION.md", "Every figure as a table"),
    ):
        text = _read_text(folder / name)
        if text and f"Release `{card.release}`" in text:
            _draw_text(text, label)


def _draw_text(text: str, label: str) -> None:
    """Draws a report in Markdown; its headings go below the page's."""
    text = re.sub(r"^(?=#+ )", "##", text, flags=re.MULTILINE).replace("$", r"\$")
    with st.expander(label, icon=":material/table:"):
        st.markdown(text)


def _draw_chart(
    title: str, scope: str, figure: go.Figure, alt: str, caption: str, key: str
) -> None:
    _draw_title(title, scope)
    plot(figure, alt, f"chart-{key}")
    st.caption(caption)


def _draw_title(title: str, scope: str) -> None:
    st.subheader(title, anchor=False)
    st.caption(f"{scope}.")


def _draw_missing(title: str, text: str, command: str) -> None:
    with st.container(border=True):
        st.markdown(f"**{title}.** {text} This makes the report, from a folder with the dataset:")
        st.code(command, language=None)


def _read(path: Path) -> dict[str, Any] | None:
    """A report, or None if it was not made or is damaged."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _count(record: dict) -> int:
    return round(record["proportion"] * record["n"])


def _proportion(record: dict) -> str:
    """A proportion with its interval; none of nothing."""
    return _with_interval(record["proportion"], record["interval_95"]) if record["n"] else "-"


def _with_interval(proportion: float, interval) -> str:
    return f"{percentage(proportion)} ({interval_text(interval).removesuffix(' %')})"
