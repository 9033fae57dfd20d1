"""Whether a version may serve production now: a pure read that trusts nobody's word, the promoter's included.

The launcher calls this before it loads a production engine. Promises: only a version that serves by the whole chain of
promotions is returned (the current one of each line; a canary while it runs; the one kept beside after a cut-over), and
only when two different enrolled people signed the statement that brought it into that line; every signature is verified
again by gpgv. No socket, no ledger, no process of ours is needed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance.config import Places
from appliance.errors import NotPromotedError
from appliance.promote.approvals import LEAST_PEOPLE, require_approved
from appliance.promote.classes import CLASSES
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import Statement
from media.clock import Clock, to_text
from media.errors import SealiftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Why a version serves: the last promotion of its line, and the people who approved it."""

    model_digest: str
    weights_digest: str
    number: int
    sequence: int
    kind: str
    at: datetime
    statement_sha256: str
    people: tuple[str, ...]
    lower: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "weights_digest": self.weights_digest,
            "number": self.number,
            "sequence": self.sequence,
            "kind": self.kind,
            "at": to_text(self.at),
            "statement_sha256": self.statement_sha256,
            "people": list(self.people),
            "lower_class": {name: list(reasons) for name, reasons in self.lower.items()},
        }


def current_digest(places: Places) -> str | None:
    """Return what the chain of promotions says is in production, in line 1; its approvals are not verified.

    Raises:
        NotPromotedError: The chain is broken.
    """
    return PromoterFolder(places.promoter).production().current


def loadable_digests(places: Places) -> tuple[str, ...]:
    """Return the versions whose production engines may run, line 1's and what serves first; approvals are not verified.

    Raises:
        NotPromotedError: The chain is broken.
    """
    return PromoterFolder(places.promoter).production().loadable


def sharers_of(places: Places, digest12: str, engines: int) -> int:
    """Return among how many engines of production the cores are shared, as one of them sees it.

    Lines that serve share them evenly, line 1 its part among as many engines as it has.

    Args:
        places: Where the promoter's folder is.
        digest12: The first digits of the engine's version.
        engines: How many engines line 1 has.

    Raises:
        NotPromotedError: The chain is broken.
    """
    production = PromoterFolder(places.promoter).production()
    others = [line for line in production.serving if line is not production.first]
    is_other = any(one.startswith(digest12) for line in others for one in line.loadable)
    return max(len(production.serving), 1) * (1 if is_other else engines)


def require_promoted(
    places: Places,
    model_digest: str,
    clock: Clock | None = None,
    *,
    approvals: int = LEAST_PEOPLE,
    counting: Collection[str] = CLASSES,
) -> Standing:
    """Return the standing of the version in production, in whichever line.

    For engines that run beside it, see `require_loadable`.

    Args:
        places: Where the promoter's folder is.
        model_digest: The version that wants to serve.
        clock: Not needed: what counts is the ledger's order, not the hour.
        approvals: How many people the site demands.
        counting: The classes of approvals that count at the site.

    Raises:
        NotPromotedError: It is no line's current version, or its approvals do not verify.
    """
    del clock
    production, people = _read(places, model_digest)
    if model_digest not in {line.current for line in production.serving}:
        raise _not_promoted(model_digest, f"{_shown(production)} in production")
    return standing_of(production, people, model_digest, approvals=approvals, counting=counting)


def require_loadable(
    places: Places, model_digest: str, *, approvals: int = LEAST_PEOPLE, counting: Collection[str] = CLASSES
) -> Standing:
    """Return the standing of a version whose engine may run in production; see `Production.loadable`.

    Raises:
        NotPromotedError: It may not, or its approvals do not verify.
    """
    production, people = _read(places, model_digest)
    if model_digest not in production.loadable:
        raise _not_promoted(model_digest, f"{_shown(production)} in production")
    return standing_of(production, people, model_digest, approvals=approvals, counting=counting)


def _shown(production: Production) -> str:
    shown = [str(line.current)[:12] for line in production.serving]
    return f"{' and '.join(shown) or 'nothing'} {'is' if len(shown) < 2 else 'are'}"


def _read(places: Places, model_digest: str) -> tuple[Production, SitePeople]:
    folder = PromoterFolder(places.promoter)
    try:
        return folder.production(), folder.people()
    except NotPromotedError:
        raise
    except (SealiftError, OSError) as error:
        raise _not_promoted(model_digest, f"people.json: {error}") from error


def standing_of(
    production: Production,
    people: SitePeople,
    model_digest: str,
    *,
    approvals: int = LEAST_PEOPLE,
    counting: Collection[str] = CLASSES,
) -> Standing:
    """Return why a version may be loaded, its signatures verified again.

    Raises:
        NotPromotedError: No line may load it, or an approval does not verify.
    """
    line, made = production.line_of(model_digest), production.made_for(model_digest)
    if line is None or line.last is None or made is None:
        raise _not_promoted(model_digest, "no line of production has it")
    last = line.last
    statement = require_made(made, people, approvals=approvals, counting=counting)
    return Standing(
        model_digest=model_digest,
        weights_digest=statement.weights_digest,
        number=last.number,
        sequence=last.sequence,
        kind=str(last.kind),
        at=last.at,
        statement_sha256=statement.sha256,
        people=tuple(approval.name for approval in made.approvals),
        lower={approval.name: approval.lower for approval in made.approvals if approval.lower},
    )


def require_made(
    made: Promotion, people: SitePeople, *, approvals: int = LEAST_PEOPLE, counting: Collection[str] = CLASSES
) -> Statement:
    """Return the statement of a promotion that goes forward, its approvals verified again.

    Raises:
        NotPromotedError: It is of another kind, or an approval does not verify.
    """
    digest = (made.terms.version if made.terms else made.model_digest) or ""
    if not made.statement or made.kind not in {Kind.MADE, Kind.CANARY_STARTED, Kind.CUT_OVER}:
        raise _not_promoted(digest, "one person alone cannot bring a version into production")
    raw = made.statement.encode()
    try:
        statement = Statement.from_bytes(raw)
        require_approved(raw, made.approvals, people, sequence=made.sequence, threshold=approvals, counting=counting)
        statement.require_apart(*(one.person for one in made.approvals))
    except SealiftError as error:
        raise _not_promoted(digest, f"{error.what}: {error.why}") from error
    return statement


def _not_promoted(model_digest: str, why: str) -> NotPromotedError:
    return NotPromotedError(
        what=f"version {model_digest[:12]} may not serve production"
        if model_digest
        else "nothing may serve production",
        why=why,
        fix="two people approve it: `sealift promote DIGEST`",
    )
