"""The steps of deploy/Dockerfile, run as they are written, on Linux without a container engine.

Mount namespaces stand for the image: /opt, /srv, /etc and /tmp are folders of this test's there. What is
not the image's are the operating system and the build of Python, which are this machine's.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from test_deployment import instructions

ALLOWED = (
    sys.platform == "linux"
    and os.getuid() == 0
    and all(map(shutil.which, ("unshare", "nsenter", "setpriv", "useradd", "ip")))
)

pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(
        not ALLOWED
        or subprocess.run(["unshare", "--mount", "--net", "true"], check=False).returncode != 0,
        reason="namespaces need Linux, root and util-linux",
    ),
]

ROOMS = """
set -eu
for kept in /opt/*/; do  # of this machine: pip may be set up to look there
    [ "$kept" = /opt/venv/ ] && continue
    mkdir -p "$ROOM$kept"
    mount --bind "$kept" "$ROOM$kept"
done
mount --rbind "$ROOM/opt" /opt
mount --bind "$ROOM/etc" /etc
mount --bind "$ROOM/srv" /srv
"""
"""What a step of the build finds in the place of this machine's folders."""

BUILD = f"""{ROOMS}
mount --bind "$ROOM/tmp" /tmp
cd /
exec "$@"
"""

RUN = f"""{ROOMS}
home=/$(echo "$BASE" | cut -d/ -f2)
if [ "$home" != /usr ]; then  # Python may lie in a folder that only root may enter
    mount --bind "$BASE" "$ROOM/base"
    mount -t tmpfs -o mode=755 tmpfs "$home"
    mkdir -p "$BASE"
    mount --rbind "$ROOM/base" "$BASE"
fi
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
for place in /opt /srv /etc /; do mount -o remount,bind,ro "$place"; done
ip link set lo up
cd "$WORKDIR"
exec "$@"
"""
"""As deploy/compose.yaml has it: nothing can be written but /tmp. And there is no network."""

OF_DEBIAN = re.compile(
    r"(ld-linux[\w-]*|lib(c|m|dl|rt|pthread|util|resolv|nss_\w+|gcc_s|stdc\+\+|z|bz2|lzma|ffi|ssl|"
    r"crypto|uuid|sqlite3|expat|fribidi))[.-]"
)
"""Shared libraries that python:3.12-slim-bookworm has, and fribidi, which Pillow does without."""


class Image:
    """What the steps of the Dockerfile have made.

    Attributes:
        room: The folder that stands for its file system.
        variables: Its environment.
        words: The other instructions of its last stage, by their word.
    """

    def __init__(self, room: Path) -> None:
        self.room = room
        self.variables: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self.base = base_python()
        for name in ("opt/venv", "srv", "tmp", "base"):
            (room / name).mkdir(parents=True)
        shutil.copytree("/etc", room / "etc", symlinks=True)

    def build(self) -> None:
        """Takes the steps one after the other."""
        for word, rest in instructions():
            if word == "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    path = f"{self.base}/bin:{os.environ['PATH']}"
                    self.variables[name] = value.replace("$PATH", path)
            elif word == "COPY" and not rest.startswith("--from"):
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, target)
            elif word == "RUN":
                # How pip is set up here counts, but not where Python looks for modules.
                kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
                kept |= {"PATH": f"{self.base}/bin:{kept['PATH']}", "ROOM": str(self.room)}
                subprocess.run(
                    ["unshare", "--mount", "sh", "-c", BUILD, "sh", "sh", "-c", rest],
                    env=kept | self.variables,
                    check=True,
                )
            else:
                self.words[word] = rest

    def _copy(self, source: Path, target: str) -> None:
        to = self.room / target.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)

    def _as_user(self, command: list[str]) -> list[str]:
        user, _, group = self.words["USER"].partition(":")
        rights = ["--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        variables = [f"{name}={value}" for name, value in self.variables.items()]
        return [
            *("setpriv", f"--reuid={user}", f"--regid={group}", *rights),
            *("env", "-i", *variables, *command),
        ]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen]:
        """Starts the entry point as the image's user, without a network, on a file system that is
        read-only but for /tmp."""
        command = self._as_user(json.loads(self.words["ENTRYPOINT"]))
        rooms = {"ROOM": str(self.room), "BASE": self.base, "WORKDIR": self.words["WORKDIR"]}
        server = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", RUN, "sh", *command],
            env={"PATH": os.environ["PATH"]} | rooms,
        )
        try:
            yield server
        finally:
            server.kill()
            server.wait()

    def inside(self, server: subprocess.Popen, command: list[str]) -> subprocess.CompletedProcess:
        """Runs a command beside the server, as the image's user."""
        return subprocess.run(
            ["nsenter", f"--target={server.pid}", "--mount", "--net", *self._as_user(command)],
            capture_output=True,
            text=True,
            check=False,
        )


def base_python() -> str:
    """The folder of a Python of the image's version if there is one here, else of this one."""
    version = re.search(r"python:(3\.\d+)", dict(instructions())["FROM"])[1]
    asked = [f"python{version}", "-c", "import sys; print(sys.base_prefix)"]
    found = (
        shutil.which(asked[0])
        and subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    )
    return found or sys.base_prefix


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory() as folder:
        made = Image(Path(folder))
        made.build()
        yield made


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_the_image_has_its_user_and_its_compiled_modules(image):
    assert re.search("^mseenet:x:10001:", (image.room / "etc/passwd").read_text(), re.MULTILINE)
    assert list((image.room / "srv/mseenet/mseenet/__pycache__").glob("__init__.*.pyc"))
    assert not list((image.room / "srv").rglob("secrets.toml"))


def test_the_image_starts_without_rights_becomes_healthy_and_stops(image):
    options, command = image.words["HEALTHCHECK"].split("CMD ")
    times = {name: int(value) for name, value in re.findall(r"--([\w-]+)=(\d+)", options)}
    longest = times["start-period"] + times["retries"] * times["interval"]  # then it is unhealthy
    check = json.loads(command)
    before = contents(image.room / "srv")
    with image.running() as server:
        started = time.monotonic()
        while (checked := image.inside(server, check)).returncode:
            assert server.poll() is None
            assert time.monotonic() - started < longest, checked.stderr
            time.sleep(0.2)
        said = "import os, urllib.request as u; print(u.urlopen('http://localhost:8501/').status, os.getuid())"
        assert image.inside(server, ["python", "-c", said]).stdout.split() == ["200", "10001"]
        for place in (image.words["WORKDIR"], "/opt/venv", "/etc", "/"):
            refused = image.inside(server, ["touch", f"{place}/x"])
            assert "Read-only file system" in refused.stderr
        maps = Path(f"/proc/{server.pid}/maps").read_text()
        own = ("/opt/venv/", f"{image.base}/lib/python", f"{image.base}/lib/libpython")
        mapped = set(re.findall(r"/\S+\.so[\w.]*", maps))
        foreign = {path for path in mapped if not path.startswith(own)}
        assert [path for path in foreign if not OF_DEBIAN.match(path.rpartition("/")[2])] == []
        server.terminate()
        server.wait(timeout=20)
    assert contents(image.room / "srv") == before
