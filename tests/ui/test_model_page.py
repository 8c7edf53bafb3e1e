"""The pages about the weights and the app, and the charts of the reports; without the network."""

import json
import shutil
from pathlib import Path

import pytest
from made_up_answers import OPERATING_POINT, unseen_figures
from streamlit.testing.v1 import AppTest

from mseenet.case import words
from mseenet.config import CLASS_NAMES
from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS
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

REPORTS = ("evaluation.json", "audit.json", "MODEL_CARD.md", "EVALUATION.md")


def report(name: str) -> dict:
    return json.loads((DEFAULT_WEIGHTS / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluation() -> dict:
    """The shipped report, with made-up answers about unseen slides."""
    made = {"unseen": unseen_figures(), "operating_point": OPERATING_POINT}
    return report("evaluation.json") | made


@pytest.fixture(scope="module")
def audit() -> dict:
    return report("audit.json")


@pytest.fixture
def folder(tmp_path, evaluation) -> Path:
    """The reports beside a card, and no weights: these pages need none."""
    for name in (CARD_NAME, *REPORTS):
        shutil.copy(DEFAULT_WEIGHTS / name, tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    return tmp_path


def bounds(error, values) -> list:
    """Intervals in [0, 1], from error bars in percent."""
    pairs = zip(values, error.arrayminus, error.array, strict=True)
    return [pytest.approx([(v - below) / 100, (v + above) / 100]) for v, below, above in pairs]


def proportions(values) -> list:
    return pytest.approx([value / 100 for value in values])


def labels(trace, figure) -> dict[tuple, str]:
    """What is written in each cell, by row and column."""
    written = {(a.y, a.x): a.text for a in figure.layout.annotations}
    return written | dict(zip(zip(trace.y, trace.x, strict=True), trace.text, strict=True))


def test_confusion(evaluation):
    figures = evaluation["unseen"]["blocks-100"]
    confusion = figures["confusion"]
    figure = confusion_heatmap(confusion, figures["by_class"])
    heatmap, dark = figure.data
    written = labels(dark, figure)
    for i, row in enumerate(confusion):
        assert proportions(heatmap.z[i]) == [count / sum(row) for count in row]
        for j, count in enumerate(row):
            assert written[i, j] == f"<b>{count}</b><br>{percentage(count / sum(row))}"
            detail = heatmap.customdata[i][j]
            assert f"called {CLASS_NAMES[j]}:<br>{count} of" in detail
            interval = interval_text(figures["by_class"][i]["interval_95"])
            assert (f"95 % interval {interval}" in detail) == (i == j)
    assert list(figure.layout.yaxis.ticktext) == [
        f"{name}<br>n = {sum(row)}" for name, row in zip(CLASS_NAMES, confusion, strict=True)
    ]


def test_a_class_without_fields_is_zero_percent():
    heatmap = confusion_heatmap([[0, 0, 0, 0], *[[1, 1, 1, 1]] * 3]).data[0]
    assert list(heatmap.z[0]) == [0, 0, 0, 0]


def test_accuracy_by_split(evaluation):
    folds, means = accuracy_by_split(evaluation).data
    rows = [evaluation["parts"]["test"], *evaluation["unseen"].values()]
    assert proportions(means.x) == [row["accuracy"] for row in rows]
    assert bounds(means.error_x, means.x) == [row["interval_95"]["accuracy"] for row in rows]
    assert [n for _, n in means.customdata] == [row["n"] for row in rows]
    expected = [fold for row in rows[1:] for fold in row["folds"]]
    assert proportions(folds.x) == [fold["accuracy"] for fold in expected]
    assert [n for _, n in folds.customdata] == [fold["n"] for fold in expected]


def test_reliability(evaluation):
    unseen = evaluation["unseen"]
    traces = [trace for trace in reliability(unseen).data if trace.mode == "markers"]
    expected = [
        figures[f"{name}_calibration"]["bins"]
        for figures in unseen.values()
        for name in ("before", "after")
    ]
    assert len(traces) == len(expected)
    for trace, bins in zip(traces, expected, strict=True):
        assert proportions(trace.x) == [b["confidence"] for b in bins]
        assert proportions(trace.y) == [b["proportion"] for b in bins]
        assert [n for n, _ in trace.customdata] == [b["n"] for b in bins]
        assert bounds(trace.error_y, trace.y) == [b["interval_95"] for b in bins]


def test_risk_coverage(evaluation):
    unseen = evaluation["unseen"]
    lines = [trace for trace in risk_coverage(unseen).data if trace.mode == "lines"]
    assert len(lines) == len(unseen)
    for line, figures in zip(lines, unseen.values(), strict=True):
        curve = figures["risk_coverage"]
        assert proportions(line.x) == [point["kept"] for point in curve]
        assert proportions(line.y) == [point["proportion"] for point in curve]
        assert [list(cell) for cell in line.customdata] == [
            [point["n"], interval_text(point["interval_95"])] for point in curve
        ]


def test_robustness(evaluation):
    changes, test = evaluation["robustness"], evaluation["parts"]["test"]
    figure = robustness(changes, test)
    for trace, severities in zip(figure.data, changes.values(), strict=True):
        assert list(trace.y) == list(severities)
        assert proportions(trace.x) == [figures["proportion"] for figures in severities.values()]
        assert bounds(trace.error_x, trace.x) == [f["interval_95"] for f in severities.values()]
    assert [a.text.lower() for a in figure.layout.annotations] == [kind.lower() for kind in changes]
    assert {shape.x0 for shape in figure.layout.shapes} == {100 * test["accuracy"]}


def test_stress(evaluation):
    tests = evaluation["stress"]["tests"]
    figure = stress_bars(tests)
    for trace, measure in zip(figure.data, ("right", "donor"), strict=True):
        rows = {i: f[measure] for i, f in enumerate(tests.values()) if measure in f}
        assert list(trace.y) == list(rows)
        assert proportions(trace.x) == [record["proportion"] for record in rows.values()]
        assert bounds(trace.error_x, trace.x) == [r["interval_95"] for r in rows.values()]
        assert [n for n, _ in trace.customdata] == [record["n"] for record in rows.values()]
    assert list(figure.layout.yaxis.ticktext) == [
        f"{name}<br>n = {figures['n']:,}" for name, figures in tests.items()
    ]


def test_audit(audit):
    for trace, part in zip(
        audit_bars(audit).data, ("network", "frozen_features", "color_alone"), strict=True
    ):
        results = audit[part].values()
        assert proportions(trace.x) == [figures["proportion"] for figures in results]
        assert bounds(trace.error_x, trace.x) == [figures["interval_95"] for figures in results]
        assert [n for n, _ in trace.customdata] == [figures["n"] for figures in results]


def test_every_chart_lets_the_theme_through(evaluation, audit):
    unseen, test = evaluation["unseen"], evaluation["parts"]["test"]
    for figure in (
        confusion_heatmap(test["confusion"]),
        accuracy_by_split(evaluation),
        reliability(unseen),
        risk_coverage(unseen),
        robustness(evaluation["robustness"], test),
        stress_bars(evaluation["stress"]["tests"]),
        audit_bars(audit),
    ):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"


def model_page(folder: str) -> None:
    import json
    from pathlib import Path
    from types import SimpleNamespace

    from mseenet.inference.card import release_of
    from mseenet.ui.model_page import draw_model_page

    content = json.loads((Path(folder) / "card.json").read_text())
    weights = content["weights"]
    card = SimpleNamespace(
        weights_path=Path(folder) / weights["file"],
        sha256=weights["sha256"],
        release=release_of(content),
        content=content,
    )
    draw_model_page(SimpleNamespace(card=card, device="some device"))


def about_page() -> None:
    from mseenet.ui.about_page import draw_about_page

    draw_about_page()


def draw(folder: Path) -> AppTest:
    app = AppTest.from_function(model_page, args=(str(folder),), default_timeout=60).run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "".join(element.proto.body for element in app.get("html"))


def levels(app: AppTest) -> list[int]:
    """Of the headings, in their order on the page."""
    levels = {"title": 1, "header": 2, "subheader": 3}
    return [levels[element.type] for element in app.main if element.type in levels]


def change(folder: Path, name: str, edit) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def test_the_model_page(folder, evaluation):
    app = draw(folder)
    charts = [chart.proto for chart in app.get("plotly_chart")]
    assert len(charts) == 7
    assert all(len(chart.alt) > 60 for chart in charts)
    assert not app.code
    assert not app.warning
    test = evaluation["parts"]["test"]
    assert percentage(test["accuracy"]) in html(app)
    assert json.loads((folder / CARD_NAME).read_text())["weights"]["sha256"] in html(app)
    assert "some device" in html(app)
    (table,) = (t for t in app.table if "Images" in t.value)
    assert list(table.value["Images"]) == list(evaluation["statuses"])
    assert [expander.label for expander in app.expander] == [
        "Each part of unseen slides",
        "The whole model card",
        "Every figure as a table",
    ]
    assert set(levels(app)) == {2, 3}
    assert levels(app)[0] == 2


def hardest(evaluation: dict) -> tuple[str, dict]:
    return words.hardest_unseen(evaluation["unseen"])


def test_the_class_of_slides_is_on_the_model_page(folder, evaluation):
    app = draw(folder)
    (table,) = (t.value for t in app.table if "No class" in t.value)
    records = [
        figures["slides"][kind]
        for figures in evaluation["unseen"].values()
        for kind in ("parts", "series")
    ]
    for title, key in (("Right", "right"), ("Wrong", "wrong"), ("No class", "without")):
        assert list(table[title]) == [str(record[key]) for record in records]
    said = words.slide_evidence(evaluation["unseen"]) or words.NO_SLIDE_CLASS
    assert any(said in caption.value.replace("\\", "") for caption in app.caption)


def test_a_report_without_slides_is_still_drawn(folder):
    def edit(content):
        for figures in content["unseen"].values():
            del figures["slides"]

    change(folder, "evaluation.json", edit)
    app = draw(folder)
    assert not app.exception
    assert not [t for t in app.table if "No class" in t.value]


def test_the_tiles_are_of_the_hardest_protocol(folder, evaluation):
    protocol, figures = hardest(evaluation)
    page = html(draw(folder))
    assert f"{figures['n']:,} fields, {words.protocol_title(protocol)}" in page
    assert interval_text(figures["interval_95"]["accuracy"]) in page
    missed = figures["malignant"]["called_benign"]
    assert f"{round(missed['proportion'] * missed['n'])} of {missed['n']}" in page


def test_what_the_stress_tests_found_is_said(folder, evaluation):
    app = draw(folder)
    said = " ".join(hardest(evaluation)[1]["stress"]["summary"])
    assert said in [element.value for element in app.markdown]
    app.segmented_control(key="stress-fields").set_value("Random test").run()
    assert not app.exception
    said = " ".join(evaluation["stress"]["summary"])
    assert said in [element.value for element in app.markdown]


def test_a_report_without_stress_tests_says_how_to_make_them(folder):
    def forget(content):
        del content["stress"]
        for figures in content["unseen"].values():
            del figures["stress"]

    change(folder, "evaluation.json", forget)
    app = draw(folder)
    assert [code.value for code in app.code] == ["mseenet evaluate --data DIR"]
    assert len(app.get("plotly_chart")) == 6


def test_another_confusion_matrix(folder, evaluation):
    app = draw(folder)
    app.segmented_control(key="confusion-split").set_value("Unseen blocks, embargo 100").run()
    assert not app.exception
    figures = evaluation["unseen"]["blocks-100"]
    captions = [element.value for element in app.caption]
    assert f"Unseen blocks, embargo 100, n = {figures['n']:,}." in captions
    alarms = figures["malignant"]["called_malignant"]
    count = round(alarms["proportion"] * alarms["n"])
    assert any(f"Benign called malignant: {count} of {alarms['n']}, " in text for text in captions)


def test_promises_stand_beside_what_they_give(folder, evaluation):
    app = draw(folder)
    (table,) = (t.value for t in app.table if "Tested on" in t.value)
    for i, (protocol, figures) in enumerate(evaluation["unseen"].items()):
        row = {name: column.iloc[i] for name, column in table.items()}
        assert row["Tested on"].lower() == words.protocol_title(protocol)
        given = figures["review_promise"]
        expected = f"promises 99 %, gives {percentage(given['proportion'])} ("
        assert row["Right above the threshold"].startswith(expected)
        errors = figures["flagged"]["errors"]
        assert row["Errors flagged"].endswith(f" of {errors['n']:,}")
        for name, kind in (
            ("Mark: malignant caught", "sensitivity"),
            ("Mark: benign below", "specificity"),
        ):
            record = figures["malignant"][kind]
            assert row[name].startswith(f"{percentage(record['proportion'])} (")
    captions = [element.value for element in app.caption]
    point = words.operating_point(OPERATING_POINT, evaluation["unseen"])
    assert any(point in text for text in captions)
    said = words.confidence_kept(evaluation["unseen"])
    assert any(said in element.value for element in app.markdown)


def test_ranges_of_confidence_that_are_too_sure_are_named(folder, evaluation):
    bins = hardest(evaluation)[1]["after_calibration"]["bins"]

    def mark(sure: bool):
        def edit(content):
            for figures in content["unseen"].values():
                for b in figures["after_calibration"]["bins"]:
                    b["too_sure"] = sure and b["confidence"] == bins[-1]["confidence"]

        return edit

    for sure in (True, False):
        change(folder, "evaluation.json", mark(sure))
        text = " ".join(element.value for element in draw(folder).markdown)
        assert ("**Too sure** it is" in text) == sure
        assert (f"{percentage(bins[-1]['confidence'])} on average" in text) == sure


def test_every_part_of_unseen_slides_is_listed(folder, evaluation):
    tables = [t.value for t in draw(folder).table if "Part" in t.value]
    for table, figures in zip(tables, evaluation["unseen"].values(), strict=True):
        assert list(table["n"]) == [f"{part['n']:,}" for part in figures["parts"]]
        assert list(table["Right"]) == [f"{part['right']:,}" for part in figures["parts"]]


@pytest.mark.parametrize("kept", ["series", "blocks-100"])
def test_one_protocol_alone_makes_a_page(folder, kept):
    def choose(content):
        content["unseen"] = {kept: content["unseen"][kept] | {"hardest": True}}

    change(folder, "evaluation.json", choose)
    app = draw(folder)
    assert len(app.get("plotly_chart")) == 7
    assert not app.code


def test_reports_in_markdown_go_below_the_headings_of_the_page(folder):
    (folder / "BASELINES.md").write_text(
        "# Baselines\n\n## Heads\n\n| a | b |\n| --- | --- |\n| 1 | $2 |\n"
    )
    app = draw(folder)
    (text,) = (m.value for e in app.expander for m in e.markdown if "Baselines" in m.value)
    assert text.startswith("### Baselines")
    assert "#### Heads" in text
    assert "| 1 | \\$2 |" in text


@pytest.mark.parametrize(
    ("missing", "commands"),
    [
        (["evaluation.json"], ["evaluate"]),
        (["audit.json"], ["audit"]),
        (list(REPORTS), ["evaluate", "audit"]),
    ],
)
def test_without_a_report_there_is_the_command_that_makes_it(folder, missing, commands):
    for name in missing:
        (folder / name).unlink()
    assert [c.value for c in draw(folder).code] == [f"mseenet {c} --data DIR" for c in commands]


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_report_counts_as_none(folder, content):
    (folder / "audit.json").write_text(content, encoding="latin-1")
    app = draw(folder)
    assert [code.value for code in app.code] == ["mseenet audit --data DIR"]
    assert not app.warning


def test_weights_that_were_not_cross_validated(folder):
    def forget(content):
        del content["unseen"], content["operating_point"]

    change(folder, "evaluation.json", forget)
    app = draw(folder)
    assert len(app.get("plotly_chart")) == 5
    assert all("mseenet crossvalidate" in code.value for code in app.code)
    assert not app.get("button_group")
    assert not [t for t in app.table if "Images" not in t.value]


@pytest.mark.parametrize(
    ("name", "charts", "command"), [("evaluation.json", 1, "evaluate"), ("audit.json", 6, "audit")]
)
def test_a_report_of_another_release_is_not_drawn(folder, name, charts, command):
    change(folder, name, lambda content: content.update(release="0" * 12))
    app = draw(folder)
    (warning,) = app.warning
    assert warning.value.startswith(f"{name}: of another release")
    assert len(app.get("plotly_chart")) == charts
    assert [code.value for code in app.code] == [f"mseenet {command} --data DIR"]


def test_calibrating_anew_makes_all_reports_those_of_another_release(folder):
    change(folder, CARD_NAME, lambda content: content["calibration"].update(value=2.5))
    app = draw(folder)
    (warning,) = app.warning
    assert "evaluation.json and audit.json" in warning.value
    assert not app.get("plotly_chart")
    assert not app.table
    assert not app.expander  # the reports in Markdown are of the old calibration too


def test_measuring_anew_leaves_the_release_as_it_is(folder):
    change(folder, CARD_NAME, lambda content: content.update(metrics={}, versions={}))
    assert not draw(folder).warning


def test_the_about_page():
    app = AppTest.from_function(about_page, default_timeout=60).run()
    assert not app.exception
    text = html(app) + " ".join(markdown.value for markdown in app.markdown)
    assert words.RESEARCH_USE in text
    for name in CLASS_NAMES:
        assert words.CLASS_TITLES[name] in text
    for source in ("10.34740/KAGGLE/DSV/2175623", "10.1002/int.22753", "Najjar"):
        assert source in text
    assert set(levels(app)) == {2, 3}
    assert levels(app)[0] == 2
