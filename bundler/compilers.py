"""The C compiler that vLLM starts on a GPU: Triton builds a small program for each kernel on the machine that serves.

Without one vLLM does not start there, and nothing on the connected side would have told: Triton (3.6, runtime/build.py)
takes gcc or clang from the PATH and includes the interpreter's `Python.h`. What wheels bring is built already.
"""

from collections.abc import Collection, Sequence
from typing import Final

from bundler import cuda
from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target

_TRITON: Final = "triton"
_COMPILERS: Final = frozenset({"gcc", "clang"})


def require_compiler(wheels: Sequence[ChosenWheel], target: Target, packages: Collection[str], *, label: str) -> None:
    """Pass when an environment that computes on a GPU finds a compiler and the interpreter's headers there.

    Args:
        wheels: All of the environment.
        target: The machine.
        packages: Names of the Debian packages that it has or is brought; none where nothing is known of them.
        label: Names the environment in errors.

    Raises:
        SourceError: One of both is missing; `fix` names the packages.
    """
    if not packages or all(wheel.name != _TRITON for wheel in wheels) or cuda.needed(wheels) is None:
        return
    headers = [f"libpython{target.python}-dev", f"python{target.python}-dev", "libpython3-dev", "python3-dev"]
    missing = [
        *([] if _COMPILERS & set(packages) else ["gcc"]),
        *([] if set(headers) & set(packages) else headers[:1]),
    ]
    if missing:
        raise SourceError(
            what=f"the environment {label} would not start on {target.profile}",
            why=f"Triton builds a program for each kernel there, and {' and '.join(missing)} would be missing",
            fix=f"add {', '.join(missing)} to debs.packages",
        )
