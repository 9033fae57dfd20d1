"""The clock's watch and the network's self-test on the installed box, and that they see what is wrong."""

from typing import Any

from tests.box.run import Run

_UNIT = "sealift-network.service"
_LISTENER = "0.0.0.0:8099"
_RULE = ("inet", "sealift", "output", "ip", "daddr", "192.0.2.77", "tcp", "dport", "443", "accept")


def watched(run: Run) -> None:
    """Look at both as they are, then add a rule that lets something out, and take it away again."""
    with run.stage.chapter("The clock is watched, the network tests itself"):
        clock = run.machine.result("sealift", "clock", "show")
        run.require("the clock is watched and believed", clock["verdict"] in {"good", "unconfirmed"}, clock)
        run.require("the network's self-test holds", _tested(run) == [], _shown(run))
        tried = {one["name"]: one["holds"] for one in _shown(run)["checks"]}
        run.require("what must be refused was tried", tried["refused to leave, ipv4"] is True, tried)
        run.require("the packets of the test were counted apart", tried["counted"] is True, tried)
        run.require("no unit speaks to whom nobody named", tried["units"] is True, tried)
        run.machine.run("nft", "insert", "rule", *_RULE)
        try:
            run.require("a rule that nobody named is seen", _tested(run) == ["destinations"], _shown(run))
        finally:
            run.machine.run("nft", "-f", "/etc/nftables.conf")
        run.require("and gone again", _tested(run) == [], _shown(run))
        # systemd itself listens, so it does from the command's end on.
        run.machine.run("systemd-run", "--unit=probe-listener", f"--socket-property=ListenStream={_LISTENER}", "true")
        try:
            run.require("a listener that nobody named is seen", _tested(run) == ["listeners"], _shown(run))
        finally:
            run.machine.run("systemctl", "stop", "probe-listener.socket")
        run.require("and not when it is gone", _tested(run) == [], _shown(run))
        told = run.machine.result("sealift", "audit", "list", "--kind", "network.tested", "--oldest")
        results = [bool(leaf["body"]["ok"]) for leaf in told["leaves"]]
        run.require("each change is recorded", results[-5:] == [True, False, True, False, True], results)
        run.facts |= {"network_test": tried, "clock": clock["verdict"]}
        print(f"   clock {clock['verdict']}; self-test: {', '.join(name for name, holds in tried.items() if holds)}")


def _tested(run: Run) -> list[str]:
    """Let the unit run, and return what does not hold."""
    # Twice: the first may join one that the timer began before.
    for _ in range(2):
        done = run.machine.run("systemctl", "start", _UNIT, shown=False, may_fail=True)
    failed = [one["name"] for one in _shown(run)["checks"] if one["holds"] is False]
    run.require("the unit fails when a check does", (done.returncode != 0) is bool(failed), failed)
    return failed


def _shown(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.machine.result("sealift", "network", "show")["tested"]
    return found
