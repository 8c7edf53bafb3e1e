"""One file a subcommand of `mseenet`: its arguments, and the order of its steps.

Nothing imports a command but `mseenet.cli`.
"""
