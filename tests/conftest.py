"""Fixtures shared by the tests; none of them needs the dataset or a network."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # several share the processors
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

FEW_LOOKS = {"MOST": 2, "ROUNDS": 1, "SIZES": (1.0,)}
"""Of `mseenet.laboratory.alignment`, where a test asks how a profile is made, not how good it is."""


def hear_signals() -> None:
    """Lets the commands that tests start, and end by signals, hear them.

    What is ignored here (SIGINT in the background of a script, SIGHUP below `nohup`) would be
    ignored there, too; a handler is not passed on.
    """
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


hear_signals()


def until(holds: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Waits until something holds; fails where that takes too long, or a process has ended."""
    deadline = time.monotonic() + 900  # of a busy machine
    while not holds():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def run_async(coroutine: Coroutine):
    """What a coroutine returns, run in a thread: the browser's tests leave a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()  # noqa: TID251


def encode_pil(image: Image.Image, image_format: str, **options) -> bytes:
    """Encodes a PIL image, of any mode that the format knows, in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def encode(rgb: np.ndarray, image_format: str = "PNG", **options) -> bytes:
    """Encodes pixels in memory."""
    return encode_pil(Image.fromarray(rgb), image_format, **options)


def unchanged_profile(card):
    """A site profile for the weights of a card that changes no answer but a few near thresholds."""
    from mseenet.inference.normalisation import Normalisation
    from mseenet.inference.profile import LOOSEST, SiteProfile

    change = Normalisation(
        np.zeros((5, 3), np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 1.0
    )
    return SiteProfile(
        "Haus", card.release, change, card.calibration, card.novelty, 0.9, None, {}, LOOSEST
    )


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the weights file in a folder, by their path in it."""
    import h5py

    from mseenet.inference.card import read_card

    arrays = {}
    with h5py.File(read_card(folder).weights_path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()]} if hasattr(item, "dtype") else {})
        )
    return arrays


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file may become larger meanwhile, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, kept[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, handler)


def ancestors(process: int) -> list[int]:
    """A process and those that started it, as far as /proc tells."""
    found = []
    while process > 1:
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(process)
    return found


def stitched(across: int, down: int, width: int = 512) -> np.ndarray:
    """An area of rendered fields without gaps, each `width` x 3/4 `width` pixels.

    Six fields come again and again, mirrored, as rendering takes time.
    """
    from mseenet.imaging.synthetic import STYLES, render_field

    size = (width, width * 3 // 4)
    fields = [
        np.asarray(Image.fromarray(render_field(STYLES[2], seed)).resize(size)) for seed in range(6)
    ]
    turned = [field[::down, ::right] for down in (1, -1) for right in (1, -1) for field in fields]
    rows = [
        np.hstack([turned[(row * across + column) % 24] for column in range(across)])
        for row in range(down)
    ]
    return np.vstack(rows)


@pytest.fixture(scope="session")
def area() -> np.ndarray:
    """A stitched area of 4 x 4 rendered fields of 512 x 384 pixels, uint8 (1536, 2048, 3)."""
    return stitched(4, 4)


GROUPS = {"smoke_weights": "smoke", "server": "browser"}
"""Costly fixtures, and the group of tests that share one: a worker runs a group as a whole."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets pytest-xdist make each costly fixture in one worker only; else a file is a group.

    The costly groups come first, so that no worker is left with one of them at the end.
    """
    order = {group: place for place, group in enumerate(GROUPS.values())}
    places = {}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        group = next((GROUPS[name] for name in GROUPS if name in fixtures), item.path.name)
        item.add_marker(pytest.mark.xdist_group(group))
        places[item] = order.get(group, len(order))
    items.sort(key=places.__getitem__)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator:
    """Tells in the report of a failed browser test what its pages showed then."""
    report = yield
    browser = getattr(item, "funcargs", {}).get("browser")
    if report.failed and report.when == "call" and browser is not None:
        for page in (page for context in browser.contexts for page in context.pages):
            report.sections.append((f"page {page.url}", shown_on(page)))
    return report


def shown_on(page) -> str:
    """The text of a page, and whether its script runs and its server is there."""
    from playwright.sync_api import Error

    try:
        app = page.locator("[data-testid=stApp]")
        state = app.evaluate("app => JSON.stringify({ ...app.dataset })", timeout=5000)
        return f"{state}\n{page.locator('body').inner_text(timeout=5000)}"
    except Error as error:
        return str(error)


LONGEST_VALUE = 20
"""Characters of a parameter that stand in the name of its test."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names what is long by its parameter.

    A ZIP file holds the time at which it was made: workers that collect the tests in different
    seconds would see different names, and pytest-xdist then runs none.
    """
    long = isinstance(val, str | bytes | int) and len(repr(val)) - 2 > LONGEST_VALUE
    return argname if long else None


@pytest.fixture(scope="session")
def fields() -> list[np.ndarray]:
    """Four rendered fields, uint8 (224, 224, 3)."""
    from mseenet.imaging.synthetic import example_fields

    return list(example_fields().values())


@pytest.fixture(scope="session")
def field_png(fields) -> bytes:
    """One rendered field, encoded."""
    return encode(fields[0])


@pytest.fixture(scope="session")
def foreign(fields) -> np.ndarray:
    """Foreign to the network: a rendered field with red and blue exchanged."""
    return fields[0][..., ::-1].copy()


@pytest.fixture(scope="session")
def ungated_weights(tmp_path_factory) -> Path:
    """The project's weights with a card without a gate or review threshold.

    Rendered fields, which are what tests have, may pass the gate or not; most tests are
    about what comes after.
    """
    from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS

    folder = tmp_path_factory.mktemp("ungated")
    card = json.loads((DEFAULT_WEIGHTS / CARD_NAME).read_text(encoding="utf-8"))
    card |= {"novelty": None, "review_confidence": {"value": 0.0}}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    shutil.copy(DEFAULT_WEIGHTS / card["weights"]["file"], folder)
    return folder


@pytest.fixture(scope="session")
def classifier(ungated_weights):
    """The network that comes with the project, which refuses nothing here."""
    from mseenet import Classifier

    return Classifier.load(ungated_weights)


@pytest.fixture(scope="session")
def gated_classifier():
    """The classifier as it comes with the project."""
    from mseenet import Classifier

    return Classifier.load()


@pytest.fixture(scope="session")
def network(classifier):
    """The bare keras.Model with the weights that come with the project."""
    from mseenet.inference.network import build_model

    model = build_model(classifier.card.model)
    model.load_weights(classifier.card.weights_path)
    return model


@pytest.fixture
def weights_copy(tmp_path) -> Path:
    """A copy of the project's card and weights that a test may damage."""
    from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS

    folder = tmp_path / "weights"
    folder.mkdir()
    kept = (*DEFAULT_WEIGHTS.glob("*.weights.h5"), *DEFAULT_WEIGHTS.glob("*.npz"))
    for path in (DEFAULT_WEIGHTS / CARD_NAME, *kept):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def smoke_data(tmp_path_factory) -> Path:
    """The dataset of `smoke_weights`: 20 rendered fields a class; not to be changed."""
    from mseenet.training.smoke import write_smoke_data

    folder = tmp_path_factory.mktemp("smoke") / "data"
    write_smoke_data(folder)
    return folder


@pytest.fixture(scope="session")
def smoke_weights(smoke_data) -> Path:
    """What a smoke run of the default recipe leaves: weights, card, gate, split, history.

    Not to be changed; a test that writes beside the weights copies the folder first. Beside
    the folder are `random.weights.h5`, the backbone that it began with, and `killed`, the
    folder as it was after the third epoch, as a kill at that moment would have left it.
    """
    from mseenet.commands import train
    from mseenet.training.checkpoint import Checkpoint

    folder = smoke_data.parent
    save, write_backbone = Checkpoint.save, train.write_smoke_backbone

    def save_and_copy(self, name, state, model):
        save(self, name, state, model)
        if (name, state.epoch) == ("head", 3):
            shutil.copytree(folder / "weights", folder / "killed")

    def write_and_copy_backbone(path, seed):
        write_backbone(path, seed)
        shutil.copy(path, folder / "random.weights.h5")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_copy)
        patch.setattr(train, "write_smoke_data", lambda data: data.symlink_to(smoke_data))
        patch.setattr(train, "write_smoke_backbone", write_and_copy_backbone)
        assert train.main(["--smoke", "--out", str(folder / "weights")]) == 0
    return folder / "weights"


# The page: one server, one browser, and networks that are loaded once.

# Says when the server has run the script as the page has asked, and when nothing on the page moves
# any more: charts grow, and pictures come in, some time after that. Signs of life and other
# messages between them are no answers. The numbers are those of Streamlit's ForwardMsg and BackMsg.
_WATCHER = """
const kindOf = (bytes) => {  // number of the first field after hash and metadata
  let at = 0;
  const number = () => {
    let value = 0;
    for (let place = 1, more = true; more; place *= 128) {
      value += (bytes[at] & 127) * place;
      more = bytes[at++] > 127;
    }
    return value;
  };
  while (at < bytes.length) {
    const field = Math.floor(number() / 8);
    if (field > 2) return field;
    const length = number();
    at += length;
  }
};
window.asked = window.begun = window.finished = 0;
window.WebSocket = class extends WebSocket {
  constructor(...details) {
    super(...details);
    this.addEventListener("message", ({ data }) => {
      const kind = kindOf(new Uint8Array(data));
      if (kind === 4) window.begun = performance.now();  // new_session
      if (kind === 6) window.finished = performance.now();  // script_finished
    });
  }
  send(message) {
    if (kindOf(message) === 11) window.asked = performance.now();  // rerun_script
    super.send(message);
  }
};
window.listen = () => void (window.asked = 0);
window.answered = () => asked && begun > asked && finished > begun;
window.atRest = () => {
  const app = document.querySelector("[data-testid=stApp]");
  if (app?.dataset.testScriptState !== "notRunning") return false;
  const parts = "[data-testid=stMain] *, .js-plotly-plot svg";
  const boxes = [...document.querySelectorAll(parts)].map((e) => {
    const { x, y, width, height } = e.getBoundingClientRect();
    return [x, y, width, height].map(Math.round);
  });
  // A lazy one out of sight is never complete.
  const shown = [...document.images].filter((image) => image.loading !== "lazy");
  if (!shown.every((image) => image.complete)) return false;
  const picture = JSON.stringify(boxes);
  const same = picture === window.pictureBefore ? window.sameFor + 1 : 0;
  [window.pictureBefore, window.sameFor] = [picture, same];
  return same >= 3;
};
"""


@pytest.fixture(scope="session")
def temporary_folder(tmp_path_factory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def server(ungated_weights, temporary_folder) -> Iterator[str]:
    """Address of the one server of the browser tests, whose weights have no gate."""
    from tools.browser import running_app

    with running_app(ungated_weights, temporary=temporary_folder) as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Headless Chromium with a camera that shows a test picture."""
    from playwright.sync_api import expect

    from tools.browser import running_browser

    expect.set_options(timeout=180_000)  # of a busy machine, as for pages below
    # Few pictures a second: a browser without a graphics card draws each with the processor.
    camera = ("--use-fake-device-for-media-stream=fps=5", "--use-fake-ui-for-media-stream")
    with running_browser(*camera) as browser:
        yield browser


@pytest.fixture
def opened(browser, server) -> Iterator[Callable]:
    """Opens pages of sessions of their own, which are closed at the end.

    Nothing on them may be held back by the content policy.
    """
    pages: list = []
    held_back: list[str] = []

    def note(message) -> None:
        if "Content Security Policy" in message.text:
            held_back.append(message.text)

    def open_page(width: int = 1280, before=None, address: str = server, **options):
        page = browser.new_page(viewport={"width": width, "height": 1000}, **options)
        pages.append(page)
        page.set_default_timeout(180_000)  # of a busy machine; nothing waits that long
        page.on("console", note)
        page.add_init_script(_WATCHER)
        if before:
            before(page)
        page.goto(address)
        page.locator(".mseenet-steps").wait_for()
        return page

    yield open_page
    for page in pages:
        page.close()
    assert held_back == []


@pytest.fixture
def page(opened):
    return opened()


@pytest.fixture
def networks(request, monkeypatch, ungated_weights) -> dict[str, object]:
    """The networks that the page's own loader finds, by folder; loaded once for all tests.

    The browser tests load theirs from the files, as every server does.
    """
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.ui import analyse_page, shared

    known: dict[str, object] = {}

    def load(folder: str):
        if folder not in known:
            names = {
                str(ungated_weights): "classifier",
                str(DEFAULT_WEIGHTS): "gated_classifier",
            }
            if folder not in names:
                return original(folder)
            known[folder] = request.getfixturevalue(names[folder])
            shared.spare_the_network()
        return known[folder]

    original = shared._load
    monkeypatch.setattr(shared, "_load", load)
    # Compiling in the background would only slow the tests that need no other method.
    monkeypatch.setattr(analyse_page, "prepare_methods", lambda _: None)
    monkeypatch.delitem(os.environ, "MSEENET_WEIGHTS", raising=False)
    return known


@pytest.fixture
def full_line(classifier, monkeypatch) -> Iterator[Callable[[], None]]:
    """As many cases are in line for the classifier as may; gives what ends these.

    Two have 100 fields each, for half a second a field.
    """
    from mseenet.ui.shared import scheduler_of

    scheduler = scheduler_of(classifier)
    owners = [object(), object()]
    monkeypatch.setattr(scheduler, "_most_running", 1)
    monkeypatch.setattr(scheduler, "_most_waiting", 1)
    monkeypatch.setattr(scheduler, "seconds_per_image", 0.5)
    for owner in owners:
        scheduler.submit(owner, [], lambda *_: None, later=100)

    def end() -> None:
        for owner in owners:
            scheduler.submit(owner, [], lambda *_: None)

    yield end
    end()


@pytest.fixture
def downloads(monkeypatch) -> dict:
    """What makes each download, by its key; the buttons are plain ones."""
    import streamlit as st

    made = {}

    def download_button(label, make, *_, key, on_click, args=(), **__):
        made[key] = make
        st.button(label, key=key, on_click=on_click if callable(on_click) else None, args=args)

    monkeypatch.setattr(st, "download_button", download_button)
    return made


def sign_in_secrets(issuer: str, address: str) -> str:
    """The file of secrets of a page at `address` that `provider` signs in to."""
    return (
        "[auth]\n"
        f'redirect_uri = "{address}/oauth2callback"\n'
        'cookie_secret = "a secret of this test alone"\n'
        'client_id = "mseenet"\n'
        'client_secret = "unused"\n'
        f'server_metadata_url = "{issuer}/.well-known/openid-configuration"\n'
        "[access]\n"
        'allowed = ["example.org"]\n'
    )


@pytest.fixture(scope="session")
def provider() -> Iterator[SimpleNamespace]:
    """An OpenID Connect provider that signs everyone in as one person without asking."""
    jwk = pytest.importorskip("joserfc.jwk")
    jwt = pytest.importorskip("joserfc.jwt")
    key = jwk.RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
    nonces = {}

    class Provider(BaseHTTPRequestHandler):
        email = "user@example.org"  # of whoever signs in next

        def do_GET(self):
            path, _, query = self.path.partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            if path == "/.well-known/openid-configuration":
                self.answer(
                    {
                        "issuer": issuer,
                        "authorization_endpoint": f"{issuer}/authorize",
                        "token_endpoint": f"{issuer}/token",
                        "jwks_uri": f"{issuer}/keys",
                        "response_types_supported": ["code"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )
            elif path == "/keys":
                self.answer({"keys": [key.as_dict(private=False)]})
            elif path == "/authorize":
                code = f"code{len(nonces)}"
                nonces[code] = asked.get("nonce")
                back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
                self.send_response(302)
                self.send_header("Location", f"{asked['redirect_uri']}?{back}")
                self.end_headers()

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            nonce = nonces.pop(dict(urllib.parse.parse_qsl(body))["code"])
            now = int(time.time())
            claims = {
                "iss": issuer,
                "aud": "mseenet",
                "sub": "1",
                "email": Provider.email,
                "iat": now,
                "exp": now + 600,
                "nonce": nonce,
            }
            token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, key)
            self.answer({"access_token": "unused", "token_type": "Bearer", "id_token": token})

        def answer(self, content):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Provider)
    issuer = f"http://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(issuer=issuer, handler=Provider)
    server.shutdown()
