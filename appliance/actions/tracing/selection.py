"""Which answers somebody asks for: those of one version, release, medium, signer or approver, in a span of time.

A selector is resolved from the ledger alone, by rules that `check/verify.py` follows again from the same records:

    version   answers of that version
    release   answers of a version that the release registered, or that were given under its serial
    medium    the same of every release that was received with a volume of that id or tag manifest
    signer    the same of every release that the person, or the key of that fingerprint, signed or sealed
    approver  answers whose version was last approved, before they were given, by that person or key, too
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import UnknownVersionError
from appliance.registry import catalog
from media import canonical
from media.errors import UsageError

INTENT: Final = "request.intent"
RECEIVED: Final = "release.received"
MADE: Final = "promotion.made"
CANARY: Final = "promotion.canary-started"
CUT_OVER: Final = "promotion.cut-over"
_APPROVED: Final = frozenset({MADE, CANARY, CUT_OVER})
_PAGE: Final = 500
_WHOSE: Final = ("person", "fingerprint")
_SIGNED: Final = ("signers", "metadata_signers")
_DIGITS: Final = frozenset("0123456789abcdef")


class By(StrEnum):
    """What answers are selected by."""

    VERSION = "version"
    RELEASE = "release"
    MEDIUM = "medium"
    SIGNER = "signer"
    APPROVER = "approver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """What was asked: `value` is a model digest, a serial, a volume, a person or a fingerprint.

    Times are texts as the ledger writes them; `since` is the first moment that is wanted and `until` the first that is
    not, empty for no bound.
    """

    by: By
    value: str
    since: str = ""
    until: str = ""

    @classmethod
    def from_json(cls, untrusted: Any) -> "Selector":
        """Parse what `to_json` gave.

        Raises:
            MalformedError: A field is missing, unknown or of another shape.
        """
        fields = canonical.exact_keys(untrusted, ("by", "value", "since", "until"), what="selector")
        times = {name: canonical.text(fields[name], f"selector.{name}", may_be_empty=True) for name in _TIMES}
        return cls(
            by=canonical.one_of(fields["by"], By, "selector.by"),
            value=canonical.text(fields["value"], "selector.value", most=128),
            **{name: text and _whole(text, name) for name, text in times.items()},
        )

    def to_json(self) -> dict[str, str]:
        """Return the fields, for the ledger and for files."""
        return {"by": str(self.by), "value": self.value, "since": self.since, "until": self.until}

    def __str__(self) -> str:
        """Say it in one line for people."""
        times = "".join(f" {word} {text}" for word, text in (("since", self.since), ("until", self.until)) if text)
        return f"{self.by} {self.value}{times}"


_TIMES: Final = ("since", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A selector with what the ledger says of it; `records` are the leaves that the rules above rest on."""

    selector: Selector
    digests: frozenset[str] = frozenset()
    serials: frozenset[int] = frozenset()
    approvals: Mapping[str, tuple[tuple[int, bool], ...]] = field(default_factory=dict)
    records: tuple[Leaf, ...] = ()

    def covers(self, leaf: Leaf) -> bool:
        """Tell whether a record is an answer's beginning that was asked for."""
        selector, body = self.selector, leaf.body
        if leaf.kind != INTENT or leaf.time < selector.since or (selector.until and leaf.time >= selector.until):
            return False
        digest = str(body.get("model_digest"))
        if selector.by is By.APPROVER:
            steps = self.approvals.get(digest, ())
            place = bisect_left(steps, (leaf.sequence, False))
            return place > 0 and steps[place - 1][1]
        return digest in self.digests or body.get("serial") in self.serials


def named_version(ledger: Ledger, state: Engine, untrusted: str) -> str:
    """Return the digest of a version that is known by alias, digest, its beginning, name or NAME:VERSION.

    A whole digest is enough for one that was deleted since.

    Raises:
        UnknownVersionError: No such version was ever registered.
    """
    is_digest = len(untrusted) == 64 and set(untrusted) <= _DIGITS
    if is_digest and ledger.find(kind=catalog.REGISTERED, field="model_digest", value=untrusted, limit=1):
        return untrusted
    with state.connect() as session:
        return catalog.version(session, untrusted).model_digest


def named_person(ledger: Ledger, by: By, untrusted: str) -> str:
    """Return the id of who signed or approved under a name that people are shown, such as `Ada Ferrer`.

    Ids and fingerprints are returned as they are, and so is a name that nobody or more than one bears.
    """
    kinds, listed = ({RECEIVED}, _SIGNED) if by is By.SIGNER else (_APPROVED, ("approvals",))
    named = set()
    for leaf in _walk(ledger, kinds):
        for one in (one for name in listed for one in leaf.body.get(name) or () if isinstance(one, Mapping)):
            if untrusted in {one.get(name) for name in _WHOSE}:
                return untrusted
            name, person = one.get("name"), one.get("person")
            if isinstance(name, str) and isinstance(person, str) and name.casefold() == untrusted.casefold():
                named.add(person)
    return named.pop() if len(named) == 1 else untrusted


def resolve(ledger: Ledger, selector: Selector) -> Selection:
    """Return what a selector means now; what is received or approved later is found by resolving it again.

    Raises:
        UnknownVersionError: No record names such a version.
        UsageError: No record names such a release, medium, signer or approver.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    if selector.by is By.VERSION:
        return _of_version(ledger, selector)
    if selector.by is By.APPROVER:
        return _of_approver(ledger, selector)
    received = [leaf for leaf in _walk(ledger, {RECEIVED}) if is_about(selector, leaf.body)]
    if not received:
        raise UsageError(
            what=f"no release here has the {selector.by} {selector.value[:64]}",
            why="no record release.received names it",
            fix="see `sealift audit list --kind release.received`",
        )
    serials = frozenset(leaf.body["serial"] for leaf in received if type(leaf.body.get("serial")) is int)
    brought = [leaf for leaf in _walk(ledger, {catalog.REGISTERED}) if leaf.body.get("serial") in serials]
    return Selection(
        selector=selector,
        digests=frozenset(str(leaf.body.get("model_digest")) for leaf in brought),
        serials=serials,
        records=tuple(sorted((*received, *brought), key=lambda leaf: leaf.sequence)),
    )


def is_about(selector: Selector, body: Mapping[str, Any]) -> bool:
    """Tell whether a record of a receive is of the release, medium or signer that is asked for."""
    value = selector.value
    if selector.by is By.RELEASE:
        return value in {str(body.get("serial")), body.get("release"), body.get("code")}
    if selector.by is By.MEDIUM:
        return _names(body.get("volumes"), ("id", "tagmanifest_sha256"), value)
    return any(_names(body.get(listed), _WHOSE, value) for listed in _SIGNED)


def _of_version(ledger: Ledger, selector: Selector) -> Selection:
    found = ledger.find(kind=catalog.REGISTERED, field="model_digest", value=selector.value, limit=1)
    if not found:
        raise UnknownVersionError(
            what=f"no version {selector.value[:12]} was ever registered", why="", fix="see `sealift models list`"
        )
    return Selection(selector=selector, digests=frozenset({selector.value}), records=tuple(found))


def _of_approver(ledger: Ledger, selector: Selector) -> Selection:
    steps: dict[str, list[tuple[int, bool]]] = {}
    records = []
    for leaf in _walk(ledger, _APPROVED):
        if leaf.kind == CUT_OVER and "approvals" not in leaf.body:
            continue  # by one person alone, at its time: those who approved the canary still did so last
        body = leaf.body
        about = body.get("terms", {}).get("version") if leaf.kind == CANARY else body.get("model_digest")
        is_theirs = _names(body.get("approvals"), _WHOSE, selector.value)
        steps.setdefault(str(about), []).append((leaf.sequence, is_theirs))
        records.append(leaf)
    if not any(is_theirs for one in steps.values() for _, is_theirs in one):
        raise UsageError(
            what=f"{selector.value[:64]} approved nothing that reached production",
            why="no record of a promotion names this person or key",
            fix="see `sealift people list`",
        )
    return Selection(
        selector=selector,
        approvals={digest: tuple(one) for digest, one in steps.items()},
        records=tuple(records),
    )


def _names(listed: Any, names: Collection[str], value: str) -> bool:
    return isinstance(listed, list | tuple) and any(
        isinstance(one, Mapping) and value in {one.get(name) for name in names} for one in listed
    )


def _walk(ledger: Ledger, kinds: Collection[str]) -> Iterator[Leaf]:
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds=kinds):
        yield from page
        start = page[-1].sequence + 1


def _whole(text: str, name: str) -> str:
    canonical.moment(text, f"selector.{name}")
    return text
