"""A plan of a host change, for tests."""

from typing import Any

from appliance.install.maintainer import Package
from appliance.install.plans import Plan


def make_plan(**changes: Any) -> Plan:
    """Return a plan of serial 1 with one package; fields may be given."""
    fields: dict[str, Any] = {
        "site": "demo",
        "serial": 1,
        "release": "small-1",
        "previous": 0,
        "host_files": "a" * 64,
        "settings": "b" * 64,
        "changed": 2,
        "packages": (
            Package(name="nftables", before="", after="1.0.6-2", scripts=(("postinst", "#!/bin/sh\ntrue\n"),)),
        ),
        "difference": "--- before\n+++ after\n+tcp dport 443 accept\n",
    }
    return Plan(**{**fields, **changes})
