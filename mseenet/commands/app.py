"""Serves the page on this machine.

    mseenet app [--port N] [-- STREAMLIT OPTIONS]

Opens nothing to other machines: docs/how-to/serve-others.md says how that is done.
"""

import argparse
import sys

from mseenet import console
from mseenet.resources import page_script


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("app", __doc__)
    parser.add_argument("--port", type=_port, metavar="N", help="(default: 8501)")
    parser.add_argument(
        "options", nargs="*", metavar="OPTION", help="behind --: options of `streamlit run`"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    port = [] if arguments.port is None else ["--server.port", str(arguments.port)]

    from streamlit.web.cli import main as streamlit

    # Streamlit reads `.streamlit/config.toml` beside the script, wherever it is called from.
    sys.argv = ["streamlit", "run", str(page_script()), *port, *arguments.options]
    return streamlit()


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535; received {text}")
    return number
