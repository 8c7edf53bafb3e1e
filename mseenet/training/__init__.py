"""From the dataset to published weights.

Other rooms use `dataset`, `splits`, `robust` and `paper` (the recipes), `loop`, `checkpoint`,
`provenance` and `run`, which goes the whole way.
"""
