"""Sealift is taken off the box: what runs goes, what proves the past stays."""

from typing import Any

from examples.demo.people import password_of
from tests.box.run import Run

_KEPT = ("etc/sealift/keys", "etc/sealift/trust", "var/lib/sealift/ledger", "var/lib/sealift/promoter")


def uninstall(run: Run) -> dict[str, Any]:
    """Look what would go, take it off by two people, and look at what is left; return what went."""
    machine = run.machine
    with run.stage.chapter("Sealift is taken off the box"):
        told = machine.result("sealift", "uninstall", "--dry-run")
        run.require("the preview names what stays", set(_KEPT) <= set(told["kept"]), told)
        run.require("the preview changed nothing", machine.shell("test -x /usr/local/bin/sealift").returncode == 0)
        files: list[str] = []
        for person in ("iris", "omar"):
            (machine.root / f"root/{person}.password").write_text(password_of(person) + "\n")
            files += ["--by", person, "--password-file", f"/root/{person}.password"]
        words = ("sealift", "uninstall", "--site", "demo-hospital", "--reason", "the end of the test")
        done = machine.result(*words, *files)
        run.require("what went is what was announced", done["removed"] == told["removed"], (done, told))
        units = machine.shell("systemctl list-units --all --plain --no-legend 'sealift*'").stdout.strip()
        run.require("no unit of Sealift is left", not units, units)
        left = machine.shell(
            "ls -A /opt/sealift /etc/systemd/system/sealift* /usr/local/bin/sealift 2>/dev/null"
        ).stdout
        run.require("no program of Sealift is left", left.strip() in {"", "/opt/sealift:"}, left)
        for place in _KEPT:
            inside = machine.shell(f"ls -A /{place}").stdout.split()
            run.require("what proves the past is there", bool(inside), place)
        rules = machine.run("nft", "list", "ruleset", shown=False).stdout
        run.require("the packet filter still holds", "policy drop" in rules, rules)
    return done
