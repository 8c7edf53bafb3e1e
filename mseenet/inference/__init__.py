"""The trained network: from checked pixels to a prediction.

Other rooms use `classifier` (`Classifier`, `Prediction`), `card` (what the weights are),
`heatmaps` (overlays) and, for training, `network`, `calibration` and `novelty`. TensorFlow is
imported where it is first needed.
"""
