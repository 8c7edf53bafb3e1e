"""Simpler heads, and other families of methods, on the same splits as MSEENet.

`mseenet baselines` measures them; `__main__` says how.
"""
