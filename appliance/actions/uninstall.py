"""Takes Sealift off a machine. What proves the past stays, unless the box was retired before.

    two enrolled people, the site's name typed -> recorded and signed -> services stopped, host as it was -> folders

Removed: releases, engines, units, the web server's configuration, models, caches and certificates. Kept: the ledger,
its keys and checkpoints, people and promotions, the evidence of gates that they signed, trust record and pinned root,
receipts and the site file; an install of the same site goes on from them. Backups lie on a disk of their own and are
never touched. With `evidence` the rest goes too, and that only after `sealift retire`, which destroys the keys and
writes the certificate.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.actions import hostplan, retiring
from appliance.audit.client import SocketLedger, open_ledger
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.lives import STARTED
from appliance.config import Config, Places
from appliance.errors import ApprovalRefusedError, LedgerUnavailableError, PreflightError, StoreWriteError
from appliance.install import playbook
from appliance.install.playbook import UNINSTALL, Play
from appliance.install.releases import InstalledReleases
from appliance.install.trial import Trials
from appliance.promote.hostchange import DONE
from appliance.registry import evidence as gates
from media.clock import Clock

REMOVED: Final = "install.removed"
_DOOR: Final = "ledger-actions"
_PEOPLE: Final = 2
_STATE: Final = (
    *("store", "registry", "gateway", "gateway-test", "census"),
    *("admin", "alerts", "plans", "scrub", "setup", "logs"),
)
_ETC: Final = ("tls", "release.conf", "usb.env")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What people decided.

    Args:
        typed_site: The site's name as somebody typed it.
        people: Ids of two enrolled people; none while nobody was ever enrolled.
        reason: Why.
        evidence: Whether ledger, keys, people and receipts go too.
    """

    typed_site: str
    people: tuple[str, ...]
    reason: str
    evidence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was removed and what stays, by places relative to the appliance's root; the ledger's last signed head."""

    serial: int
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    checkpoint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "serial": self.serial,
            "removed": list(self.removed),
            "kept": list(self.kept),
            "checkpoint": self.checkpoint,
        }


class Host(Protocol):
    """The machine: `playbook.Play` run by its Ansible, or a stand-in."""

    def apply(self, play: Play, ansible: Path) -> object:
        """Change the host as the play says."""
        ...


def uninstall(
    config: Config,
    decision: Decision,
    *,
    host: Host | None,
    confirm: Callable[[str], str],
    clock: Clock,
    dry_run: bool = False,
) -> Removed:
    """Take Sealift off this machine; run again by the same people, it removes what is left.

    Args:
        config: The site's.
        decision: What people decided.
        host: The machine; nothing below a folder, where only folders are removed.
        confirm: Has one of the people prove who they are; returns the name.
        clock: What time it is.
        dry_run: Say what would be removed, and change nothing.

    Raises:
        ApprovalRefusedError: Too few people, no reason, another name than the site's, or evidence of a box that was
            not retired.
        InstallError: The host could not be changed, or an install is running.
        LedgerUnavailableError: The ledger does not run, so it cannot be recorded.
        PreflightError: There is no Ansible on a box.
        StoreWriteError: A folder could not be removed.
    """
    places = config.at
    installed = InstalledReleases(places).current()
    doomed, kept = _lists(places, evidence=decision.evidence)
    facts = Removed(
        serial=installed.serial if installed else 0,
        removed=tuple(_name(places, path) for path in doomed),
        kept=tuple(_name(places, path) for path in kept),
    )
    if dry_run:
        return facts
    _require_decided(config, decision, clock)
    with Trials(places).locked():
        play = None if host is None else _play(config)
        checkpoint = _recorded(config, decision, facts, confirm=confirm, clock=clock)
        if host is not None and play is not None:
            host.apply(play, playbook.ansible_of(config))
    for path in doomed:
        if path == places.current.parent:
            _remove(places.current)  # first: what is left of a release, cut off, must not pass for the one in use
        _remove(path, but=kept)
    return Removed(serial=facts.serial, removed=facts.removed, kept=facts.kept, checkpoint=checkpoint)


def _recorded(
    config: Config, decision: Decision, facts: Removed, *, confirm: Callable[[str], str], clock: Clock
) -> str:
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        retired = retiring.is_retired(config, ledger)
        if decision.evidence and not retired:
            raise ApprovalRefusedError(
                what="the evidence of this box is not removed",
                why="it was not retired: its keys live, and there is no certificate",
                fix="run `sealift retire` first, or leave --evidence-too out",
            )
        if retired:  # its ledger has signed for the last time, and takes no more
            return ""
        if not isinstance(ledger, SocketLedger):
            if _is_begun(ledger, decision, config.database.node):  # what was cut off had stopped the services already
                return ledger.checkpoint()
            raise LedgerUnavailableError(
                what="an uninstall cannot be recorded", why="sealift-ledger does not run", fix="start it and try again"
            )
        return _append(ledger, decision, facts, confirm)
    finally:
        ledger.close()


def _is_begun(ledger: Ledger, decision: Decision, node: str) -> bool:
    """Tell whether these people's uninstall is on record, and nothing was installed since, nor did the box run again.

    Of one that ran again root could say years later, with no password of anybody, that it is gone on with. Of several
    nodes each has records of its own: what was decided about one takes no other off, and others run on meanwhile.
    """
    removed, *since = (_newest(ledger, kind, node) for kind in (REMOVED, DONE, STARTED))
    if removed is None or any(one is not None and one.sequence > removed.sequence for one in since):
        return False
    return {one["person"] for one in removed.body["by"]} == set(decision.people)


def _newest(ledger: Ledger, kind: str, node: str) -> Leaf | None:
    return next((leaf for leaf in ledger.find(kind=kind, limit=EVERY) if leaf.via.is_of(node)), None)


def _append(ledger: Ledger, decision: Decision, facts: Removed, confirm: Callable[[str], str]) -> str:
    by = [{"person": person, "name": confirm(person)} for person in decision.people]
    body = {"by": by, "reason": decision.reason, "serial": facts.serial, "kept": list(facts.kept)}
    ledger.append(REMOVED, body)
    return ledger.checkpoint()


def _play(config: Config) -> Play:
    installed = InstalledReleases(config.at).require_current()
    folder = InstalledReleases(config.at).folder(installed.serial)
    if not (folder / "ansible" / UNINSTALL).exists():
        raise PreflightError(
            what="the release in use cannot be taken off by itself",
            why="it brings no playbook for that",
            fix="install a newer release first",
        )
    return Play(
        config=config,
        config_file=config.at.config_file,
        source=folder,
        folder=folder,
        serial=installed.serial,
        environments=tuple(installed.environments),
        book=UNINSTALL,
    )


def _lists(places: Places, *, evidence: bool) -> tuple[list[Path], list[Path]]:
    """Return what goes and what stays, of all that is there; something that stays may lie in a folder that goes."""
    of_state = sorted(places.state.iterdir()) if places.state.is_dir() else []
    of_etc = sorted(places.etc.iterdir()) if places.etc.is_dir() else []
    goes = {places.current.parent, *(places.etc / name for name in _ETC), *(places.state / name for name in _STATE)}
    if evidence:
        goes |= {*of_state, *of_etc}
    elif (proofs := gates.folder(places)).is_dir():  # what people signed names it by digest, and it is nowhere else
        of_state.append(proofs)
    there = [*of_etc, *of_state, places.current.parent]  # the program itself goes last
    return [path for path in there if path in goes and path.exists()], [path for path in there if path not in goes]


def _require_decided(config: Config, decision: Decision, clock: Clock) -> None:
    why = ""
    if decision.typed_site != config.site:
        why = "what was typed is not this site's name"
    elif not decision.reason.strip():
        why = "no reason was given"
    elif len(set(decision.people)) != _PEOPLE and hostplan.is_anybody_here(config, clock=clock):
        why = "it takes two different people"
    if why:
        raise ApprovalRefusedError(
            what="nothing was removed", why=why, fix="type the site's name, --by PERSON --by PERSON --reason TEXT"
        )


def _remove(path: Path, *, but: Collection[Path] = ()) -> None:
    if path in but:
        return
    try:
        if path.is_dir() and not path.is_symlink():
            for one in path.iterdir():
                _remove(one, but=but)
            # A disk of its own stays where it is mounted, empty.
            if not path.is_mount() and not any(path in one.parents for one in but):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreWriteError(
            what=f"{path.name} could not be removed",
            why=error.strerror or "",
            fix="run the same command again, as root",
        ) from error


def _name(places: Places, path: Path) -> str:
    return path.relative_to(places.root).as_posix()
