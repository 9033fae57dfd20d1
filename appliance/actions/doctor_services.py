"""What doctor looks at of what runs: folders, keys, sockets, spool, units, and the engine of production."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions import doctor_token
from appliance.actions.findings import Finding
from appliance.actions.resting import Resting, resting
from appliance.audit.facts import Ledger
from appliance.audit.spool import Spool
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install import oneshots
from appliance.install.supervisor import (
    Supervisor,
    UnitState,
    engine_of,
    engine_unit,
    is_booted_box,
    open_supervisor,
)
from appliance.install.unit_result import Ending, UnitResult, result_of
from appliance.keys.opening import open_keys
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.line import Line
from media.clock import Clock, SystemClock
from media.errors import SealiftError

MAKE_FOLDER: Final = "make-folder"
CLOSE: Final = "close-permissions"
REMOVE_SOCKET: Final = "remove-socket"
START_UNIT: Final = "start-unit"
RESTART_LEDGER: Final = "restart-ledger"
LEDGER_UNIT: Final = "sealift-ledger.service"

FOLDERS: Final = ("store", "trust", "receipts", "spool", "registry")
_SOCKET_PATH_BYTES: Final = 100
_LONGEST_SOCKET: Final = "engine-production-0123456789ab-standby"
_CONNECT_SECONDS: Final = 1.0


def folders(config: Config) -> Iterator[Finding]:
    """Whether the folders are there that more than one user needs; before the first install nothing is missing."""
    if not config.at.current.exists():
        return
    missing = [name for name in FOLDERS if not (config.at.state / name).is_dir()]
    if not missing:
        yield Finding(name="folders", is_good=True, text="all there")
    for name in missing:
        yield Finding(
            name="folders",
            is_good=False,
            text=f"{name} is not there",
            why="services write there and do not make it themselves",
            fix="`sealift install` makes it with its owner, as does `sealift doctor --mend`",
            repair=(MAKE_FOLDER, name),
        )


def keys(config: Config) -> Iterator[Finding]:
    """Whether the key files are there and for root alone."""
    folder = config.at.key_files
    yield _seen_if_put_back(config)
    if config.keys.provider == "token":
        yield doctor_token.finding(config, open_keys(config, environ={}))
        if not folder.is_dir():  # it holds the PIN alone, of which the finding above speaks
            return
    if not folder.is_dir():
        yield Finding(name="keys", is_good=False, text="there are none yet", fix="run `sealift install`")
        return
    may_look = os.access(folder, os.R_OK | os.X_OK)
    held = sorted(path for path in folder.iterdir() if path.is_file()) if may_look else []
    wide = [path for path in (folder, *held) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if not wide:
        yield Finding(
            name="keys",
            is_good=True if may_look else None,
            text=f"{len(held)} files, for root alone" if may_look else "only root can look at them",
            fix="run it as root",
        )
    for path in wide:
        yield Finding(
            name="keys",
            is_good=False,
            text=f"{len(held)} files, others may read {path.name}",
            why="whoever reads them can undo what they protect",
            fix="take the rights of group and others away",
            repair=(CLOSE, path.name if path != folder else ""),
        )


def _seen_if_put_back(config: Config) -> Finding:
    """Say what would notice that an older image of this disk was put back; without a token nothing here can."""
    if config.keys.provider == "token":
        text = "the token remembers the ledger's head, so an older disk does not start"
    else:
        text = "an older disk is seen only by the next medium that names a receipt, by a backup, or by a print"
    return Finding(name="older disk", is_good=True, text=text)


def sockets(config: Config) -> Iterator[Finding]:
    """Whether socket paths fit, and no socket lies about whose process is gone."""
    longest = len(os.fsencode(str(config.at.socket(_LONGEST_SOCKET))))
    yield Finding(
        name="socket paths",
        is_good=longest <= _SOCKET_PATH_BYTES,
        text=f"{longest} of {_SOCKET_PATH_BYTES} bytes",
        why="the kernel cuts longer ones",
        fix="give places.run a shorter path",
    )
    for path in sorted(config.at.run.glob("*.sock")) if config.at.run.is_dir() else []:
        if _is_stale(path):
            yield Finding(
                name="stale socket",
                is_good=False,
                text=f"nobody listens on {path.name}",
                why="callers wait for a process that is gone",
                fix="`sealift doctor --mend` removes it; its unit makes a new one",
                repair=(REMOVE_SOCKET, path.name),
            )


def _is_stale(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno == errno.ECONNREFUSED
    return False


def spool(config: Config) -> Iterator[Finding]:
    """Whether facts wait for a ledger that runs, or were set aside."""
    waiting = Spool(config.at.spool)
    try:
        pending, rejected = len(waiting.pending()), waiting.rejected()
        is_up = open_supervisor(config).state(LEDGER_UNIT) is UnitState.ACTIVE
    except SealiftError:
        return
    if pending and is_up:
        yield Finding(
            name="spool",
            is_good=False,
            text=f"{pending} facts wait for the ledger",
            why="they were kept while it did not answer; it appends them when it starts",
            fix="`sealift doctor --mend` starts the ledger again",
            repair=(RESTART_LEDGER, LEDGER_UNIT),
        )
    if rejected:
        yield Finding(
            name="spool",
            is_good=False,
            text=f"{len(rejected)} facts were set aside because they do not read",
            why="something that happened is not in the ledger",
            fix="look at the spool's folder `rejected`, and record by hand what it was",
        )


def units(
    config: Config,
    supervisor: Supervisor | None = None,
    *,
    ledger: Ledger | None = None,
    clock: Clock | None = None,
) -> Iterator[Finding]:
    """Whether a unit failed, with its reason; and whether what is promoted is served, or rests in a window.

    Args:
        config: The site file.
        supervisor: Knows the units; found here when absent.
        ledger: Says whether a window is open; without it nobody is taken to rest.
        clock: Says whether its time is over.
    """
    asked = supervisor or open_supervisor(config)
    try:
        found = asked.units()
    except UnitError as error:
        # Without systemd nothing runs here yet, and `sealift status` says so.
        if is_booted_box(config):
            yield Finding(name="units", is_good=False, text=error.what, why=error.why, fix=error.fix)
        return
    failed = [one.name for one in found if one.state is UnitState.FAILED]
    ended = {name: result_of(config, name) for name in failed}
    for name, result in ended.items():
        is_ours_to_start = (
            result.ending is not Ending.REFUSED and engine_of(name) is None and not oneshots.is_asked_for(name)
        )
        yield Finding(
            name="unit",
            is_good=False,
            text=f"{name}: {result.why or 'it failed'}",
            why="what depends on it waits or is refused",
            fix=result.fix,
            repair=(START_UNIT, name) if is_ours_to_start else (),
        )
    if found and not failed:
        yield Finding(name="units", is_good=True, text=f"{len(found)}, none failed")
    try:
        production = PromoterFolder(config.at.promoter).production()
    except SealiftError as error:
        yield Finding(name="production", is_good=False, text=error.what, why=error.why, fix=error.fix)
        return
    rest = None
    if ledger is not None:
        with suppress(SealiftError, KeyError, ValueError):  # that the ledger is away is another finding
            rest = resting(config, ledger, production)
    active = {one.name for one in found if one.state is UnitState.ACTIVE}
    for line in production.serving:
        if rest is not None and rest.keeps_down(str(line.current)[:12]):
            yield _resting(str(line.current), rest, active, clock or SystemClock())
        else:
            yield _production(config, asked, production, line, active, ended)


def _resting(digest: str, rest: Resting, active: set[str], clock: Clock) -> Finding:
    """Return what is to be said of a version that a window lets rest, or is just bringing back: nothing to mend."""
    if engine_unit("production", digest) in active:
        return _engines(digest, (), active)
    is_over = rest.is_over(clock)
    return Finding(
        name="production",
        is_good=False if is_over else None,
        text=f"{digest[:12]} rests in a maintenance window {rest.text}{', which is over' if is_over else ''}",
        why="callers get 503 until it ends",
        fix="`systemctl status sealift-jobs`, which ends it, and try again at once: `sealift window end --as PERSON`"
        if is_over
        else "wait for it, or end it: `sealift window end --as PERSON`",
    )


def _engines(digest: str, further: tuple[str, ...], active: set[str]) -> Finding:
    """Return how many of the engines that the site file names run; the first one does."""
    named = [engine_unit("production", digest, which) for which in further]
    missing = [unit for unit in named if unit not in active]
    if not missing:
        more = f" by {len(named) + 1} engines" if named else ""
        return Finding(name="production", is_good=True, text=f"{digest[:12]} is served{more}")
    return Finding(
        name="production",
        is_good=False,
        text=f"{digest[:12]} is served; of its further engines {len(missing)} of {len(named)} do not run: {missing[0]}",
        why="the site file names them; they did not start, or memory does not hold them",
        fix=f"see `sealift models fit {digest[:12]}`; then `sealift promote production`",
        repair=(START_UNIT, missing[0]),
    )


def _production(
    config: Config,
    supervisor: Supervisor,
    production: Production,
    line: Line,
    active: set[str],
    ended: dict[str, UnitResult],
) -> Finding:
    digest = str(line.current)
    unit = engine_unit("production", digest)
    if unit in active:
        return _engines(digest, config.engines.production.further if line is production.first else (), active)
    result = ended.get(unit) or result_of(config, unit)
    text = f"{digest[:12]} is promoted, and its engine does not run: {result.why or supervisor.state(unit)}"
    warm = _warm(production, line, active)
    if warm:
        text += f"; {', '.join(warm)} is still in memory"
    named = " --line NAME" if production.has_further else ""
    return Finding(
        name="production",
        is_good=False,
        text=text,
        why="callers get 503 until an engine runs",
        fix=f"one person goes back: `sealift rollback{named} --as PERSON --reason TEXT`" if warm else result.fix,
        repair=() if result.ending in {Ending.REFUSED, Ending.MEMORY} else (START_UNIT, unit),
    )


def _warm(production: Production, line: Line, active: set[str]) -> list[str]:
    """Return whose engines run besides a line's own; those of another line serve another model, so none goes back."""
    others = {one[:12] for other in production.lines.values() if other is not line for one in other.loadable}
    found = {engine_of(name) for name in active}
    return sorted(one[1] for one in found if one is not None and one[0] == "production" and one[1] not in others)
