"""Simpler heads, and other families of methods, on the same splits as MSEENet.

`python -m mseenet.baselines` measures them; `__main__` says how.
"""
