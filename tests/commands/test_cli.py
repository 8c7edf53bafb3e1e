"""What all subcommands have in common."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from mseenet import cli, console
from mseenet.errors import UsageError

LIGHT = (
    "import sys; from mseenet.cli import main\n"
    "try: main(['%s', '--help'])\n"
    "except SystemExit as end: code = end.code\n"
    "assert not {'tensorflow', 'keras', 'streamlit', 'sklearn'} & set(sys.modules); sys.exit(code)"
)


def status(*argv: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        cli.main(list(argv))
    return end.value.code


@pytest.mark.parametrize("command", [*cli.COMMANDS, *cli.TOOLS])
def test_help_needs_no_tensorflow(command):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT % command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: mseenet {command}")


def test_importing_the_package_needs_no_tensorflow():
    code = "import sys, mseenet; mseenet.Classifier; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "module", ["mseenet", "mseenet.predict", "mseenet.train", "mseenet.evaluate"]
)
def test_every_way_in_leads_to_the_command(module):
    """Each is called wrongly, which ends before any work."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"(`{module.replace('.', ' ')} --help` says more)")


def test_wrong_usage_is_one_line(capsys):
    for argv in ([], ["nonsense"], ["predict"], ["app", "--port", "0"], ["app", "--port", "x"]):
        assert status(*argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


def test_version(capsys):
    from mseenet.version import version_text

    assert status("--version") == 0
    assert capsys.readouterr().out == f"mseenet {version_text()}\n"


@pytest.mark.parametrize("error", [UsageError("a\nb"), OSError(28, "No space left on device")])
def test_an_error_is_one_line_and_keeps_its_traceback_for_debugging(error, monkeypatch, capsys):
    def fail(argv):
        raise error

    monkeypatch.delenv(console.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr("mseenet.commands.predict.main", fail)
    assert status("predict", "x.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: " + str(error).replace("\n", " ")
    for argv in (["predict", "x.png", "--debug"], ["--debug", "predict", "x.png"]):
        with pytest.raises(type(error)):
            cli.main(argv)
    monkeypatch.setenv(console.DEBUG_VARIABLE, "1")
    with pytest.raises(type(error)):
        cli.main(["predict", "x.png"])


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(argv):
        raise KeyError("x")

    monkeypatch.setattr("mseenet.commands.predict.main", fail)
    with pytest.raises(KeyError):
        cli.main(["predict", "x.png"])


def test_an_interruption_is_one_word(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("mseenet.commands.predict.main", interrupt)
    assert status("predict", "x.png") == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error on Windows")
def test_a_reader_that_closes_the_pipe_ends_the_command_quietly():
    code = (
        "import sys; from mseenet import console\n"
        "def main():\n    for _ in range(100_000): print('line')\n    return 0\n"
        "console.run(main)"
    )
    command = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | {"CODE": code},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("line\n1\n", "")


def test_tools_are_commands_of_a_checkout_only(monkeypatch, capsys):
    assert status("benchmark", "--help") == 0
    monkeypatch.setattr(cli, "checkout", lambda: None)
    assert status("benchmark", "--help") == 2
    assert "invalid choice: 'benchmark'" in capsys.readouterr().err
