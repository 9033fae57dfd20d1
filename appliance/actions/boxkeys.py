"""The box's own keys: which versions there are, a new one, and older ones destroyed; each change is recorded.

Order: a new version is durable -> recorded -> handed to the units that use the key. An old one is recorded as destroyed
-> destroyed, so that a backup made before never brings back what the record calls gone. Keys on a token are in no
backup, and units learn of their versions when they start. The key of checkpoints changes hands in the ledger itself,
which both keys sign (`appliance.audit.rotating`); a renewal of it that was cut is ended by running it again.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from appliance.actions import renewedelsewhere
from appliance.actions.backups import aside, doomed, erasures
from appliance.audit import nodekeys, rotating, succession
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import KeyMissingError, PrivilegeError, StoreWriteError, UnitError
from appliance.install import hostfiles
from appliance.install.supervisor import Supervisor, UnitState
from appliance.install.unit_files import credential_lines, template_of
from appliance.keys import commitments
from appliance.keys.opening import open_keys
from appliance.keys.provider import PURPOSES, KeyProvider
from appliance.timekeeping.believed import BelievedClock
from media import canonical, durable
from media.clock import to_text
from media.errors import UsageError

ROTATED: Final = rotating.ASKED
MADE: Final = "key.made"
DROP_IN: Final = "50-sealift-keys.conf"
_LEDGER_KEY: Final = rotating.KEY_NAME
_KEYS: Final = "/etc/sealift/keys"
_LATER: Final = re.compile(r"\.v(?!1:)[0-9]+:")
_LOST: Final = {
    "api-key-pepper": "API keys that were made under an older version stop working",
    "identity-hmac": "records made under an older version no longer match a person: they are erased in that sense",
    "content-hmac": "records made under an older version no longer match a text",
    "phi-map": "batches, and the census list, that were encrypted under an older version: import the list again first",
    "session": "nothing: everybody signs in again",
    "retention": "samples of prompts and answers that were kept under an older version: they are erased in that sense",
    _LEDGER_KEY: "nothing: the ledger names the newer key, and what the older signed still verifies",
    "ledger-mldsa": "nothing: the ledger names the newer key, and what the older signed still verifies",
    "test-api-key-pepper": "test keys that were made under an older version stop working",
    "test-identity-hmac": "records of the test stage made under an older version no longer match a person",
    "test-content-hmac": "records of the test stage made under an older version no longer match a text",
    "test-phi-map": "nothing that lasts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxKey:
    """One key: its versions, the newest of which makes, and the units that use it."""

    name: str
    purpose: str
    versions: tuple[int, ...]
    units: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields; no material is among them."""
        return {"name": self.name, "purpose": self.purpose, "versions": list(self.versions), "units": list(self.units)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What was done, or would be: the versions there are then, what went, and the units that were started again.

    `unnoted` says why the list of erasures beside the backups lacks what went; empty where it does not. `record` is the
    number of the record that names what went; 0 where backups could hold none of it.
    """

    name: str
    versions: tuple[int, ...]
    gone: tuple[int, ...]
    restarted: tuple[str, ...]
    unnoted: str = ""
    record: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "gone": list(self.gone),
            "restarted": list(self.restarted),
            **({"unnoted": self.unnoted} if self.unnoted else {}),
            **({"record": self.record} if self.record else {}),
        }


def listed(config: Config) -> tuple[BoxKey, ...]:
    """Return every key that a box has.

    Raises:
        KeyMissingError: The folder cannot be read, or the token cannot be asked.
    """
    keys, loaded = open_keys(config, environ={}), _loaded()
    return tuple(
        BoxKey(name=name, purpose=str(purpose), versions=keys.versions(name), units=_users(name, loaded))
        for name, purpose in PURPOSES.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The names of keys that were made, and the units that were told of them beside their own files."""

    made: tuple[str, ...]
    told: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `changed` says whether anything was."""
        return {"made": list(self.made), "told": list(self.told), "changed": bool(self.made or self.told)}


def complete(config: Config, ledger: Callable[[], Ledger], *, drop_ins: Path | None) -> Completed:
    """Make every key that this release uses and that is not here, and name it to units whose keys were renewed before.

    A release may use names that the one before, which carries the upgrade out, does not know. Where several nodes
    answer, units learn of versions that were copied from another one. May be repeated.

    Args:
        config: The site file.
        ledger: Opens where it is recorded which keys were made; not asked when there were none.
        drop_ins: Where systemd looks for settings of this box; None without systemd. systemd is not told to read them.

    Raises:
        KeyMissingError: A key could not be made.
        StoreWriteError: A unit could not be told.
        LedgerUnavailableError: It could not be recorded; the keys stay, and the next run makes none of them anew.
    """
    keys, told = open_keys(config, environ={}), []
    made = keys.create_missing()
    if drop_ins is not None and config.keys.provider == "files":
        for unit, lines in _loaded().items():
            place, text = drop_ins / f"{unit}.d" / DROP_IN, _told(keys, lines, {})
            # Versions that were copied from another node were never handed to a unit of this one.
            has_copied = bool(config.database.node and _LATER.search(text))
            is_other = place.read_text() != text if place.exists() else has_copied
            if is_other:
                _place(drop_ins, unit, text)
                told.append(unit)
    if made:
        ledger().append(MADE, {"names": made})
    return Completed(made=tuple(made), told=tuple(told))


class Keyring:
    """Changes of the keys of one box.

    Args:
        config: The site file.
        ledger: Where each change is recorded; a change that cannot be is undone or not begun.
        supervisor: Starts the units again that use a key.
        reload: Makes systemd read its files again; nothing without systemd.
        drop_ins: Where systemd looks for settings of this box; None without systemd.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        supervisor: Supervisor,
        *,
        reload: Callable[[], None] = lambda: None,
        drop_ins: Path | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._supervisor = supervisor
        self._reload = reload
        self._drop_ins = drop_ins
        self._keys = open_keys(config, environ={})
        self._has_files = config.keys.provider == "files"
        self._loaded = _loaded()

    def rotate(self, name: str, *, reason: str) -> Changed:
        """Make a new version and hand it to the units; older ones still check and open what they made.

        Raises:
            UsageError: The key is not one that can be renewed here, or the reason cannot be recorded.
            ConflictError: Another node has a newer version, which is not here yet.
            PrivilegeError: It is a box and this is not root.
            KeyMissingError: There is no such key, or the new version could not be written.
            LedgerUnavailableError: It could not be recorded; there is no new version.
            UnitError, StoreWriteError: A unit did not come back, or could not be told; the version stays.
        """
        said = self._require(name, reason)
        if name == _LEDGER_KEY and (left := self._unfinished()):
            if not self._is_asked_for(left):
                self._ledger.append(ROTATED, self._renewed(name, left, said))
            return Changed(name=name, versions=self._keys.versions(name), gone=(), restarted=self._hand_over(name))
        renewedelsewhere.require_own(self._config, self._ledger, name, newest=self._keys.newest(name))
        version = self._keys.create(name)
        try:
            self._ledger.append(ROTATED, self._renewed(name, version, said))
        except BaseException:
            self._keys.remove(name, version)
            raise
        return Changed(name=name, versions=self._keys.versions(name), gone=(), restarted=self._hand_over(name))

    def mend(self, name: str) -> tuple[str, ...]:
        """Hand a key's versions to its units where one was not told of them all: a renewal may have been cut off there.

        Returns:
            The units that were started again.

        Raises:
            As `rotate`.
        """
        last = self._ledger.find(ROTATED, field="name", value=name, limit=1)
        if self._drop_ins is None or not self._has_files or not last:
            return ()
        # One that was made and never recorded makes nothing: its time would be unknown, and it would never be due.
        if last[0].body.get("version") != self._keys.newest(name):
            return ()
        for unit in _users(name, self._loaded):
            place = self._drop_ins / f"{unit}.d" / DROP_IN
            if not place.exists() or place.read_text() != _told(self._keys, self._loaded[unit], {}):
                return self._hand_over(name)
        return ()

    def tell(self, name: str) -> tuple[str, ...]:
        """Hand a key's versions to its units, as after some came from a paired box; return what was started again.

        The first version alone is what their own files name.

        Raises:
            UnitError, StoreWriteError: As `rotate`.
        """
        if self._keys.versions(name) == (1,):
            return self._start_again(_users(name, self._loaded))
        return self._hand_over(name)

    def destroy(self, name: str, *, reason: str, only: Collection[int] | None = None) -> Changed:
        """Destroy all versions but the newest, or those named; what they made is erased with them.

        Copies of their bytes in what restores put aside go too; another key of that name and version there stays.

        Raises:
            UsageError, PrivilegeError: As `rotate`; or there is only one version: renew it first.
            KeyMissingError: A version could not be destroyed; running it again goes on. Or a copy of one lies where
                this process may not write; nothing was recorded.
            LedgerUnavailableError: It could not be recorded; nothing was destroyed.
            UnitError, StoreWriteError: As `rotate`; the versions are gone after the first, and copies after the second.
        """
        said = self._require(name, reason)
        if name == _LEDGER_KEY and self._unfinished():
            raise UsageError(
                what="the newest version of the ledger's key does not sign yet",
                why="without the older ones the ledger could not go on",
                fix=f"end its renewal first: `sealift box-keys rotate {name}`",
            )
        *found, _ = self._keys.versions(name) or (0,)
        older = [version for version in found if only is None or version in only]
        if not older:
            raise UsageError(
                what=f"the key {name} has one version",
                why="without it the box could not go on",
                fix=f"renew it first: `sealift box-keys rotate {name}`, or retire the box: `sealift retire`",
            )
        digests = [erasures.digest(self._keys.get(name, version=version).bytes) for version in older if self._has_files]
        copies = aside.copies(self._config.at, name, versions=older, digests=digests)
        aside.require_writable(copies)
        digests += sorted({aside.digest_of(file) for file in copies} - set(digests))
        files = [*(f"{name}.v{version}" for version in older), *(aside.named(file) for file in copies)]
        body = {"name": name, "files": files, "digests": digests, "reason": said}
        record = self._ledger.append(erasures.DESTROYED, body).sequence
        for file in copies:  # first: cut off here, the same command finds the versions still and goes on
            doomed.overwrite(file)
        self._tell_systemd(name, without=older)  # first, so that no unit asks for a file that is gone
        for version in older:
            self._keys.remove(name, version)
        try:
            restarted = self._start_again(_users(name, self._loaded))
        finally:  # last: its disk may be slow, and is not ours alone
            unnoted = erasures.note_now(self._config, self._ledger)
        done = Changed(name=name, versions=self._keys.versions(name), gone=tuple(older), restarted=restarted)
        return replace(done, unnoted=unnoted, record=record if digests else 0)

    def _renewed(self, name: str, version: int, reason: str) -> dict[str, Any]:
        # A version is destroyed years after the next began, so that moment is what is believed of the machine's clock.
        believed = to_text(BelievedClock.of(self._config).now())
        body = {"name": name, "version": version, "reason": reason, "believed": believed}
        # Other nodes compare it with theirs, and say that it is not there yet.
        told = commitments.commitment(self._keys, name, version) if self._config.database.node else ""
        return {**body, nodekeys.COMMITMENT: told} if told else body

    def _require(self, name: str, reason: str) -> str:
        if name not in PURPOSES:
            raise UsageError(
                what=f"the key {name[:40]} is not renewed here",
                why="no key has this name",
                fix="see `sealift box-keys list`",
            )
        if self._drop_ins is not None and os.geteuid() != 0:
            raise PrivilegeError(what="keys are changed as root", why="only root reads them", fix="run it as root")
        return canonical.text(reason.strip(), "the reason", most=400)

    def _unfinished(self) -> int:
        """Return the version of the ledger's key that was made and does not sign yet; 0 where the newest signs."""
        in_force = succession.of_ledger(self._ledger).in_force(self._ledger.head().origin)
        signing = rotating.version_of(self._keys, in_force)
        newest = self._keys.newest(_LEDGER_KEY)
        if signing is None:
            raise KeyMissingError(
                what="the key that signs for the ledger is not here",
                why=f"its records name {in_force.key_id.hex()}, and no version is that",
                fix="put its file back, or restore a backup, which begins a new epoch",
            )
        return newest if newest != signing else 0

    def _is_asked_for(self, version: int) -> bool:
        last = self._ledger.find(ROTATED, field="name", value=_LEDGER_KEY, limit=1)
        return bool(last) and last[0].body.get("version") == version

    def _hand_over(self, name: str) -> tuple[str, ...]:
        """Name the versions to systemd and start again what uses the key and runs."""
        self._tell_systemd(name)
        return self._start_again(_users(name, self._loaded))

    def _tell_systemd(self, name: str, *, without: Iterable[int] = ()) -> None:
        """Name the versions to systemd; of those on a token units learn when they start."""
        if self._drop_ins is not None and self._has_files:
            for unit in _users(name, self._loaded):
                _place(self._drop_ins, unit, _told(self._keys, self._loaded[unit], {name: frozenset(without)}))
            self._reload()

    def _start_again(self, users: Collection[str]) -> tuple[str, ...]:
        restarted = []
        for unit in self._running():
            if template_of(unit) in users:
                self._supervisor.stop(unit)
                self._supervisor.start(unit)
                restarted.append(unit)
        return tuple(restarted)

    def _running(self) -> tuple[str, ...]:
        with suppress(UnitError):  # no supervisor answers: nothing runs
            return tuple(one.name for one in self._supervisor.units() if one.state is UnitState.ACTIVE)
        return ()


def loses(name: str) -> str:
    """Return what is lost with the older versions of a key, for the question before it.

    Raises:
        KeyMissingError: No key has this name.
    """
    try:
        return _LOST[name]
    except KeyError:
        raise KeyMissingError(
            what=f"the key {name[:40]} cannot be destroyed here", why="no such key", fix="see `sealift box-keys list`"
        ) from None


def _loaded() -> dict[str, tuple[str, ...]]:
    return credential_lines(hostfiles.folder("systemd"))


def _users(name: str, loaded: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(unit for unit, lines in loaded.items() if _first(name) in lines)


def _first(name: str) -> str:
    """Return how a unit file names a key's first version."""
    return f"{name}:{_KEYS}/{name}.v1"


def _told(keys: KeyProvider, loaded: Iterable[str], gone: Mapping[str, Collection[int]]) -> str:
    """Return the drop-in that names every version of what a unit loads, but those that go."""
    lines = ["# Written by `sealift box-keys`: the versions of this box's keys.", "[Service]", "LoadCredential="]
    for line in loaded:
        name = line.partition(":")[0]
        if line != _first(name):
            lines.append(f"LoadCredential={line}")
            continue
        versions = [version for version in keys.versions(name) if version not in gone.get(name, ())]
        lines += [f"LoadCredential={name}.v{version}:{_KEYS}/{name}.v{version}" for version in versions]
    return "\n".join(lines) + "\n"


def _place(drop_ins: Path, unit: str, text: str) -> None:
    folder = drop_ins / f"{unit}.d"
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        durable.replace(folder / DROP_IN, text.encode(), mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what=f"{unit} could not be told of the key's versions",
            why=error.strerror or "",
            fix="make room on the disk, then run the command again",
        ) from error
