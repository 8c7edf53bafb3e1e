"""Simpler heads, and the families of the paper's Table I, on the same splits as MSEENet.

`protocol` says what a method is given and how it is measured, `classifiers` and `networks`
hold the methods, `entries` names them, `report` writes down what came out.
"""
