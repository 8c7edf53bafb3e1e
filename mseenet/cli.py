"""The command `mseenet`: finds the subcommand and turns its errors into one line."""

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec

from mseenet import __version__, console

COMMANDS = {
    "predict": "name the class of images",
    "app": "serve the page",
    "train": "make the weights from the dataset",
    "crossvalidate": "measure the recipe on unseen slides and calibrate the weights",
    "evaluate": "measure the weights and write the reports",
    "audit": "look for shortcuts",
    "baselines": "compare with simpler heads and other families of methods",
}
"""Subcommands, each a module of `mseenet.commands`, and what they do."""

TOOLS = {"benchmark": "print what a prediction costs, as ratios"}
"""Subcommands for developers, each a module of `tools`, which only a checkout has."""


def main(argv: list[str] | None = None) -> None:
    """Runs a subcommand and ends the process with its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    commands = COMMANDS | (TOOLS if find_spec("tools.benchmark") else {})
    listed = "\n".join(f"  {name:<15}{does}" for name, does in commands.items())
    parser = argparse.ArgumentParser(
        prog="mseenet",
        description="Classes of acute lymphoblastic leukaemia from blood smear fields. For "
        "research use only.",
        epilog=f"commands:\n{listed}\n\n`mseenet COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mseenet {__version__}")
    parser.add_argument("command", choices=commands, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own")
    chosen = parser.parse_args(argv)
    package = "tools" if chosen.command in TOOLS else "mseenet.commands"
    command = import_module(f"{package}.{chosen.command}")
    debug = "--debug" in chosen.arguments or os.environ.get(console.DEBUG_VARIABLE) == "1"
    console.run(lambda: command.main(chosen.arguments), debug)
