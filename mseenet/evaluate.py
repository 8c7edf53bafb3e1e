"""`python -m mseenet.evaluate`, for `mseenet evaluate`."""

import sys

from mseenet.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
