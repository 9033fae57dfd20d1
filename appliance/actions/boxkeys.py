"""The box's own keys: which versions there are, a new one, and older ones destroyed; each change is recorded.

Order: a new version is durable -> recorded -> handed to the units that use the key. An old one is recorded as destroyed
-> destroyed, so that a backup made before never brings back what the record calls gone. Keys on a token are in no
backup, and units learn of their versions when they start.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.backups import erasures
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import KeyMissingError, PrivilegeError, StoreWriteError, UnitError
from appliance.install import hostfiles
from appliance.install.supervisor import Supervisor, UnitState
from appliance.install.unit_files import credential_lines, template_of
from appliance.keys.opening import open_keys
from appliance.keys.provider import PURPOSES
from media import canonical, durable
from media.errors import UsageError

ROTATED: Final = "key.rotated"
DROP_IN: Final = "50-sealift-keys.conf"
_LEDGER_KEY: Final = "ledger-checkpoint"
_KEYS: Final = "/etc/sealift/keys"
_LOST: Final = {
    "api-key-pepper": "API keys that were made under an older version stop working",
    "identity-hmac": "records made under an older version no longer match a person: they are erased in that sense",
    "content-hmac": "records made under an older version no longer match a text",
    "phi-map": "nothing that lasts",
    "session": "nothing: everybody signs in again",
    "retention": "samples of prompts and answers that were kept under an older version: they are erased in that sense",
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
        return {
            "name": self.name,
            "purpose": self.purpose,
            "versions": list(self.versions),
            "units": list(self.units),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What was done, or would be: the versions there are then, what went, and the units that were started again."""

    name: str
    versions: tuple[int, ...]
    gone: tuple[int, ...]
    restarted: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "name": self.name,
            "versions": list(self.versions),
            "gone": list(self.gone),
            "restarted": list(self.restarted),
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
            PrivilegeError: It is a box and this is not root.
            KeyMissingError: There is no such key, or the new version could not be written.
            LedgerUnavailableError: It could not be recorded; there is no new version.
            UnitError, StoreWriteError: A unit did not come back, or could not be told; the version stays.
        """
        said = self._require(name, reason)
        version = self._keys.create(name)
        try:
            self._ledger.append(ROTATED, {"name": name, "version": version, "reason": said})
        except BaseException:
            self._keys.remove(name, version)
            raise
        return Changed(name=name, versions=self._keys.versions(name), gone=(), restarted=self._hand_over(name))

    def destroy(self, name: str, *, reason: str, only: Collection[int] | None = None) -> Changed:
        """Destroy all versions but the newest, or those named; what they made is erased with them.

        Raises:
            UsageError, PrivilegeError: As `rotate`; or there is only one version: renew it first.
            KeyMissingError: A version could not be destroyed; running it again goes on.
            LedgerUnavailableError: It could not be recorded; nothing was destroyed.
            UnitError, StoreWriteError: As `rotate`; the versions are gone.
        """
        said = self._require(name, reason)
        *found, _ = self._keys.versions(name) or (0,)
        older = [version for version in found if only is None or version in only]
        if not older:
            raise UsageError(
                what=f"the key {name} has one version",
                why="without it the box could not go on",
                fix=f"renew it first: `sealift box-keys rotate {name}`, or retire the box: `sealift retire`",
            )
        files = [f"{name}.v{version}" for version in older]
        digests = [erasures.digest(self._keys.get(name, version=version).bytes) for version in older if self._has_files]
        self._ledger.append(erasures.DESTROYED, {"name": name, "files": files, "digests": digests, "reason": said})
        # systemd is told first, so that no unit asks for a file that is gone; of a token units learn when they start.
        restarted = self._hand_over(name, without=older) if self._has_files else ()
        for version in older:
            self._keys.remove(name, version)
        restarted = restarted if self._has_files else self._hand_over(name)
        return Changed(name=name, versions=self._keys.versions(name), gone=tuple(older), restarted=restarted)

    def _require(self, name: str, reason: str) -> str:
        if name not in PURPOSES or name == _LEDGER_KEY:
            raise UsageError(
                what=f"the key {name[:40]} is not renewed here",
                why="the ledger names its own key in its first record"
                if name == _LEDGER_KEY
                else "no key has this name",
                fix="a restore begins a new epoch with a new key: docs/operator/backup.md"
                if name == _LEDGER_KEY
                else "see `sealift box-keys list`",
            )
        if self._drop_ins is not None and os.geteuid() != 0:
            raise PrivilegeError(what="keys are changed as root", why="only root reads them", fix="run it as root")
        return canonical.text(reason.strip(), "the reason", most=400)

    def _hand_over(self, name: str, *, without: Iterable[int] = ()) -> tuple[str, ...]:
        """Name the versions to systemd and start again what uses the key and runs."""
        users = _users(name, self._loaded)
        if self._drop_ins is not None and self._has_files:
            for unit in users:
                self._place(self._drop_ins, unit, name, frozenset(without))
            self._reload()
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

    def _place(self, drop_ins: Path, unit: str, changed: str, without: frozenset[int]) -> None:
        lines = ["# Written by `sealift box-keys`: the versions of this box's keys.", "[Service]", "LoadCredential="]
        for line in self._loaded[unit]:
            name = line.partition(":")[0]
            if line != _first(name):
                lines.append(f"LoadCredential={line}")
                continue
            gone = without if name == changed else frozenset[int]()
            versions = [version for version in self._keys.versions(name) if version not in gone]
            lines += [f"LoadCredential={name}.v{version}:{_KEYS}/{name}.v{version}" for version in versions]
        folder = drop_ins / f"{unit}.d"
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            durable.replace(folder / DROP_IN, ("\n".join(lines) + "\n").encode(), mode=0o644)
        except OSError as error:
            raise StoreWriteError(
                what=f"{unit} could not be told of the key's versions",
                why=error.strerror or "",
                fix="make room on the disk, then run the command again",
            ) from error


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
