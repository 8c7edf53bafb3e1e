"""`python -m mseenet`, for `mseenet`."""

from mseenet.cli import main

main()
