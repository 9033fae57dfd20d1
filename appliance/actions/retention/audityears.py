"""The audit class: records stay for ever, what leads from a record to a person goes after the site's years.

A ledger cannot forget a leaf. Its records hold no content; they know people and texts by keyed hashes only. So the keys
of these hashes have a version for each year, and when every record made under a version is older than the site's
`policy.audit_retention_years`, that version is destroyed: then nobody can tell any more whom those records are about.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, Final

from appliance.actions.boxkeys import ROTATED, Keyring
from appliance.actions.renewedelsewhere import elsewhere, fix
from appliance.actions.retention.deeds import FLOOR_YEARS, Retention
from appliance.actions.retention.expiring import EXPIRED, EXPIRING, own
from appliance.audit.epochs import OPENED
from appliance.audit.facts import EVERY, Ledger
from appliance.errors import LedgerUnavailableError, LegalHoldError
from appliance.keys.provider import KeyProvider
from media.clock import Clock, from_text, to_text
from media.errors import UsageError

YEARLY: Final = ("identity-hmac", "content-hmac")
_YEAR: Final = timedelta(days=365)
_REASON: Final = "retention: a key for each year"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyYear:
    """A version of a key of keyed hashes: since when it makes, and until when; `until` is None for the newest here."""

    name: str
    version: int
    since: datetime
    until: datetime | None


def key_years(ledger: Ledger, keys: KeyProvider) -> tuple[KeyYear, ...]:
    """Return every version that is here, by what the ledger's records say was believed when each began."""
    return tuple(each for name in YEARLY for each in _of(name, ledger, keys))


def _of(name: str, ledger: Ledger, keys: KeyProvider) -> Iterator[KeyYear]:
    opened = ledger.find(OPENED, limit=1)
    begun = {1: from_text(opened[0].time)} if opened else {}
    # The newest record of a number counts: keys that a restore made anew, as on a new token, are numbered from 1 again.
    for leaf in ledger.find(ROTATED, field="name", value=name, limit=EVERY, newest_first=False):
        version: Any = leaf.body.get("version")
        begun[version] = from_text(str(leaf.body.get("believed") or leaf.time))
    here = [version for version in keys.versions(name) if version in begun]
    for version in here:
        # What records say of numbers above the newest that is here was of keys that are gone: this one makes now.
        later = [begun[other] for other in sorted(begun) if version < other <= here[-1]]
        yield KeyYear(name=name, version=version, since=begun[version], until=later[0] if later else None)


def due(ledger: Ledger, keys: KeyProvider, *, years: int, clock: Clock) -> tuple[KeyYear, ...]:
    """Return the versions under which no record of the last `years` years was made.

    Raises:
        UsageError: The years are below the floor.
    """
    if years < FLOOR_YEARS:
        raise UsageError(what=f"{years} years are below the floor", why=f"it is {FLOOR_YEARS}", fix="keep it longer")
    now = clock.now()
    return tuple(each for each in key_years(ledger, keys) if each.until and _after(each.until, years) <= now)


def run(
    ledger: Ledger,
    keys: KeyProvider,
    keyring: Keyring,
    retention: Retention,
    *,
    years: int,
    clock: Clock,
    say: Callable[[str], None] = lambda _: None,
    node: str = "",
) -> tuple[KeyYear, ...]:
    """Begin a new version where the newest has made for a year, and destroy what is due; return what was destroyed.

    `say` is told where backups are not told yet (`Changed.unnoted`), and where a new version is another node's to make.
    What a run of this `node` before had destroyed when it was cut off is recorded first (`cut_off`).

    Raises:
        UsageError: The years are below the floor.
        LegalHoldError: Something is due and a hold is in force.
        Others: As `Keyring.rotate` and `Keyring.destroy`.
    """
    gone = due(ledger, keys, years=years, clock=clock)
    for name in YEARLY:
        keyring.mend(name)
    for left in _cut_off(ledger, keys, node):
        ledger.append(EXPIRED, left | {"cut_off": True})
    for each in key_years(ledger, keys):
        if each.until is None and clock.now() - each.since >= _YEAR:
            _renew(ledger, keyring, each, say=say, node=node)
    if gone and retention.holds():
        raise LegalHoldError(
            what="a legal hold forbids it", why=f"{len(gone)} keys of the audit class are due", fix="release the hold"
        )
    for each in gone:
        body = {
            "class": "audit",
            "key": f"{each.name}.v{each.version}",
            "records_before": to_text(each.until or each.since),
            "years": years,
        }
        ledger.append(EXPIRING, body)
        done = keyring.destroy(each.name, reason=f"retention: {years} years are over", only=(each.version,))
        if done.unnoted:
            say(f"{each.name}.v{each.version}: {done.unnoted}")
        ledger.append(EXPIRED, body)
    return gone


def _renew(ledger: Ledger, keyring: Keyring, year: KeyYear, *, say: Callable[[str], None], node: str) -> None:
    """Begin a new version; of several nodes the one that leads does, and people copy it to the others."""
    if other := elsewhere(ledger, year.name, newest=year.version, node=node):
        say(f"a newer version of {year.name} is on node {other}: {fix(other)}")
        return
    try:
        keyring.rotate(year.name, reason=_REASON)
    except LedgerUnavailableError as error:
        if not node:
            raise
        say(f"{year.name} is not renewed here: {error.what}")


def _cut_off(ledger: Ledger, keys: KeyProvider, node: str) -> list[dict[str, Any]]:
    """Return what this node announced of keys that are gone from it and that it did not record as gone."""
    announced, recorded = (own(ledger, kind, node, field="class", value="audit") for kind in (EXPIRING, EXPIRED))
    ended = {leaf.body.get("key") for leaf in recorded}
    here = {f"{name}.v{version}" for name in YEARLY for version in keys.versions(name)}
    found = {leaf.body.get("key"): dict(leaf.body) for leaf in reversed(announced)}
    return [body for key, body in found.items() if key not in ended | here]


def _after(moment: datetime, years: int) -> datetime:
    if moment.year + years > MAXYEAR:  # whoever keeps them for ever writes 9999
        return datetime.max.replace(tzinfo=UTC)
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:  # the 29th of February
        return moment.replace(year=moment.year + years, month=3, day=1)
