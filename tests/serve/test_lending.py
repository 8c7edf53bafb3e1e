"""The network lent over HTTP: the answers of one's own, to the bit, and who does not get any."""

import copy
import http.client
import json
from dataclasses import fields as fields_of_class

import numpy as np
import pytest
from conftest import encode, unchanged_profile
from loopback import served

from mseenet import cli
from mseenet.config import CLASS_NAMES
from mseenet.inference import remote
from mseenet.inference.card import read_card
from mseenet.inference.classifier import ROWS, Prediction
from mseenet.inference.remote import RemoteClassifier, ServerError, chosen_server
from mseenet.inference.scheduler import Scheduler

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def service(gated_classifier):
    with served(gated_classifier, TOKEN) as service:
        yield service


@pytest.fixture(scope="module")
def lent(service) -> RemoteClassifier:
    return connected(service.url)


@pytest.fixture(scope="module")
def files(fields, foreign) -> list[bytes]:
    return [*map(encode, fields), b"no image", encode(foreign), encode(fields[0][:150])]


def connected(url: str, token: str = TOKEN, **options) -> RemoteClassifier:
    server = chosen_server({"MSEENET_SERVER": url, "MSEENET_SERVER_TOKEN": token})
    return RemoteClassifier.connect(server, **options)


def same_bits(one: Prediction, other: Prediction) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields_of_class(Prediction)]
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b
        for a, b in pairs
    )


@pytest.mark.parametrize(
    ("heatmaps", "include_rejected", "filled"),
    [(None, False, False), ("predicted", True, True), ("Pro-B", True, False)],
)
def test_answers_have_the_bits_of_a_network_of_ones_own(
    lent, gated_classifier, files, heatmaps, include_rejected, filled
):
    ways = (heatmaps, 5, include_rejected, filled)
    answers = lent.predict(files, *ways)
    expected = gated_classifier.predict(files, *ways)
    assert {p.status for p in expected} >= {"error", "rejected"}
    assert all(map(same_bits, answers, expected))


def test_a_case_of_the_page_has_the_bits_of_a_network_of_ones_own(lent, gated_classifier, files):
    found: dict[int, Prediction] = {}
    assert Scheduler(lent).submit("a", enumerate(files), found.__setitem__).wait(120)
    expected = gated_classifier.predict(files, "predicted", include_rejected=True, filled=True)
    assert all(same_bits(found[i], prediction) for i, prediction in enumerate(expected))


def test_more_fields_than_a_request_holds_go_in_several(
    lent, gated_classifier, fields, monkeypatch
):
    monkeypatch.setattr(remote, "MOST_FIELDS", ROWS)
    batch = np.stack([fields[i % 4] for i in range(ROWS + 1)])
    expected = [gated_classifier.outputs(part) for part in (batch[:ROWS], batch[ROWS:])]
    for part, *whole in zip(lent.outputs(batch)[:3], *(e[:3] for e in expected), strict=True):
        assert np.array_equal(part, np.concatenate(whole))


def test_what_site_profiles_are_made_of_is_the_same(lent, gated_classifier, fields):
    found: list = []
    pixels = np.stack(fields)
    assert Scheduler(lent).observe("a", pixels, found.append).wait(120)
    for one, other in zip(*found, gated_classifier.observe(pixels), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype == np.float32
    for one, other in zip(lent.last_layer(), gated_classifier.last_layer(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("method", ["Grad-CAM", "Score-CAM"])
def test_heatmaps_of_other_classes_and_methods(
    lent, gated_classifier, field_png, method, monkeypatch
):
    random = np.random.default_rng(0).random((224, 224), np.float32)

    def heatmap(pixels, class_name, method) -> np.ndarray:  # the real ones take long to compile
        return random * pixels.mean(2, np.float32) if method == "Score-CAM" else random

    monkeypatch.setattr(gated_classifier._cam, "heatmap", heatmap)
    found, expected = (c.heatmap(field_png, "Pre-B", method) for c in (lent, gated_classifier))
    assert found.dtype == expected.dtype == np.float32
    assert np.array_equal(found, expected)
    assert expected.any()


def test_predict_prints_and_draws_the_same(
    service, gated_classifier, files, tmp_path, monkeypatch, capsys
):
    for i, content in enumerate(files):
        (tmp_path / f"{i}.png").write_bytes(content)

    def called(name: str) -> tuple[str, dict[str, bytes]]:
        maps = tmp_path / name
        options = ("--format", "json", "--include-rejected", "--heatmaps", str(maps))
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", str(tmp_path), *options])
        assert end.value.code == 1  # one of the files is no image
        out = capsys.readouterr().out
        return out, {path.name: path.read_bytes() for path in maps.iterdir()}

    load = "mseenet.inference.classifier.Classifier.load"
    monkeypatch.setattr(load, lambda *_: gated_classifier)
    here = called("here")
    for path in (tmp_path / "here").iterdir():
        path.unlink()
    (tmp_path / "here").rmdir()
    monkeypatch.delattr(load)
    monkeypatch.setenv("MSEENET_SERVER", service.url)
    monkeypatch.setenv("MSEENET_SERVER_TOKEN", TOKEN)
    assert called("there") == here


def test_verify_reports_the_same(service, gated_classifier, fields, tmp_path, monkeypatch):
    for i, field in enumerate(fields):
        folder = tmp_path / "data" / CLASS_NAMES[i % 4] / f"slide {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(encode(field))

    def called(name: str) -> dict:
        with pytest.raises(SystemExit) as end:
            cli.main(["verify", "--data", str(tmp_path / "data"), "--output", str(tmp_path / name)])
        assert end.value.code == 0
        report = json.loads((tmp_path / name / "verification.json").read_text(encoding="utf-8"))
        del report["made"]
        return report

    load = "mseenet.inference.classifier.Classifier.load"
    monkeypatch.setattr(load, lambda *_: gated_classifier)
    here = called("here")
    monkeypatch.delattr(load)
    monkeypatch.setenv("MSEENET_SERVER", service.url)
    monkeypatch.setenv("MSEENET_SERVER_TOKEN", TOKEN)
    assert called("there") == here


def test_a_network_is_lent_to_those_who_may_and_mean_it(service, ungated_weights, monkeypatch):
    with pytest.raises(ServerError, match="expected a token that the service knows"):
        connected(service.url, "wrong" * 8)
    with pytest.raises(ServerError, match="expected a service of release"):
        connected(service.url, weights=ungated_weights)
    monkeypatch.setattr(remote, "__version__", "0.0.0")
    with pytest.raises(ServerError, match=r"expected a service of version 0\.0\.0, as here"):
        connected(service.url)


def test_a_network_that_is_replaced_meanwhile_answers_no_more(
    gated_classifier, ungated_weights, field_png
):
    other = copy.copy(gated_classifier)
    other.card = read_card(ungated_weights)
    with served(other) as before:
        lent = connected(before.url, weights=ungated_weights)
    with (
        served(gated_classifier, port=before.port),
        pytest.raises(ServerError, match="the service has another network now"),
    ):
        lent.predict([field_png])


def test_a_service_with_a_site_profile_names_it_and_lends_nothing(gated_classifier, field_png):
    other = copy.copy(gated_classifier)
    profile = unchanged_profile(gated_classifier.card)
    other.card = profile.applied_to(gated_classifier.card)
    with served(other) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        connection.request("POST", "/v1/predictions?name=a.png", field_png)
        line = json.loads(connection.getresponse().read())
        connection.close()
        with pytest.raises(ServerError, match="expected a service of release"):
            connected(service.url)
    assert (line["profile"], line["release"]) == (profile.title, other.card.release)


@pytest.mark.parametrize(
    ("path", "size", "said"),
    [
        ("outputs?release={}", 1000, "received 1,000 bytes"),
        ("outputs?release={}", 33 * 150528, "expected at most 4,816,896 bytes"),
        ("outputs?release={}&heatmaps=Other", 150528, "heatmaps"),
        ("outputs?release=", 150528, "release"),
        ("heatmap?release={}&class=Pro-B", 2 * 150528, "expected at most 150,528 bytes"),
        ("heatmap?release={}&class=Pro-B&method=Other", 150528, "method"),
    ],
)
def test_bodies_and_questions_that_are_none(service, path, size, said):
    too_large = "at most" in said
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.putrequest("POST", f"/v1/network/{path.format(service.desk.service.release)}")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", str(size))
    # What is too large is refused for the size that it announces, before it is read.
    connection.endheaders(None if too_large else bytes(size))
    answer = connection.getresponse()
    assert answer.status == (413 if too_large else 422)
    assert said in json.loads(answer.read())["detail"]
    connection.close()


def test_fields_that_are_lent_the_network_wait_in_the_line_of_all(
    gated_classifier, fields, monkeypatch
):
    pauses: list[float] = []
    with served(gated_classifier, queue=1) as service:
        lent = connected(service.url, "")
        service.desk._count(1)  # another program's, which is done after the first pause

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            assert "the service is busy" in lent.trouble
            service.desk._count(-1)

        monkeypatch.setattr(remote.time, "sleep", sleep)
        outputs = lent.outputs(np.stack(fields[:1]))
    assert pauses == [1.0]  # as Retry-After said
    assert np.isfinite(outputs.probabilities).all()
    assert lent.trouble == ""
