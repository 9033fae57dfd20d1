"""What may serve and what serves: versions with their stage, alias and gates, and the variants of one model."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select

from appliance.audit.facts import Ledger
from appliance.errors import StoreDamagedError
from appliance.promote.policy import packaged
from appliance.registry import catalog, deletion
from appliance.registry.aliases import CANDIDATE, PRODUCTION, aliases
from appliance.registry.catalog import Judgement, Version
from appliance.registry.damaged import descriptors_of
from appliance.registry.variants import Variant, variants_of
from appliance.stages import FIRST_LINE
from appliance.state import lines
from appliance.state.rollouts import CANARY
from appliance.state.tables import Rollout
from appliance.store.content import ContentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """One version with its stage and what its gates said.

    Attributes:
        alias: production, previous or candidate, if it has one; all of them are line 1's.
        line: The further line of production that serves or tries it, if one does.
    """

    version: Version
    stage: str
    gates: tuple[Judgement, ...]
    alias: str = ""
    line: int | None = None

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
        line = {} if self.line is None else {"line": self.line}
        return {**self.version.to_json(), "stage": self.stage, "alias": self.alias or None, **line, "gates": gates}


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
        named, further = {digest: alias for alias, digest in aliases(session).items()}, _further(session)
        return tuple(
            _facts(one, named, further, catalog.judgements(session, one.model_digest))
            for one in catalog.versions(session)
        )


def waiting(store: ContentStore, ledger: Ledger, state: Engine) -> tuple[Waiting, ...]:
    """Return the versions that were received and not installed, of the newest release first.

    What was deleted does not wait. Where this user may not read the store, or the disk does not give its list back,
    which `sealift doctor` tells, there are none to tell of.
    """
    with state.connect() as session:
        known = {one.model_digest for one in catalog.versions(session)} | deletion.deleted(ledger).keys()
    found: dict[str, Waiting] = {}
    with suppress(OSError, StoreDamagedError):
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
        return _facts(version, named, _further(session), catalog.judgements(session, version.model_digest))


def variants(state: Engine) -> dict[str, tuple[Variant, ...]]:
    """Return the versions of each model by its quantization levels: the least reduced first."""
    with state.connect() as session:
        return variants_of(catalog.versions(session))


def _facts(
    version: Version, named: dict[str, str], further: dict[str, tuple[int, str]], gates: tuple[Judgement, ...]
) -> VersionFacts:
    alias = named.get(version.model_digest, "")
    line, stands = further.get(version.model_digest, (None, alias))
    return VersionFacts(version=version, stage=_stage(stands, gates), gates=gates, alias=alias, line=line)


def _further(session: Connection) -> dict[str, tuple[int, str]]:
    """Return what further lines serve and try: the line's number, and the alias that such a version of line 1 has."""
    tried = select(Rollout.line, Rollout.model_digest).where(Rollout.state.in_(CANARY), ~lines.is_of(Rollout))
    found = {str(digest): (line or FIRST_LINE, CANDIDATE) for line, digest in session.execute(tried)}
    served = lines.served(session).items()
    return found | {digest: (number, PRODUCTION) for number, digest in served if number != FIRST_LINE}


def _stage(alias: str, gates: tuple[Judgement, ...]) -> str:
    if alias in {PRODUCTION, CANDIDATE}:
        return "canary" if alias == CANDIDATE else "production"
    if not all(gate.passed for gate in gates):
        return "failed"
    return "validated" if {gate.gate for gate in gates} >= set(packaged().gates) else "registered"
