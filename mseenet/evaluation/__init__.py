"""How good the weights are, in figures and reports.

`known` measures the parts of the weights' own split, `crossvalidation` and `out_of_fold` networks on
slides that were left out, `unseen` what follows from them, `audit` looks for shortcuts,
`baselines` compares; `report`, `model_card` and `figures` write it down.
"""
