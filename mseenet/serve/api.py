"""The interface `/v1`: requests in, records out. It holds no network and answers at any time."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from pydantic import BaseModel
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from mseenet import __version__
from mseenet.case.archive import ArchiveError, is_archive, open_archive
from mseenet.case.cells import geojson
from mseenet.case.fields import HIDDEN, Field
from mseenet.case.limits import MEGABYTE, Limits
from mseenet.case.records import json_line, record
from mseenet.case.slides import PatternError, slide_of
from mseenet.cluster import OBJECT_STORE
from mseenet.config import CLASS_NAMES
from mseenet.errors import MSEENetError
from mseenet.imaging.decoding import load_image
from mseenet.inference.cam import METHODS
from mseenet.inference.classifier import Prediction, without_answer
from mseenet.inference.heatmaps import encode_overlay, overlay
from mseenet.inference.remote import FIELD_BYTES, MOST_FIELDS, fields_of
from mseenet.serve.network import BATCH
from mseenet.serve.tokens import may_enter

ATTEMPTS = 5
"""How often an image is given to a replica; one that is lost takes its images with it."""

PATIENCE = 5
"""Seconds in which a replica says that it is there, and after which to ask again."""

SLOWEST = MEGABYTE
"""Bytes a second at which a request has to come, after the first `UNHURRIED` seconds: until it is
there, others have to do without the memory that it announced."""

UNHURRIED = 30
"""Seconds in which any request may come, however small it is."""

LINES = "application/x-ndjson"

_T = TypeVar("_T")


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str


class About(BaseModel):
    """Which network a service has: of what version, weights (SHA-256) and release, and where.

    `tells_size`: whether it tells the size of cells. `profile`: name and identity of the site
    profile that it answers with, or null.
    """

    version: str
    weights: str
    release: str
    device: str
    tells_size: bool
    profile: str | None


class RefusedError(MSEENetError):
    """A request is not answered.

    Attributes:
        status: Of HTTP.
        retry_after: Seconds after which to try again, if that helps.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None):
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True)
class Service:
    """What the interface knows of the service.

    Attributes:
        weights: SHA-256 of the weights file, in hex.
        release: See `Card.release`.
        limits: Of one request: an image, an archive, and how many images.
        queue: Images that may wait at once.
        tokens: See `may_enter`.
        replicas: How many hold the network.
        profile: Name and identity of the site profile in use; None for none.
    """

    weights: str
    release: str
    limits: Limits
    queue: int
    tokens: tuple[bytes, ...]
    replicas: int
    profile: str | None = None


class Measures:
    """What is counted for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mseenet_requests",
            "Requests by path and status",
            ["path", "status"],
            registry=self.registry,
        )
        self.images = Counter(
            "mseenet_images", "Images by status of the answer", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "mseenet_request_seconds", "From request to answer", ["path"], registry=self.registry
        )
        self.waiting = Gauge(
            "mseenet_images_waiting", "Images without an answer yet", registry=self.registry
        )


class Desk:
    """Takes in images and has them answered by the replicas, or says that it cannot.

    Args:
        service: See `Service`.
        network: Ray's handle of `mseenet.serve.network.Network`.
    """

    def __init__(self, service: Service, network: Any):
        self.service = service
        self.measures = Measures()
        self._network = network
        self._waiting = 0
        self._held = 0
        self._pace = 0.1  # seconds an image, as seen last

    async def about(self) -> About:
        """Which network a replica has loaded.

        Raises:
            RefusedError: None has, yet.
        """
        service = self.service
        try:
            loaded = await asyncio.wait_for(self._network.about.remote(), PATIENCE)
            return About(
                version=__version__,
                weights=service.weights,
                release=service.release,
                profile=service.profile,
                **loaded,
            )
        except (TimeoutError, RayError, RayServeException) as error:
            raise RefusedError(503, "the network is not loaded yet", PATIENCE) from error

    @asynccontextmanager
    async def content(self, request: Request, largest: int | None = None) -> AsyncIterator[bytes]:
        """The body of a request, which counts as held until the block ends.

        Args:
            request: The request.
            largest: Bytes that it may have; None for as many as an image.

        Raises:
            RefusedError: It is empty, too large or too slow, or others hold too much.
        """
        largest = self.service.limits.file if largest is None else largest
        in_words = f"{largest:,} bytes" if largest % MEGABYTE else f"{largest // MEGABYTE:,} MB"
        too_large = f"expected at most {in_words}"
        most = min(self.service.limits.server, OBJECT_STORE // 2)
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdigit() else largest
        if size > largest and announced:
            raise RefusedError(413, too_large)
        if self._held and self._held + size > most:
            raise RefusedError(429, "too much is being answered; try again", self._delay())
        self._held += size
        try:
            body = bytearray()
            try:
                async with asyncio.timeout(UNHURRIED + size / SLOWEST):
                    async for piece in request.stream():
                        body += piece
                        if len(body) > min(size, largest):
                            raise RefusedError(413, too_large)
            except TimeoutError:
                raise RefusedError(
                    408, f"expected the request at {SLOWEST // MEGABYTE} MB a second or faster"
                ) from None
            if not body:
                raise RefusedError(422, "expected an image or a ZIP archive, got nothing")
            yield bytes(body)
        finally:
            self._held -= size

    async def answer(
        self, images: list[Callable[[], bytes]], ask: Callable[[bytes], Awaitable[Prediction]]
    ) -> list[Prediction]:
        """Answers images in order; they are unpacked as their turn comes.

        Args:
            images: What gives each one's content, or raises an `ArchiveError`.
            ask: Asks a replica.

        Raises:
            RefusedError: Too many wait already, or no replica answers.
        """
        at_once = asyncio.Semaphore(2 * BATCH * self.service.replicas)
        with self._in_line(len(images)):
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._one(image, ask, at_once)) for image in images]
            except* RefusedError as errors:
                raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def outputs(
        self, content: bytes, release: str, heatmaps: str | None, filled: bool
    ) -> bytes:
        """What the network says of a request's fields; see `mseenet.inference.remote`.

        Args:
            content: Body of the request.
            release: Of the network that is meant.
            heatmaps: As for `Classifier.stream`.
            filled: As for `Classifier.outputs`.

        Raises:
            RefusedError: The body or the release is another, too many wait already, or no replica
                answers.
        """
        count = self._fields(content, release)
        return await self._bare(
            count, lambda: self._network.outputs.remote(content, heatmaps, filled)
        )

    async def heatmap(self, content: bytes, release: str, class_name: str, method: str) -> bytes:
        """The heatmap of a request's one field; as `outputs`, and `Classifier.heatmap`."""
        if self._fields(content, release) > 1:
            raise RefusedError(422, "expected one field")
        return await self._bare(
            1, lambda: self._network.heatmap.remote(content, class_name, method)
        )

    async def features(self, content: bytes, release: str) -> bytes:
        """What the network makes of a request's fields before they are judged; as `outputs`."""
        count = self._fields(content, release)
        return await self._bare(count, lambda: self._network.features.remote(content))

    async def layer(self, release: str) -> bytes:
        """The network's last layer; as `outputs`."""
        self._expect(release)
        return await self._asked(self._network.layer.remote)

    def _expect(self, release: str) -> None:
        if release != self.service.release:
            raise RefusedError(409, f"expected release {self.service.release}, received {release}")

    def _fields(self, content: bytes, release: str) -> int:
        """How many fields a request has."""
        self._expect(release)
        try:
            return len(fields_of(content))
        except ValueError as error:
            raise RefusedError(422, str(error)) from error

    async def _bare(self, count: int, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """What a replica says of fields that are not judged here."""
        with self._in_line(count):
            begun = time.monotonic()
            answer = await self._asked(ask)
            self._learn(time.monotonic() - begun, count)
            self.measures.images.labels("not judged").inc(count)
        return answer

    async def predict(self, content: bytes) -> Prediction:
        return await self._network.predict.remote(content)

    def explain(self, class_name: str) -> Callable[[bytes], Awaitable[Prediction]]:
        """What asks for the heatmap of a class, or of the "predicted" one."""

        async def ask(content: bytes) -> Prediction:
            return await self._network.explain.remote(content, class_name)

        return ask

    async def _one(self, image, ask, at_once: asyncio.Semaphore) -> Prediction:
        async with at_once:
            begun = time.monotonic()
            try:
                content = await asyncio.to_thread(image)
            except ArchiveError as error:
                return Prediction("error", reasons=(str(error),))
            prediction = await self._asked(lambda: ask(content))
            self._learn(time.monotonic() - begun, min(self._waiting, BATCH))
            self.measures.images.labels(prediction.status).inc()
            return prediction

    async def _asked(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """The answer of a replica, or of another one where the first was lost."""
        for _ in range(ATTEMPTS):
            try:
                return await ask()
            except (RayError, RayServeException):
                await asyncio.sleep(0.1)
        raise RefusedError(503, "the replicas of the network were lost; try again", PATIENCE)

    def _learn(self, seconds: float, images: int) -> None:
        """Notes how long so many images took that were answered together."""
        spent = seconds / self.service.replicas
        self._pace += (spent / max(1, images) - self._pace) / 16

    @contextmanager
    def _in_line(self, images: int) -> Iterator[None]:
        """So many images wait until the block ends; raises a `RefusedError` if too many do."""
        if self._waiting and self._waiting + images > self.service.queue:
            raise RefusedError(429, "too many images are waiting; try again", self._delay())
        self._count(images)
        try:
            yield
        finally:
            self._count(-images)

    def _count(self, images: int) -> None:
        self._waiting += images
        self.measures.waiting.set(self._waiting)

    def _delay(self) -> int:
        """Seconds until most of what waits will be answered."""
        return max(1, math.ceil(self._pace * self._waiting))


NAME = Annotated[
    str, Query(max_length=1000, description="Of the image or archive, as records name it")
]
REJECTED = Annotated[bool, Query(description="Give the network's output for rejected images too")]
CLASS = Annotated[
    str,
    Query(
        alias="class",
        pattern=f"^({'|'.join(('predicted', *CLASS_NAMES))})$",
        description="The class whose evidence is shown",
    ),
]
SLIDES = Annotated[
    str, Query(max_length=100, description="Pattern of names that tells slides, as of `predict`")
]

RELEASE = Annotated[
    str,
    Query(pattern="^[0-9a-f]{12}$", description="That the network has to have, of /v1/network"),
]
HEATMAPS = Annotated[
    str | None,
    Query(
        pattern=f"^({'|'.join(('predicted', *CLASS_NAMES))})$",
        description="The class whose heatmaps are given; without it there are none",
    ),
]
FILLED = Annotated[
    bool, Query(description="Fill the batch up with black, so that bits do not depend on its size")
]
ONE_CLASS = Annotated[
    str,
    Query(
        alias="class",
        pattern=f"^({'|'.join(CLASS_NAMES)})$",
        description="The class whose evidence is given",
    ),
]
METHOD = Annotated[
    str,
    Query(
        pattern=f"^({'|'.join(re.escape(name) for name in ('Grad-CAM', *METHODS))})$",
        description="By which it is found",
    ),
]

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The image's file, or a ZIP archive of images where several are allowed",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_REASONS = {
    401: "No known token",
    408: "It came too slowly",
    409: "The network is of another release",
    413: "Larger than the limits allow",
    422: "Not what was expected; `detail` says what was",
    429: "Too much is waiting; `Retry-After` says for how many seconds",
    503: "The network is not loaded; `Retry-After` says after how many seconds to ask again",
}


def _responses(*statuses: int, **answers: dict) -> dict[int | str, dict[str, Any]]:
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": _REASONS[status]} for status in statuses
    }
    return {**problems, 200: {"description": "Done", "content": answers}}


_RECORDS = {LINES: {"schema": {"type": "string"}}}
_PICTURE = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_OUTLINES = {"application/geo+json": {"schema": {"type": "object"}}}
_ALL = (401, 408, 413, 422, 429, 503)


def interface(desk: Desk) -> FastAPI:
    """The interface as an ASGI application."""
    app = FastAPI(
        title="MSEENet",
        version="1",
        description="Classes of acute lymphoblastic leukaemia from blood smear fields. For "
        "research use only. Not a medical device, not a diagnosis.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they would be fetched from another address
        redoc_url=None,
    )
    service = desk.service

    def known(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if not may_enter(request.headers.get("authorization"), service.tokens):
            raise RefusedError(401, "expected a bearer token that this service knows")

    guarded = [Depends(known)]

    _explain_refusals(app)
    _watch(app, desk, guarded)
    _lend(app, desk, guarded)

    @app.post(
        "/v1/predictions",
        dependencies=guarded,
        responses=_responses(*_ALL, **_RECORDS),
        openapi_extra=_BODY,
        response_class=Response,
    )
    async def predictions(
        request: Request,
        name: NAME = "image",
        include_rejected: REJECTED = False,
        slides: SLIDES = "",
    ) -> Response:
        """The record of one image, or of each image in a ZIP archive, a line each.

        Lines are those of `mseenet predict --format json`, in the order of the archive.
        """
        async with desk.content(request) as body:
            try:
                slide_of(name, slides)
                images = await asyncio.to_thread(_images, name, body, service.limits)
            except PatternError as error:
                raise RefusedError(422, str(error)) from error
            answers = await desk.answer([read for _, read in images], desk.predict)
        lines = []
        for (image, _), prediction in zip(images, answers, strict=True):
            shown = _shown(prediction, include_rejected)
            slide = slide_of(image, slides)
            known = (service.weights, service.release, slide, service.profile)
            lines.append(json_line(record(image, shown, *known)))
        return Response("".join(f"{line}\n" for line in lines), media_type=LINES)

    @app.post(
        "/v1/heatmaps",
        dependencies=guarded,
        responses=_responses(*_ALL, **_PICTURE),
        openapi_extra=_BODY,
        response_class=Response,
    )
    async def heatmaps(
        request: Request, class_name: CLASS = "predicted", include_rejected: REJECTED = False
    ) -> Response:
        """One image, 224 x 224 pixels, under the heatmap of a class."""
        async with desk.content(request) as body:
            prediction = await _explained(desk, body, class_name, include_rejected)
            picture = await asyncio.to_thread(_overlaid, body, prediction)
        return Response(picture, media_type="image/png")

    @app.post(
        "/v1/nuclei",
        dependencies=guarded,
        responses=_responses(*_ALL, **_OUTLINES),
        openapi_extra=_BODY,
        response_class=Response,
    )
    async def nuclei(request: Request, include_rejected: REJECTED = False) -> Response:
        """Outlines of one image's nucleated cells as GeoJSON, in its own pixels, for QuPath."""
        async with desk.content(request) as body:
            (prediction,) = await desk.answer([lambda: body], desk.explain("predicted"))
            shown = _shown(prediction, include_rejected)
            if shown.status == "error":
                raise RefusedError(422, "; ".join(shown.reasons))
            field = Field("", "", body, prediction=prediction)
            outlines = await asyncio.to_thread(geojson, field, shown.class_name is not None)
        return JSONResponse(outlines, media_type="application/geo+json")

    return app


def _explain_refusals(app: FastAPI) -> None:
    """Every refusal is a `Problem`."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"detail": str(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        words = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return JSONResponse({"detail": words}, 422)


def _watch(app: FastAPI, desk: Desk, guarded: list) -> None:
    """What operators ask: does it run, is the network loaded, how much has it done."""
    service = desk.service

    @app.middleware("http")
    async def measured(request: Request, call_next) -> Response:
        begun = time.monotonic()
        response = await call_next(request)
        path = getattr(request.scope.get("route"), "path", "other")
        desk.measures.requests.labels(path, response.status_code).inc()
        desk.measures.seconds.labels(path).observe(time.monotonic() - begun)
        return response

    @app.get("/v1/health")
    async def health() -> dict[str, str]:
        """Whether the service runs at all."""
        return {"status": "running"}

    @app.get("/v1/ready", responses={503: {"model": Problem, "description": _REASONS[503]}})
    async def ready() -> dict[str, str]:
        """Whether the network is loaded, and which."""
        await desk.about()
        return {"status": "ready", "weights": service.weights, "release": service.release}

    @app.get(
        "/v1/metrics",
        dependencies=guarded,
        responses=_responses(401, **{"text/plain": {"schema": {"type": "string"}}}),
        response_class=Response,
    )
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(desk.measures.registry), media_type=CONTENT_TYPE_LATEST)


def _lend(app: FastAPI, desk: Desk, guarded: list) -> None:
    """What programs need that judge by themselves and have no network of their own."""
    fields = {
        "requestBody": {
            "required": True,
            "description": "RGB pixels of squeezed fields, uint8 (N, 224, 224, 3) in C order; of "
            f"{MOST_FIELDS} fields at most, or of one for its heatmap",
            "content": _BYTES,
        }
    }

    @app.get("/v1/network", dependencies=guarded, responses=_responses(401, 503))
    async def network() -> About:
        """Which network this is."""
        return await desk.about()

    @app.post(
        "/v1/network/outputs",
        dependencies=guarded,
        responses=_responses(*_ALL, 409, **_BYTES),
        openapi_extra=fields,
        response_class=Response,
    )
    async def outputs(
        request: Request, release: RELEASE, heatmaps: HEATMAPS = None, filled: FILLED = False
    ) -> Response:
        """For each field little-endian float32: the probability of each class, the novelty, the
        logarithm of the size of its cells and, if asked for, its heatmap (224 x 224)."""
        async with desk.content(request, MOST_FIELDS * FIELD_BYTES) as body:
            answer = await desk.outputs(body, release, heatmaps, filled)
        return Response(answer, media_type="application/octet-stream")

    @app.post(
        "/v1/network/heatmap",
        dependencies=guarded,
        responses=_responses(*_ALL, 409, **_BYTES),
        openapi_extra=fields,
        response_class=Response,
    )
    async def heatmap(
        request: Request, release: RELEASE, class_name: ONE_CLASS, method: METHOD = "Grad-CAM"
    ) -> Response:
        """The heatmap of one field by a method, little-endian float32 (224, 224)."""
        async with desk.content(request, FIELD_BYTES) as body:
            answer = await desk.heatmap(body, release, class_name, method)
        return Response(answer, media_type="application/octet-stream")

    @app.post(
        "/v1/network/features",
        dependencies=guarded,
        responses=_responses(*_ALL, 409, **_BYTES),
        openapi_extra=fields,
        response_class=Response,
    )
    async def features(request: Request, release: RELEASE) -> Response:
        """For each field little-endian float32, for site profiles: the means of the frozen blocks'
        output, what the last layer reads, and the logits that it makes of that."""
        async with desk.content(request, MOST_FIELDS * FIELD_BYTES) as body:
            answer = await desk.features(body, release)
        return Response(answer, media_type="application/octet-stream")

    @app.get(
        "/v1/network/layer",
        dependencies=guarded,
        responses=_responses(401, 409, 422, 503, **_BYTES),
        response_class=Response,
    )
    async def layer(release: RELEASE) -> Response:
        """The last layer, little-endian float32: its kernel, and the bias as the last row."""
        return Response(await desk.layer(release), media_type="application/octet-stream")


def _images(name: str, body: bytes, limits: Limits) -> list[tuple[str, Callable[[], bytes]]]:
    """Name of each image, and what gives its content."""
    if not is_archive(name, body):
        return [(name, lambda: body)]
    try:
        contents = open_archive(body)
    except ArchiveError as error:
        raise RefusedError(422, str(error)) from error
    entries = contents.images
    if (count := len(entries) + len(contents.hidden)) > limits.fields:
        raise RefusedError(413, f"expected at most {limits.fields:,} images, got {count:,}")

    unpacked = 0

    def reader(entry) -> Callable[[], bytes]:
        def read() -> bytes:
            nonlocal unpacked
            if unpacked >= limits.case:
                raise ArchiveError(
                    f"expected at most {limits.case // MEGABYTE:,} MB unpacked in one request"
                )
            content = entry.read(limits.file + 1)
            unpacked += len(content)  # what is refused counts, too: unpacking takes time
            if len(content) > limits.file:
                raise ArchiveError(f"expected at most {limits.file // MEGABYTE:,} MB")
            return content

        return read

    def left_out() -> bytes:
        raise ArchiveError(HIDDEN)

    read = [(f"{name}/{entry.name}", reader(entry)) for entry in entries]
    return [*read, *((f"{name}/{hidden}", left_out) for hidden in contents.hidden)]


async def _explained(
    desk: Desk, body: bytes, class_name: str, include_rejected: bool
) -> Prediction:
    (prediction,) = await desk.answer([lambda: body], desk.explain(class_name))
    shown = _shown(prediction, include_rejected)
    if shown.heatmap is None:
        raise RefusedError(422, "; ".join(shown.reasons))
    return shown


def _overlaid(body: bytes, prediction: Prediction) -> bytes:
    assert prediction.heatmap is not None
    return encode_overlay(overlay(load_image(body), prediction.heatmap))


def _shown(prediction: Prediction, include_rejected: bool) -> Prediction:
    hidden = prediction.status == "rejected" and not include_rejected
    return without_answer(prediction) if hidden else prediction
