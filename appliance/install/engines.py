"""Where an engine runs from: the environment that its version was validated in, whichever release is current.

A version's descriptor names its engine environment by digest. Before an engine starts, its link below
``/opt/sealift/engines`` is pointed at the installed release that holds exactly this environment; the static unit runs
what lies there. A further engine of a version has a link of its own, to the same place. Beside a production engine's
link lies what its version's validation measured (`appliance.install.approvedsteps`).

Promises: a link names an environment whose digest the version was approved with, or it is not made; it changes by one
rename; only engine units need one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.config import Config, Places
from appliance.errors import InstallError, NotInstalledError
from appliance.install import approvedsteps
from appliance.install.releases import InstalledReleases
from appliance.install.supervisor import (
    Supervisor,
    UnitFacts,
    UnitState,
    engine_of,
    engine_unit,
    open_supervisor,
    which_of,
)
from appliance.registry import carriers
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore
from media import durable

_PRODUCTION: Final = "production"
_ENVIRONMENTS: Final = {"llama.cpp": "engine-llama-cpp", "vllm": "engine-vllm", "attached": "engine-attached"}


class Linked:
    """A supervisor that gives each engine its environment before it starts it; otherwise the one it wraps."""

    def __init__(self, inner: Supervisor, places: Places) -> None:
        self.inner = inner
        self._places = places

    def start(self, unit: str) -> None:
        """Link, then start; see `Supervisor.start`.

        Raises:
            NotInstalledError: No installed release holds the environment that the version was validated in.
            UnknownVersionError: The store holds no such version.
        """
        engine = engine_of(unit)
        if engine is not None and self._places.current.exists():
            stage, digest12 = engine
            link(self._places, digest12, which_of(unit))
            if stage == _PRODUCTION:
                approvedsteps.lay_down(self._places, digest12)
        self.inner.start(unit)

    def stop(self, unit: str) -> None:
        """Stop; see `Supervisor.stop`."""
        self.inner.stop(unit)

    def rest(self, unit: str) -> None:
        """Stop for a while; see `Supervisor.rest`."""
        self.inner.rest(unit)

    def kill(self, unit: str) -> None:
        """Kill; see `Supervisor.kill`."""
        self.inner.kill(unit)

    def state(self, unit: str) -> UnitState:
        """Ask; see `Supervisor.state`."""
        return self.inner.state(unit)

    def units(self) -> tuple[UnitFacts, ...]:
        """Ask; see `Supervisor.units`."""
        return self.inner.units()


def open_linked(config: Config) -> Linked:
    """Return this machine's supervisor, which gives each engine its environment."""
    return Linked(open_supervisor(config), config.at)


def wanted_engines(config: Config, loadable: Sequence[str], current: str | None) -> tuple[str, ...]:
    """Return the units of production that are to run, those without which a version does not answer first.

    Args:
        config: The site file, which says how many engines line 1's version has; that of another line has one.
        loadable: The digests that may be loaded, line 1's first.
        current: The version in production in line 1, if any is.
    """
    first = tuple(engine_unit("production", digest) for digest in loadable)
    further = () if current is None else config.engines.production.further
    return (*first, *(engine_unit("production", str(current), which) for which in further))


def link(places: Places, digest12: str, which: str = "") -> Path:
    """Make the link of one version's engine and return where it points.

    Raises:
        NotInstalledError: No installed release holds its environment.
        UnknownVersionError: The store holds no such version.
        InstallError: The link cannot be written.
    """
    _, descriptor, _ = carriers.carrier(ContentStore(places.store), digest12)
    target = environment_of(places, descriptor)
    place = places.engine_link(digest12, which)
    wanted = Path("..") / target.relative_to(places.current.parent)
    try:
        if place.is_symlink() and place.readlink() == wanted:
            return target
        place.parent.mkdir(exist_ok=True, mode=0o755)
        place.parent.chmod(0o755)
        partial = place.with_name(f".{place.name}")
        partial.unlink(missing_ok=True)
        partial.symlink_to(wanted)
        partial.replace(place)
        durable.sync_folder(place.parent)
    except OSError as error:
        raise InstallError(
            what=f"the environment of version {digest12} cannot be linked",
            why=error.strerror or type(error).__name__,
            fix="check the disk of /opt",
        ) from error
    return target


def environment_of(places: Places, descriptor: ModelDescriptor) -> Path:
    """Return the installed environment that a version was validated in: the newest release's, where several hold it.

    Raises:
        NotInstalledError: None does.
    """
    releases, name = InstalledReleases(places), _ENVIRONMENTS[descriptor.engine]
    for installed in releases.all():
        if installed.environments.get(name) == descriptor.environment:
            return releases.folder(installed.serial) / name
    raise NotInstalledError(
        what=f"the engine environment of version {descriptor.model_digest[:12]} is not installed",
        why=f"no installed release holds {name} {descriptor.environment[:12]}",
        fix="install the release that brought this version: `sealift install SERIAL`",
    )
