"""`python -m mseenet`, for `mseenet`."""

from mseenet.cli import main

if __name__ == "__main__":
    main()
