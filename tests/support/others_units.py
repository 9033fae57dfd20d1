"""Debian's units of the web server and the watchers, and what the roles add to each, for gates and booted boxes.

The units are copies of the packages' own, comments left out: a gate must judge the whole of both, on any machine.
"""

import shutil
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

ROLES: Final = Path(__file__).resolve().parents[2] / "ansible/roles"
DEBIAN: Final = Path(__file__).resolve().parents[1] / "host/debian"
WATCHERS: Final = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
NAMES: Final = ("nginx", *WATCHERS)
_SITE: Final[dict[str, Any]] = {
    "sealift_addresses": ["10.0.0.7"],
    "sealift_clients": ["10.0.0.0/8", "fd00::/8"],
    "sealift_management": ["10.0.9.0/24"],
    "sealift_operations": [],
    "sealift_alerts": {"mail_relay": "10.0.0.25", "syslog": ""},
}


def drop_in(name: str, **site: Any) -> str:
    """Return what the role writes beside Debian's unit of that name, for a site with these variables."""
    role = "nginx/templates/hardening.conf.j2" if name == "nginx" else "monitoring_ahead/templates/loopback.conf.j2"
    made = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - not HTML
    return made.from_string((ROLES / role).read_text()).render(item=name, **{**_SITE, **site})


def root_with(folder: Path, name: str) -> Path:
    """Lay down the unit and its drop-in below `folder`, with stand-ins for the programs, and return it as a root."""
    units, added = folder / "usr/lib/systemd/system", folder / f"etc/systemd/system/{name}.service.d"
    units.mkdir(parents=True)
    added.mkdir(parents=True)
    shutil.copy(DEBIAN / f"{name}.service", units)
    (added / "sealift.conf").write_text(drop_in(name))
    for program in ("usr/sbin/nginx", "sbin/start-stop-daemon", "bin/kill", *(f"usr/bin/{one}" for one in WATCHERS)):
        (folder / program).parent.mkdir(parents=True, exist_ok=True)
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    return folder
