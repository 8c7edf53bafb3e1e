"""`python -m mseenet.predict`, for `mseenet predict`."""

import sys

from mseenet.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
