"""What may serve and what serves: versions with their stage, alias and gates, and the variants of one model."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.promote.policy import packaged
from appliance.registry import catalog, deletion
from appliance.registry.aliases import CANDIDATE, PRODUCTION, aliases
from appliance.registry.catalog import Judgement, Version
from appliance.registry.damaged import descriptors_of
from appliance.registry.variants import Variant, variants_of
from appliance.store.content import ContentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """One version with its stage and what its gates said; `alias` is production, previous or candidate, if any."""

    version: Version
    stage: str
    gates: tuple[Judgement, ...]
    alias: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        gates = [
            {
                "gate": one.gate,
                "passed": one.passed,
                "evidence_digest": one.evidence_digest,
                "sequence": one.sequence,
                "figures": one.figures,
            }
            for one in self.gates
        ]
        return {**self.version.to_json(), "stage": self.stage, "alias": self.alias or None, "gates": gates}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A version that a stored release brings and nobody installed yet; no gate and no promotion knows it."""

    model_digest: str
    name: str
    version: str
    serial: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "name": self.name,
            "version": self.version,
            "serial": self.serial,
        }


def list_versions(state: Engine) -> tuple[VersionFacts, ...]:
    """Return all versions, the last registered first."""
    with state.connect() as session:
        named = {digest: alias for alias, digest in aliases(session).items()}
        return tuple(
            _facts(one, named, catalog.judgements(session, one.model_digest)) for one in catalog.versions(session)
        )


def waiting(store: ContentStore, ledger: Ledger, state: Engine) -> tuple[Waiting, ...]:
    """Return the versions that were received and not installed, of the newest release first.

    What was deleted does not wait. Where this user may not read the store there are none to tell of.
    """
    with state.connect() as session:
        known = {one.model_digest for one in catalog.versions(session)} | deletion.deleted(ledger).keys()
    found: dict[str, Waiting] = {}
    with suppress(OSError):
        for stored in reversed(store.releases()):
            for _, descriptor in descriptors_of(stored):
                digest = descriptor.model_digest
                if digest not in known and digest not in found:
                    found[digest] = Waiting(
                        model_digest=digest,
                        name=descriptor.name,
                        version=descriptor.version,
                        serial=stored.serial,
                    )
    return tuple(found.values())


def show(state: Engine, which: str) -> VersionFacts:
    """Return one version.

    Raises:
        UnknownVersionError: There is none, or the digits fit several.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
        named = {digest: alias for alias, digest in aliases(session).items()}
        return _facts(version, named, catalog.judgements(session, version.model_digest))


def variants(state: Engine) -> dict[str, tuple[Variant, ...]]:
    """Return the versions of each model by its quantization levels: the least reduced first."""
    with state.connect() as session:
        return variants_of(catalog.versions(session))


def _facts(version: Version, named: dict[str, str], gates: tuple[Judgement, ...]) -> VersionFacts:
    alias = named.get(version.model_digest, "")
    return VersionFacts(version=version, stage=_stage(alias, gates), gates=gates, alias=alias)


def _stage(alias: str, gates: tuple[Judgement, ...]) -> str:
    if alias in {PRODUCTION, CANDIDATE}:
        return "canary" if alias == CANDIDATE else "production"
    if not all(gate.passed for gate in gates):
        return "failed"
    return "validated" if {gate.gate for gate in gates} >= set(packaged().gates) else "registered"
