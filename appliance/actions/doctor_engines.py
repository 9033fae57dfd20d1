"""Whether engines find what they take from this machine, and their units have what they need beyond their walls."""

from collections.abc import Iterator
from pathlib import Path

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.install import additions, dropins
from appliance.install.supervisor import UNIT_FILES
from appliance.serve import frommachine
from media import processorchoice


def packages(config: Config) -> Iterator[Finding]:
    """Look at each installed environment that takes something from the machine; nothing is said where none does."""
    for environment in additions.environments(config.at):
        wheels = additions.wheels_of(environment)
        if needed := frommachine.packages(wheels):
            fault = frommachine.fault(wheels)
            yield Finding(
                name="engine packages",
                is_good=not fault,
                text=fault or f"{environment.name} of release {environment.parent.name} finds {needed}",
                why="what no wheel brings, the engine takes from the machine; without it vLLM ends as it starts",
                fix=f"install {needed}, best by a medium that brings them",
            )


def processor(config: Config) -> Iterator[Finding]:
    """Try llama.cpp's libraries for processors in each installed environment; only what does not compute is said."""
    for environment in additions.environments(config.at):
        for packages_of in environment.glob("lib/python3*/site-packages"):
            found = processorchoice.fitting(environment / "bin/python", packages_of)
            if found.unfit:
                release, names = environment.parent.name, ", ".join(found.unfit)
                yield Finding(
                    name="engine processor",
                    is_good=None if found.library else False,
                    text=f"{release}: {names} does not compute here; {found.library or 'none'} is used",
                    why="by what the processor claims it is the best; a virtual machine may name what its host lacks",
                    fix="give a virtual machine its host's own processor; otherwise ask for a newer release",
                )


def units(config: Config, folder: Path = UNIT_FILES) -> Iterator[Finding]:
    """Look whether the units of engines have the additions that environments need; nothing is said without systemd."""
    needed = additions.installed(config.at).units
    if not needed or not (folder / "sealift.target").exists():
        return
    lacking = [
        name
        for addition, name in dropins.ENGINES.items()
        if addition in needed
        and not all((folder / f"{unit}.d" / name).exists() for unit in dropins.ENGINE_UNITS.values())
    ]
    yield Finding(
        name="engine units",
        is_good=not lacking,
        text=f"missing: {', '.join(lacking)}" if lacking else f"they have {', '.join(sorted(needed))}",
        why="an engine that its unit's walls stop does not start; a release from before did not lay this down",
        fix="`sealift install --plan --as PERSON`, two approvals, `sealift install`",
    )
