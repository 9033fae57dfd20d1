"""What memory holds before a promotion starts, and what that means for the way forward and the way back.

Versions in the test stage hold memory too, and are counted: they are the first that may go.

What other lines of production hold is taken off the room first: nothing of theirs goes for a version of this one.

Two versions: the canary runs beside production, and the version before stays loaded, so that going back takes seconds.
One: the candidate is tested while production rests, then takes its place, is watched for 48 hours, and going back means
loading the version before again, for which the time that this box needed is told. None: it is refused before people
are asked.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Engine, select

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import EngineLoadError, UnknownVersionError
from appliance.promote.destination import Said
from appliance.registry import catalog, memory, stageloads
from appliance.registry.carriers import carrier
from appliance.registry.catalog import Version
from appliance.registry.loading import loading_seconds
from appliance.registry.memory import Need, Room
from appliance.stages import FIRST_LINE
from appliance.state import lines
from appliance.state.rollouts import OPEN
from appliance.state.tables import Rollout
from appliance.store.content import ContentStore
from media.errors import SealiftError

WATCH_HOURS: Final = 48
_MIB: Final = 2**20
_NOT_OPEN: Final = 0


class Holds(StrEnum):
    """How many of the two versions memory holds at once."""

    TWO = "two"
    ONE = "one"
    NONE = "none"
    UNKNOWN = "unknown"  # the engine sizes itself by what it finds


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory that is held, in bytes, as far as it is known, and by which versions besides the one that is asked for."""

    total: int
    names: tuple[str, ...]
    is_known: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"bytes": self.total, "versions": list(self.names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFacts:
    """What a promotion of one version meets on this machine.

    Attributes:
        version: The candidate.
        need: What it takes; None where that cannot be computed.
        production: What serves now, if anything does.
        production_need: What that takes.
        room: What the machine has.
        holds: The verdict.
        return_seconds: How long this box took to load what serves now, when it was last measured; None when never.
        serves: The version itself is in production.
        tested: What others hold in the test stage.
        further: What further engines of the version in production hold, as the site file names them.
        lines: What the other lines of production hold: what they serve, try and keep beside.
        alias: What changes for callers where an alias of the site has the version's name.
    """

    version: Version
    need: Need | None
    production: Version | None
    production_need: Need | None
    room: Room
    holds: Holds
    return_seconds: float | None
    serves: bool = False
    tested: Held = Held(total=0, names=())
    further: Held = Held(total=0, names=())
    lines: Held = Held(total=0, names=())
    alias: str = ""

    @property
    def plan(self) -> tuple[str, ...]:
        """The way forward and the way back, in sentences."""
        return (*self._ways, *((self.alias,) if self.alias else ()))

    @property
    def _ways(self) -> tuple[str, ...]:
        others = (
            (f"Other lines of production hold {_mib(self.lines.total)} MiB: {', '.join(self.lines.names)}.",)
            if self.lines.names
            else ()
        )
        if self.holds is Holds.NONE:
            return ("It cannot be loaded on this machine.", *others)
        more = (
            (f"Further engines of production ({', '.join(self.further.names)}) hold {_mib(self.further.total)} MiB.",)
            if self.further.names
            else ()
        )
        more = (*more, *others)
        if self.serves:
            room = self.room.engines - self.lines.total - (self.need.total if self.need is not None else 0)
            holds = self.need is None or self.further.total <= room - self.tested.total
            return ("It is in production.", *more, *(() if holds else ("Memory does not hold all of them.",)))
        if self.production is None and self.lines.names:
            return ("It comes beside what is in production, and nothing goes away for it.", *others)
        if self.production is None:
            return ("Nothing is in production: it is loaded when two people have approved it.",)
        more = (*more, *self._other_name)
        if self.holds is Holds.TWO:
            return (
                "It is tested, and runs as a canary, beside the version in production.",
                "After the cut-over the version before stays loaded; going back takes seconds and loses no request.",
                *more,
            )
        freed = (
            (f"The test stage holds {_mib(self.tested.total)} MiB: {', '.join(self.tested.names)}.",)
            if self.tested.names
            else ()
        )
        back = (
            "its loading was never measured here"
            if self.return_seconds is None
            else f"which took {self.return_seconds:.1f} s here when it was last measured"
        )
        window = f"`sealift promote {self.version.model_digest[:12]} --window`"
        return (
            f"Memory is not shown to hold both versions: a maintenance window, while production rests: {window}.",
            f"The cut-over replaces the version before and is watched for {WATCH_HOURS} hours.",
            f"Going back loads {self.production.name} {self.production.version} again, {back}.",
            "Callers get a clear 503 while either is loaded.",
            *freed,
            *more,
        )

    @property
    def _taken(self) -> str:
        """What of the room stands in other lines, where it does."""
        if not self.lines.names:
            return ""
        return f", of which other lines of production hold {_mib(self.lines.total)}: {', '.join(self.lines.names)}"

    @property
    def _other_name(self) -> tuple[str, ...]:
        """What whoever asks for the version before by name must know, where the model's name changes."""
        if self.production is None or self.production.name == self.version.name:
            return ()
        gone = self.production.name
        return (
            f"It takes the place of another model, {gone}: a line of production serves one.",
            f"Once {gone} is no longer loaded, callers that ask for it by that name get `model_not_found`.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; memory in bytes."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "need": None if self.need is None else self.need.to_json(),
            "production": None if self.production is None else self.production.model_digest,
            "production_need": None if self.production_need is None else self.production_need.to_json(),
            "room": self.room.to_json(),
            "test_stage": self.tested.to_json(),
            "further_engines": {"bytes": self.further.total, "names": list(self.further.names)},
            **({"other_lines": self.lines.to_json()} if self.lines.names else {}),
            "holds": str(self.holds),
            "return_seconds": self.return_seconds,
            "watch_hours": WATCH_HOURS if self.holds in {Holds.ONE, Holds.UNKNOWN} and self.production else 0,
            "plan": list(self.plan),
        }

    def require_loadable(self) -> None:
        """Return unless it is known that the version does not fit.

        Raises:
            EngineLoadError: It takes more than all engines may.
        """
        if self.holds is Holds.NONE and self.need is not None:
            raise EngineLoadError(
                what=f"{self.version.name} {self.version.version} does not fit this machine's memory",
                why=f"it takes {_mib(self.need.total)} MiB at most (weights {_mib(self.need.weights)}, cache "
                f"{_mib(self.need.cache)}, compute {_mib(self.need.compute)}), and engines may take "
                f"{_mib(self.room.engines)} MiB{self._taken}",
                fix="choose a smaller quantization or context (`sealift models advise`), or a machine with more memory",
            )


def fit(
    config: Config, ledger: Ledger, state: Engine, which: str, *, room: Room | None = None, said: Said | None = None
) -> FitFacts:
    """Return what memory holds of a version and of what is in production.

    Args:
        config: The site file.
        ledger: Where needs were recorded when versions were registered.
        state: Brought up to the ledger.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        room: What the machine has; asked of the kernel when not given.
        said: Which line it is for, as people said or signed; by the version's name where nothing was said.

    Raises:
        UnknownVersionError: There is no such version.
        EngineLoadError: The kernel does not say how much memory there is.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
        standing, number = _standing(session), line_for(session, version, said or Said())
        current = lines.served(session).get(number)
        others = sorted(digest for line, found in standing.items() if line != number for digest in found)
        first = [str(catalog.in_production(session))] if number != FIRST_LINE else []
        production = None if current in {None, version.model_digest} else catalog.version(session, str(current))
    found = memory.room() if room is None else room
    need = need_of(config, ledger, version)
    other = None if production is None else need_of(config, ledger, production)
    tested = held_in_test(config, ledger, state, version)
    serving = need if production is None else other
    named = config.engines.production.further if number == FIRST_LINE else ()
    more = 0 if serving is None else serving.total * len(named)
    taken = _held(config, ledger, state, [*others, *first * len(config.engines.production.further)])
    return FitFacts(
        version=version,
        need=need,
        production=production,
        production_need=other,
        room=found,
        holds=judge(need, other, found, alone=production is None, tested=tested.total + more, taken=taken),
        return_seconds=None if production is None else loading_seconds(ledger, production.model_digest),
        serves=current == version.model_digest,
        tested=tested,
        further=Held(total=more, names=named),
        lines=taken,
        alias=config.models.taken_by(version.name),
    )


def judge(
    need: Need | None, other: Need | None, room: Room, *, alone: bool, tested: int = 0, taken: Held | None = None
) -> Holds:
    """Return how many versions memory holds.

    Args:
        need: Of the candidate.
        other: Of what is in production.
        room: What the machine has.
        alone: Nothing is in production.
        tested: Bytes that other versions hold in the test stage, and further engines of production.
        taken: What other lines of production hold, which makes room for nothing.
    """
    left = room.engines - (0 if taken is None else taken.total)
    if need is not None and need.total > left:
        return Holds.NONE
    if need is None or (other is None and not alone) or (taken is not None and not taken.is_known):
        return Holds.UNKNOWN
    both = need.total + (0 if other is None else other.total) + tested
    return Holds.TWO if both <= left else Holds.ONE


def need_of(config: Config, ledger: Ledger, version: Version) -> Need | None:
    """Return what a version takes: the more of what was recorded of it and what its files tell now; None if unknown.

    A release of before may have counted less, or another processor. Never raises: a version whose need cannot be told
    is handled as one that may not fit beside another.
    """
    leaves = ledger.find(kind=catalog.REGISTERED, field="model_digest", value=version.model_digest, limit=1)
    found = [need for leaf in leaves if (need := Need.from_json(leaf.body.get("memory"))) is not None]
    with suppress(SealiftError, OSError):
        stored, descriptor, _ = carrier(ContentStore(config.at.store), version.model_digest)
        if (computed := memory.need_of(descriptor, stored.path_of)) is not None:
            found.append(computed)
    return max(found, key=lambda need: need.total, default=None)


def held_in_test(config: Config, ledger: Ledger, state: Engine, version: Version) -> Held:
    """Return what other versions hold in the test stage; the version itself would be there once."""
    with state.connect() as session:
        digests = [one.model_digest for one in stageloads.loads(session) if one.model_digest != version.model_digest]
    return _held(config, ledger, state, digests)


def held_beside(config: Config, ledger: Ledger, state: Engine, version: Version) -> Held:
    """Return what a version would hold in the test stage together with everything that is loaded; it first by name."""
    with state.connect() as session:
        serving = set().union(*_standing(session).values())
        tested = {one.model_digest for one in stageloads.loads(session)} - {version.model_digest}
        further = [str(catalog.in_production(session))] * len(config.engines.production.further)
    resident = [*further, *sorted(serving), *sorted(tested)]
    others, own = _held(config, ledger, state, resident), need_of(config, ledger, version)
    return Held(total=others.total + (0 if own is None else own.total), names=others.names)


def _held(config: Config, ledger: Ledger, state: Engine, digests: list[str]) -> Held:
    """Return what these versions hold, each as often as it is named: one engine is loaded for each stage."""
    with state.connect() as session:
        known = {one.model_digest: one for one in catalog.versions(session)}
    found = [known[digest] for digest in digests if digest in known]
    needs = [need_of(config, ledger, one) for one in found]
    return Held(
        total=sum(need.total for need in needs if need is not None),
        names=tuple(f"{one.name} {one.version}" for one in found),
        is_known=None not in needs,
    )


def _standing(session: lines.Reader) -> dict[int, set[str]]:
    """Return the versions that stand in each line: what it serves, tries and keeps beside."""
    found = {number: {digest} for number, digest in lines.served(session).items()}
    opened = select(Rollout.line, Rollout.model_digest, Rollout.control).where(Rollout.state.in_(OPEN))
    for line, *both in session.execute(opened):
        found.setdefault(line or FIRST_LINE, set()).update(digest for digest in both if digest)
    return found


def line_for(session: lines.Reader, version: Version, said: Said) -> int:
    """Return the number of the line that was said, else that a version is in, else that of its name, else line 1.

    By the state, for whoever may not read the promoter's folder (`appliance.promote.linenames.holder_of`). A line that
    was stopped keeps what it served last, and that one's name. One that is not open yet is 0. Of a line that does not
    exist the promoter says so; here it is not told apart.
    """
    if said.beside:
        return _NOT_OPEN
    standing = _standing(session)
    names = {one.model_digest: one.name for one in catalog.versions(session)}
    newest = lines.newest(session)
    for number, digest in newest.items():
        if said.replaces and said.replaces in {digest, names.get(digest)}:
            return number
    same = {digest for digest, name in names.items() if name == version.name}
    held = {number: {digest} | standing.get(number, set()) for number, digest in newest.items()}
    here = next((number for number, found in held.items() if version.model_digest in found), None)
    return here or next((number for number, found in held.items() if found & same), FIRST_LINE)


def further_that_fit(
    config: Config, ledger: Ledger, state: Engine, loaded: tuple[str, ...], *, room: Room | None = None
) -> tuple[str, ...]:
    """Return which further engines of the version in production memory holds, of those that the site file names.

    Args:
        config: The site file.
        ledger: Where needs were recorded when versions were registered.
        state: Brought up to the ledger.
        loaded: The digests that have an engine in production, production's first.
        room: What the machine has; asked of the kernel when not given.
    """
    named = config.engines.production.further
    with state.connect() as session:
        version = catalog.version(session, loaded[0])
        tested = [one.model_digest for one in stageloads.loads(session)]
    need = need_of(config, ledger, version)
    if need is None:  # an engine that sizes itself by what it finds; its profile says how much it takes of a GPU
        return named
    held = _held(config, ledger, state, [*loaded, *tested])
    found = memory.room() if room is None else room
    return named[: max(found.engines - held.total, 0) // need.total]


def beside(config: Config, ledger: Ledger, state: Engine, which: str, *, room: Room | None = None) -> bool:
    """Tell whether memory holds a version beside the one in production; no where that cannot be told."""
    try:
        return fit(config, ledger, state, which, room=room).holds is Holds.TWO
    except (UnknownVersionError, EngineLoadError):
        return False


def _mib(size: int) -> int:
    return -(-size // _MIB)
