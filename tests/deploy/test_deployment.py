"""The files in `deploy/` name what there is, and keep what they promise, as far as they can be read."""

import configparser
import json
import re
import shlex

import pytest
from conftest import ROOT
from streamlit import config

from mseenet.case.limits import VARIABLES
from mseenet.ui.guard import READY

DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: each word in capitals with what follows it."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_every_version_in_the_image_is_named():
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image) for image in images)
    install = next(rest for word, rest in instructions() if word == "RUN" and "pip install" in rest)
    assert {"--require-hashes", "--only-binary"} <= set(shlex.split(install))


def test_the_lock_of_the_image_is_that_of_the_checks_and_has_the_sign_in():
    pins = [
        dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))
        for path in (DEPLOY / "requirements.lock", ROOT / "requirements-dev.lock")
    ]
    ours, checked = pins
    assert {"streamlit", "tensorflow", "authlib", "httpx"} <= ours.keys()
    assert ours.items() <= checked.items()


def test_what_the_image_copies_is_there_and_nothing_else_travels():
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert {"app.py", "mseenet", "weights"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line[0] == "!"} == set(copied)


def test_the_image_runs_as_nobody_and_is_healthy_when_the_network_is_loaded():
    words = dict(instructions())
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", words["USER"])
    command = json.loads(words["HEALTHCHECK"].partition("CMD ")[2])
    assert f"http://127.0.0.1:8501{READY}" in command[-1]
    assert config.get_option("server.port") == 8501
    assert json.loads(words["ENTRYPOINT"])[-3:] == ["streamlit", "run", "app.py"]


def known(variable: str) -> bool:
    """Whether the page or Streamlit reads an environment variable."""
    if variable.startswith("STREAMLIT_"):
        section, _, rest = variable.removeprefix("STREAMLIT_").lower().partition("_")
        name = re.sub("_(.)", lambda match: match[1].upper(), rest)
        return f"{section}.{name}" in config._config_options_template
    ours = {name for name, _ in VARIABLES.values()} | {"MSEENET_ALL_CASES_MB"}
    return variable in ours | {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def test_variables_are_those_that_somebody_reads():
    (image,) = (rest for word, rest in instructions() if word == "ENV")
    variables = [pair.partition("=")[0] for pair in shlex.split(image)]
    unit = (DEPLOY / "mseenet.service").read_text()
    for line in re.findall(r"^Environment=(.*)$", unit, re.MULTILINE):
        variables += [pair.partition("=")[0] for pair in shlex.split(line)]
    assert "STREAMLIT_SERVER_ALLOWED_HOSTS" in variables
    assert [name for name in variables if not known(name)] == []
    assert not known("STREAMLIT_SERVER_NONSENSE")


def test_compose():
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = content["services"]
    assert services.keys() == {"app1", "app2", "nginx"}
    for name, service in services.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert ("ports" in service) == (name == "nginx")
        for mounted in service["volumes"]:
            assert mounted.endswith(":ro")
        assert set(service["networks"]) <= content["networks"].keys()
    assert all(known(name) for name in services["app1"]["environment"])
    assert services["app1"]["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", services["nginx"]["image"])
    nginx = (DEPLOY / "nginx.conf").read_text()
    assert set(re.findall(r"server (app\d):8501", nginx)) == services.keys() - {"nginx"}


def test_the_unit_runs_the_page_without_rights():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(DEPLOY / "mseenet.service")
    service = unit["Service"]
    assert service["ExecStart"].startswith("/srv/mseenet/.venv/bin/python -m streamlit run app.py")
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_the_proxy_takes_what_the_page_takes_and_keeps_nothing():
    nginx = (DEPLOY / "nginx.conf").read_text()
    (largest,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    upload = re.search(r"maxUploadSize = (\d+)", (ROOT / ".streamlit/config.toml").read_text())
    assert int(largest) == int(upload[1]) + 1
    for line in (
        "proxy_request_buffering off;",
        "proxy_max_temp_file_size 0;",
        "server_tokens off;",
    ):
        assert line in nginx
