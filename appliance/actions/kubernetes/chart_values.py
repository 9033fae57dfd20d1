"""The values of one chart: what is in production on this box, and what a cluster decides for itself.

Written as YAML with a comment for each part, because people change it; `values.schema.json` refuses what is wrong.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from appliance.config import Config
from appliance.registry import memory
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import StoredRelease
from media.errors import SealiftError, UsageError
from media.vllmprofile import VllmSettings

_PINNED: Final = re.compile(r"[^@\s]{1,400}@sha256:[0-9a-f]{64}")
_GPUS: Final = (0, 1, 2, 4, 8)
_TARGET_PERCENT: Final = 72  # requirement A44: 70 to 75
_GATEWAY_PORT: Final = 8443
_COMMENTS: Final = {
    "site": "Facts of the box this was exported from. A new version is a new export, never an edit.",
    "images": "Built from images/ and pinned by digest: a tag could mean other bytes tomorrow.",
    "replicas": "Pods while autoscaling is off; each has a ledger of its own.",
    "gateway": "Requests and limits of containers.",
    "ledger": "Kept when pods go: it is evidence.",
    "data": "A claim with the box's folders store, promoter and registry; nothing in it is believed unproven.",
    "keys": "A secret with api-key-pepper, identity-hmac, content-hmac and phi-map, as key files of the box.",
    "tls": "A secret with tls.crt, tls.key and ca.crt. clients: required is mTLS.",
    "network": "The only namespace whose pods may call.",
    "autoscaling": "By the engine's CPU, or by GPU use where the cluster offers that metric.",
    "ray": "More than one node for one version (vLLM only); tensor parallelism within a node, stages across nodes.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a cluster's operator says.

    Args:
        server_image: Image of gateway and ledger, pinned: ``NAME@sha256:…``.
        engine_image: Image of the engine, pinned.
        replicas: Pods to begin with.
        gpus: GPUs of one node for the engine; 0 for the CPU.
        nodes: Nodes that serve one version together.
        most: Most pods when scaling; `replicas` or fewer means no scaling.
    """

    server_image: str
    engine_image: str
    replicas: int = 2
    gpus: int = 0
    nodes: int = 1
    most: int = 0

    def require(self, descriptor: ModelDescriptor) -> None:
        """Refuse what could never run.

        Raises:
            UsageError: An image is not pinned, or the numbers do not fit the engine.
        """
        for name, image in (("server", self.server_image), ("engine", self.engine_image)):
            if not _PINNED.fullmatch(image):
                raise UsageError(
                    what=f"the {name} image is not pinned",
                    why="a tag can be moved to other bytes",
                    fix=f"give --{name}-image NAME@sha256:DIGEST, as the registry inside the facility shows it",
                )
        why, (gpus, nodes) = "", _spread(descriptor)
        if self.gpus not in _GPUS:
            why = "GPUs of one node are 0, 1, 2, 4 or 8"
        elif self.replicas < 1 or self.nodes < 1:
            why = "at least one pod and one node"
        elif descriptor.engine == "llama.cpp" and (self.gpus or self.nodes > 1):
            why = "llama.cpp serves on one node's CPU here; GPUs and several nodes are for vLLM"
        elif descriptor.engine == "vllm" and (max(self.gpus, 1), self.nodes) != (gpus, nodes):
            why = (
                f"the profile that was approved is of {gpus} GPUs on each of {nodes} nodes: give --gpus and --nodes so"
            )
        elif self.nodes > 1 and (not self.gpus or self.replicas > 1 or self.most > self.replicas):
            why = "one version over several nodes needs GPUs, one replica, and no scaling"
        if why:
            raise _cannot_run(why)


def _spread(descriptor: ModelDescriptor) -> tuple[int, int]:
    settings = descriptor.runtime.vllm or VllmSettings()
    return settings.tensor_parallel_size, settings.pipeline_parallel_size


def require_pods(descriptor: ModelDescriptor) -> None:
    """Refuse a version whose engine the chart has no pods for.

    Raises:
        UsageError: It is an attached one, or llama.cpp's with layers on a GPU.
    """
    if descriptor.runtime.llama.num_gpu:
        raise _cannot_run("llama.cpp serves on one node's CPU here, and this version has layers on a GPU")
    if descriptor.engine == "attached":
        raise _cannot_run("the chart has no pods for attached engines")


def values(config: Config, stored: StoredRelease, descriptor: ModelDescriptor, wishes: Wishes) -> dict[str, Any]:
    """Return the chart's values, as `values.schema.json` describes them.

    Raises:
        UsageError: As `Wishes.require`.
    """
    wishes.require(descriptor)
    weights = sum(file.length for file in descriptor.files)
    return {
        "site": config.site,
        "release": {"name": stored.release, "serial": stored.serial},
        "model": {
            "name": descriptor.name,
            "version": descriptor.version,
            "digest": descriptor.model_digest,
            "weightsDigest": descriptor.weights_digest,
            "engine": descriptor.engine,
        },
        "images": {"server": wishes.server_image, "engine": wishes.engine_image, "pullPolicy": "IfNotPresent"},
        "replicas": wishes.replicas,
        "gateway": {"port": _GATEWAY_PORT, "resources": _resources("500m", 512, most_mib=2048)},
        "engine": {
            "gpus": wishes.gpus,
            "startSeconds": max(config.engine.start_seconds, 1800),
            "resources": _engine_resources(weights, wishes.gpus, need=_need(stored, descriptor)),
            "nodeSelector": {},
            "tolerations": [],
        },
        "ledger": {"size": "20Gi", "storageClass": "", "resources": _resources("250m", 256, most_mib=2048)},
        "data": {"claim": "sealift-data"},
        "keys": {"secret": "sealift-keys"},
        "tls": {"secret": "sealift-tls", "clients": "required"},
        "network": {"ingressNamespace": "ingress"},
        "autoscaling": {
            "enabled": wishes.most > wishes.replicas,
            "min": wishes.replicas,
            "max": max(wishes.most, wishes.replicas),
            "targetPercent": _TARGET_PERCENT,
            "gpuMetric": "DCGM_FI_DEV_GPU_UTIL",
        },
        "ray": {"nodes": wishes.nodes, "sharedMemory": "8Gi"},
    }


def to_yaml(chosen: dict[str, Any]) -> str:
    """Return the values as YAML: plain mappings, every text quoted as JSON does, a comment before each part."""
    lines = ["# Values of the Sealift chart. docs/operator/kubernetes.md says what each means."]
    for name, value in chosen.items():
        if name in _COMMENTS:
            lines += ["", f"# {_COMMENTS[name]}"]
        lines += _lines(name, value, 0)
    return "\n".join(lines) + "\n"


def _cannot_run(why: str) -> UsageError:
    return UsageError(what="these pods cannot run", why=why, fix="see `sealift export kubernetes --help`")


def _lines(name: str, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, dict) and value:
        return [f"{indent}{name}:", *(line for key, each in value.items() for line in _lines(key, each, depth + 1))]
    return [f"{indent}{name}: {json.dumps(value)}"]


def _resources(cpu: str, mib: int, *, most_mib: int) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": f"{mib}Mi"}, "limits": {"memory": f"{most_mib}Mi"}}


def _need(stored: StoredRelease, descriptor: ModelDescriptor) -> int:
    """Return what the version takes while it serves; 0 where that is not known, as of an engine that goes by its room.

    A version in production was reckoned when it was validated: weights that do not read would not be there.
    """
    with suppress(SealiftError, OSError):
        found = memory.need_of(descriptor, stored.path_of)
        return 0 if found is None else found.total
    return 0


def _engine_resources(weights: int, gpus: int, *, need: int) -> dict[str, Any]:
    """Weights are mapped, so they count toward the limit: half as much again, or all that is needed, and 2 GiB."""
    mib = max(weights * 3 // 2, need) // 2**20 + 2048
    return {"requests": {"cpu": "8" if gpus else "4", "memory": f"{mib}Mi"}, "limits": {"memory": f"{mib}Mi"}}
