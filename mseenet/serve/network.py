"""The replicas: each holds the network once, and answers images of several requests together."""

import asyncio
import os
from pathlib import Path

from ray import serve

from mseenet.inference.card import WeightsError
from mseenet.inference.classifier import Classifier, Prediction

BATCH = 32
"""Images that go through the network at once, at most."""

WAIT = 0.01
"""Seconds that an image waits for others to go with."""


class Network:
    """The network in a process of its own; made by Ray Serve.

    Args:
        weights: Folder of the weights.
        release: That these must have.
        threads: That the network uses.

    Raises:
        WeightsError: The weights are unusable or of another release.
    """

    def __init__(self, weights: Path, release: str, threads: int):
        # Read when TensorFlow computes for the first time.
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        self._classifier = Classifier.load(weights)
        received = self._classifier.card.release
        if received != release:
            raise WeightsError(f"{weights}: expected release {release}; received {received}")

    async def ready(self) -> bool:
        """True: whoever answers has loaded the network."""
        return True

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def predict(self, images: list[bytes]) -> list[Prediction]:
        """Answers encoded images, with the network's output for rejected ones too."""
        return await asyncio.to_thread(
            self._classifier.predict, images, batch_size=BATCH, include_rejected=True
        )

    async def explain(self, image: bytes, class_name: str) -> Prediction:
        """Answers one image, with its heatmap for a class, or for the "predicted" one."""
        (prediction,) = await asyncio.to_thread(
            self._classifier.predict, [image], class_name, include_rejected=True
        )
        return prediction
