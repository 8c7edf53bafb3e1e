"""`python -m mseenet.train`, for `mseenet train`."""

import sys

from mseenet.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
