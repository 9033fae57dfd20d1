"""Whether an environment fits its target: complete, and with the processor and the GPU driver that its wheels need."""

from collections.abc import Collection, Iterable, Sequence

from bundler import closure, cuda, processor
from bundler.needs import Needs
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target


def require_fit(
    wheels: Sequence[ChosenWheel], targets: Iterable[Target], *, label: str, without: Collection[str] = ()
) -> Needs:
    """Pass when an environment is complete and runs on each of the machines, and return what it asks of them.

    Args:
        wheels: All of the environment.
        targets: The machines that the release is for.
        label: Names the environment in errors.
        without: Dependencies that people left out, by canonical name.

    Raises:
        SourceError: A dependency is missing, or a machine lacks a CPU feature or a driver; `what` names it.
        ScanError: A wheel cannot be read.
    """
    asked = Needs()
    wanted = cuda.needed(wheels)
    for target in targets:
        closure.require_complete(wheels, target, label=label, without=without)
        driver = cuda.require_driver(wanted, target, label=label) if wanted else ""
        asked |= Needs(cpu_flags=tuple(sorted(processor.needed(wheels, target))), driver=driver)
    return asked
