"""What a work folder or a model file holds, read without changing, loading or trusting anything.

`inspect_work` answers what a person asks before signing: what is in it, how large, what was found, who has signed what.
`inspect_model` reads a header only, so it is safe on a file from anywhere.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bundler import gguf_header, safetensors_header
from bundler.errors import ScanError, SigningError
from bundler.plan import ReleasePlan
from bundler.scanning.record import ScanRecord
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media import bill, layout
from media.canonical import loads, mapping
from media.digest import file_sha256, sha256_hex
from media.errors import MediaError
from media.limits import PAYLOAD_BYTES

_SHOWN_KINDS: Final = ("weights", "model", "wheel", "deb", "server", "host", "eval", "release")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model of a candidate."""

    name: str
    version: str
    engine: str
    quantization: str
    license: str
    model_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFacts:
    """What a work folder holds."""

    plan: ReleasePlan
    files: Mapping[str, int]
    sizes: Mapping[str, int]
    models: tuple[ModelFacts, ...]
    environments: Mapping[str, int]
    statements: Mapping[str, bool]
    scan: ScanRecord
    rehearsal: str
    bill: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads."""
        return {
            "release": self.plan.release,
            "serial": self.plan.serial,
            "created": self.plan.created,
            "stale_after": self.plan.stale_after,
            "sites": list(self.plan.sites),
            "payload_digest": self.plan.payload_digest,
            "files": dict(self.files),
            "bytes": dict(self.sizes),
            "models": [
                {
                    "name": model.name,
                    "version": model.version,
                    "engine": model.engine,
                    "quantization": model.quantization,
                    "license": model.license,
                    "model_digest": model.model_digest,
                }
                for model in self.models
            ],
            "environments": dict(self.environments),
            "statements": dict(self.statements),
            "findings": [asdict(found) for found in self.scan.findings],
            "loads": [asdict(load) for load in self.scan.loads],
            "templates": dict(self.scan.templates),
            "antivirus": self.scan.antivirus,
            "rehearsal": self.rehearsal,
            "bill_of_materials": self.bill,
        }

    def to_text(self) -> str:
        """Return what a person reads."""
        plan = self.plan
        lines = [
            f"{plan.release}, serial {plan.serial}, for {', '.join(plan.sites)}",
            f"  created {plan.created}, stale after {plan.stale_after}",
            f"  payload {plan.payload_digest}",
        ]
        lines += [
            f"  {kind:<8} {self.files[kind]:>5} files {self.sizes[kind] / 2**20:>10.1f} MiB"
            for kind in _SHOWN_KINDS
            if kind in self.files
        ]
        for model in self.models:
            lines.append(f"  model {model.name} {model.version}: {model.engine}, {model.quantization}, {model.license}")
            lines.append(f"    digest {model.model_digest}")
        lines += [f"  environment {name}: {count} wheels" for name, count in self.environments.items()]
        lines += [f"  scan: {line}" for line in self.scan.lines()]
        lines.append(f"  rehearsal: {self.rehearsal or 'none yet'}")
        lines.append(f"  bill of materials: {self.bill or 'none yet'}")
        lines += [
            f"  statement {name}: {'signed' if is_signed else 'not signed yet'}"
            for name, is_signed in self.statements.items()
        ]
        return "\n".join(lines)


def inspect_work(work: WorkFolder) -> WorkFacts:
    """Read what a work folder holds.

    Raises:
        SigningError: There is no candidate, or only what a delta set carries of one.
        MalformedError: A file of it does not read.
    """
    if work.is_frozen and volume_index(work).base is not None:
        raise SigningError(
            what="this is a delta set's work folder",
            why="it holds only what the set carries",
            fix="inspect the work folder in which the release was signed, or a written volume of the set",
        )
    plan = ReleasePlan.load(work.plan)
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, kind in plan.kinds.items():
        files[kind] += 1
        place = work.candidate / name
        sizes[kind] += place.stat().st_size if place.is_file() else 0
    facts = mapping(loads((work.candidate / layout.RELEASE_FACTS).read_bytes()), "release.json")
    environments = {
        str(name): len((work.candidate / str(path)).read_text().splitlines())
        for name, path in mapping(facts.get("environments", {}), "environments").items()
    }
    rehearsal = _predicate(work, "rehearsal")
    return WorkFacts(
        plan=plan,
        files=files,
        sizes=sizes,
        models=tuple(_model(work, mapping(model, "models")) for model in facts.get("models", ())),
        environments=environments,
        statements={
            path.stem: path.with_name(f"{path.stem}{layout.ENVELOPE_SUFFIX}").is_file()
            for path in sorted(work.attest.glob("*.json"))
            if not path.name.endswith(layout.ENVELOPE_SUFFIX)
        },
        scan=scan_of(work),
        rehearsal=_rehearsed(rehearsal) if rehearsal else "",
        bill=_bill(work),
    )


def scan_of(work: WorkFolder) -> ScanRecord:
    """Read what the scan statement of a work folder says; where there is none, it says nothing.

    Raises:
        MalformedError: It does not read.
    """
    return ScanRecord.from_predicate(_predicate(work, "scan"))


def inspect_model(path: Path) -> dict[str, Any]:
    """Read the header of a GGUF or safetensors file; nothing is loaded.

    Raises:
        ScanError: It is neither, or its header breaks a rule.
    """
    if path.suffix == ".safetensors":
        return {
            "format": "safetensors",
            "tensors": safetensors_header.read(path),
            "length": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    if path.suffix != ".gguf":
        raise ScanError(
            what=f"{path.name} is neither GGUF nor safetensors", why="no other model file is read", fix="convert it"
        )
    header = gguf_header.read(path)
    types = Counter(tensor.type_name for tensor in header.tensors)
    return {
        "format": f"GGUF version {header.version}",
        "architecture": header.architecture,
        "parameters": header.parameters,
        "context_tokens": header.context_length,
        "tensors": len(header.tensors),
        "tensor_types": dict(types.most_common()),
        "has_chat_template": bool(header.chat_template),
        "length": path.stat().st_size,
        "sha256": file_sha256(path),
    }


def _model(work: WorkFolder, model: Mapping[str, Any]) -> ModelFacts:
    content = (work.candidate / str(model.get("descriptor"))).read_bytes()
    descriptor = mapping(loads(content), "descriptor.json")
    return ModelFacts(
        name=str(descriptor.get("name")),
        version=str(descriptor.get("version")),
        engine=str(descriptor.get("engine")),
        quantization=str(descriptor.get("quantization")),
        license=str(descriptor.get("license")),
        model_digest=sha256_hex(content),
    )


def _bill(work: WorkFolder) -> str:
    """Say whether the bill of materials names the candidate's files; digests are compared with the provenance's.

    The bytes are hashed when somebody signs.
    """
    found = _predicate(work, "sbom")
    if not found:
        return ""
    subjects = _whole(work, "provenance").get("subject", ())
    digests = {str(each["name"]): str(each["digest"]["sha256"]) for each in subjects}
    places = [path.relative_to(work.candidate).as_posix() for path in work.data.rglob("*") if path.is_file()]
    files = {path: digests.get(path, "") for path in places}
    try:
        bill.require_same_files(dict(found), files)
    except MediaError as error:
        return f"WRONG: {error.what}: {error.why}"
    return f"names these {len(files)} files and no other"


def _predicate(work: WorkFolder, name: str) -> Mapping[str, Any]:
    return mapping(_whole(work, name).get("predicate", {}), name)


def _whole(work: WorkFolder, name: str) -> Mapping[str, Any]:
    try:
        content = (work.attest / f"{name}.json").read_bytes()
    except OSError:
        return {}
    return mapping(loads(content, max_bytes=PAYLOAD_BYTES), name)


def _rehearsed(predicate: Mapping[str, Any]) -> str:
    system = predicate.get("system")
    return f"{predicate.get('level')}, at {predicate.get('at')}" + (
        f", on {str(system)[:80]}, booted" if system else ""
    )
