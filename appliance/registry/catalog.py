"""The versions this site knows: registered from a stored release, found again by digest, prefix or name.

Promises: a version enters only from a release whose every byte was hashed, only when its descriptor's files are that
release's files with the same digests, and through the ledger first; the same digest carried again is the same version.
A deleted version comes back only when a release that brings it is received again.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.orm import Session

from appliance.audit.facts import Ledger
from appliance.errors import UnknownVersionError
from appliance.registry import deletion, memory
from appliance.registry.aliases import ALIASES, aliases
from appliance.registry.carriers import models, require_files
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import lines, projection
from appliance.state.tables import GateResult, ModelVersion, Promotion
from appliance.store.content import StoredRelease
from media import canonical
from media.errors import SealiftError

Reader = Connection | Session

REGISTERED: Final = deletion.REGISTERED
_RECEIVED: Final = ("release.received", "release.reverified")
PROVENANCE: Final = "provenance.json"
_MOST_PROVENANCE_BYTES: Final = 32 * 1024
_SHORTEST_PREFIX = 6
_PREFIX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable version of a model; `sequence` is the ledger's record of its registration."""

    model_digest: str
    name: str
    version: str
    weights_digest: str
    serial: int
    descriptor: dict[str, Any]
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers, the descriptor as its headline facts."""
        shown = ("engine", "quantization", "license", "context_tokens", "environment")
        return {
            "model_digest": self.model_digest,
            "name": self.name,
            "version": self.version,
            "weights_digest": self.weights_digest,
            "serial": self.serial,
            **{field: self.descriptor.get(field) for field in shown},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The newest result of one gate for one version."""

    gate: str
    passed: bool
    evidence_digest: str
    figures: dict[str, Any]
    sequence: int


def register(ledger: Ledger, state: Engine, stored: StoredRelease) -> tuple[str, ...]:
    """Register every model of a stored release and return their digests, in the release's order.

    Raises:
        StoreDamagedError: A descriptor names a file that the release does not hold with that digest.
        MalformedError: A descriptor is not one.
        LedgerUnavailableError: Nothing more was registered.
    """
    digests = []
    for model in models(stored):
        path = canonical.text(model.get("descriptor"), "descriptor")
        descriptor = ModelDescriptor.from_bytes(stored.read(path))
        require_files(descriptor, stored)
        known = ledger.find(kind=REGISTERED, field="model_digest", value=descriptor.model_digest, limit=1)
        gone = deletion.deletion_of(ledger, descriptor.model_digest) if known else None
        if not known or (gone is not None and _came_back(ledger, descriptor, stored, gone.sequence)):
            ledger.append(REGISTERED, _body(descriptor, stored))
        digests.append(descriptor.model_digest)
    projection.catch_up(state, ledger)
    return tuple(digests)


def versions(session: Reader) -> tuple[Version, ...]:
    """Return all versions, the last registered first."""
    rows = session.execute(select(ModelVersion.__table__).order_by(ModelVersion.registered_sequence.desc())).all()
    return tuple(_version(row) for row in rows)


def version(session: Reader, untrusted_name: str) -> Version:
    """Return the version meant by an alias, a digest, the beginning of one, NAME:VERSION or a name (its newest).

    Aliases are production, previous and candidate; no model can take such a name from them.

    Raises:
        UnknownVersionError: There is none, or a beginning fits more than one.
    """
    known = versions(session)
    if untrusted_name in ALIASES:
        meant = aliases(session).get(untrusted_name)
        found = [one for one in known if one.model_digest == meant]
        if not found:
            raise _unknown(untrusted_name, "no version has that alias now")
        return found[0]
    if _PREFIX.fullmatch(untrusted_name):
        found = [one for one in known if one.model_digest.startswith(untrusted_name)]
        if len(found) > 1:
            raise _unknown(untrusted_name, f"{len(found)} versions begin so; give more digits")
        if found:
            return found[0]
    name, _, wanted = untrusted_name.partition(":")
    for one in known:
        if one.name == name and wanted in {"", one.version}:
            return one
    raise _unknown(untrusted_name, f"expected a name, NAME:VERSION, or {_SHORTEST_PREFIX} or more digits of a digest")


def judgements(session: Reader, model_digest: str) -> tuple[Judgement, ...]:
    """Return the newest result of each gate for a version, in the order they were recorded."""
    wanted = select(GateResult.__table__).where(GateResult.model_digest == model_digest).order_by(GateResult.sequence)
    newest = {row.gate: row for row in session.execute(wanted)}
    return tuple(
        Judgement(
            gate=row.gate,
            passed=row.passed,
            evidence_digest=row.evidence_digest,
            figures=dict(row.figures),
            sequence=row.sequence,
        )
        for row in sorted(newest.values(), key=lambda row: int(row.sequence))
    )


def in_production(session: Reader) -> str | None:
    """Return the digest that state says is in production, in line 1; None when stopped or never promoted.

    For all lines see `appliance.state.lines.served`.
    """
    newest = select(Promotion.model_digest).where(lines.is_of(Promotion)).order_by(Promotion.sequence.desc()).limit(1)
    return session.execute(newest).scalar_one_or_none()


def _came_back(ledger: Ledger, descriptor: ModelDescriptor, stored: StoredRelease, gone: int) -> bool:
    """Tell whether a release that brings a deleted version was received again after that, and its files are here."""
    newest = [ledger.find(kind=kind, field="serial", value=stored.serial, limit=1) for kind in _RECEIVED]
    if not any(leaf.sequence > gone for found in newest for leaf in found):
        return False
    return all(stored.store.holds(file.sha256, file.length) for file in descriptor.files)


def _body(descriptor: ModelDescriptor, stored: StoredRelease) -> dict[str, Any]:
    return {
        "model_digest": descriptor.model_digest,
        "name": descriptor.name,
        "version": descriptor.version,
        "weights_digest": descriptor.weights_digest,
        "serial": stored.serial,
        "release": stored.release,
        "descriptor": canonical.loads(descriptor.raw),
        "memory": _memory(descriptor, stored),
        "provenance": _provenance(descriptor, stored),
    }


def _provenance(descriptor: ModelDescriptor, stored: StoredRelease) -> dict[str, Any] | None:
    """Return what the sender says of it, so that whoever reads the ledger reads it; None where it is large or none."""
    path = f"{descriptor.template_path.rpartition('/')[0]}/{PROVENANCE}"
    if path not in stored.files or stored.files[path].length > _MOST_PROVENANCE_BYTES:
        return None
    try:
        return canonical.mapping(canonical.loads(stored.read(path)), PROVENANCE)
    except SealiftError:
        return None


def _memory(descriptor: ModelDescriptor, stored: StoredRelease) -> dict[str, int] | None:
    """Return what it takes of memory; None where that cannot be told, which the gates find in their own way."""
    try:
        need = memory.need_of(descriptor, stored.path_of)
    except SealiftError:
        return None
    return None if need is None else need.to_json()


def _version(row: Row[Any]) -> Version:
    return Version(
        model_digest=row.model_digest,
        name=row.name,
        version=row.version,
        weights_digest=row.weights_digest,
        serial=row.serial,
        descriptor=dict(row.descriptor),
        sequence=row.registered_sequence,
    )


def _unknown(untrusted_name: str, why: str) -> UnknownVersionError:
    return UnknownVersionError(
        what=f"no version {untrusted_name[:40]!r} is known",
        why=why,
        fix="see `sealift models list`; what a release brings is known once that release is installed",
    )
