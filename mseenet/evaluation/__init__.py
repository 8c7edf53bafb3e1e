"""How good the weights are, in figures and reports.

`known` measures the parts of the weights' own split, `crossvalidation` and `out_of_fold` networks on
slides that were left out, `unseen` what follows from them, `audit` looks for shortcuts,
`baselines` compares with other methods; `report` and `model_card` write it down as Markdown.
"""
