"""Pages that are closed, and more of them than a server takes, in a real browser on a real server."""

import re
import time

import numpy as np
import pytest
from conftest import encode, until
from loopback import Watched, served
from playwright.sync_api import expect
from test_browser import analysed

from tools.browser import CHROMIUM, running_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

PROMPT = 3.0
"""Seconds in which the network is asked for nothing more of a page that was closed."""


@pytest.fixture(scope="module")
def network(classifier) -> Watched:
    return Watched(classifier)


@pytest.fixture(scope="module")
def narrow(network, ungated_weights):
    """Address of a page where one case is analysed while another waits, by a service."""
    with served(network) as service:
        limits = {"MSEENET_MOST_ANALYSES": "1", "MSEENET_MOST_WAITING": "1"}
        environment = {"MSEENET_SERVER": service.url, **limits}
        with running_app(ungated_weights, environment=environment) as url:
            yield url


def add(page, field: np.ndarray, mark: int, count: int) -> None:
    """Hands a page so many fields, all different, whose upper left pixel has that mark."""
    files = []
    for i in range(count):
        pixels = np.roll(field, i % 200, axis=i // 200)
        pixels[0, 0] = mark
        content = encode(pixels, compress_level=1)
        files.append({"name": f"{i}.png", "mimeType": "image/png", "buffer": content})
    page.locator("input[type=file]").first.set_input_files(files)


def asked_for(network: Watched, mark: int) -> list[float]:
    """When the network was asked for fields with that mark."""
    return [when for when, marks in network.asked if (marks == mark).all(axis=1).any()]


def test_the_network_is_asked_for_nothing_of_a_page_that_was_closed(
    opened, narrow, network, fields
):
    closed, next_one = opened(address=narrow), opened(address=narrow)
    add(closed, fields[0], 11, 300)
    closed.locator(".mseenet-tiles").wait_for()  # the first results
    network.free.clear()  # else all may be done before the other page has its fields
    add(next_one, fields[1], 22, 2)
    next_one.get_by_text("1 in line before this case").wait_for()
    network.free.set()
    before = time.monotonic()
    closed.close()
    analysed(next_one, 2)  # its turn comes when nothing of the other is left
    assert 0 < len(asked_for(network, 11)) < 300 / 12
    assert asked_for(network, 11)[-1] - before < PROMPT
    assert asked_for(network, 11)[-1] < asked_for(network, 22)[0]


def test_who_comes_to_a_full_line_loses_nothing_and_goes_on_by_itself(
    opened, narrow, network, fields
):
    runs, waits, busy = (opened(address=narrow) for _ in range(3))
    network.free.clear()
    add(runs, fields[0], 33, 1)
    until(lambda: asked_for(network, 33))
    add(waits, fields[1], 44, 1)
    waits.get_by_text("1 in line before this case").wait_for()
    add(busy, fields[2], 55, 3)
    told = busy.get_by_role("alert").filter(has_text="This server is busy: 2 cases")
    told.wait_for()
    assert re.search(r"Try again in (about \d+ s|a moment);", told.inner_text())
    busy.get_by_role("button", name="Try again now").wait_for()
    network.free.set()
    for page, count in ((runs, 1), (waits, 1), (busy, 3)):
        analysed(page, count)
    expect(told).to_have_count(0)
