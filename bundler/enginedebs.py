"""Whether an engine finds on its target what no wheel brings: a library of the system, or the compiler of its kernels.

Without it the engine does not start there, and nothing on the connected side would have told (ADR 66).
"""

from collections.abc import Collection, Sequence

from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from media import enginepackages


def require_packages(
    wheels: Sequence[ChosenWheel],
    target: Target,
    packages: Collection[str],
    *,
    label: str,
    named: Collection[str] = (),
) -> None:
    """Pass when the Debian packages that an environment needs are there, or nothing is known of the target's.

    Args:
        wheels: All of the environment.
        target: The machine.
        packages: Names of the Debian packages that it has or is brought; none where nothing is known of them.
        label: Names the environment in errors.
        named: What the recipe asks for by name; packages travel as the first machine lacks them.

    Raises:
        SourceError: One is missing; `fix` names all.
    """
    needed = enginepackages.needed([wheel.name for wheel in wheels], python=target.python)
    if packages and (missing := [name for name in needed if name not in packages]):
        raise SourceError(
            what=f"the environment {label} would not start on {target.profile}",
            why=f"it takes {' and '.join(missing)} from the machine, which has none and is brought none",
            fix=f"add {', '.join(missing)} to debs.packages"
            if set(missing) - set(named)
            else f"the first machine has it already: put {target.profile} first, or make that one a release of its own",
        )
