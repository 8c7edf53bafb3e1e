"""Starts the service on this machine and keeps it running."""

import ipaddress
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from mseenet import cluster, console
from mseenet.case.limits import configured_limits
from mseenet.errors import UsageError
from mseenet.inference.card import read_card
from mseenet.inference.profile import SiteProfile
from mseenet.serve.tokens import read_tokens

APPLICATION, NETWORK, INTERFACE = "mseenet", "Network", "Interface"
"""Names in Ray Serve, of the whole and of its two parts."""


@dataclass(frozen=True)
class Server:
    """What is served, and where.

    Attributes:
        weights: Folder of the weights.
        host: Address that is listened on.
        port: And its port.
        replicas: How many hold the network.
        threads: Processors that each uses.
        queue: Images that may wait at once.
        tokens: File of bearer tokens, or None for everybody, on this machine only.
        profile: Of the site whose fields are answered; None for none.
    """

    weights: Path
    host: str
    port: int
    replicas: int
    threads: int
    queue: int
    tokens: Path | None
    profile: SiteProfile | None = None


def serve_forever(server: Server) -> None:
    """Serves until a signal ends it.

    Raises:
        UsageError: Address, port or tokens cannot be used.
        WeightsError: The weights are unusable.
        ProfileError: The profile is for other weights.
        ClusterError: Ray does not start, or the network cannot be loaded.
    """
    card, title = read_card(server.weights), None
    if server.profile is not None:
        card, title = server.profile.applied_to(card), server.profile.title
    limits = configured_limits()
    tokens = read_tokens(server.tokens) if server.tokens else ()
    if not tokens and not _is_loopback(server.host):
        raise UsageError(
            f"--host {server.host}: expected --tokens FILE for a service that other machines reach"
        )
    _check_free(server.host, server.port)
    processors = server.replicas * server.threads
    with cluster.running(processors):
        from ray import serve
        from ray.serve.config import HTTPOptions
        from ray.serve.schema import LoggingConfig

        from mseenet.serve.api import Desk, Service, interface
        from mseenet.serve.network import BATCH, Network

        service = Service(
            card.sha256, card.release, limits, server.queue, tokens, server.replicas, title
        )

        def made():
            return interface(Desk(service, serve.get_deployment_handle(NETWORK, APPLICATION)))

        # Its access log would hold names of files.
        quiet = LoggingConfig(enable_access_log=False)
        network = serve.deployment(
            Network,
            name=NETWORK,
            num_replicas=server.replicas,
            max_ongoing_requests=2 * BATCH,
            ray_actor_options={"num_cpus": server.threads},
            logging_config=quiet,
        ).bind(server.weights, card.release, server.threads, server.profile)
        door = serve.deployment(
            serve.ingress(made)(),
            name=INTERFACE,
            max_ongoing_requests=1000,
            ray_actor_options={"num_cpus": 0},
            logging_config=quiet,
        ).bind(network)
        options = HTTPOptions(host=server.host, port=server.port)
        try:
            with console.silenced():
                serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
                serve.run(door, name=APPLICATION, route_prefix="/")
        except RuntimeError as error:
            raise cluster.ClusterError(
                f"the service does not start: {cluster.last_line(error)}"
            ) from error
        console.say(f"serving http://{server.host}:{server.port}/v1")
        try:
            while True:
                signal.pause()
        finally:
            serve.shutdown()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise UsageError(
            f"expected to listen on {host}, port {port} ({error.strerror}); "
            "--port and --host choose another"
        ) from error
