"""What the register says about media: which exist, where each one is, and which never came back.

A medium is named RELEASE/VOLUME/COPY (REG-4); a volume that was written again is another copy. A receipt vouches for a
volume, not for a copy, since the bytes of all copies are the same.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from bundler import ledgerkeys
from bundler.ledgernote import LedgerKey
from bundler.plan import ReleasePlan
from bundler.receipt import Receipt, read_receipt, site_of
from bundler.register import Entry, Register, require_facts
from bundler.seal import code_of
from bundler.volumechoice import VolumeChoice
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume
from media import clock as clocks
from media import layout
from media.clock import Clock
from media.digest import file_sha256
from media.errors import MalformedError, UsageError, WrongVolumeError


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumState:
    """One medium and where it is."""

    medium: str
    release: str
    serial: int
    code: str
    volume: int
    count: int
    id: str
    sites: tuple[str, ...]
    state: str
    since: str
    carrier: str = ""
    held_by: str = ""
    due: str = ""
    received: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads."""
        return asdict(self)

    def to_text(self) -> str:
        """Return one line."""
        where = f" {self.held_by}" if self.held_by else ""
        where += f", due back {self.due}" if self.due else ""
        taken = f"; receipt of {', '.join(self.received)}" if self.received else "; no receipt"
        name = f"{self.medium:<24} {self.volume} of {self.count}, id {self.id}"
        return f"{name}: {self.state}{where} since {self.since}{taken}"


def media_of(entries: Sequence[Entry]) -> tuple[MediumState, ...]:
    """Return every medium in the order in which they were written."""
    found: dict[str, MediumState] = {}
    for entry in entries:
        facts = entry.facts
        if entry.kind == "written":
            names = ("medium", "release", "serial", "code", "volume", "count", "id")
            about = {name: facts[name] for name in names}
            found[facts["medium"]] = MediumState(
                **about,
                sites=tuple(facts["sites"]),
                state="here",
                since=entry.at,
                carrier=facts.get("carrier", ""),
            )
        elif entry.kind == "sent":
            found[facts["medium"]] = replace(
                found[facts["medium"]],
                state="sent to",
                since=entry.at,
                held_by=facts["to"],
                due=facts.get("due", ""),
            )
        elif entry.kind == "returned":
            ended = "destroyed" if facts["destroyed"] else "returned"
            found[facts["medium"]] = replace(found[facts["medium"]], state=ended, since=entry.at, held_by="", due="")
        elif entry.kind == "receipt":
            for name, medium in found.items():
                if medium.code == facts["code"] and medium.volume in facts["volumes"] and medium.state != "here":
                    taken = f"{facts['site']} at {facts['received_at']}"
                    found[name] = replace(medium, received=(*medium.received, taken))
    return tuple(found.values())


def missing(entries: Sequence[Entry], *, clock: Clock, days: int = 0, overdue: bool = False) -> tuple[MediumState, ...]:
    """Return the media that were sent at least so many days ago and neither came back nor were destroyed.

    Args:
        entries: The register's lines.
        clock: What time it is.
        days: For how long they are away at least.
        overdue: Only those whose day of return is over.
    """
    now = clock.now()
    away = (medium for medium in media_of(entries) if medium.state == "sent to")
    return tuple(
        medium
        for medium in away
        if (now - clocks.from_text(medium.since)).days >= days
        and (not overdue or (medium.due and clocks.from_text(medium.due) < now))
    )


def record_written(
    register: Register,
    work: WorkFolder,
    written: WrittenVolume,
    *,
    clock: Clock,
    to: str = "",
    by: str = "",
    again: bool = False,
) -> str:
    """Enter a medium that was written, and to whom it was given at once; return its name.

    Raises:
        MalformedError: The register is broken.
        UnreadableError: The register cannot be written.
    """
    index = volume_index(work)
    about = {
        "release": index.release,
        "serial": index.serial,
        "code": code_of(work),
        "volume": written.number,
        "id": written.id,
        "count": len(index.volumes),
        "tag_manifest_sha256": file_sha256(work.seal_of(written.number) / layout.TAG_MANIFEST),
        "sites": list(ReleasePlan.load(work.plan).sites),
        "seals": list(VolumeChoice.load(work).seals.get(written.number, ())),
        "read_back": written.read_back.says,
        "again": again,
        **({"by": by} if by else {}),
        **({"carrier": written.carrier} if written.carrier else {}),
    }

    def named(so_far: Sequence[Entry]) -> dict[str, Any]:
        place = (index.release, written.number)
        copies = sum(1 for each in media_of(so_far) if (each.release, each.volume) == place)
        return {**about, "medium": f"{index.release}/{written.number}/{copies + 1}"}

    medium = str(register.append("written", named, clock=clock).facts["medium"])
    if to:
        register.append("sent", {"medium": medium, "to": to, "by": by}, clock=clock)
    return medium


def record_erased(register: Register, carrier: str, *, held: str, by: str, clock: Clock) -> None:
    """Enter that a device is about to lose what it holds; before it does, so that a failure leaves no gap.

    Raises:
        MalformedError: The register is broken.
        UnreadableError: The register cannot be written.
    """
    register.append("erased", {"carrier": carrier, "held": held, "by": by}, clock=clock)


def record_sent(
    register: Register, medium: str, *, to: str, by: str, clock: Clock, due: datetime | None = None
) -> None:
    """Enter that a medium left, and by when it is expected back.

    Raises:
        UsageError: There is no such medium, or it is not here.
    """

    def facts(so_far: Sequence[Entry]) -> dict[str, Any]:
        return sent(so_far, medium, to=to, by=by, due=due)

    register.append("sent", facts, clock=clock)


def sent(so_far: Sequence[Entry], medium: str, *, to: str, by: str, due: datetime | None = None) -> dict[str, Any]:
    """Return what is entered when a medium leaves.

    Raises:
        UsageError: There is no such medium, it is not here, or something that was typed cannot be entered.
    """
    require_here(so_far, medium)
    facts = {"medium": medium, "to": to, "by": by, **({"due": clocks.to_text(due)} if due else {})}
    _require_enterable("sent", facts)
    return facts


def require_receiver(to: str, by: str) -> None:
    """Pass only names that can be entered for a medium that does not exist yet; asked before it is written.

    Raises:
        UsageError: They cannot.
    """
    _require_enterable("sent", {"medium": "a/1/1", "to": to, "by": by})


def _require_enterable(kind: str, facts: dict[str, Any]) -> None:
    try:
        require_facts(kind, facts)
    except MalformedError as error:
        raise UsageError(
            what="this cannot be entered in the register",
            why=error.why,
            fix="correct what was typed: names and sentences in one line each, of at most 500 characters",
        ) from error


def require_here(so_far: Sequence[Entry], medium: str) -> None:
    """Pass only when a medium can be sent.

    Raises:
        UsageError: There is no such medium, it is away, or it was destroyed.
    """
    found = one(so_far, medium)
    if found.state == "sent to":
        raise UsageError(
            what=f"{medium} is with {found.held_by} already",
            why=f"sent at {found.since}",
            fix="enter that it came back first; on its way, custody/ on the medium records hand-overs",
        )
    if found.state == "destroyed":
        raise UsageError(what=f"{medium} was destroyed", why=f"at {found.since}")


def require_away(so_far: Sequence[Entry], medium: str) -> None:
    """Pass only when a medium can come back.

    Raises:
        UsageError: There is no such medium, or it was not sent.
    """
    found = one(so_far, medium)
    if found.state != "sent to":
        raise UsageError(what=f"{medium} was not away", why=f"it is {found.state} since {found.since}")


def record_returned(register: Register, medium: str, *, by: str, condition: str, destroyed: bool, clock: Clock) -> None:
    """Enter that a medium came back, or that it was destroyed where it was.

    Raises:
        UsageError: There is no such medium, or it was not sent.
    """

    def facts(so_far: Sequence[Entry]) -> dict[str, Any]:
        return returned(so_far, medium, by=by, condition=condition, destroyed=destroyed)

    register.append("returned", facts, clock=clock)


def returned(so_far: Sequence[Entry], medium: str, *, by: str, condition: str, destroyed: bool) -> dict[str, Any]:
    """Return what is entered when a medium comes back.

    Raises:
        UsageError: There is no such medium, it was not sent, or something that was typed cannot be entered.
    """
    require_away(so_far, medium)
    facts = {"medium": medium, "by": by, "condition": condition, "destroyed": destroyed}
    _require_enterable("returned", facts)
    return facts


def record_site(register: Register, site: str, key: LedgerKey, *, replaces: bool, clock: Clock) -> None:
    """Enter the key of a site's ledger, which two people compared by telephone.

    One that replaces begins anew with it, whatever was followed from it before: somebody who took a copy of it may have
    named the key that is followed.

    Raises:
        UsageError: The site has another key and nobody said that it is replaced.
    """
    require_key_free(register.entries(), site, key, replaces=replaces)
    known = ledgerkeys.of_site(register.entries(), site)
    if known is None or key not in known.keys or (replaces and key != known.keys[-1]):
        register.append("site", {"site": site, "ledger_key": key.to_text()}, clock=clock)


def require_key_free(entries: Sequence[Entry], site: str, key: LedgerKey, *, replaces: bool) -> None:
    """Pass only when a key may be entered for a site.

    Raises:
        UsageError: The site has another key and nobody said that it is replaced.
    """
    _require_enterable("site", {"site": site, "ledger_key": key.to_text()})
    known = ledgerkeys.of_site(entries, site)
    if known is not None and key not in known.keys and not replaces:
        present = known.keys[-1]
        raise UsageError(
            what=f"{site} has another ledger key",
            why=f"{present.name}+{present.key_id.hex()} is registered",
            fix="ask the site why its ledger has a new key, then add --replace",
        )


def known_receipt(entries: Sequence[Entry], untrusted: bytes) -> tuple[Receipt, bool]:
    """Verify a receipt that came back; return it, and whether the register does not have it yet.

    Raises:
        UsageError: The key of the site's ledger is not known.
        MalformedError: It is no receipt.
        BadSignatureError: The site's ledger does not vouch for it.
        WrongVolumeError: It is about media that this register does not know.
    """
    site = site_of(untrusted)
    keys = ledgerkeys.required(entries, site, why="a receipt proves nothing without it")
    receipt = read_receipt(untrusted, keys)
    sent = {
        (entry.facts["volume"], entry.facts["id"], entry.facts["tag_manifest_sha256"])
        for entry in entries
        if entry.kind == "written" and entry.facts["code"] == receipt.code
    }
    if (
        not receipt.volumes
        or not {(each.number, each.id, each.tag_manifest_sha256) for each in receipt.volumes} <= sent
    ):
        raise WrongVolumeError(
            what=f"the receipt is about media of {receipt.release} that this register does not know",
            why=f"release code {receipt.code[:12]}…",
            fix="use the register of the machine that wrote them",
        )
    return receipt, not any(entry.kind == "receipt" and entry.facts["sha256"] == receipt.sha256 for entry in entries)


def record_receipt(register: Register, untrusted: bytes, *, clock: Clock) -> tuple[Receipt, bool]:
    """Verify a receipt that came back and enter it, and the keys that it leads to; return it, and whether it is new.

    Raises:
        SealiftError: As `known_receipt`.
        UnreadableError: The register cannot be written.
    """
    receipt, is_new = known_receipt(register.entries(), untrusted)
    if not is_new:
        return receipt, False
    ledgerkeys.remember(register, receipt.site, receipt.keys, clock=clock)
    head = receipt.checkpoint
    facts = {
        "sha256": receipt.sha256,
        "site": receipt.site,
        "outcome": receipt.outcome,
        "received_at": receipt.at,
        "release": receipt.release,
        "serial": receipt.serial,
        "code": receipt.code,
        "volumes": [each.number for each in receipt.volumes],
        "custody_complete": receipt.custody_complete,
        "findings": receipt.findings,
        "vouched_by": list(receipt.vouched_by),
        "checkpoint": None if head is None else {"origin": head.origin, "size": head.size, "root": head.root.hex()},
    }
    register.append("receipt", facts, clock=clock)
    return receipt, True


def one(so_far: Sequence[Entry], medium: str) -> MediumState:
    """Return a medium by its name.

    Raises:
        UsageError: There is none of that name.
    """
    for each in media_of(so_far):
        if each.medium == medium:
            return each
    raise UsageError(
        what=f"there is no medium {medium[:80]}",
        why="the register names none",
        fix="see: sealift-bundler register list",
    )
