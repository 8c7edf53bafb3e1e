"""Serves the network over HTTP, for programs.

    mseenet serve [--port N] [--tokens FILE]

One image or a ZIP archive of images goes in, the records of `mseenet predict --format json` come
out; heatmaps and outlines of nucleated cells on request. /v1/openapi.json describes the interface.
It listens on this machine only unless --host names another address, for which --tokens is needed.
For research use only.
"""

import argparse
from pathlib import Path

from mseenet import console

EXTRA = "serve"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("serve", __doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=console.whole_number(1, 65535),
        default=8000,
        metavar="N",
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="bearer tokens, one a line, of which a request has to carry one",
    )
    parser.add_argument(
        "--replicas",
        type=console.whole_number(1),
        default=1,
        metavar="N",
        help="networks side by side (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=console.whole_number(1),
        default=1,
        metavar="N",
        help="processors for each (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=console.whole_number(1),
        default=512,
        metavar="N",
        help="images that may wait at once (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of weights and card (default: weights/)"
    )
    console.add_profile_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.require("ray", EXTRA)
    console.require("fastapi", EXTRA)
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.inference.profile import chosen_profile
    from mseenet.serve.server import Server, serve_forever

    serve_forever(
        Server(
            (arguments.weights or DEFAULT_WEIGHTS).absolute(),
            arguments.host,
            arguments.port,
            arguments.replicas,
            arguments.threads,
            arguments.queue,
            arguments.tokens,
            chosen_profile(arguments.profile),
        )
    )
    return 0
