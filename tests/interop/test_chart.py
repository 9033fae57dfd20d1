"""The chart by Helm itself, and its manifests by the schemas of Kubernetes' own API."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from appliance.actions.kubernetes.export import export
from appliance.sections import ModelLimitsSection
from tests.support.chart import exported, promoted_site, wishes
from tests.support.peers import peer_python

pytestmark = pytest.mark.interop
VERSIONS = ("1.30", "1.34", "1.37")
VERSION = "app.kubernetes.io/version"
VALIDATE = """
import sys, yaml, kubernetes_validate
for found in yaml.safe_load_all(open(sys.argv[2])):
    if found:
        kubernetes_validate.validate(found, sys.argv[1], strict=True)
"""
SHAPES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "cpu that scales": {"replicas": 2, "most": 6},
    "gpu": {"engine": "vllm", "gpus": 2},
    "gpu that scales": {"engine": "vllm", "gpus": 1, "replicas": 2, "most": 4},
    "several nodes": {"engine": "vllm", "gpus": 8, "nodes": 2, "replicas": 1},
}


@pytest.fixture(scope="module")
def python() -> Path:
    return peer_python("kubernetes")


def helm(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python.with_name("helm")), *arguments], capture_output=True, text=True, check=False)


def rendered(python: Path, chart: Path, *arguments: str) -> list[dict[str, Any]]:
    done = helm(python, "template", "llm", str(chart), *arguments)
    assert done.returncode == 0, done.stderr
    (chart.parent / "all.yaml").write_text(done.stdout)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def valid(python: Path, manifests: Path) -> None:
    for version in VERSIONS:
        command = [str(python), "-I", "-c", VALIDATE, version, str(manifests)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


def only(manifests: list[dict[str, Any]], kind: str, name: str = "llm") -> dict[str, Any]:
    [found] = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_lints_renders_and_is_what_the_api_takes(tmp_path: Path, python: Path, shape: str) -> None:
    exported(tmp_path, **SHAPES[shape])
    chart = tmp_path / "out/sealift"

    linted = helm(python, "lint", "--strict", str(chart))
    manifests = rendered(python, chart)

    assert linted.returncode == 0, linted.stdout
    valid(python, tmp_path / "out/all.yaml")
    assert bool(SHAPES[shape].get("most")) == any(one["kind"] == "HorizontalPodAutoscaler" for one in manifests)


def containers(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "StatefulSet"]
    return [each for pod in pods for each in (*pod["initContainers"], *pod["containers"])]


@pytest.mark.parametrize("shape", ["cpu", "several nodes"])
def test_no_container_has_more_rights_than_a_unit_of_the_box(tmp_path: Path, python: Path, shape: str) -> None:
    exported(tmp_path, **SHAPES[shape])
    manifests = rendered(python, tmp_path / "out/sealift")

    for one in containers(manifests):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "limits" in one["resources"], one["name"]
        assert "@sha256:" in one["image"]
    for one in (one for one in manifests if one["kind"] == "StatefulSet"):
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["initContainers"][0]["args"][0] == "prove"
        assert not any("hostPath" in volume for volume in pod["volumes"])


def test_keys_are_mounted_into_the_gateway_and_the_ledgers_only_into_the_ledger(tmp_path: Path, python: Path) -> None:
    exported(tmp_path)
    serving = only(rendered(python, tmp_path / "out/sealift"), "StatefulSet")["spec"]["template"]["spec"]

    running = (*serving["initContainers"], *serving["containers"])
    mounts = {one["name"]: {each["name"] for each in one["volumeMounts"]} for one in running}

    assert [name for name, found in mounts.items() if "keys" in found] == ["gateway"]
    assert [name for name, found in mounts.items() if "ledger" in found] == ["key", "ledger"]
    assert [name for name, found in mounts.items() if "tls" in found] == ["gateway"]


@pytest.mark.parametrize("shape", ["cpu", "gpu", "several nodes"])
def test_ledger_and_engine_begin_before_the_gateway_and_end_after_it(tmp_path: Path, python: Path, shape: str) -> None:
    exported(tmp_path, **SHAPES[shape])
    serving = only(rendered(python, tmp_path / "out/sealift"), "StatefulSet")["spec"]["template"]["spec"]
    before = {one["name"]: one.get("restartPolicy") for one in serving["initContainers"]}

    assert list(before.items()) == [("prove", None), ("key", None), ("ledger", "Always"), ("engine", "Always")]
    assert [one["name"] for one in serving["containers"]] == ["gateway"]
    assert all("startupProbe" in one for one in serving["initContainers"] if "restartPolicy" in one)


def test_only_the_ingress_may_call_and_nothing_may_be_called(tmp_path: Path, python: Path) -> None:
    exported(tmp_path)
    policies = [one for one in rendered(python, tmp_path / "out/sealift") if one["kind"] == "NetworkPolicy"]

    assert {one["metadata"]["name"] for one in policies} == {"llm-none", "llm-callers"}
    assert not any(one["spec"].get("egress") for one in policies)
    [callers] = [one["spec"]["ingress"] for one in policies if one["metadata"]["name"] == "llm-callers"]
    assert callers == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
            "ports": [{"protocol": "TCP", "port": "https"}],
        }
    ]


@pytest.mark.parametrize("shape", ["cpu", "gpu"])
def test_an_engine_is_started_as_on_a_box_by_what_was_approved(tmp_path: Path, python: Path, shape: str) -> None:
    made = exported(tmp_path, **SHAPES[shape])
    serving = only(rendered(python, tmp_path / "out/sealift"), "StatefulSet")["spec"]["template"]["spec"]
    [engine] = [one for one in serving["initContainers"] if one["name"] == "engine"]

    assert engine["command"] == ["python", "-I", "-m", "appliance.serve.launcher"]
    instance = f"production-{made.values['model']['digest'][:12]}"
    assert engine["args"] == ["--config", "/etc/sealift/sealift.toml", "--instance", instance]


def test_several_nodes_are_one_ray_cluster_over_tls(tmp_path: Path, python: Path) -> None:
    exported(tmp_path, **SHAPES["several nodes"])
    manifests = rendered(python, tmp_path / "out/sealift")
    serving = only(manifests, "StatefulSet")["spec"]["template"]["spec"]
    workers = only(manifests, "StatefulSet", "llm-ray")
    [engine] = [one for one in serving["initContainers"] if one["name"] == "engine"]
    [command] = engine["args"]

    assert command.startswith("ray start --head ")
    assert re.search(
        r" && exec python -I -m appliance\.serve\.launcher --config \S+ --instance production-\w{12}$", command
    )
    assert workers["spec"]["replicas"] == 1
    for one in (engine, *workers["spec"]["template"]["spec"]["containers"]):
        environment = {each["name"]: each.get("value") for each in one["env"]}
        assert (environment["RAY_USE_TLS"], environment["TRANSFORMERS_OFFLINE"]) == ("1", "1")
        assert environment["SEALIFT_RAY_MODEL"] == "/model"
        assert "/model" in [each["mountPath"] for each in one["volumeMounts"]]
        assert one["resources"]["limits"]["nvidia.com/gpu"] == 8


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("images.server=registry/server:latest", "images"),
        ("autoscaling.targetPercent=95", "targetPercent"),
        ("engine.gpus=3", "gpus"),
        ("model.digest=abc", "digest"),
        ("ray.nodes=2", "vLLM"),
        ("nonsense=1", "nonsense"),
    ],
)
def test_values_that_cannot_be_are_refused_by_helm(tmp_path: Path, python: Path, setting: str, says: str) -> None:
    exported(tmp_path)

    done = helm(python, "template", "llm", str(tmp_path / "out/sealift"), "--set", setting)

    assert done.returncode != 0
    assert says in done.stderr


def test_names_that_yaml_takes_for_numbers_and_a_site_file_like_a_template_are_texts(
    tmp_path: Path, python: Path
) -> None:
    site, _ = promoted_site(tmp_path / "box")
    braces = site.config.limits.model_copy(update={"models": {"{{ward}}": ModelLimitsSection(max_tokens=9)}})
    export(site.config.model_copy(update={"limits": braces}), tmp_path / "out", wishes())
    chart = tmp_path / "out/sealift"
    named = chart / "Chart.yaml"
    named.write_text(re.sub(r"(?m)^appVersion: .*$", f"appVersion: {'r' * 62}-9", named.read_text()))
    numbers = ("network.ingressNamespace=2026", "keys.secret=10", "tls.secret=11", "data.claim=12")
    set_so = (part for one in numbers for part in ("--set-string", one))

    manifests = rendered(python, chart, *set_so)

    valid(python, tmp_path / "out/all.yaml")
    assert '"{{ward}}"' in only(manifests, "ConfigMap", "llm-site")["data"]["sealift.toml"]
    for one in manifests:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", one["metadata"]["labels"][VERSION])
