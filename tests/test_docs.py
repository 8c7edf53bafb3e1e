"""What the documentation names exists: links, files, commands, options, figures."""

import json
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from mseenet.case import words
from mseenet.case.export import CASE_HEADER
from mseenet.case.limits import VARIABLES, Limits
from mseenet.case.records import CSV_HEADER, record
from mseenet.cli import COMMANDS, TOOLS
from mseenet.inference.classifier import Prediction
from tools import figures

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
DOCUMENTS = [*WRITTEN, *sorted(ROOT.glob("weights/*.md"))]
CURRENT = [path for path in WRITTEN if path.name != "CHANGELOG.md"]
"""Those that speak of this state; the changelog also names what is gone."""

README_LINES = 150
CELL_WORDS = 30

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^[ ]*```.*?^[ ]*```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^[ ]*```\w*\n(.*?)^[ ]*```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_FILE = re.compile(
    r"(?:mseenet|tests|tools|docs|weights|\.ci|\.streamlit)/[\w./-]*|[A-Za-z][\w-]*\.toml"
)
_COMMAND = re.compile(r"(?:-m mseenet\.|(?<!from )\bmseenet )([a-z]+)\b([^\n|>#`]*)")
_TOP = r"^#{1,6} (.+)$"
_GENERATED = re.compile(r"^<!-- table: .*?^<!-- end of the table -->", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"[\"'](MSEENET_[A-Z_]+)[\"']")

NOT_IN_THE_REPOSITORY = (".streamlit/secrets.toml", "secrets.toml", "mseenet/secrets.toml")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_in(text: str) -> list[str]:
    """The content of code blocks and code spans."""
    return [block or span for block, span in _CODE.findall(text)]


def anchors_in(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(_TOP, _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, document: Path) -> list[str]:
    """Relative links of a document whose file or heading does not exist."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.is_relative_to(ROOT) or not target.exists():
            broken.append(link)
            continue
        there = target.read_text("utf-8") if target.suffix == ".md" else ""
        if anchor and anchor not in anchors_in(text if target == document else there):
            broken.append(link)
    return broken


def missing_files(text: str) -> list[str]:
    """Files and folders of the project that the code spans of a document name in vain."""
    named = [match for code in code_in(text) for match in _FILE.findall(code)]
    return [
        file
        for file in named
        if file not in NOT_IN_THE_REPOSITORY and not (ROOT / file.rstrip(".")).exists()
    ]


def wrong_commands(text: str) -> list[str]:
    """Uses of `mseenet` in code with a subcommand or an option that does not exist."""
    wrong = []
    for code in code_in(text):
        for command, rest in _COMMAND.findall(code):
            if command not in COMMANDS | TOOLS:
                wrong.append(command)
                continue
            own, _, _ = rest.partition(" -- ")
            known = options_of(command)
            wrong += [f"{command} {o}" for o in re.findall(r"--[a-z-]+", own) if o not in known]
    return wrong


def options_of(command: str) -> set[str]:
    """The long options of a subcommand, from its help."""
    if command not in _OPTIONS:
        package = "tools" if command in TOOLS else "mseenet.commands"
        module = import_module(f"{package}.{command}")
        with pytest.MonkeyPatch.context() as patch:
            printed: list[str] = []
            patch.setattr(
                "argparse.ArgumentParser._print_message", lambda _, m, *a: printed.append(m)
            )
            with pytest.raises(SystemExit):
                module.parse_arguments(["--help"])
        _OPTIONS[command] = set(re.findall(r"--[a-z-]+", "".join(printed)))
    return _OPTIONS[command]


_OPTIONS: dict[str, set[str]] = {}


def long_cells(text: str) -> list[str]:
    """Cells of tables that nobody reads; generated tables hold whole error messages."""
    rows = [line for line in _GENERATED.sub("", text).splitlines() if line.startswith("|")]
    return [cell for row in rows for cell in row.split("|") if len(cell.split()) > CELL_WORDS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_resolve(document):
    assert broken_links(document.read_text("utf-8"), document) == []


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_named_files_exist(document):
    assert missing_files(document.read_text("utf-8")) == []


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_commands_and_options_exist(document):
    assert wrong_commands(document.read_text("utf-8")) == []


def test_faults_are_found():
    document = ROOT / "docs" / "README.md"
    text = (
        "# One heading\n[a](no-such.md) [b](#one-heading) [c](#other) [d](https://x.org)\n"
        "`mseenet/model.py` `mseenet/config.py`\n"
        "```sh\n.venv/bin/mseenet analyse x\nmseenet predict x --anyway --format csv\n```\n"
        "`python -m mseenet.report x`\n"
    )
    assert broken_links(text, document) == ["no-such.md", "#other"]
    assert missing_files(text) == ["mseenet/model.py"]
    assert wrong_commands(text) == ["analyse", "predict --anyway", "report"]
    row = f"| a | {'word ' * 31}|\n"
    assert len(long_cells(f"{row}<!-- table: made -->\n{row}<!-- end of the table -->\n")) == 1


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("command", COMMANDS | TOOLS)
def test_every_command_is_in_the_reference(command):
    assert f"`mseenet {command}" in (ROOT / "docs/reference/commands.md").read_text("utf-8")


def test_every_document_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text("utf-8")
    listed = {(ROOT / "docs" / link).resolve() for link in _LINK.findall(index)}
    assert {p for p in WRITTEN if p.parent != ROOT} - listed == {ROOT / "docs/README.md"}


def test_every_room_is_in_the_tree():
    tree = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = {path.parent.name for path in ROOT.glob("mseenet/*/__init__.py")}
    assert {room for room in rooms if f"\n  {room}/ " not in tree} == set()


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.match(r"[\w-]+", dependency)[0] for dependency in project["dependencies"]}
    text = (ROOT / "docs/explanation/decisions.md").read_text("utf-8")
    assert {name for name in names if name not in text.partition("## Dependencies")[2]} == set()


def test_card_entries_are_in_the_reference():
    card = json.loads((ROOT / "weights/card.json").read_text("utf-8"))
    text = (ROOT / "docs/reference/card.md").read_text("utf-8")
    assert {entry for entry in card if f"`{entry}`" not in text} == set()


@pytest.mark.parametrize("document", figures.DOCUMENTS, ids=name_of)
def test_figures_are_those_of_the_report(document):
    """`python -m tools.figures` fills them in."""
    evaluation = json.loads((ROOT / "weights/evaluation.json").read_text("utf-8"))
    text = document.read_text("utf-8")
    assert text.count(figures.START) == 1
    assert figures.filled(text, evaluation) == text


def test_figures_of_every_protocol_are_filled_in():
    evaluation = json.loads((ROOT / "weights/evaluation.json").read_text("utf-8"))
    text = figures.filled(f"a\n{figures.START}\nstale text\n{figures.END}\nb", evaluation)
    assert "stale text" not in text
    for protocol, measured in evaluation["unseen"].items():
        low, high = (100 * end for end in measured["interval_95"]["accuracy"])
        title = words.protocol_title(protocol)
        row = re.search(rf"^\| {re.escape(title)} \|.*$", text, re.MULTILINE)[0]
        assert f"{100 * measured['accuracy']:.1f} % ({low:.1f}-{high:.1f})" in row


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_no_cell_of_a_table_is_a_paragraph(document):
    assert long_cells(document.read_text("utf-8")) == []


def test_every_setting_is_in_the_reference():
    reference = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text("utf-8"))
    settings = {f"{s}.{name}" for s in config if s != "theme" for name in config[s]}
    code = "".join(p.read_text("utf-8") for p in (*ROOT.glob("mseenet/**/*.py"), ROOT / "app.py"))
    variables = set(_VARIABLE.findall(code))
    assert len(variables) > 3
    assert {name for name in settings | variables if f"`{name}`" not in reference} == set()


def test_records_are_those_of_the_reference():
    reference = (ROOT / "docs/reference/records.md").read_text("utf-8")
    assert f"`{','.join(CSV_HEADER)}`" in reference
    own = CASE_HEADER[len(CSV_HEADER) :]
    assert {column for column in own if f"| `{column}` |" not in reference} == set()
    keys = record("a.png", Prediction("error"), weights="", release="")
    assert {key for key in keys if f"| `{key}` |" not in reference} == set()


def test_limits_are_those_of_the_reference():
    limits, reference = Limits(), (ROOT / "docs/reference/settings.md").read_text("utf-8")
    for name, (variable, unit) in VARIABLES.items():
        row = re.search(rf"^\| `{variable}` \|.*$", reference, re.MULTILINE)[0]
        assert row.endswith(f"| {getattr(limits, name) // unit} |")
