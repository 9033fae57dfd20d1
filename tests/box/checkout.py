"""A bare Debian 12 with this machine's /usr whose units run the checkout by Debian's own Python: booted in seconds.

What is tested with it is the units' users, groups, credentials and sandbox, not the installation (`make box` does).
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.install import dropins
from appliance.keys.files import create_missing
from tests.box.machine import Machine, base_image, install_tools

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
SERVER = "opt/sealift/current/server"
SEALIFT = f"/{SERVER}/bin/sealift --config /etc/sealift/sealift.toml --json"
_PACKAGES = Path(pytest.__file__).resolve().parents[1]
FOLDERS = {"/srv/checkout": CHECKOUT, "/srv/packages": _PACKAGES}  # not below /tmp or /home, which units hide
_COPIED = (
    (CHECKOUT / "systemd", "etc/systemd/system"),
    (CHECKOUT / "systemd/sysusers.d", "etc/sysusers.d"),
    (CHECKOUT / "systemd/tmpfiles.d", "etc/tmpfiles.d"),
)


def require_debian() -> None:
    """Skip where the box would lack a Python that fits; install the tools that are missing."""
    if not PYTHON.exists() or not Path("/etc/debian_version").read_text().startswith("12."):
        pytest.skip("this machine is no Debian 12 with its own Python")
    install_tools()


@contextmanager
def booted(
    name: str,
    lay: Callable[[Path], None],
    *,
    media: Mapping[str, Path] | None = None,
    accounts: tuple[str, ...] = ("sealift.conf",),
) -> Iterator[Machine]:
    """Boot a box and yield it, or skip as `require_debian` does; who prepares more than a box asks that before.

    Args:
        name: Its name.
        lay: Lays down below the root what an installation leaves; see `lay_down`.
        media: What else is plugged in read-only, by mount point in the box.
        accounts: Files of accounts that are made.
    """
    require_debian()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=name))) / "root"
        machine = Machine(root=root, name=name, media={}, log=root.parent / "console")
        machine.create(base_image())
        machine.media = {"/usr": Path("/usr"), **FOLDERS, **(media or {})}
        for point in machine.media:
            (root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        # Whoever ran one of our processes in this one has its mask, and the units' users could read nothing.
        before = os.umask(0o022)
        try:
            lay(root)
        finally:
            os.umask(before)
        machine.boot()
        stack.callback(machine.stop)
        machine.run("systemd-sysusers", *accounts, shown=False)
        machine.run("systemd-tmpfiles", "--create", "sealift.conf", shown=False)
        machine.run("systemctl", "daemon-reload", shown=False)
        yield machine


def lay_down(root: Path, site: str, *, has_keys: bool = True) -> None:
    """Lay down what an installation leaves: units, accounts, an environment, the site file, keys."""
    for source, place in _COPIED:
        (root / place).mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, root / place)
    server = root / SERVER
    packages = server / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for folder in (server / "bin", packages):
        folder.mkdir(parents=True)
    (server / "bin/python").symlink_to(PYTHON)
    (packages / "checkout.pth").write_text("\n".join(FOLDERS) + "\n")
    (server / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    lay_program(root, "sealift", "from appliance.cli.main import main\nmain()\n")
    etc = root / "etc/sealift"
    etc.mkdir(parents=True)
    (etc / "sealift.toml").write_text(site)
    if has_keys:
        create_missing(etc / "keys")


def lay_program(root: Path, name: str, text: str) -> None:
    """Lay down a program of the environment."""
    script = root / SERVER / "bin" / name
    script.write_text(f"#!/{SERVER}/bin/python -I\n{text}")
    script.chmod(0o755)


def lay_drop_ins(root: Path, site: str, *, needed: Collection[str] = ()) -> None:
    """Lay down the drop-ins that the install writes for a site file, and for engines that need more."""
    for each in dropins.drop_ins(configuration.parse(site.encode()), CHECKOUT / "systemd", needed=needed):
        folder = root / f"etc/systemd/system/{each.unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / each.name).write_text(each.text)


def journal(box: Machine, unit: str) -> str:
    """Return the end of what a unit said."""
    return box.shell(f"journalctl -u {unit} -n 40 --no-pager -o cat").stdout


def start(box: Machine, unit: str) -> None:
    """Start a unit, which must come up."""
    assert box.shell(f"systemctl start {unit}").returncode == 0, journal(box, unit)
