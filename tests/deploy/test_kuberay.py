"""The example for KubeRay is one that Kubernetes and KubeRay take, and calls what there is.

The schemas below are those of RayJob `ray.io/v1` and of a pod, as far as the example uses them; a
field that they do not know is refused, as `kubectl apply --validate=strict` does.
"""

import re
import shlex
import tomllib

import pytest
from conftest import ROOT

from mseenet.commands.archive import parse_arguments

yaml = pytest.importorskip("yaml", reason="comes with the extra `archive`")
jsonschema = pytest.importorskip("jsonschema", reason="comes with the page's charts")


def thing(required: str = "", **properties) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def some(items: dict) -> dict:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, NUMBER, TRUTH = {"type": "string", "minLength": 1}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|Ki|Mi|Gi|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
META = thing("name", name=NAME)

CONTAINER = thing(
    "name image resources",
    name=NAME,
    image=TEXT,
    env=some(thing("name value", name=TEXT, value=TEXT)),
    envFrom=some(thing("secretRef", secretRef=thing("name", name=NAME))),
    securityContext=thing(
        "allowPrivilegeEscalation capabilities",
        allowPrivilegeEscalation={"const": False},
        capabilities=thing("drop", drop={"const": ["ALL"]}),
    ),
    resources=thing("requests limits", requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=some(thing("name mountPath", name=NAME, mountPath=TEXT)),
)
POD = thing(
    "containers securityContext",
    automountServiceAccountToken=TRUTH,
    securityContext=thing(
        "runAsNonRoot seccompProfile",
        runAsNonRoot={"const": True},
        runAsUser=NUMBER,
        fsGroup=NUMBER,
        seccompProfile=thing("type", type={"enum": ["RuntimeDefault"]}),
    ),
    containers=some(CONTAINER),
    volumes=some(
        thing(
            "name persistentVolumeClaim",
            name=NAME,
            persistentVolumeClaim=thing("claimName", claimName=NAME),
        )
    ),
)
TEMPLATE = thing("spec", spec=POD)
SCHEMAS = {
    "RayJob": thing(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind=TEXT,
        metadata=META,
        spec=thing(
            "entrypoint rayClusterSpec",
            entrypoint=TEXT,
            backoffLimit=NUMBER,
            shutdownAfterJobFinishes=TRUTH,
            ttlSecondsAfterFinished=NUMBER,
            rayClusterSpec=thing(
                "rayVersion headGroupSpec workerGroupSpecs",
                rayVersion=TEXT,
                headGroupSpec=thing("template", rayStartParams=TEXTS, template=TEMPLATE),
                workerGroupSpecs=some(
                    thing(
                        "groupName template",
                        groupName=NAME,
                        replicas=NUMBER,
                        minReplicas=NUMBER,
                        maxReplicas=NUMBER,
                        rayStartParams=TEXTS,
                        template=TEMPLATE,
                    )
                ),
            ),
        ),
    ),
    "PersistentVolumeClaim": thing(
        "apiVersion kind metadata spec",
        apiVersion={"const": "v1"},
        kind=TEXT,
        metadata=META,
        spec=thing(
            "accessModes resources",
            accessModes=some({"enum": ["ReadWriteOnce", "ReadWriteMany"]}),
            resources=thing("requests", requests=QUANTITIES),
        ),
    ),
}


@pytest.fixture
def documents() -> dict[str, dict]:
    text = (ROOT / "deploy/kuberay.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def faults(document: dict) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMAS[document["kind"]])
    return [error.message for error in validator.iter_errors(document)]


def test_the_example_fits_the_schemas(documents):
    assert set(documents) == set(SCHEMAS)
    assert {kind: faults(document) for kind, document in documents.items()} == {
        "RayJob": [],
        "PersistentVolumeClaim": [],
    }


def test_faults_are_found(documents):
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    cluster["workerGroupSpecs"][0]["replica"] = 3
    del documents["RayJob"]["spec"]["entrypoint"]
    assert len(faults(documents["RayJob"])) == 3


def test_it_calls_the_command_and_keeps_its_rows(documents):
    job = documents["RayJob"]["spec"]
    program, command, *arguments = shlex.split(job["entrypoint"])
    assert (program, command) == ("mseenet", "archive")
    called = parse_arguments(arguments)
    assert called.address == "auto"
    pod = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert str(called.output).startswith(mount["mountPath"] + "/")
    (volume,) = pod["volumes"]
    claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
    assert (volume["name"], volume["persistentVolumeClaim"]["claimName"]) == (mount["name"], claim)


def test_each_worker_has_a_processor_and_the_locked_version_of_ray(documents):
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        requested = container["resources"]["requests"]["cpu"]
        assert group["rayStartParams"]["num-cpus"] == requested
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    assert re.search(r"^ray==(\S+)", lock, re.MULTILINE)[1] == cluster["rayVersion"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(text.startswith("ray[data]") for text in project["optional-dependencies"]["archive"])
