"""The gate policy that holds, thresholds of the site's own, and one person's yes to them.

Promises: what a person is asked is drawn from the statement's own text, laid over the installed release's policy here
again, and signed as it is; the promoter verifies what comes out and says what holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.actions.ways import Way
from appliance.audit.facts import Ledger
from appliance.errors import ApprovalRefusedError
from appliance.promote.client import PromoterClient
from appliance.promote.policy import GatePolicy, packaged, sections
from appliance.promote.policybook import PolicyBook
from appliance.promote.policychange import PolicyRequest
from appliance.promote.sitepolicy import SitePolicy
from appliance.promote.strictness import FIXED, spoken
from media.clock import to_text
from media.errors import MediaError

_SHORTEST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds now: `holds` is None, and `closed` says why, while no gate can judge by what two people signed.

    `held_back` are names of files of a paired box whose stricter thresholds count here, as they are not taken over yet.
    """

    holds: GatePolicy | None
    closed: str
    file: str
    held_back: tuple[str, ...]

    @property
    def compared(self) -> GatePolicy:
        """What another file is compared with: what holds, or the release's own while the gates are closed."""
        return self.holds or packaged()

    @property
    def named(self) -> str:
        """Name and digest, or why there is none."""
        return (
            f"what closes the gates: {self.closed}" if self.holds is None else f"{self.holds.name} {self.holds.digest}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `policy show` adds."""
        return {"closed": self.closed or None, "held_back": list(self.held_back)}


def standing(ledger: Ledger) -> Standing:
    """Return what holds on this box, and why nothing does where that is so.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    book = PolicyBook.of(ledger)
    held_back = tuple(str(book.held[origin].body.get("name")) for origin in sorted(book.held))
    file = "" if book.adopted is None else str(book.adopted.body.get("policy"))
    try:
        return Standing(holds=book.in_force(), closed="", file=file, held_back=held_back)
    except MediaError as error:
        return Standing(holds=None, closed=f"{error.what}: {error.why}", file=file, held_back=held_back)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One threshold that would be another: as it holds now, as it would, and the line that tells whose word it is."""

    key: str
    before: Any
    after: Any
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"key": self.key, "before": _plain(self.before), "after": _plain(self.after), "note": self.note or None}

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.key}  {spoken(self.before)} -> {spoken(self.after)}{f'  ({self.note})' if self.note else ''}"


def thresholds(policy: GatePolicy) -> dict[str, Any]:
    """Return every threshold by its dotted key."""
    return {
        f"{section}.{name}": getattr(getattr(policy, attribute), name)
        for section, (attribute, names) in sections().items()
        for name in names
        if f"{section}.{name}" not in FIXED
    }


def difference(before: GatePolicy, after: GatePolicy) -> tuple[Moved, ...]:
    """Return each threshold that two policies have differently, with what a site says of it where it does."""
    told = {} if after.site is None else {one.key: one for one in after.site.changes}
    old, found = thresholds(before), []
    for key, value in thresholds(after).items():
        if old[key] == value:
            continue
        change = told.get(key)
        note = "" if change is None else f"{change.direction.upper()} than the release"
        if change is not None and change.override is not None:
            note += f", by {change.override.person}: {change.override.reason}"
        found.append(Moved(key=key, before=old[key], after=value, note=note))
    return tuple(found)


def laid(text: str) -> GatePolicy:
    """Return the policy that would hold with this file over the installed release's.

    Raises:
        LimitExceededError, MalformedError: The file is refused; `what` names the dotted key.
    """
    file = SitePolicy.from_bytes(text.encode())
    return file.over(packaged()) if file.thresholds else packaged()


def waiting(promoter: PromoterClient, untrusted_digest: str) -> PolicyRequest:
    """Return the one policy that waits under the beginning of a statement's digest.

    Raises:
        ApprovalRefusedError: None does.
    """
    found = [one for one in promoter.pending_policies() if one.statement.sha256.startswith(untrusted_digest)]
    if len(found) != 1 or len(untrusted_digest) < _SHORTEST:
        raise ApprovalRefusedError(
            what=f"no policy {ascii(untrusted_digest)[:40]} waits",
            why=f"give {_SHORTEST} or more digits; it waits until it expires or another one holds",
            fix="see `sealift policy list`",
        )
    return found[0]


def approve(
    now: Standing,
    promoter: PromoterClient,
    untrusted_digest: str,
    *,
    person: str,
    way: Way,
    agrees: Callable[[str], bool],
) -> tuple[PolicyRequest, bool]:
    """Show what would hold, and sign the statement when the person agrees; return also whether it holds now.

    Raises:
        ApprovalRefusedError: Nothing of that digest waits, or the person did not agree.
        LimitExceededError, MalformedError: The file is not one that may hold over this release's policy.
        RemoteError: The promoter refused the signature.
        UnknownPersonError: Nobody of that id is enrolled, or has what this way takes; said before anything is shown.
    """
    way.require(promoter, person)
    request = waiting(promoter, untrusted_digest)
    statement = request.statement
    moved = difference(now.compared, laid(statement.policy))
    lines = [
        f"Site         {statement.site}",
        f"Meaning      {statement.meaning}",
        f"Requested    by {statement.requested_by}, {to_text(statement.requested_at)}",
        f"Expires      {to_text(statement.expires)}",
        f"Approved     {', '.join(one.shown for one in request.approvals) or 'by nobody yet'}",
        f"Replaces     {now.named}",
        "Thresholds against what holds now",
        *(f"  {one.text}" for one in moved),
        *(() if moved else ("  none would be another",)),
        "The file that you sign",
        *(f"  | {line}" for line in statement.policy.splitlines()),
    ]
    if not agrees("\n".join(lines) + "\n"):
        raise ApprovalRefusedError(what="nothing was signed", why="you did not agree", fix="run the command again")
    return promoter.approve_policy(statement.sha256, way.present(promoter, person, statement.to_bytes()))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
