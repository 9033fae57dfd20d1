"""What a Debian package does as root: its maintainer scripts, and the files that keep root's rights."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundler.errors import ScanError
from bundler.process import capture

_SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm", "config")


def listed(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (rule, detail) of everything that a person should know before the package is installed.

    Raises:
        ScanError: It is not a readable package.
    """
    what, fix = f"{file.name} is not a readable Debian package", "fetch it again"
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "control"
        capture(["dpkg-deb", "--control", file, control], what=what, fix=fix, error=ScanError)
        for name in _SCRIPTS:
            script = control / name
            if script.is_file():
                content = script.read_bytes()
                yield "maintainer-script", f"{name}, {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"
    contents = capture(["dpkg-deb", "--contents", file], what=what, fix=fix, error=ScanError)
    for line in contents.decode(errors="replace").splitlines():
        mode, _, _, _, _, name = [*line.split(maxsplit=5), "", "", "", "", ""][:6]
        if "s" in mode[1:].lower():
            yield "set-user-id", f"{name} with mode {mode}"
