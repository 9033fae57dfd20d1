"""What the pages show, read from `state.db` and the promoter, as plain values."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from appliance.actions import displaced, keyrules, keys
from appliance.actions.comparing import Compared, compare
from appliance.actions.fit import FitFacts, fit
from appliance.actions.keys import KeyFacts
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.promote.classes import shown
from appliance.promote.destination import Said
from appliance.registry import catalog
from appliance.registry.aliases import aliases
from appliance.registry.catalog import Version
from appliance.state import lines
from appliance.state.tables import ApiKey, Promotion, Release
from media import canonical
from media.errors import SealiftError


class Promoter(Protocol):
    """The promoter's admin door, or that of jobs, as `appliance.wire.Line` speaks it."""

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """A release that was received."""

    serial: int
    name: str
    code: str
    received_at: str
    installed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A model version with its newest gate results."""

    digest: str
    name: str
    version: str
    weights_digest: str
    serial: int
    descriptor: Mapping[str, Any]
    gates: tuple[tuple[str, bool, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRow:
    """One change of what production serves."""

    sequence: int
    kind: str
    digest: str
    previous: str
    at: str
    people: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRequest:
    """A statement that waits for signatures; `approvals` says who signed it and when."""

    digest: str
    statement: str
    fields: Mapping[str, Any]
    approvals: tuple[str, ...]


class Facts:
    """Reads; opens one short transaction for each question.

    Args:
        state: The engine of `state.db`.
        authority_file: The on-box CA's certificate; absent in the demo.
    """

    def __init__(self, state: Engine, *, authority_file: Path) -> None:
        self._state = state
        self._authority_file = authority_file

    def releases(self) -> Sequence[ReleaseRow]:
        """Return the releases, newest first."""
        with Session(self._state) as session:
            return [
                ReleaseRow(
                    serial=row.serial,
                    name=row.name,
                    code=row.code,
                    received_at=row.received_at,
                    installed_at=row.installed_at or "",
                )
                for row in session.scalars(select(Release).order_by(Release.serial.desc()))
            ]

    def versions(self) -> Sequence[VersionRow]:
        """Return the registered versions, newest first."""
        with Session(self._state) as session:
            return [_row(session, one) for one in catalog.versions(session)]

    def version(self, digest: str) -> VersionRow | None:
        """Return one version by its whole digest."""
        with Session(self._state) as session:
            found = next((one for one in catalog.versions(session) if one.model_digest == digest), None)
            return None if found is None else _row(session, found)

    def registered(self, digest: str) -> Version | None:
        """Return one version by its whole digest, as the registry has it."""
        with Session(self._state) as session:
            return next((one for one in catalog.versions(session) if one.model_digest == digest), None)

    def fit(self, config: Config, ledger: Ledger, digest: str, *, said: Said | None = None) -> FitFacts:
        """Return what memory holds of a version; see `appliance.actions.fit`."""
        return fit(config, ledger, self._state, digest, said=said)

    def compare(self, config: Config, ledger: Ledger, first: str, second: str) -> Compared:
        """Return two versions side by side; see `appliance.actions.comparing`."""
        return compare(config, self._state, ledger, first, second)

    def aliases(self) -> Mapping[str, str]:
        """Return production, previous and candidate by digest, those that stand for a version now."""
        with Session(self._state) as session:
            return {digest: alias for alias, digest in aliases(session).items()}

    def history(self) -> Sequence[PromotionRow]:
        """Return every change of production, newest first."""
        with Session(self._state) as session:
            return [
                PromotionRow(
                    sequence=row.sequence,
                    kind=row.kind,
                    digest=row.model_digest or "",
                    previous=row.previous or "",
                    at=row.at,
                    people=tuple(_who(one) for one in row.people),
                    reason=row.reason or "",
                )
                for row in session.scalars(select(Promotion).order_by(Promotion.sequence.desc()))
            ]

    def pinned_to(self, digest: str) -> Sequence[str]:
        """Return the keys that only this version answers, each with its department."""
        found = (one for one in keyrules.rules(self._state) if one.model_digest == digest)
        return [f"{one.key_id} of {one.department}" for one in found]

    def departments(self) -> Sequence[str]:
        """Return the departments whose keys are in force, each once."""
        with Session(self._state) as session:
            return list(session.scalars(select(ApiKey.department).where(ApiKey.revoked_at.is_(None)).distinct()))

    def keys(self) -> Sequence[KeyFacts]:
        """Return every key that was not ended by hand, those for production first; never a key's text."""
        found = (one for one in keys.list_keys(self._state) if one.revoked_at is None)
        return sorted(found, key=lambda one: (one.stage, one.department, one.key_id))

    def production(self) -> VersionRow | None:
        """Return what the first line of production serves, if anything; see `serving` for all."""
        with Session(self._state) as session:
            digest = catalog.in_production(session)
        return None if digest is None else self.version(digest)

    def serving(self) -> Sequence[VersionRow]:
        """Return what each line of production serves, line 1 first; a line that is stopped serves nothing."""
        with Session(self._state) as session:
            digests = dict.fromkeys(lines.served(session).values())
        return [row for digest in digests if (row := self.version(digest)) is not None]

    def displaced(self, said: Said) -> VersionRow | None:
        """Return what serves now where a version is to come, if anything."""
        with Session(self._state) as session:
            gone = displaced.displaced(session, said)
        return None if gone is None else self.version(gone.model_digest)

    def goes(self, said: Said, version: str) -> str:
        """Return what goes away and what stays when a version comes, in a sentence."""
        with Session(self._state) as session:
            return displaced.sentence(session, said, catalog.version(session, version))

    def pending_count(self, promoter: Promoter) -> int:
        """Return how many statements wait; -1 when the promoter does not answer."""
        return _counted(lambda: pending_requests(promoter))

    def review_count(self, promoter: Promoter) -> int:
        """Return how many deeds of one person nobody else looked at yet; -1 when the promoter does not answer."""
        return _counted(lambda: promoter.call("reviews")["open"])

    def authority(self) -> bytes | None:
        """Return the CA certificate's bytes, when there is one."""
        try:
            return self._authority_file.read_bytes()
        except OSError:
            return None


def pending_requests(promoter: Promoter) -> list[PendingRequest]:
    """Return the statements that wait for signatures.

    Raises:
        WireError: The promoter does not answer.
    """
    found = []
    for one in promoter.call("pending")["requests"]:
        raw = one["statement"]
        text = raw if isinstance(raw, str) else canonical.dumps(raw).decode()
        fields = canonical.mapping(canonical.loads(text.encode()), "statement")
        names = tuple(_signed(approval) for approval in one.get("approvals", []))
        found.append(
            PendingRequest(digest=str(one["statement_sha256"]), statement=text, fields=fields, approvals=names)
        )
    return found


def _counted(found: Callable[[], Sized]) -> int:
    """Return how many there are; -1 when whoever knows does not answer."""
    try:
        return len(found())
    except SealiftError:
        return -1


def _signed(approval: Mapping[str, Any]) -> str:
    """Return who signed, by name, and when (21 CFR 11.50); what was signed stands beside it."""
    at = approval.get("at")
    return f"{_who(approval)}, {at}" if at else _who(approval)


def _who(approval: Mapping[str, Any]) -> str:
    return shown(str(approval.get("name", approval.get("person", ""))), approval.get("lower", []))


def _row(session: Session, version: Version) -> VersionRow:
    return VersionRow(
        digest=version.model_digest,
        name=version.name,
        version=version.version,
        weights_digest=version.weights_digest,
        serial=version.serial,
        descriptor=version.descriptor,
        gates=tuple((one.gate, one.passed, one.figures) for one in catalog.judgements(session, version.model_digest)),
    )
