"""The replicas: each holds the network once, and answers images of several requests together."""

import asyncio
import os
from pathlib import Path

import numpy as np
from ray import serve

from mseenet.inference.card import WeightsError
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.inference.profile import SiteProfile
from mseenet.inference.remote import fields_of, packed, packed_array

BATCH = 32
"""Images that go through the network at once, at most."""

WAIT = 0.01
"""Seconds that an image waits for others to go with."""


class Network:
    """The network in a process of its own; made by Ray Serve.

    Args:
        weights: Folder of the weights.
        release: That these must have, with the profile.
        threads: That the network uses.
        profile: Of the site whose fields are answered; None for none.

    Raises:
        WeightsError: The weights are unusable or of another release.
    """

    def __init__(
        self, weights: Path, release: str, threads: int, profile: SiteProfile | None = None
    ):
        # Read when TensorFlow computes for the first time.
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        self._classifier = Classifier.load(weights, profile)
        received = self._classifier.card.release
        if received != release:
            raise WeightsError(f"{weights}: expected release {release}; received {received}")

    async def about(self) -> dict[str, str | bool]:
        """Where the network runs, and whether it tells the size of cells; it is loaded then."""
        classifier = self._classifier
        return {"device": classifier.device, "tells_size": classifier.tells_size}

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

    async def outputs(self, fields: bytes, heatmaps: str | None, filled: bool) -> bytes:
        """What the network says of fields; see `mseenet.inference.remote` for both bodies.

        They are a batch of their own: with others in it the bits would depend on those.
        """

        def made() -> bytes:
            return packed(self._classifier.outputs(fields_of(fields), heatmaps, filled))

        return await asyncio.to_thread(made)

    async def heatmap(self, field: bytes, class_name: str, method: str) -> bytes:
        """The heatmap of one field by a method, as `Classifier.heatmap`, little-endian float32."""

        def made() -> bytes:
            (pixels,) = fields_of(field)
            return packed_array(self._classifier.heatmap(pixels, class_name, method))

        return await asyncio.to_thread(made)

    async def features(self, fields: bytes) -> bytes:
        """What the network makes of fields before calibration and gate, as `Observed`."""

        def made() -> bytes:
            observed = self._classifier.observe(fields_of(fields))
            return packed_array(np.concatenate(observed[:3], axis=1))

        return await asyncio.to_thread(made)

    async def layer(self) -> bytes:
        """The last layer, its bias as the last row, little-endian float32 (F + 1, C)."""
        return packed_array(np.vstack(self._classifier.last_layer()))
