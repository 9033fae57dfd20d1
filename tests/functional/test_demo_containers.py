"""A pod of the exported chart for real: its images built without a network, its containers run by podman, an answer."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from appliance.actions.kubernetes.pod import USER
from appliance.errors import StoreDamagedError
from media.digest import file_sha256
from media.errors import UsageError
from tests.functional.test_demo import DEMO, shell
from tests.support import podman as containers
from tests.support.chart import tls_secret
from tests.support.peers import peer_python
from tests.support.podman import Pod, Podman

pytestmark = [
    pytest.mark.demo,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("podman") is None, reason="needs root and podman"),
]
STATE = DEMO / "appliance/var/lib/sealift"
KEYS = ("api-key-pepper", "identity-hmac", "content-hmac", "phi-map")
SERVICES = ("ledger", "engine", "gateway")
_SECONDS = 120.0
_ASK = """
import json, ssl, sys, urllib.error, urllib.request
tls, key, path, body = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{tls}/ca.crt")
context.check_hostname = False
context.load_cert_chain(f"{tls}/tls.crt", f"{tls}/tls.key")
request = urllib.request.Request(f"https://127.0.0.1:8443{path}", body.encode() or None,
    {"authorization": f"Bearer {key}", "content-type": "application/json"})
try:
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        print(json.dumps({"status": answer.status, "body": json.load(answer)}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code, "body": json.load(error)}))
"""

_STREAM = """
import json, ssl, sys, urllib.request
tls, key, body = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{tls}/ca.crt")
context.check_hostname = False
context.load_cert_chain(f"{tls}/tls.crt", f"{tls}/tls.key")
request = urllib.request.Request("https://127.0.0.1:8443/v1/chat/completions", body.encode(),
    {"authorization": f"Bearer {key}", "content-type": "application/json"})
with urllib.request.urlopen(request, context=context, timeout=60) as answer:
    for line in answer:
        if line.startswith(b"data: "):
            print(line[6:].decode().strip(), flush=True)
"""

_STRANGER = """
import ssl, urllib.request
context = ssl._create_unverified_context()
print(urllib.request.urlopen("https://127.0.0.1:8443/livez", context=context).read())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What a facility made of the demo's site: images, the chart with their names, volumes, and a caller's key."""

    podman: Podman
    images: Mapping[str, str]
    manifest: Mapping[str, Any]
    volumes: Mapping[str, Path]
    tls: Path
    key: str

    def pod(self, namespace: str) -> Pod:
        """Return the chart's pod."""
        spec = self.manifest["spec"]["template"]["spec"]
        return Pod(podman=self.podman, name="llm-0", spec=spec, volumes=self.volumes, namespace=namespace)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slf", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"sealift-pod-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(scope="module")
def exported(folder: Path) -> Iterator[Exported]:
    shell("sealift run-units --background")
    try:
        key = json.loads(shell("sealift --json keys create --department audit --owner test --phi tokenise").stdout)
    finally:
        shell("sealift run-units --stop")
    podman = Podman(folder / "podman")
    try:
        shell(f"sealift export kubernetes {folder}/made")
        base = podman.base()
        images = {
            name: podman.build(folder / f"made/images/Containerfile.{name}", base, name)
            for name in ("server", "engine")
        }
        named = " ".join(f"--{name}-image {image}" for name, image in images.items())
        shell(f"sealift export kubernetes {folder}/chart --no-images {named}")
        yield Exported(
            podman=podman,
            images=images,
            manifest=_serving(folder / "chart/sealift"),
            volumes=_volumes(folder),
            tls=folder / "tls",
            key=key["key"],
        )
    finally:
        podman.close()


@pytest.fixture(scope="module")
def pod(exported: Exported, namespace: str) -> Iterator[Pod]:
    """The pod, served: its init containers ended well, and its probes say that it is ready."""
    running = exported.pod(namespace)
    try:
        _serve(running)
        yield running
    finally:
        running.stop()


def test_images_are_what_the_release_brought_and_nothing_else(exported: Exported, folder: Path) -> None:
    for name, image in exported.images.items():
        [found] = json.loads(exported.podman.run("image", "inspect", image).stdout)
        assert found["User"] == f"{USER}:{USER}"
        done = exported.podman.run(
            "run",
            "--rm",
            "--network=none",
            *containers.LIMITS,
            "--entrypoint",
            "/opt/sealift/bin/pip",
            image,
            "list",
            "--format=json",
        )
        brought = {one["name"].lower().replace("_", "-") for one in json.loads(done.stdout)} - {"pip", "setuptools"}
        lock = (
            folder / f"made/images/data/server/requirements-{'server' if name == 'server' else 'engine-llama-cpp'}.txt"
        )
        named = {
            line.split("==")[0].lower().replace("_", "-") for line in lock.read_text().splitlines() if "==" in line
        }
        assert brought == named


def test_what_would_write_nothing_is_refused(folder: Path) -> None:
    done = shell(f"sealift export kubernetes {folder}/nothing --no-images", check=False)

    assert done.returncode == UsageError.exit_code
    assert "nothing to write" in done.stderr
    assert not (folder / "nothing").exists()


def test_images_leave_as_oci_layouts_whose_every_blob_is_what_its_name_says(exported: Exported, folder: Path) -> None:
    for name, image in exported.images.items():
        layout = folder / f"oci-{name}"
        exported.podman.run("save", "--quiet", "--format=oci-dir", "--output", layout, image)

        assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
        blobs = {path.name: path for path in (layout / "blobs/sha256").iterdir()}
        assert all(file_sha256(path) == digest for digest, path in blobs.items())
        [listed] = json.loads((layout / "index.json").read_bytes())["manifests"]
        manifest = json.loads(blobs[listed["digest"].partition(":")[2]].read_bytes())
        parts = [one["digest"].partition(":")[2] for one in (manifest["config"], *manifest["layers"])]
        assert blobs.keys() == {*parts, listed["digest"].partition(":")[2]}
        assert json.loads(blobs[parts[0]].read_bytes())["config"]["User"] == f"{USER}:{USER}"


def test_a_caller_of_the_pod_is_answered_and_its_own_ledger_records_it(exported: Exported, pod: Pod) -> None:
    before = int(pod.ask("ledger", _asks_ledger(pod)).stdout.split()[0])
    question = {"messages": [{"role": "user", "content": "What is the capital of France? MRN 12345678"}]}

    answer = _asked(pod, exported, {"model": "production", "max_tokens": 16, "temperature": 0, **question})

    assert answer["status"] == 200
    assert "Paris" in answer["body"]["choices"][0]["message"]["content"]
    records = int(pod.ask("ledger", _asks_ledger(pod)).stdout.split()[0])
    assert records >= before + 2, "an intent and an outcome"


def test_a_caller_without_the_clusters_certificate_or_without_a_key_is_not_answered(
    exported: Exported, pod: Pod
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _in_namespace(pod, _STRANGER)
    assert "CERTIFICATE_REQUIRED" in refused.value.stderr.upper().replace(" ", "_")

    assert _asked(pod, exported, {"model": "production", "messages": []}, key="sk-nobody")["status"] == 401


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_right_that_it_does_not_need(pod: Pod, name: str) -> None:
    told = pod.ask(name, ["cat", "/proc/1/status"]).stdout
    status = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)

    assert {status[one] for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert set(status["Uid"].split()) == {str(USER)}
    assert pod.ask(name, ["touch", "/tmp/x"]).returncode == 0
    for place in ("/x", "/opt/sealift/x", "/etc/sealift/x", "/var/lib/sealift/x"):
        told = pod.ask(name, ["touch", place]).stderr
        assert any(one in told for one in ("Read-only file system", "Permission denied", "No such file")), told


def test_only_the_gateway_reads_the_boxes_keys_and_only_the_ledger_its_own(pod: Pod) -> None:
    assert pod.ask("gateway", ["wc", "-c", "/credentials/phi-map.v1"]).stdout.split()[0] == "32"
    assert pod.ask("gateway", ["ls", "/credentials"]).stdout.split() == sorted(f"{one}.v1" for one in KEYS)
    assert "ledger-checkpoint.v1" in pod.ask("ledger", ["ls", "/credentials"]).stdout
    assert "No such file" in pod.ask("engine", ["ls", "/credentials"]).stderr


def test_a_pod_whose_weights_changed_starts_nothing(exported: Exported, namespace: str, pod: Pod, folder: Path) -> None:
    assert pod.is_running("gateway")
    spoiled = folder / "spoiled"
    shutil.copytree(exported.volumes["data"], spoiled, symlinks=True)
    [link] = exported.volumes["model"].iterdir()  # what the pod that runs has proven
    weights = spoiled / link.readlink().relative_to("/var/lib/sealift")
    weights.chmod(0o600)
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))
    changed = {**exported.volumes, "data": spoiled, "model": containers.empty(folder / "model-2")}
    other = Pod(podman=exported.podman, name="llm-1", spec=pod.spec, volumes=changed, namespace=namespace)

    unreadable = other.begin(other.spec["initContainers"][0])
    containers.give_to_pods(spoiled)
    done = other.begin(other.spec["initContainers"][0])

    assert unreadable.returncode == UsageError.exit_code
    assert f"chown -R {USER}:{USER}" in unreadable.stderr
    assert done.returncode == StoreDamagedError.exit_code
    assert "store-damaged" in done.stderr


def test_a_pod_that_ends_lets_a_running_answer_end_and_the_next_one_goes_on_with_its_ledger(
    exported: Exported, pod: Pod
) -> None:
    question = {"messages": [{"role": "user", "content": "Tell the story of a lighthouse, at length."}]}
    body = json.dumps({"model": "production", "max_tokens": 256, "stream": True, **question})
    command = ["ip", "netns", "exec", pod.namespace, sys.executable, "-I", "-c", _STREAM]
    with (
        subprocess.Popen([*command, exported.tls, exported.key, body], stdout=subprocess.PIPE, text=True) as caller,
        ThreadPoolExecutor(1) as cluster,
    ):
        assert caller.stdout is not None
        events = [caller.stdout.readline()]
        ending = cluster.submit(pod.stop)
        events += caller.stdout
        still_ending = not ending.done()
        ending.result()
    assert still_ending, "the answer was over before the pod was"
    assert caller.returncode == 0
    assert events[-1].strip() == "[DONE]"
    request = json.loads(events[0])["id"].replace("chatcmpl-", "req_")
    reasons = [one["finish_reason"] for event in events[:-1] for one in json.loads(event).get("choices", [])]
    assert reasons[-1] in {"stop", "length"}
    assert len(reasons) > 30

    _serve(pod)

    told = pod.ask("ledger", ["sealift", "--json", "audit", "list", "--oldest", "--request", request])
    leaves = json.loads(told.stdout)["leaves"]
    assert [one["kind"] for one in leaves] == ["request.intent", "request.outcome"]
    assert leaves[-1]["body"]["outcome"] == "ok"


def _serve(pod: Pod) -> None:
    """Start what a pod has, in the order in which a cluster does."""
    for one in pod.spec["initContainers"]:
        if containers.is_sidecar(one):
            pod.start(one)
            _until(pod, one, "startupProbe")
        else:
            done = pod.begin(one)
            assert done.returncode == 0, done.stderr
    for one in pod.spec["containers"]:
        pod.start(one)
    for probe in ("startupProbe", "readinessProbe"):
        _until(pod, _container(pod, "gateway"), probe)


def _serving(chart: Path) -> dict[str, Any]:
    helm = peer_python("kubernetes").with_name("helm")
    done = subprocess.run([helm, "template", "llm", chart], capture_output=True, text=True, check=True)
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    [site] = [one for one in found if one["kind"] == "ConfigMap"]
    containers.as_mounted(
        chart.parents[1] / "volumes/site", {name: text.encode() for name, text in site["data"].items()}, mode=0o644
    )
    [serving] = [one for one in found if one["kind"] == "StatefulSet"]
    return dict(serving)


def _volumes(folder: Path) -> dict[str, Path]:
    below = folder / "volumes"
    tls_secret(folder / "tls")
    for name in ("store", "promoter", "registry"):
        shutil.copytree(STATE / name, below / "data" / name, symlinks=True)
    containers.give_to_pods(below / "data")
    keys = DEMO / "appliance/etc/sealift/keys"
    return {
        "site": below / "site",
        "data": below / "data",
        "keys": containers.as_mounted(
            below / "keys", {f"{one}.v1": (keys / f"{one}.v1").read_bytes() for one in KEYS}, mode=0o400
        ),
        "tls": containers.as_mounted(
            below / "tls", {path.name: path.read_bytes() for path in (folder / "tls").iterdir()}, mode=0o400
        ),
        **{name: containers.empty(below / name) for name in ("model", "run", "gateway", "scratch", "ledger")},
    }


def _container(pod: Pod, name: str) -> Mapping[str, Any]:
    [found] = [one for one in (*pod.spec["initContainers"], *pod.spec["containers"]) if one["name"] == name]
    return dict(found)


def _asks_ledger(pod: Pod) -> list[str]:
    return list(_container(pod, "ledger")["livenessProbe"]["exec"]["command"])


def _until(pod: Pod, container: Mapping[str, Any], probe: str) -> None:
    """Ask until a probe says that all is well."""
    end = time.monotonic() + _SECONDS
    while not pod.is_well(container, probe):
        assert pod.is_running(container["name"]), pod.log(container["name"])
        assert time.monotonic() < end, pod.log(container["name"])
        time.sleep(0.2)


def _asked(pod: Pod, exported: Exported, question: dict[str, Any], *, key: str = "") -> dict[str, Any]:
    told = _in_namespace(
        pod, _ASK, str(exported.tls), key or exported.key, "/v1/chat/completions", json.dumps(question)
    )
    return dict(json.loads(told))


def _in_namespace(pod: Pod, script: str, *arguments: str) -> str:
    words = ["ip", "netns", "exec", pod.namespace, sys.executable, "-I", "-c", script, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
