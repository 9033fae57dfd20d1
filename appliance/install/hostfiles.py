"""The one place that knows where `systemd/` and `ansible/` lie: inside the installed wheel, else in the checkout."""

from pathlib import Path
from typing import Final, Literal

import appliance
from appliance.errors import InstallError

_PACKAGE: Final = Path(appliance.__file__).resolve().parent


def folder(name: Literal["systemd", "ansible"]) -> Path:
    """Return the folder of host files called `name`.

    Raises:
        InstallError: Neither the wheel's copy nor a checkout's is there.
    """
    for candidate in (_PACKAGE / "_host" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise InstallError(
        what=f"the host files {name} are missing",
        why="neither the installed package nor a checkout holds them",
        fix="install the wheel that the release carries",
    )
