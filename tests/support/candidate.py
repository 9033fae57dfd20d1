"""What a build and a rehearsal leave in a work folder: a payload of a few kilobytes with every kind of file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media.bill import PATH_PROPERTY
from media.canonical import dumps
from media.digest import payload_digest, sha256_hex

STALE_AFTER = "2027-11-20T08:00:00Z"
MACHINE = {"profile": "cpu", "python": "3.11", "platform": "linux_x86_64", "glibc": "2.36", "cpu_flags": []}


def new_candidate(folder: Path) -> WorkFolder:
    """Lay down a candidate of the tiny payload, serial 1, that nobody has attested yet."""
    work, payload = WorkFolder(root=folder), tiny_payload()
    write_candidate(work, candidate_plan(payload), payload)
    return work


def candidate_plan(payload: Mapping[str, bytes], *, serial: int = 1, **facts: Any) -> ReleasePlan:
    """Return the plan of a payload, with any of its facts set otherwise."""
    usual: dict[str, Any] = {
        "release": f"demo-{serial}",
        "serial": serial,
        "created": "2026-11-20T07:00:00Z",
        "stale_after": STALE_AFTER,
        "sites": ("demo-clinic",),
        "targets": (MACHINE,),
        "kinds": {path: kind_of(path) for path in payload},
    }
    return ReleasePlan(**{**usual, **facts})


def bill_entry(path: str, sha256: str) -> dict[str, Any]:
    """Return one component of a bill of materials, no larger than it must be."""
    return {
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [{"name": PATH_PROPERTY, "value": path}],
    }


def write_candidate(
    work: WorkFolder, plan: ReleasePlan, payload: Mapping[str, bytes], *, level: str = "answered-on-cpu"
) -> None:
    """Lay down what a build and a rehearsal leave in a work folder."""
    for name, data in payload.items():
        path = work.candidate / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    work.plan.write_bytes(plan.to_bytes())
    work.attest.mkdir()
    digest = payload_digest((name, len(data), sha256_hex(data)) for name, data in payload.items())
    predicates: dict[str, dict[str, Any]] = {
        "provenance": {"buildDefinition": {"buildType": "sealift/build/v1"}},
        "sbom": {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "components": [bill_entry(name, sha256_hex(data)) for name, data in payload.items()],
        },
        "scan": {"format": 1, "rules": [], "files": len(payload), "result": "passed", "findings": []},
        "rehearsal": {"payload_digest": digest, "level": level, "at": "2026-11-20T07:30:00Z"},
    }
    for name, predicate in predicates.items():
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": plan.release, "digest": {"sha256": digest}}],
            "predicateType": f"sealift/{name}/v1",
            "predicate": predicate,
        }
        (work.attest / f"{name}.json").write_bytes(dumps(statement))


def tiny_payload(*, serial: int = 1, weights: bytes | None = None) -> dict[str, bytes]:
    """Return a payload of a few kilobytes with every kind of file, consistent by digests, naming one model `tiny`."""
    weights = bytes(range(256)) * 40 + serial.to_bytes(4, "big") if weights is None else weights
    template = b"{% for message in messages %}{{ message['content'] }}{% endfor %}"
    wheel = b"PK\x05\x06" + bytes(18)
    line = f"tiny==1.0 --hash=sha256:{sha256_hex(wheel)}\n".encode()
    names = {name: f"data/server/requirements-{name}.txt" for name in ("server", "engine-llama-cpp", "host")}
    model = "data/models/tiny"
    descriptor = {
        "format": 1,
        "name": "tiny",
        "version": f"1.{serial}",
        "engine": "llama.cpp",
        "environment": sha256_hex(line),
        "files": [
            {"path": f"{model}/tiny.gguf", "role": "weights", "sha256": sha256_hex(weights), "length": len(weights)}
        ],
        "chat_template": {"path": f"{model}/chat_template.jinja", "sha256": sha256_hex(template)},
        "system_prompt": "",
        "rules": [],
        "runtime": {"n_ctx": 512, "n_batch": 512, "n_seq_max": 1, "defaults": {"temperature": "0", "top_p": "1"}},
        "quantization": "Q4_1",
        "license": "Apache-2.0",
        "context_tokens": 512,
    }
    facts = {
        "format": 1,
        "product": "sealift",
        "release": f"demo-{serial}",
        "serial": serial,
        "created": "2026-11-20T07:00:00Z",
        "models": [{"name": "tiny", "descriptor": f"{model}/descriptor.json", "evals": ["data/evals/tiny.jsonl"]}],
        "environments": names,
        "debs": ["data/debs/tiny_1.0_all.deb"],
    }
    return {
        "data/release.json": dumps(facts),
        f"{model}/tiny.gguf": weights,
        f"{model}/descriptor.json": dumps(descriptor),
        f"{model}/chat_template.jinja": template,
        f"{model}/LICENSE": b"Apache-2.0\n",
        f"{model}/provenance.json": dumps({"source": "made by the tests"}),
        "data/evals/tiny.jsonl": b'{"prompt":"2+2=","choices":["4","5"],"answer":0}\n',
        "data/wheels/tiny-1.0-py3-none-any.whl": wheel,
        **dict.fromkeys(names.values(), line),
        "data/host/systemd/tiny.service": b"[Service]\nExecStart=/bin/true\n",
        "data/host/ansible/site.yml": b"- hosts: all\n",
        "data/debs/tiny_1.0_all.deb": b"!<arch>\n",
        "data/debs/Packages": b"Package: tiny\n",
        "data/debs/Release": b"Suite: sealift\n",
    }


def kind_of(path: str) -> str:
    """Return the kind that the build gives a payload file."""
    top = path.split("/")[1]
    if top == "models":
        return "weights" if path.endswith((".gguf", ".safetensors")) else "model"
    kinds = {"wheels": "wheel", "debs": "deb", "server": "server", "host": "host", "evals": "eval"}
    return kinds.get(top, "release")
