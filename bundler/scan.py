"""The scan before anything is assembled: what may not travel is found here, or two people said by name why it may.

Rules, by the kind of file:

    wheels      pth-file, shadows-stdlib, overlaps, foreign-shebang, pickle, secret, license-unknown
                (a wheel that breaks its own format is refused outright, `wheelfile.py`)
    weights     malformed headers are refused outright; pickle (by name and by first bytes)
    models      pickle, remote-code, secret, patient-data, license-unknown, unexpected-file;
                quantization (a level that is not recommended, or quantized twice) is listed, not refused
    evals       patient-data, secret
    ours        secret, build-path (playbooks, units, and the text of our own wheel)
    debs        nothing blocks; maintainer scripts and set-user-id files are listed for the people who sign

A recipe may allow a finding by path, rule and reason (`[[scan.allowed]]`); an allowance that matches nothing is
refused, so the list cannot rot. Every finding, allowed or listed, is in the signed scan statement.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Final

from bundler import leaks, wheelfile
from bundler.artifact import Artifact
from bundler.debfile import listed
from bundler.errors import ScanError
from bundler.gguf_header import read as read_gguf
from bundler.process import Progress, quiet
from bundler.quantlevels import advice
from bundler.recipe import AllowedFinding
from bundler.safetensors_header import read as read_safetensors
from media.canonical import loads, mapping

RULES: Final = (
    "build-path", "foreign-shebang", "license-unknown", "overlaps", "patient-data", "pickle", "pth-file",
    "quantization", "remote-code", "secret", "shadows-stdlib", "unexpected-file",
)  # fmt: skip
_TEXT_BYTES: Final = 2 * 2**20
_PICKLE_NAMES: Final = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".h5"})
# In wheels, a package's own test data has .bin and .npy of every kind; only names that mean pickled objects are judged.
_PICKLE_NAMES_IN_WHEELS: Final = frozenset({".pkl", ".pickle", ".joblib", ".ckpt"})
_PICKLE_STARTS: Final = (
    *(bytes([0x80, protocol]) for protocol in range(2, 6)), b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"\x93NUMPY",
    b"\x89HDF", b"\x1f\x8b", b"(lp", b"(dp", b"ccopy_reg",
)  # fmt: skip
_MODEL_NAMES: Final = frozenset({".gguf", ".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".md"})
_START_FILES: Final = frozenset({"sitecustomize", "usercustomize"})
_OURS: Final = "sealift"
_LISTED: Final = "listed for the people who sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that people must know of; `reason` says who allowed it and why, or that it is only listed."""

    path: str
    rule: str
    detail: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """A scan that found nothing that blocks."""

    files: int
    findings: tuple[Finding, ...]

    def predicate(self) -> dict[str, Any]:
        """Return what the scan statement says."""
        return {
            "format": 1,
            "rules": list(RULES),
            "files": self.files,
            "result": "passed",
            "findings": [
                {"path": found.path, "rule": found.rule, "detail": found.detail, "reason": found.reason}
                for found in self.findings
            ],
        }


def scan(
    artifacts: Sequence[Artifact], *, allowed: Sequence[AllowedFinding] = (), progress: Progress = quiet
) -> ScanReport:
    """Check every file of the payload.

    Raises:
        ScanError: Something may not travel, or an allowance matches nothing.
    """
    progress(f"scanning {len(artifacts)} files")
    judged: list[Finding] = []
    blocking: list[Finding] = []
    used: set[int] = set()
    checked = chain.from_iterable(_CHECKS[artifact.kind](artifact) for artifact in artifacts)
    for found in chain(checked, _overlaps(artifacts)):
        number = next((n for n, entry in enumerate(allowed) if _matches(entry, found)), None)
        if found.reason:
            judged.append(found)
        elif number is None:
            blocking.append(found)
        else:
            used.add(number)
            judged.append(Finding(path=found.path, rule=found.rule, detail=found.detail, reason=allowed[number].reason))
    if blocking:
        raise _refused(blocking)
    for number, entry in enumerate(allowed):
        if number not in used:
            raise ScanError(
                what=f"scan.allowed.{number}: it matches no finding",
                why=f"{entry.rule} in {entry.path}",
                fix="remove it from the recipe",
            )
    return ScanReport(files=len(artifacts), findings=tuple(judged))


def _refused(blocking: list[Finding]) -> ScanError:
    first = blocking[0]
    more = f"; {len(blocking) - 1} more findings" if len(blocking) > 1 else ""
    return ScanError(
        what=f"{first.path} may not travel: {first.rule}",
        why=f"{first.detail}{more}",
        fix="replace the file; or, when two people have looked, add [[scan.allowed]] with path, rule and reason",
    )


def _matches(entry: AllowedFinding, found: Finding) -> bool:
    return entry.rule == found.rule and fnmatchcase(found.path, entry.path)


def _wheel(artifact: Artifact) -> Iterator[Finding]:
    if artifact.file is None:
        raise ScanError(what=f"{artifact.target} is not a file", why="a wheel has a host file", fix="report it")
    facts = wheelfile.read(artifact.file)
    if not facts.license:
        yield _finding(artifact, "license-unknown", "its METADATA states no licence")
    for member in facts.members:
        yield from _member(artifact, facts, member)
    for member, data in wheelfile.members(artifact.file, limit=_TEXT_BYTES):
        if facts.is_script(member) and data[:2] == b"#!" and not data.startswith(b"#!python"):
            yield _finding(artifact, "foreign-shebang", "a program that starts another interpreter", member)
        if b"\0" not in data[:8192]:
            yield from _leaks(artifact, data, _text_rules(facts.name == _OURS), member)


def _member(artifact: Artifact, facts: wheelfile.WheelFacts, member: str) -> Iterator[Finding]:
    suffix = PurePosixPath(member).suffix.lower()
    if suffix == ".pth":
        yield _finding(artifact, "pth-file", "it runs code whenever Python starts", member)
    if suffix in _PICKLE_NAMES_IN_WHEELS:
        yield _finding(artifact, "pickle", "pickled objects run code when they are read", member)
    installed = facts.installed(member)
    if installed is None:
        return
    top = installed.parts[0].partition(".")[0]
    is_module = len(installed.parts) > 1 or installed.suffix in {".py", ".so", ".pyc"}
    if is_module and (top in sys.stdlib_module_names or top in _START_FILES):
        yield _finding(artifact, "shadows-stdlib", f"{top} is a module of Python's own", member)


def _overlaps(artifacts: Sequence[Artifact]) -> Iterator[Finding]:
    """Find wheels that would install a file over another's: which one stays would hang on the order."""
    owners: dict[str, str] = {}
    for artifact in artifacts:
        if artifact.kind != "wheel" or artifact.file is None:
            continue
        for place in sorted(wheelfile.installed_paths(artifact.file)):
            other = owners.setdefault(place, artifact.component.name)
            if other != artifact.component.name:
                yield _finding(artifact, "overlaps", f"{other} installs the same file", place)


def _weights(artifact: Artifact) -> Iterator[Finding]:
    suffix = PurePosixPath(artifact.target).suffix
    if artifact.file is None or suffix not in {".gguf", ".safetensors"}:
        yield _finding(artifact, "unexpected-file", "weights are GGUF or safetensors")
        return
    with artifact.file.open("rb") as file:
        yield from _pickled(artifact, file.read(16))
    if suffix == ".gguf":
        read_gguf(artifact.file)
    else:
        read_safetensors(artifact.file)


def _model(artifact: Artifact) -> Iterator[Finding]:
    path = PurePosixPath(artifact.target)
    data = artifact.read()
    if not artifact.component.license:
        yield _finding(artifact, "license-unknown", "the recipe states no licence")
    if path.suffix.lower() not in _MODEL_NAMES and path.name != "LICENSE":
        yield _finding(artifact, "unexpected-file", "no program of ours reads such a file")
    if path.suffix.lower() in _PICKLE_NAMES:
        yield _finding(artifact, "pickle", "its name is that of pickled objects")
    yield from _pickled(artifact, data[:16])
    if path.suffix == ".json" and b"auto_map" in data:
        yield _finding(artifact, "remote-code", "auto_map names code that a library would fetch and run")
    if path.name != "LICENSE":
        yield from _leaks(artifact, data, (leaks.secrets, leaks.assigned_secrets))
    if path.name in {"descriptor.json", "chat_template.jinja"}:
        yield from _leaks(artifact, data, (leaks.patient_data,))
    if path.name == "provenance.json":
        yield from _quantization(artifact, data)


def _quantization(artifact: Artifact, data: bytes) -> Iterator[Finding]:
    """List what two people should know of a level before they sign; whether it may serve is the site's to decide."""
    record = mapping(loads(data), artifact.target)
    derived = mapping(record.get("derived_from", {}), artifact.target)
    details = [advice(str(record.get("quantization", "")))]
    if derived.get("requantized"):
        details.append("quantized from weights that were quantized already; quality is lost twice")
    for detail in filter(None, details):
        yield Finding(path=artifact.target, rule="quantization", detail=detail, reason=_LISTED)


def _pickled(artifact: Artifact, start: bytes) -> Iterator[Finding]:
    if start.startswith(_PICKLE_STARTS):
        yield _finding(artifact, "pickle", "it starts like pickled objects or an archive of them")


def _eval(artifact: Artifact) -> Iterator[Finding]:
    yield from _leaks(artifact, artifact.read(), (leaks.secrets, leaks.patient_data))


def _ours(artifact: Artifact) -> Iterator[Finding]:
    yield from _leaks(artifact, artifact.read(), _text_rules(True))


def _deb(artifact: Artifact) -> Iterator[Finding]:
    if artifact.target.endswith(".deb") and artifact.file is not None:
        for rule, detail in listed(artifact.file):
            yield Finding(path=artifact.target, rule=rule, detail=detail, reason=_LISTED)


_LeakRule = Callable[[bytes], Iterator[leaks.Leak]]


def _text_rules(is_ours: bool) -> tuple[_LeakRule, ...]:  # noqa: FBT001 - reads as a predicate
    return (leaks.secrets, leaks.assigned_secrets, leaks.build_paths) if is_ours else (leaks.secrets,)


def _leaks(artifact: Artifact, data: bytes, rules: Sequence[_LeakRule], member: str = "") -> Iterator[Finding]:
    for rule in rules:
        for leak in rule(data):
            yield _finding(artifact, leak.rule, f"{leak.what}, line {leak.line}", member)


def _finding(artifact: Artifact, rule: str, detail: str, member: str = "") -> Finding:
    path = f"{artifact.target}!{member}" if member else artifact.target
    return Finding(path=path, rule=rule, detail=detail)


_CHECKS: Final[dict[str, Callable[[Artifact], Iterator[Finding]]]] = {
    "wheel": _wheel,
    "weights": _weights,
    "model": _model,
    "eval": _eval,
    "host": _ours,
    "server": _ours,
    "release": _ours,
    "deb": _deb,
}
