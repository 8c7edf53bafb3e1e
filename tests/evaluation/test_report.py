"""The reports in Markdown hold the numbers of the JSON reports, row by row."""

import json
import re

import numpy as np
import pytest
from made_up_answers import OPERATING_POINT, unseen_figures

from mseenet.case.words import PROTOCOLS, confidence_kept, protocol_title, slide_evidence
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.audit import audit_markdown, findings
from mseenet.evaluation.markdown import percent, table
from mseenet.evaluation.model_card import model_card
from mseenet.evaluation.report import evaluation_markdown
from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS


def read(name: str) -> dict:
    return json.loads((DEFAULT_WEIGHTS / name).read_text(encoding="utf-8"))


def history() -> dict:
    return read(read(CARD_NAME)["training"]["history"])


@pytest.fixture
def evaluation() -> dict:
    """The shipped report, with made-up answers about unseen slides."""
    made = {"unseen": unseen_figures(), "operating_point": OPERATING_POINT}
    return read("evaluation.json") | made


def section(text: str, heading: str) -> list[list[str]]:
    """Rows of the last table below a heading, without its head."""
    part = text.split(f"# {heading}\n", 1)[1]
    part = re.split(r"^#", part, flags=re.MULTILINE)[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows if not set("".join(row)) <= set("-:| ")]


def write(evaluation: dict, card: dict | None = None) -> str:
    return evaluation_markdown(evaluation, card or read(CARD_NAME), history())


def test_tables_align_numbers_to_the_right():
    assert table(["a", "n:"], [["x", 1]]) == ["| a | n |", "| --- | ---: |", "| x | 1 |"]


def test_a_proportion_without_errors_has_no_bootstrap_interval():
    assert percent(0.9839, (0.968, 0.9944)) == "98.39 (96.8-99.4)"
    assert percent(1.0, None) == "100.00 (no error)"


def test_every_point_of_the_charts_stands_in_a_table(evaluation):
    text = write(evaluation)
    reliability = section(text, "Reliability on unseen slides")[1:]
    for column, (protocol, name) in enumerate(
        ((p, n) for p in evaluation["unseen"] for n in ("before", "after")), start=1
    ):
        bins = evaluation["unseen"][protocol][f"{name}_calibration"]["bins"]
        shown = [row[column].strip() for row in reliability if row[column].strip()]
        assert shown == [
            f"{100 * b['confidence']:.1f} / {100 * b['proportion']:.1f}"
            f"{' **too sure**' if b['too_sure'] else ''}, n = {b['n']}"
            for b in bins
        ]
    for row in reliability:
        low, high = (float(bound) for bound in row[0].split("-"))
        means = [float(cell.split(" /")[0]) for cell in row[1:] if cell.strip()]
        assert all(low - 0.5 <= mean <= high + 0.5 for mean in means)

    for row in section(text, "Accuracy of the most confident fields of unseen slides")[1:]:
        kept = float(row[0].removesuffix("%")) / 100
        for cell, figures in zip(row[1:], evaluation["unseen"].values(), strict=True):
            (point,) = (p for p in figures["risk_coverage"] if p["kept"] == kept)
            assert cell.startswith(f"{100 * point['proportion']:.2f} (")
            assert cell.endswith(f"n = {point['n']}")

    changes = {row[0]: row[1] for row in section(text, "Other light, stain and focus")[1:]}
    for kind, severities in evaluation["robustness"].items():
        for severity, record in severities.items():
            assert f"{severity}: {100 * record['proportion']:.2f} (" in changes[kind]

    epochs = [(phase, e) for phase, epochs_of in history().items() for e in epochs_of]
    rows = section(text, "Training")[1:]
    assert len(rows) == len(epochs)
    best = read(CARD_NAME)["training"]["best_epoch"]
    for row, (phase, epoch) in zip(rows, epochs, strict=True):
        bold = best[phase] == epoch["epoch"]
        assert row[1] == (f"**{epoch['epoch']}**" if bold else str(epoch["epoch"]))
        assert row[5] == f"{100 * epoch['val_accuracy']:.1f}"


def test_the_class_of_slides_stands_in_the_report(evaluation):
    text = write(evaluation)
    counts, drawn = (
        text.split("### The class of a slide\n", 1)[1].split("\n### ", 1)[0].split("draws a part")
    )
    for name, figures in evaluation["unseen"].items():
        for kind in ("parts", "series"):
            r = figures["slides"][kind]
            numbers = " | ".join(str(r[key]) for key in ("n", "right", "wrong", "without"))
            assert f"| {protocol_title(name)} | {kind} | {numbers} | " in counts
        for draw in figures["slides"]["drawn"]:
            row = f"| {protocol_title(name)} | {draw['fields']} | {draw['parts']} | {draw['series']} | "
            assert f"{row}{100 * draw['right']:.2f} (" in drawn
            assert f" | {100 * draw['lowest']['right']:.1f} ({draw['lowest']['part']}) |" in drawn
    assert (slide_evidence(evaluation["unseen"]) or "The page gives slides no class") in text


def test_a_report_without_slides_is_still_written(evaluation):
    for figures in evaluation["unseen"].values():
        del figures["slides"]
    assert "The class of a slide" not in write(evaluation)


def counted(record: dict) -> str:
    return f"{round(record['proportion'] * record['n'])} of {record['n']}: {100 * record['proportion']:.2f} ("


def test_figures_of_unseen_slides_stand_in_the_report(evaluation):
    text, unseen = write(evaluation), evaluation["unseen"]
    rows = {row[0]: row for row in section(text, "Unseen slides")[1:]}
    promises = {row[0]: row for row in section(text, "Confidence on unseen slides")[-len(unseen) :]}
    malignant = {row[0]: row for row in section(text, "Malignant or Benign")[1:]}
    for protocol, figures in unseen.items():
        title = protocol_title(protocol)
        assert rows[title][2].startswith(f"{100 * figures['accuracy']:.2f} (")
        assert rows[title][4].startswith(f"{100 * figures['mcc']:.2f} (")
        for cell, record in zip(rows[title][5:], figures["by_class"], strict=True):
            low, high = record["interval_95"]
            assert cell == f"{100 * record['proportion']:.2f} ({100 * low:.1f}-{100 * high:.1f})"
        assert promises[title][1].startswith(counted(figures["review_promise"]))
        assert promises[title][4].startswith(counted(figures["flagged"]["errors"]))
        assert promises[title][5].startswith(counted(figures["flagged"]["rest_right"]))
        names = ("called_benign", "called_malignant", "sensitivity", "specificity")
        for cell, name in zip(malignant[title][1:], names, strict=True):
            assert cell.startswith(counted(figures["malignant"][name]))
    parts = [
        [protocol_title(protocol), part["name"], str(part["n"]), str(part["right"])]
        for protocol, figures in unseen.items()
        for part in figures["parts"]
    ]
    assert [row[:4] for row in section(text, "Parts of unseen slides")[1:]] == parts
    assert confidence_kept(unseen) in text
    assert "promises 99% right" in text
    assert "0.400 on" in text


def test_the_model_card_has_the_same_intervals_as_the_report(evaluation):
    card, text = model_card(read(CARD_NAME), evaluation), write(evaluation)
    for figures in evaluation["unseen"].values():
        low, high = figures["interval_95"]["accuracy"]
        cell = f"{100 * figures['accuracy']:.2f} ({100 * low:.1f}-{100 * high:.1f})"
        assert f"| {figures['n']} | {cell} |" in card
        assert f"| {figures['n']} | {cell} |" in text


@pytest.mark.parametrize("kept", [["blocks-100"], ["series"], list(PROTOCOLS)])
def test_any_protocols_make_a_report(evaluation, kept):
    evaluation["unseen"] = {p: f for p, f in evaluation["unseen"].items() if p in kept}
    text = write(evaluation)
    for protocol in PROTOCOLS:
        assert (f"**{protocol_title(protocol)}**" in text) == (protocol in evaluation["unseen"])
    assert "## Figures" in model_card(read(CARD_NAME), evaluation)


def test_every_figure_of_the_stress_tests_stands_in_the_report(evaluation):
    text = write(evaluation)
    tested = {"random test (known slides)": evaluation["stress"]} | {
        protocol_title(protocol): figures["stress"]
        for protocol, figures in evaluation["unseen"].items()
    }
    measures = ("right", "donor", "ok", "right_of_ok", "review", "rejected")
    for title, stress in tested.items():
        rows = section(text, f"Cells or slide: {title}")[1:]
        for row, (name, figures) in zip(rows, stress["tests"].items(), strict=True):
            assert row[:2] == [name, str(figures["n"])]
            for cell, measure in zip(row[2:8], measures, strict=True):
                record = figures.get(measure)
                expected = f"{100 * record['proportion']:.2f} (" if record and record["n"] else "-"
                assert cell.startswith(expected)
            assert row[8] == f"{100 * figures['mean_confidence']:.1f}"
        assert all(finding in text for finding in stress["summary"])


def test_the_limit_of_the_model_card_follows_the_stress_tests(evaluation):
    limit = "The answer follows red cells and plasma"
    del evaluation["unseen"]
    tests = evaluation["stress"]["tests"]
    names = [(name, name.replace("another", "the same")) for name in tests if "another" in name]
    for other, same in [pair for pair in names if pair[1] in tests]:
        tests[same]["right"] = {"proportion": 0.9, "n": 9, "interval_95": [0.8, 0.95]}
        tests[other]["right"] = {"proportion": 0.4, "n": 9, "interval_95": [0.3, 0.5]}
    content = read(CARD_NAME)
    content["training"]["recipe"] = "cells"
    card = model_card(content, evaluation)
    assert limit in card
    assert "40.0 and 40.0 % are right, on that of their own class 90.0 and 90.0 %" in card
    assert "training also shows nucleated cells" in card
    assert "| accuracy, cells on background of another class, feathered cut | 9 | 40.00 (" in card
    for _, same in [pair for pair in names if pair[1] in tests]:
        tests[same]["right"]["interval_95"] = [0.5, 0.95]
    assert limit not in model_card(content, evaluation)
    del evaluation["stress"]
    assert "background of another class" not in model_card(content, evaluation)
    assert "Cells or slide" not in write(evaluation)


def test_other_numbers_make_another_report(evaluation):
    confusion = [[40, 2, 0, 0], [0, 85, 0, 0], [0, 3, 80, 0], [0, 0, 0, 69]]
    benign = {"proportion": 40 / 42, "n": 42, "interval_95": [0.9, 1]}
    by_class = [benign, *evaluation["parts"]["test"]["by_class"][1:]]
    changed = {"confusion": confusion, "accuracy": 274 / 279, "by_class": by_class}
    evaluation["parts"]["test"] |= changed
    text = write(evaluation)
    assert "| **Pre-B** | 0 | 3 | 80 | 0 |" in text
    classes = {row[0]: row for row in section(text, "Test split by class")[1:5]}
    assert classes["Early Pre-B"][2] == f"{100 * 85 / 90:.2f}"  # precision
    assert classes["Benign"][3].startswith(f"{100 * 40 / 42:.2f} (")  # sensitivity
    assert f"**{100 * 274 / 279:.2f}**" in text
    card = model_card(read(CARD_NAME), evaluation)
    assert f"| accuracy, random test | 279 | {100 * 274 / 279:.2f} (" in card


def test_weights_that_were_not_cross_validated_claim_nothing_of_unseen_slides(evaluation):
    del evaluation["unseen"], evaluation["operating_point"]
    card = read(CARD_NAME)
    text = write(evaluation, card)
    assert "Unseen slides" not in text
    assert "Reliability" not in text
    figures = model_card(card, evaluation).split("## Figures")[1].split("## Limits")[0]
    assert "malignant" not in figures
    assert "unseen" not in figures


def test_a_history_without_validation_is_shown_all_the_same(evaluation):
    epochs = {"fine_tune": [{"epoch": 1, "learning_rate": 1e-3, "val_loss": None, "loss": 0.5}]}
    text = evaluation_markdown(evaluation, read(CARD_NAME), epochs)
    assert "| fine-tune | 1 | 1.0e-03 | - | 0.5000 | - | - |" in text


def test_every_number_of_the_audit_stands_in_its_report():
    audit = read("audit.json")
    audit["network"]["as they are"]["proportion"] = 0.123
    rows = section(audit_markdown(audit), "Accuracy, percent")[1:]
    expected = [
        [title, name, str(record["n"]), f"{100 * record['proportion']:.2f}"]
        for part, title in (
            ("network", "network"),
            ("frozen_features", "frozen features"),
            ("color_alone", "colour alone"),
        )
        for name, record in audit[part].items()
    ]
    assert [[*row[:3], row[3].split(" (")[0]] for row in rows] == expected


def test_findings_follow_the_numbers():
    audit = read("audit.json")
    blanked = audit["network"]["nucleated cells blanked out"]
    blanked |= {"proportion": 0.5, "interval_95": [0.4, 0.6]}
    blanked["named"] = dict(zip(CLASS_NAMES, (1, 2, 3, 4), strict=True))
    (line,) = (f for f in findings(audit) if f.startswith("With nucleated cells blanked out"))
    assert "50.0 % (40.0-60.0) right" in line
    assert "named Benign 1, Early Pre-B 2, Pre-B 3, Pro-B 4" in line


def test_the_model_card_takes_the_audit_over_only_if_it_is_given(evaluation):
    card, audit = read(CARD_NAME), read("audit.json")
    assert audit["summary"][0] in model_card(card, evaluation, audit)
    assert "## Shortcuts" not in model_card(card, evaluation)


def test_the_shipped_reports_are_of_the_shipped_numbers():
    shipped = read("evaluation.json")
    card, audit = read(CARD_NAME), read("audit.json")
    for name, text in (
        ("EVALUATION.md", write(shipped, card)),
        ("AUDIT.md", audit_markdown(audit)),
        ("MODEL_CARD.md", model_card(card, shipped, audit)),
    ):
        assert (DEFAULT_WEIGHTS / name).read_text(encoding="utf-8") == text
    assert audit["summary"] == findings(audit)
    metrics = card["metrics"]["test"]
    assert np.array_equal(metrics["confusion"], shipped["parts"]["test"]["confusion"])
