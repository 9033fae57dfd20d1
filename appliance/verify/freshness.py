"""Whether a release may come now: its serial against the record, its date against a time that cannot be turned back.

Rules:
 * A serial below one accepted is superseded. Nobody can override that.
 * A serial that was accepted with another payload is not the same release: superseded too.
 * A serial that jumps past the cap is refused, so that a stolen key cannot burn the counter.
 * A timestamp's version belongs to its serial, so that it cannot burn those of later releases.
 * Stale is a matter for people: two of the site accept this one release by its code, with a reason.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.verify.trust import TrustRecord
from media import limits
from media.clock import to_text
from media.digest import same
from media.errors import MalformedError, SerialJumpError, StaleError, SupersededError
from media.release import ReleaseTerms, StaleAfter

_PEOPLE_FOR_STALE: Final = 2
BUILT: Final = datetime(2026, 11, 1, tzinfo=UTC)  # when this program was made: no earlier time is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleAcceptance:
    """Two people of the site take one stale release, and say why."""

    code: str
    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyAcceptance:
    """A person of the site takes a release whose custody is absent or odd, and says why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What people of the site decided about this receive, and only this one."""

    stale: StaleAcceptance | None = None
    custody: CustodyAcceptance | None = None


def require_own_timestamp(terms: ReleaseTerms, stale_after: StaleAfter) -> None:
    """Refuse a timestamp whose version belongs to another serial, so that none can burn those that come after (FMT-68).

    Raises:
        MalformedError: It does.
    """
    first = terms.serial * limits.SIGNINGS
    if not first <= stale_after.version < first + limits.SIGNINGS:
        raise MalformedError(
            what=f"the timestamp of release {terms.release} has a version of another serial",
            why=f"version {stale_after.version}, expected {first} to {first + limits.SIGNINGS - 1}",
            fix="do not use this medium; ask the sender for a new one",
        )


def require_not_superseded(terms: ReleaseTerms, stale_after: StaleAfter, record: TrustRecord, *, jump: int) -> bool:
    """Tell whether this box holds the serial already; refuse what may not follow the record.

    Raises:
        SupersededError: A later release, a later signature or another payload of this serial was accepted before.
        SerialJumpError: The serial is further ahead than the cap allows.
    """
    serial = terms.serial
    if serial < record.serial:
        raise _superseded(terms, f"serial {serial}; this site has accepted serial {record.serial}")
    if stale_after.version < record.timestamp_version:
        raise _superseded(terms, f"its signatures are older than those accepted for serial {record.serial}")
    if serial == record.serial:
        if not same(terms.payload_digest, record.payload_digest):
            raise _superseded(terms, f"serial {serial} was accepted with payload {record.payload_digest[:12]}")
        return True
    if record.serial and serial - record.serial > jump:
        raise SerialJumpError(
            what=f"release {terms.release} jumps from serial {record.serial} to {serial}",
            why=f"at most {jump} ahead is accepted (policy.serial_jump)",
            fix="compare serials with the sender by another channel before you raise policy.serial_jump",
        )
    return False


def require_fresh(
    stale_after: StaleAfter, *, now: datetime, floor: datetime, code: str, acceptance: StaleAcceptance | None
) -> bool:
    """Tell whether people accepted a stale release; refuse one that nobody accepted.

    Args:
        stale_after: The signed date.
        now: What the clock says; not believed when it is before the floor.
        floor: The latest time known to have been.
        code: The release code that people must have given; empty while the volume that has it is not here.
        acceptance: What people decided.

    Raises:
        StaleError: It is stale and not accepted, or accepted by too few or for another release.
    """
    reference = max(now, floor)
    if not stale_after.has_passed(reference):
        return False
    if acceptance is None:
        raise _stale(stale_after, reference, "nobody has accepted it")
    if not code:
        raise _stale(stale_after, reference, "its code is that of volume 1, which is not here: receive that one first")
    if not same(acceptance.code, code):
        raise _stale(stale_after, reference, "the code given is that of another release")
    if different(acceptance.names) < _PEOPLE_FOR_STALE:
        raise _stale(stale_after, reference, "two different people must accept it")
    if not acceptance.reason.strip():
        raise _stale(stale_after, reference, "no reason was given")
    return True


def different(names: Iterable[str]) -> int:
    """Return how many people these are who were named; who is named twice, or not at all, is not counted for it."""
    return len({_spelled(name) for name in names} - {""})


def _spelled(name: str) -> str:
    """Return what makes a person's name another one: not its blanks, its case, or characters that nobody sees."""
    plain = unicodedata.normalize("NFKC", name)
    seen = "".join(each for each in plain if unicodedata.category(each) not in {"Cf", "Cc"} or each.isspace())
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def _superseded(terms: ReleaseTerms, why: str) -> SupersededError:
    return SupersededError(
        what=f"release {terms.release} is superseded",
        why=why,
        fix="ask the sender for a release with a higher serial; to go back to what is stored here, "
        "`sealift rollback` for the version that answers, `sealift install SERIAL` for the programs",
    )


def _stale(stale_after: StaleAfter, reference: datetime, why: str) -> StaleError:
    return StaleError(
        what=f"the release is stale: people chose {to_text(stale_after.at)}, it is {to_text(reference)}",
        why=why,
        fix="ask for a newer release, or two people: --accept-stale CODE --by NAME --by NAME --reason TEXT",
    )
