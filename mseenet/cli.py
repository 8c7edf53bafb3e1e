"""The command `mseenet`: finds the subcommand and turns its errors into one line."""

import argparse
import os
import sys
from importlib import import_module

from mseenet import console
from mseenet.resources import checkout
from mseenet.supported import unsupported
from mseenet.version import version_text

COMMANDS = {
    "predict": "name the class of images",
    "archive": "name the class of images by the million",
    "app": "serve the page",
    "serve": "serve the network to programs, over HTTP",
    "train": "make the weights from the dataset",
    "crossvalidate": "measure the recipe on unseen slides and calibrate the weights",
    "verify": "say whether the network holds in a laboratory, by its own labelled fields",
    "evaluate": "measure the weights and write the reports",
    "audit": "look for shortcuts",
    "baselines": "compare with simpler heads and other families of methods",
}
"""Subcommands, each a module of `mseenet.commands`, and what they do."""

TOOLS = {"benchmark": "print what a prediction costs, as ratios"}
"""Subcommands for developers, each a module of `tools`, which only a checkout has."""


def main(argv: list[str] | None = None) -> None:
    """Runs a subcommand and ends the process with its exit status."""
    root = checkout()
    commands = COMMANDS | (TOOLS if root else {})
    listed = "\n".join(f"  {name:<15}{does}" for name, does in commands.items())
    parser = console.Parser(
        prog="mseenet",
        description="Classes of acute lymphoblastic leukaemia from blood smear fields. For "
        "research use only.",
        epilog=f"commands:\n{listed}\n\n`mseenet COMMAND --help` says more.",
    )
    parser.add_argument("--version", action=_PrintVersion)
    parser.add_argument("--debug", action="store_true", help=console.DEBUG_HELP)
    parser.add_argument(
        "command", nargs="?", choices=commands, metavar="COMMAND", help="one of those below"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own")
    chosen = parser.parse_args(argv)
    if chosen.command is None:
        parser.error(f"expected a COMMAND, one of {', '.join(commands)}")
    debug = (
        chosen.debug
        or "--debug" in chosen.arguments
        or os.environ.get(console.DEBUG_VARIABLE) == "1"
    )
    if reason := unsupported():
        console.say(f"error: {reason}")
        sys.exit(2)
    if chosen.command in TOOLS:
        sys.path.insert(0, str(root))
    package = "tools" if chosen.command in TOOLS else "mseenet.commands"
    console.run(lambda: import_module(f"{package}.{chosen.command}").main(chosen.arguments), debug)


class _PrintVersion(argparse.Action):
    """`--version`, which asks git for the commit only when it is given."""

    def __init__(self, option_strings, dest):
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version"
        )

    def __call__(self, parser, *_):
        print(f"mseenet {version_text()}")
        parser.exit()
