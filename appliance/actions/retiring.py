"""Retiring a box: its keys are destroyed first, then it is shown that nothing they made opens any more, then paper.

    two enrolled people, the site's name typed -> recorded -> keys destroyed, each recorded -> old ciphertext tried
    -> recorded and signed a last time -> the ledger's own keys destroyed -> certificate with lines to sign

Destroying keys makes unreadable what was made with them: that is cryptographic erase in the words of SP 800-88 Rev. 2,
for that data and no other. Disks, media and backups elsewhere are listed, each with who has to deal with it; only
people can sign that they did. Of several nodes one goes by itself, under records of its own; the last ends the site.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance import throwaway
from appliance.actions import retired_form
from appliance.actions.backups import aside, doomed, erasures, making
from appliance.actions.retiring_scope import Scope, require_may_end
from appliance.actions.standby.introducing import PAIRED
from appliance.actions.standby.pepper import PEPPER
from appliance.audit.client import SocketLedger, open_ledger
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Config
from appliance.errors import (
    ApprovalRefusedError,
    CiphertextError,
    KeyMissingError,
    LedgerUnavailableError,
    StoreWriteError,
)
from appliance.keys.files import FileKeys
from appliance.keys.opening import KeyStore, open_keys
from appliance.keys.provider import PURPOSES, Purpose
from appliance.paper.drawn import drawn, is_drawable
from appliance.standby.pairing import Relation
from media import durable
from media.clock import Clock
from media.errors import UsageError

METHODS: Final = ("clear", "purge", "destroy")
_DOOR: Final = "ledger-actions"
_PROBE: Final = b"sealift retirement probe"
_PEOPLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What people say of the media in the machine, and will do with them.

    Args:
        media: One text for each: kind, maker, model, serial number, property number.
        method: Clear, purge or destroy, as SP 800-88 Rev. 2 has it.
        technique: How, in words.
        tool: With which tool and version.
        verification: How it is checked.
        destination: Where the media go.
    """

    media: tuple[str, ...]
    method: str = "destroy"
    technique: str = ""
    tool: str = ""
    verification: str = ""
    destination: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "media": list(self.media),
            "method": self.method,
            "technique": self.technique,
            "tool": self.tool,
            "verification": self.verification,
            "destination": self.destination,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What people decided.

    Args:
        typed_site: The site's name as somebody typed it.
        people: Ids of two enrolled people.
        reason: Why.
        disks: What becomes of the media.
        node: This node's name as somebody typed it, where it alone goes; empty where the site ends.
        gone: Other nodes of which people say that their keys went with their machines.
    """

    typed_site: str
    people: tuple[str, ...]
    reason: str
    disks: Disks
    node: str = ""
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What was done.

    Args:
        facts: As they were recorded last.
        checkpoint: The ledger's last signed head.
        certificate: The file to print; None for a dry run.
    """

    facts: dict[str, Any]
    checkpoint: str
    certificate: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        name = self.certificate.name if self.certificate else None
        return {**self.facts, "checkpoint": self.checkpoint, "certificate": name}


def retire(
    config: Config,
    decision: Decision,
    *,
    confirm: Callable[[str], str],
    certificate: Path,
    clock: Clock,
    dry_run: bool = False,
) -> Retired:
    """Destroy this box's keys and write the certificate; run again, it goes on where it was cut off.

    Args:
        config: The site's.
        decision: What people decided.
        confirm: Has one of them prove who they are; returns the name.
        certificate: The file to write, .html or .pdf.
        clock: What time it is.
        dry_run: Say what would be destroyed; change nothing.

    Raises:
        ConflictError: Another node has the same keys and the site is to end, or this one alone and it is the last.
        ApprovalRefusedError: Fewer than two people, no reason, or another name than the site's.
        UnknownPersonError: One is not enrolled, or the password is wrong.
        LedgerUnavailableError: The ledger does not run.
        KeyMissingError: A key could not be destroyed, something still opens, or a key is back since the retirement.
        UsageError: The certificate cannot be written where it was asked for, or another node was named than this one.
    """
    _require_decided(config, decision)
    _require_writable(certificate)
    scope = Scope.of(config, decision.node)
    with closing(open_keys(config, environ={})) as keys:
        with closing(open_ledger(config, _DOOR, clock=clock)) as ledger:
            facts = _already(config, ledger, scope, keys)
            if dry_run:
                if facts is None and scope.node:
                    require_may_end(config, ledger, scope, decision.gone)
                names = [name for name, _ in doomed.secrets_of(config, keys)]
                foreseen = {"keys": names, "last": doomed.last_of(config, keys), "dry_run": True}
                return Retired(facts=foreseen, checkpoint="", certificate=None)
            if facts is None:
                doomed.secrets_of(config, keys)  # a token that does not answer is found before anybody confirms
                _require_recorder(ledger)
                require_may_end(config, ledger, scope, decision.gone)
                people = _confirmed(ledger, decision, scope, confirm)
                facts = _destroy_all(config, ledger, decision, scope, keys=keys, people=people)
                ledger.append(scope.done, facts)
                facts["checkpoint"] = ledger.checkpoint()
        doomed.destroy_last(config, keys)
    return _written(config, facts, certificate, clock)


def _require_recorder(ledger: Ledger) -> None:
    if not isinstance(ledger, SocketLedger):
        raise LedgerUnavailableError(
            what="a retirement cannot be recorded", why="sealift-ledger does not run", fix="start it and try again"
        )


def _destroy_all(
    config: Config,
    ledger: Ledger,
    decision: Decision,
    scope: Scope,
    *,
    keys: KeyStore,
    people: list[dict[str, str]],
) -> dict[str, Any]:
    begun = scope.began(ledger)
    old = _old_ciphertext(keys) if begun is None else dict(begun.body["old"])
    secrets, last = doomed.secrets_of(config, keys), doomed.last_of(config, keys)
    if begun is None:
        names = [name for name, _ in secrets]
        # What the keys made goes into the record: whoever doubts it can try to open it for ever.
        ledger.append(scope.begun, {**scope.named, "by": people, "reason": decision.reason, "keys": names, "old": old})
    for left in throwaway.left(aside.DRILL):  # a drill that was killed: no other one comes that would remove it
        doomed.wipe(left)
    for name, found in secrets:
        digests = [erasures.digest(file.read_bytes()) for file in found if isinstance(file, Path)]
        files = doomed.labels(name, found)
        # What names a key for the whole site, backups among it, is said only when the site ends.
        told = {"digests": digests} if scope.is_site else scope.named
        # Before: what is gone can be found and recorded by nobody. Cut off in between, the next run records it again.
        ledger.append(scope.destroyed, {"name": name, "files": files, **told})
        for each in found:
            if isinstance(each, Path):
                doomed.overwrite(each)
            else:
                keys.remove(name, each)
    keys.close()  # what is asked below is asked anew
    again = open_keys(config, environ={})
    shown = [_tried(again, name, bytes.fromhex(text)) for name, text in sorted(old.items())]
    again.close()
    for one in aside.asides(config.at):
        for folder in one.key_folders:
            copied = FileKeys(folder)
            shown += [_tried(copied, name, bytes.fromhex(text), one.root.name) for name, text in sorted(old.items())]
    boxes = _paired(ledger)
    for result in shown:
        if boxes and result["key"] == PEPPER:
            result["result"] += f"; that is here: {', '.join(boxes)} may have the same key"
    # Each once: a key is recorded again where the first run was cut off before it was gone.
    recorded = dict.fromkeys((leaf.body["name"], tuple(leaf.body["files"])) for leaf in scope.keys(ledger))
    made = making.all_made(ledger)
    return {
        "site": config.site,
        **scope.named,
        **({"gone": list(decision.gone)} if decision.gone else {}),
        **({"boxes": boxes} if boxes else {}),
        "by": people,
        "reason": decision.reason,
        "keys": [{"name": name, "files": list(files)} for name, files in recorded],
        "last": last,
        "shown": shown,
        "backups": [
            {name: leaf.body.get(name) for name in ("name", "sha256", "made_at", "recipient")} for leaf in made
        ],
        "disks": decision.disks.to_json(),
    }


def _paired(ledger: Ledger) -> list[str]:
    """Return the boxes that this one is or was a pair with: each may have the secret of API keys of both."""
    found = ledger.find(kind=PAIRED, field="relation", value=str(Relation.STANDBY), limit=EVERY)
    return sorted({str(leaf.body["peer"]) for leaf in found})


def _old_ciphertext(keys: KeyStore) -> dict[str, str]:
    """Return in hex what the keys make while they live: a sealed text, or a keyed hash of a known one."""
    made = {}
    for name, purpose in PURPOSES.items():
        with suppress(KeyMissingError):  # one that this box never had
            if purpose is Purpose.WRAP:
                made[name] = keys.wrap(name, _PROBE, b"retire").hex()
            elif purpose is Purpose.HMAC:
                made[name] = keys.hmac(name, _PROBE).hex()
    return made


def _tried(keys: KeyStore, name: str, old: bytes, folder: str = "") -> dict[str, str]:
    """Return that what a key made can neither be opened nor made again, also not with what was put aside in a folder.

    Raises:
        KeyMissingError: It can: the key is not gone. Or nobody can tell: folder or token do not answer.
    """
    left = keys.versions(name)  # a token that was pulled out is no proof
    wraps = PURPOSES[name] is Purpose.WRAP
    try:
        if wraps:
            keys.unwrap(name, old, b"retire")
        else:
            keys.hmac(name, _PROBE)
    except (KeyMissingError, CiphertextError) as error:
        if not left:  # a key that opens nothing may be the wrong one of its name: it was to be destroyed all the same
            what = "a text sealed before" if wraps else "a keyed hash made before"
            tried = f"{what}, with what lies in {folder}" if folder else what
            result = f"cannot be {'opened' if wraps else 'made again'}: {error.why}"
            return {"key": name, "tried": tried, "result": result}
    raise KeyMissingError(
        what=f"the key {name} {f'in {folder} ' if folder else ''}still works",
        why="it was to be destroyed",
        fix="find what put it back, and run it again",
    )


def _confirmed(ledger: Ledger, decision: Decision, scope: Scope, confirm: Callable[[str], str]) -> list[dict[str, str]]:
    """Return who decides; those who confirmed a retirement that was cut off need no password, which may be gone."""
    leaf = scope.began(ledger)
    if leaf is not None:
        before = [dict(each) for each in leaf.body["by"]]
        if {each["person"] for each in before} == set(decision.people):
            return before
    return [{"person": person, "name": confirm(person)} for person in decision.people]


def is_retired(config: Config, ledger: Ledger) -> bool:
    """Tell whether this box's keys are destroyed by record: with the site, or with this node alone.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    own = config.database.node
    return any(Scope.of(config, typed).ended(ledger) is not None for typed in dict.fromkeys(("", own)))


def _already(config: Config, ledger: Ledger, scope: Scope, keys: KeyStore) -> dict[str, Any] | None:
    """Return the facts of a retirement that was recorded, with the last signed head; None where there was none."""
    try:
        found = scope.ended(ledger)
        # Keys lie here again: another machine has the name of a node that was retired.
        if found is None or (not scope.is_site and doomed.is_used(config, keys)):
            return None
        doomed.require_gone(config, keys)
        boxes = _paired(ledger)
        return {**({"boxes": boxes} if boxes else {}), **found.body, "checkpoint": ledger.checkpoint()}
    except LedgerUnavailableError:
        return None


def _require_decided(config: Config, decision: Decision) -> None:
    why = ""
    if decision.typed_site != config.site:
        why = "what was typed is not this site's name"
    elif len(set(decision.people)) != _PEOPLE:
        why = "it takes two different people"
    elif not decision.reason.strip():
        why = "no reason was given"
    if why:
        raise ApprovalRefusedError(
            what="the box is not retired", why=why, fix="type the site's name, --by PERSON --by PERSON --reason TEXT"
        )


def _require_writable(file: Path) -> None:
    why = ""
    if not is_drawable(file):
        why = "its name ends in .pdf or .html"
    elif file.exists() or file.is_symlink():
        why = "it exists already"
    elif not file.parent.is_dir():
        why = "its folder does not exist"
    if why:
        raise UsageError(what="the certificate cannot be written there", why=why, fix="name another file")


def _written(config: Config, facts: dict[str, Any], certificate: Path, clock: Clock) -> Retired:
    checkpoint = str(facts.pop("checkpoint"))
    form = retired_form.form(config.site, facts, checkpoint, at=clock.now())
    try:
        durable.write_new(certificate, drawn(form, certificate), mode=0o600)
        durable.sync_folder(certificate.parent)
    except OSError as error:
        raise StoreWriteError(
            what="the certificate could not be written",
            why=error.strerror or "",
            fix="run the same command again with another file: the keys are gone, the record is there",
        ) from error
    return Retired(facts=facts, checkpoint=checkpoint, certificate=certificate)
