"""A service on this machine's loopback: the real interface in front of a network, without Ray."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import until

from mseenet.inference.classifier import Classifier, Prediction


class Watched:
    """A classifier that notes what its network is asked, and does not answer while it is held.

    Attributes:
        asked: For each request when it came, by `time.monotonic`, and the upper left pixel of its
            fields, uint8 (N, 3).
        free: Clear while it is held.
    """

    def __init__(self, classifier: Classifier):
        self._classifier = classifier
        self.asked: list[tuple[float, np.ndarray]] = []
        self.free = threading.Event()
        self.free.set()

    def __getattr__(self, name: str):
        return getattr(self._classifier, name)

    def outputs(self, fields: np.ndarray, *options):
        self.asked.append((time.monotonic(), fields[:, 0, 0].copy()))
        assert self.free.wait(900)  # of a busy machine
        return self._classifier.outputs(fields, *options)


class Handle:
    """Stands for Ray's handle of a replica: its methods run here."""

    def __init__(self, replica: object):
        self._replica = replica

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self._replica, name))


@contextmanager
def served(
    classifier: Classifier, token: str = "", queue: int = 512, port: int = 0
) -> Iterator[SimpleNamespace]:
    """Serves a classifier's network; gives the address, and the desk that answers.

    Args:
        classifier: Has the network.
        token: That requests need, if any.
        queue: Images that may wait at once.
        port: Where it listens; any free one by default.
    """
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from hashlib import sha256

    from mseenet.case.limits import Limits
    from mseenet.serve.api import Desk, Service, interface
    from mseenet.serve.network import Network

    replica = object.__new__(Network)  # whose own constructor would load another one
    replica._classifier = classifier

    async def predict(image: bytes) -> Prediction:  # Ray's batches need Ray
        (prediction,) = await asyncio.to_thread(classifier.predict, [image], include_rejected=True)
        return prediction

    replica.predict = predict
    tokens = (sha256(token.encode()).digest(),) if token else ()
    card = classifier.card
    title = card.profile and card.profile.title
    service = Service(card.sha256, card.release, Limits(), queue, tokens, 1, title)
    desk = Desk(service, Handle(replica))
    config = uvicorn.Config(interface(desk), port=port, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port, desk=desk)
    finally:
        server.should_exit = True
        thread.join(30)
