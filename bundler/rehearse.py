"""The rehearsal: a candidate is installed on a clean system without a network and answers, before anyone signs.

The candidate gets a throwaway root (`environment: rehearsal`) and one volume; from that volume an environment is made
with its own wheels, and that environment's own `sealift` receives, installs, loads the model in test and asks it. What
was done, and only that, is in the statement: the level says `installed` or `answered-on-cpu`, `at` when it really ran.
Given a system that boots, the candidate is installed on a copy of it instead, as a site does it: by the trust sheet's
commands, the medium's bootstrap and its own units; the statement then names that system.
A payload that was rehearsed within a day is not rehearsed again.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from bundler import statement
from bundler.attest import envelope_of
from bundler.cache import Cache
from bundler.ceremony import Invitation, hold
from bundler.completion import completed, needs_base
from bundler.errors import RehearsalError
from bundler.measure import measure_tree
from bundler.onego import release_in_one_go
from bundler.plan import ReleasePlan
from bundler.process import Progress, quiet
from bundler.quarantine import NetworkNamespace, Quarantine
from bundler.rehearsing.answers import ModelAnswer, answer_of, models_of
from bundler.rehearsing.nspawn import CleanSystem, booted
from bundler.rehearsing.onsystem import answers_on
from bundler.seal import trust_sheet
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder, put
from media import layout
from media.canonical import loads, mapping, text
from media.clock import Clock, from_text, to_text
from media.digest import payload_digest
from media.errors import MalformedError

INSTALLED: Final = "installed"
ANSWERED: Final = "answered-on-cpu"
_VALID: Final = timedelta(days=1)
_MEMO: Final = "rehearsals"
_MEMO_FORMAT: Final = 1
_PEOPLE: Final = (Invitation(id="one", name="Rehearsal One"), Invitation(id="two", name="Rehearsal Two"))
_UNITS: Final = ("sealift-ledger.service", "sealift-promoter.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What the statement says."""

    payload_digest: str
    level: str
    at: str
    seconds: int
    models: tuple[ModelAnswer, ...]
    base: str = ""
    system: str = ""
    was_remembered: bool = False

    def predicate(self) -> dict[str, Any]:
        """Return the statement's predicate."""
        return {
            "format": _MEMO_FORMAT,
            "payload_digest": self.payload_digest,
            "level": self.level,
            "at": self.at,
            "seconds": self.seconds,
            "network": "none: a system that has only a loopback" if self.system else "none: an empty network namespace",
            "models": [asdict(model) for model in self.models],
            **({"base_payload_digest": self.base} if self.base else {}),
            **({"system": self.system} if self.system else {}),
        }

    @classmethod
    def from_predicate(cls, untrusted: Any) -> "Rehearsal":
        """Read a predicate that was remembered.

        Raises:
            MalformedError: It is none.
        """
        value = mapping(untrusted, "a rehearsal")
        models = value.get("models")
        if value.get("format") != _MEMO_FORMAT or not isinstance(models, list):
            raise MalformedError(what="a remembered rehearsal has another format", why="", fix="rehearse again")
        return cls(
            payload_digest=text(value.get("payload_digest"), "payload_digest"),
            level=text(value.get("level"), "level"),
            at=text(value.get("at"), "at"),
            seconds=int(value.get("seconds", 0)),
            models=tuple(ModelAnswer(**mapping(model, "models")) for model in models),
            base=text(value.get("base_payload_digest", ""), "base_payload_digest", may_be_empty=True),
            system=text(value.get("system", ""), "system", may_be_empty=True),
            was_remembered=True,
        )


_START_SECONDS: Final = 900
"""vLLM imports a gigabyte of libraries before it loads anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The throwaway folder of one rehearsal; its name is short, because sockets lie in it."""

    root: Path
    quarantine: Quarantine
    progress: Progress
    python: str

    @property
    def volume(self) -> Path:
        """The one volume."""
        return self.root / "volume"

    @property
    def box(self) -> Path:
        """What stands for the appliance's file system."""
        return self.root / "box"

    @property
    def site_file(self) -> Path:
        """Its configuration."""
        return self.box / "etc" / "sealift" / "sealift.toml"

    def sealift(self, environment: Path, *words: str | Path, step: str) -> Any:
        """Run the candidate's own command and return its JSON result.

        Raises:
            RehearsalError: It failed, or printed no JSON.
        """
        self.progress(f"  {step}")
        arguments = [environment / "bin" / "sealift", "--config", self.site_file, "--json", *words]
        printed = self.quarantine.run(arguments, step=step)
        try:
            return loads(printed.encode(), allow_floats=True)
        except MalformedError as error:
            raise RehearsalError(
                what=f"rehearsal: {step} printed no result", why=error.why, fix="add --keep and run it by hand"
            ) from error


def throwaway_medium(work: WorkFolder, volume: Path, folder: Path, clock: Clock) -> Path:
    """Sign a candidate with keys made for this, write it as one volume, and return the root that names the keys.

    Args:
        work: The candidate; it is not changed.
        volume: Where the volume is written.
        folder: Where everything else lies.
        clock: For the custody entries.
    """
    twin = WorkFolder(root=folder / "work")
    shutil.copytree(work.candidate, twin.candidate, copy_function=_link)
    twin.attest.mkdir()
    ceremony = hold(folder / "ceremony", _PEOPLE, environment="rehearsal")
    volume.mkdir()
    release_in_one_go(twin, [volume], ceremony=ceremony, clock=clock)
    return folder / "ceremony" / "root" / "1.root.json"


def empty_namespace(home: Path) -> Quarantine:
    """Return a place without a network, proven to be one.

    Raises:
        RehearsalError: There is none on this machine.
    """
    namespace = NetworkNamespace(home=home)
    namespace.require_empty()
    return namespace


def rehearse(  # noqa: PLR0913 - each is a choice of its own, and tests hand in the last three
    work: WorkFolder,
    *,
    cache: Cache,
    clock: Clock,
    base: WorkFolder | None = None,
    system: Path | None = None,
    progress: Progress = quiet,
    is_fresh: bool = False,
    keep: bool = False,
    quarantine: Callable[[Path], Quarantine] = empty_namespace,
    medium: Callable[[WorkFolder, Path, Path, Clock], Path] = throwaway_medium,
    boot: Callable[[Path, Path, Path], AbstractContextManager[CleanSystem]] = booted,
) -> Rehearsal:
    """Rehearse the candidate of a work folder and leave its statement in `attest/rehearsal.json`, unless one is signed.

    Args:
        work: Holds an unsigned candidate.
        cache: Remembers rehearsals by payload.
        clock: The time that the statement names.
        base: The candidate below, for one that does not bring everything; both together are rehearsed.
        system: A root file system that boots, as debootstrap makes it; a copy of it is installed. Needs root.
        progress: Told each step.
        is_fresh: Rehearse again, whatever is remembered.
        keep: Leave the throwaway folder behind, and say where it is.
        quarantine: Makes the place where programs run, from an empty home folder.
        medium: Writes the volume and returns its root.
        boot: Boots a copy of a system below a folder, with the volume.

    Raises:
        RehearsalError: A step failed; nothing was stated.
        SigningError: There is no candidate.
    """
    plan = ReleasePlan.load(work.plan)
    below = "" if base is None else ReleasePlan.load(base.plan).payload_digest
    digest, remembered = before_rehearsing(
        work, cache=cache, clock=clock, base=base, on_system=system is not None, is_fresh=is_fresh
    )
    if remembered is not None:
        progress(f"this payload was rehearsed at {remembered.at}: {remembered.level}")
    if remembered is None:
        with _throwaway(keep=keep, progress=progress) as folder:
            whole = work
            if base is not None:
                progress(f"  on release {ReleasePlan.load(base.plan).release}")
                whole = completed(work, base, folder / "whole")
            progress("  signing with throwaway keys, writing one volume")
            root = medium(whole, folder / "volume", folder, clock)
            if system is not None:
                progress(f"  booting a copy of {system.name}")
                with boot(system, folder, folder / "volume") as machine:
                    seen = _on_system(machine, whole, plan, folder, clock=clock, progress=progress)
            else:
                (folder / "home").mkdir()
                place = quarantine(folder / "home")
                stage = Stage(root=folder, quarantine=place, progress=progress, python=_interpreter(plan))
                seen = _run(stage, whole, plan, root=root, clock=clock)
            remembered = replace(seen, base=below)
    found = remembered
    cache.remember(_MEMO, digest, found.predicate())
    if is_signed(work):
        return found
    work.attest.mkdir(exist_ok=True)
    content = statement.about_payload(digest, statement.REHEARSAL, found.predicate())
    put(work.attest / "rehearsal.json", content)
    return found


def is_signed(work: WorkFolder) -> bool:
    """Whether somebody signed the statement of a rehearsal; another one in its place would make theirs worthless."""
    return envelope_of(work.attest / "rehearsal.json").is_file()


def before_rehearsing(
    work: WorkFolder, *, cache: Cache, clock: Clock, base: WorkFolder | None, on_system: bool, is_fresh: bool
) -> tuple[str, Rehearsal | None]:
    """Return the payload's digest, and the rehearsal that would be stated without running one; change nothing.

    Raises:
        RehearsalError: The candidate was changed, or needs the release below it.
        SigningError: There is no candidate.
    """
    digest = _digest_of(work, ReleasePlan.load(work.plan))
    if base is None and needs_base(work):
        raise RehearsalError(
            what="rehearsal: this release does not bring everything",
            why="it changes a release that the sites have, and is installed on that one",
            fix="give --base with the work folder of that release",
        )
    below = "" if base is None else ReleasePlan.load(base.plan).payload_digest
    return digest, None if is_fresh else _remembered(cache, digest, clock, base=below, on_system=on_system)


def _run(stage: Stage, work: WorkFolder, plan: ReleasePlan, *, root: Path, clock: Clock) -> Rehearsal:
    at, ticks = clock.now(), clock.monotonic()
    first = _first_environment(stage)
    _write_site_file(stage, plan)
    stage.sealift(first, "receive", stage.volume, "--trust-root", root, step="receiving, with a throwaway root")
    stage.sealift(first, "install", step="installing from the medium's wheels")
    models = _asked(stage, work)
    return Rehearsal(
        payload_digest=plan.payload_digest,
        level=ANSWERED if models else INSTALLED,
        at=to_text(at),
        seconds=int(clock.monotonic() - ticks),
        models=models,
    )


def _on_system(
    machine: CleanSystem, work: WorkFolder, plan: ReleasePlan, folder: Path, *, clock: Clock, progress: Progress
) -> Rehearsal:
    at, ticks = clock.now(), clock.monotonic()
    sheet = trust_sheet(WorkFolder(root=folder / "work"), ceremony=Ceremony.load(folder / "ceremony"))
    models = answers_on(machine, sheet, models_of(work), progress=progress)
    return Rehearsal(
        payload_digest=plan.payload_digest,
        level=ANSWERED if models else INSTALLED,
        at=to_text(at),
        seconds=int(clock.monotonic() - ticks),
        models=models,
        system=machine.name,
    )


def _asked(stage: Stage, work: WorkFolder) -> tuple[ModelAnswer, ...]:
    """Load each model that this machine can serve and let it answer, in the test stage."""
    names = models_of(work)
    if not names:
        return ()
    installed = stage.box / "opt" / "sealift" / "current" / "server"
    answers: list[ModelAnswer] = []
    try:
        stage.sealift(installed, "run-units", *_UNITS, "--background", step="starting ledger and promoter")
        for name in names:
            report = stage.sealift(installed, "validate", name, "--only", "smoke", step=f"asking {name}")
            answers.append(answer_of(report))
    finally:
        with suppress(RehearsalError):
            stage.sealift(installed, "run-units", "--stop", step="stopping")
    return tuple(answers)


def _digest_of(work: WorkFolder, plan: ReleasePlan) -> str:
    payload = measure_tree(work.data, prefix=layout.DATA)
    digest = payload_digest((name, measured.length, measured.sha256) for name, measured in payload.items())
    if plan.payload_digest != digest:
        raise RehearsalError(
            what="the candidate was changed after it was built",
            why=f"payload {digest[:12]} instead of {plan.payload_digest[:12]}",
            fix="build it again",
        )
    return digest


def _remembered(cache: Cache, digest: str, clock: Clock, *, base: str, on_system: bool) -> Rehearsal | None:
    with suppress(MalformedError, TypeError, ValueError):
        found = Rehearsal.from_predicate(cache.recall(_MEMO, digest))
        age = clock.now() - from_text(found.at)
        is_enough = bool(found.system) or not on_system
        if (found.payload_digest, found.base) == (digest, base) and is_enough and timedelta(0) <= age < _VALID:
            return found
    return None


def _interpreter(plan: ReleasePlan) -> str:
    """Return a Python of the version that the release is for."""
    wanted = str(plan.targets[0].get("python", ""))
    if wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{wanted}")
    if found is None:
        raise RehearsalError(
            what=f"rehearsal: there is no Python {wanted} here",
            why="the release is for it",
            fix=f"install python{wanted}",
        )
    return found


def _first_environment(stage: Stage) -> Path:
    """Make an environment from the volume's own wheels, as the bootstrap does on a bare machine."""
    stage.progress("  making an environment from the medium's wheels")
    place = stage.root / "first"
    data = stage.volume / layout.RELEASE / layout.DATA
    stage.quarantine.run([stage.python, "-m", "venv", place], step="making a virtual environment")
    wheels: Sequence[str | Path] = (
        "--no-index", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir", "--quiet",
        "--find-links", data / "wheels", "-r", data / "server" / "requirements-server.txt",
    )  # fmt: skip
    stage.quarantine.run([place / "bin" / "python", "-m", "pip", "install", *wheels], step="installing its wheels")
    return place


def _write_site_file(stage: Stage, plan: ReleasePlan) -> None:
    (stage.root / "run").mkdir()
    stage.site_file.parent.mkdir(parents=True)
    stage.site_file.write_text(
        f'format = 1\nsite = "{plan.sites[0]}"\nenvironment = "rehearsal"\n\n'
        f'[places]\nroot = "{stage.box}"\nrun = "{stage.root / "run"}"\n\n'
        f"[engine]\nstart_seconds = {_START_SECONDS}\n\n"
        "[service]\ngateway_port = 0\nadmin_port = 0\nmetrics_port = 0\n"
    )


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


@contextmanager
def _throwaway(*, keep: bool, progress: Progress) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sl-"))
    try:
        yield folder
    finally:
        if keep:
            progress(f"  left behind: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
