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
    parser.add_argument(
        "--port", type=console.whole_number(1, 65535), metavar="N", help="(default: 8501)"
    )
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
