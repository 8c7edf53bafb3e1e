"""What is installed: dependencies, locks, version, supported platforms, and the built package."""

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

from mseenet import __version__, cli, resources, supported, version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSIDE_STREAMLIT = {"starlette"}
"""Reached for where Streamlit brings it; the page does without where it does not."""

LOCKS = ("requirements.lock", "requirements-dev.lock", "deploy/requirements.lock")


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_workers_know_the_groups_of_tests(request):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("the tests were not asked for in groups")
    assert request.node.nodeid.endswith("@test_package.py")


def test_names_of_tests_hold_no_content(request):
    assert [item.nodeid for item in request.session.items if len(item.nodeid) > 250] == []


# Dependencies


def locked(name: str) -> dict[str, str]:
    """Exact versions in a lock, by package."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_requirements_are_those_of_the_package():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted == PROJECT["dependencies"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_versions_that_fit_each_with_its_hashes(name):
    versions = locked(name)
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    if name == "requirements-dev.lock":
        groups = PROJECT["optional-dependencies"].values()
        wanted += [Requirement(text) for group in groups for text in group]
    for requirement in wanted:
        if requirement.name != "mseenet":
            assert requirement.specifier.contains(versions[requirement.name.lower()]), requirement
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(versions)  # no range, no address, no package twice
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--(extra-)?index-url|--find-links|--trusted-host)", text, re.M)


def test_every_library_that_is_imported_is_declared():
    """A library that comes only with another one may stay away with the other's next version."""
    everywhere = {Requirement(text).name for text in PROJECT["dependencies"]}
    extras = {
        extra: {Requirement(text).name for text in PROJECT["optional-dependencies"][extra]}
        for extra in ("archive", "serve", "slides", "train")
    }
    of_module = packages_distributions()
    for path in (ROOT / "mseenet").rglob("*.py"):
        declared = everywhere
        if path.parent.name in ("training", "evaluation", "baselines", "commands"):
            declared = everywhere | extras["train"]
        elif path.parent.name in ("archive", "serve"):
            declared = everywhere | extras[path.parent.name]
        elif path.name == "scans.py":
            declared = everywhere | extras["slides"]
        elif path.name == "cluster.py":
            declared = everywhere | (extras["archive"] & extras["serve"])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for top in {module.split(".")[0] for module in modules}:
                if top not in sys.stdlib_module_names and top not in {"mseenet", *INSIDE_STREAMLIT}:
                    names = {name.lower().replace("_", "-") for name in of_module.get(top, [top])}
                    assert names & declared, f"{path.relative_to(ROOT)} imports {top}"


def test_what_is_developed_with_is_what_is_served():
    development = locked("requirements-dev.lock")
    for name, exact in locked("requirements.lock").items():
        assert development[name] == exact, name


# Version


def test_the_changelog_begins_with_the_version():
    text = (ROOT / "docs" / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+) \((.+)\)$", text, re.MULTILINE)
    assert Version(__version__).base_version == first[1]
    assert Version(__version__).is_devrelease == (first[2] == "unreleased")


def test_the_version_names_the_commit_of_a_checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    commit = version.commit_of(tmp_path)
    assert re.fullmatch(r"g[0-9a-f]{7,}", commit)
    (tmp_path / "file").write_text("2")
    assert version.commit_of(tmp_path) == f"{commit}.modified"


def test_a_folder_inside_another_checkout_is_not_of_its_commit(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "site-packages").mkdir()
    assert version.commit_of(tmp_path / "site-packages") == ""


def test_a_version_without_git_or_with_a_broken_repository(tmp_path, monkeypatch):
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert version.commit_of(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert version.commit_of(ROOT) == ""


# Platforms


@pytest.mark.parametrize(
    ("system", "machine", "python", "fits"),
    [
        ("Linux", "x86_64", (3, 11), True),
        ("Linux", "aarch64", (3, 12), True),
        ("Darwin", "arm64", (3, 13), True),
        ("Windows", "AMD64", (3, 13), True),
        ("Darwin", "x86_64", (3, 12), False),
        ("Windows", "ARM64", (3, 12), False),
        ("Linux", "riscv64", (3, 12), False),
        ("Linux", "x86_64", (3, 14), False),
        ("Linux", "x86_64", (3, 10), False),
    ],
)
def test_where_it_runs(system, machine, python, fits, monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    reason = supported.unsupported()
    assert bool(reason) is not fits
    if not fits:
        assert f"this is Python 3.{python[1]} on {system} {machine}." in reason
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", "x.png"])
        assert end.value.code == 2
        assert capsys.readouterr().err == f"error: {reason}\n"


def test_the_supported_versions_are_those_of_the_metadata():
    oldest, newest = (f"{major}.{minor}" for major, minor in (supported.OLDEST, supported.NEWEST))
    limit = f"{supported.NEWEST[0]}.{supported.NEWEST[1] + 1}"
    assert PROJECT["requires-python"] == f">={oldest},<{limit}"
    named = [text.split(" :: ")[-1] for text in PROJECT["classifiers"] if ":: 3." in text]
    assert (named[0], named[-1]) == (oldest, newest)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_refuses_a_platform_in_one_sentence(tmp_path):
    fake = tmp_path / "python"
    code = (
        "import platform, runpy, sys; platform.machine = lambda: 'riscv64'; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    fake.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "mseenet").mkdir()
    shutil.copy(supported.__file__, tmp_path / "mseenet")
    for file in ("requirements.lock", "requirements.txt"):
        (tmp_path / file).touch()
    for python, said in (
        (fake, "MSEENet needs 64-bit Python"),
        ("/no/python", "found no /no/python"),
    ):
        done = subprocess.run(
            ["make", "app", f"PYTHON={python}"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert done.stderr.splitlines()[0].startswith(f"error: {said}")
        assert not (tmp_path / ".venv").exists()


# The built package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a source archive, as for somebody who has no repository."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("built")

    def build(kind: str, source: Path) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
        subprocess.run(command, cwd=source, check=True, capture_output=True)
        (built,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
        return built

    with tarfile.open(build("sdist", ROOT)) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", folder / f"mseenet-{__version__}")


@pytest.mark.slow
def test_a_wheel_carries_the_release_and_the_page(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    card = json.loads((ROOT / "weights" / "card.json").read_text(encoding="utf-8"))
    for name in (card["weights"]["file"], card["novelty"]["file"], "card.json", "evaluation.json"):
        assert f"mseenet/weights/{name}" in names
    page = ("app.py", ".streamlit/config.toml")
    assert {f"mseenet/page/{name}" for name in page} <= names
    in_place = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mseenet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_place <= names
    strangers = {n for n in names if n.startswith(("tests/", "tools/", "docs/", "mseenet/tools/"))}
    assert not strangers
    assert not [name for name in names if name.endswith((".jpg", ".svg", "secrets.toml"))]
    assert sum(name.endswith(".h5") for name in names) == 1


@pytest.mark.slow
def test_an_installed_package_works_without_a_checkout(wheel, tmp_path, field_png):
    """Unpacked, which is what pip does with it, beside the libraries of this environment."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").write_bytes(field_png)

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "mseenet", *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert json.loads(run("predict", "x.png", "--format", "json"))["file"] == "x.png"
    assert run("--version") == f"mseenet {version.version_text()}\n"
    assert "benchmark" not in run("--help")
    assert [path.name for path in elsewhere.iterdir()] == ["x.png"]
    code = "from mseenet.resources import page_script; print(page_script())"
    script = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(script).read_bytes() == (ROOT / "app.py").read_bytes()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("train", "--out"),
        ("crossvalidate", "--weights"),
        ("audit", "--weights"),
        ("evaluate", "--out"),
        ("baselines", "--out"),
    ],
)
def test_installed_weights_are_not_written_to(command, option, monkeypatch, tmp_path, capsys):
    """Beside an installed package there is no checkout; commands ask where to write."""
    assert resources.weights_to_write(option) == ROOT / "weights"
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "site-packages" / "mseenet")
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--data", str(tmp_path)])
    assert end.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: expected {option} DIR: the weights that were installed")
