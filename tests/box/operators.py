"""What people of the site do at the box without being root: by typed jobs, through the doors of operators."""

import json
import re
import shutil
from collections.abc import Mapping
from typing import Any

from examples.demo.people import SitePerson
from tests.box.machine import Machine
from tests.box.run import Run

_PYTHON = "/opt/sealift/current/server/bin/python"
_ASK = """
import json, sys
from appliance import config
from appliance.install.jobclient import JobsLine
from appliance.wire import RemoteError
from appliance.errors import WireError
door, message = sys.argv[1], json.loads(sys.argv[2])
try:
    print(json.dumps(JobsLine.open(config.load(config.DEFAULT_PATH), door).call(**message)))
except RemoteError as error:
    print(json.dumps({"refused": error.to_json()["code"]}))
except WireError:
    print(json.dumps({"refused": "unreachable"}))
"""
_TOUCH = """
import json, os, subprocess
def writes(path):
    try:
        with open(path, "ab"):
            return True
    except OSError:
        return False
def lists(path):
    try:
        return bool(os.listdir(path))
    except OSError:
        return False
state = ["/var/lib/sealift/trust", "/var/lib/sealift/ledger"]
found = [p for p in state if lists(p) or writes(p + "/x")]
found += [p for p in ("/etc/sealift/trust/1.root.json", "/etc/sealift/trust/x") if writes(p)]
for path in (*state, "/etc/sealift/trust"):
    subprocess.run(["umount", path], stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "remount,rw", path], stderr=subprocess.DEVNULL)
    if writes(path + "/y") or (path in state and lists(path)):
        found.append("unmounted " + path)
for path in (*state, "/etc/sealift/trust"):
    if lists("/proc/1/root" + path) or writes("/proc/1/root" + path + "/z"):
        found.append("through process 1: " + path)
print("reached " + json.dumps(found))
"""


def make_operator(run: Run, person: SitePerson) -> None:
    """Make a person's account at the box: no root, in the group of operators, with the person's own key."""
    machine = run.machine
    machine.run("useradd", "--create-home", "--groups", "sealift-operators", person.id)
    home = machine.root / "home" / person.id / "sealift"
    shutil.copytree(person.home.parent, home, symlinks=True)
    machine.run("chown", "-R", f"{person.id}:{person.id}", f"/home/{person.id}", shown=False)


def as_person(person: str, *words: str) -> tuple[str, ...]:
    """Return a command that this person runs."""
    return ("runuser", "-u", person, "--", "env", f"HOME=/home/{person}", *words)


def signing(person: str) -> tuple[str, ...]:
    """Return the options with which this person signs."""
    return ("--as", person, "--gnupg-home", f"/home/{person}/sealift/gnupg", "--yes")


def both_approve(machine: Machine, plan: Mapping[str, Any]) -> None:
    """Let the two people of the site approve what a plan changes on the host."""
    for person in ("iris", "omar"):
        machine.run(*as_person(person, "sealift", "host", "approve", plan["plan"], *signing(person)))


def both_promote(machine: Machine, name: str, *, beside: bool = False) -> dict[str, Any]:
    """Let the two people of the site bring a validated version to production; return what the promotion told."""
    place = ("--beside",) if beside else ()
    machine.run(*as_person("iris", "sealift", "promote", name, *place, "--as", "iris"))
    for person in ("iris", "omar"):
        machine.run(*as_person(person, "sealift", "approve", name, *signing(person)))
    return machine.result(*as_person("omar", "sealift", "promote", name, "--as", "omar"))


def ask(machine: Machine, user: str, door: str, **message: Any) -> dict[str, Any]:
    """Speak to a door as a user of the box, past every command of ours."""
    words = ("runuser", "-u", user, "--", _PYTHON, "-I", "-c", _ASK, door, json.dumps(message))
    found: dict[str, Any] = json.loads(machine.run(*words, shown=False).stdout)
    return found


def developers_try(run: Run, digest: str, key: str) -> None:
    """Lend the version to developers of the facility as an operator, ask with a test key, and take it away again."""
    machine = run.machine
    with run.stage.chapter("A developer of the facility tries a version in the test stage"):
        lent = machine.result(*as_person("iris", "sealift", "stage", "load", digest[:12], "--as", "iris"))
        run.require("an operator lends a version to developers", lent["engine"] == "active", lent)
        made = machine.result("sealift", "keys", "create", "--department", "apps", "--owner", "box", "--stage", "test")
        tried = run.workstation("ask", key=made["key"], path="/test", model="test")
        print(f"   {tried['request_id']}: {tried['text']}")
        proof = machine.result("sealift", "prove", tried["request_id"])
        run.require("a developer's answer is recorded and proven as such", proof["ok"] is True, proof)
        for path, wrong in (("/test", key), ("", made["key"])):
            told = run.workstation("knock", key=wrong, path=path)
            run.require("each stage refuses the other's keys", told == {"status": 403, "code": "wrong_stage"}, told)
        machine.run(*as_person("iris", "sealift", "stage", "unload", digest[:12], "--as", "iris"))


def forged_jobs(run: Run, digest: str) -> None:
    """Ask, as the users of the box, for what they may not have; nothing of it may happen."""
    machine, short = run.machine, digest[:12]
    forged: list[tuple[str, str, dict[str, Any]]] = [
        ("nobody", "jobs-operator", {"kind": "install", "serial": 1}),
        ("sealift-gateway", "jobs-admin", {"kind": "validate", "digest": digest}),
        ("sealift-admin", "jobs-admin", {"kind": "stop-production-engine", "digest12": short}),
        ("sealift-admin", "jobs-switch", {"kind": "stop-production-engine", "digest12": short}),
        ("sealift-bench", "jobs-bench", {"kind": "start-production-engine", "digest12": short}),
        ("sealift-switch", "jobs-switch", {"kind": "stop-production-engine", "digest12": short}),
        ("iris", "jobs-operator", {"kind": "halt-production", "digest": digest}),
        ("iris", "jobs-operator", {"kind": "switch-production", "digest": "a" * 64}),
        ("iris", "jobs-operator", {"kind": "install", "serial": 7}),
        ("iris", "jobs-operator", {"kind": "install", "serial": 1, "path": "/tmp/release"}),
        ("iris", "jobs-operator", {"kind": "install", "serial": "1; id"}),
        ("iris", "jobs-operator", {"kind": "start-unit", "unit": "ssh.service"}),
        ("iris", "jobs-operator", {"kind": "validate", "digest": "../../etc/passwd"}),
    ]
    with run.stage.chapter("Forged jobs, asked as the box's own users"):
        before = _records(machine, "job.asked")
        for user, door, message in forged:
            told = ask(machine, user, door, do="ask", **message)
            print(f"   {user:<16} {door:<14} {message['kind']:<24} {told.get('refused', told)}")
            run.require("forged jobs are refused", "refused" in told, (user, message, told))
        told = ask(machine, "sealift-admin", "jobs-admin", do="outcome", ok=True)
        run.require("only the carrier tells a job's outcome", "refused" in told, told)
        run.require("no forged job is in the ledger", _records(machine, "job.asked") == before)


def stages_apart(run: Run, digest: str) -> None:
    """Load the test engine beside production, as an operator, and see who reaches which."""
    machine = run.machine
    with run.stage.chapter("Each stage has an engine user and callers of its own"):
        told = ask(machine, "iris", "jobs-operator", do="ask", kind="start-test-engine", digest12=digest[:12])
        run.require("an operator starts the test engine", told.get("state") == "done", told)
        for stage, user in (("test", "sealift-engine-test"), ("production", "sealift-engine-prod")):
            unit = f"sealift-engine-{stage}@{digest[:12]}.service"
            pid = machine.run("systemctl", "show", "-P", "MainPID", unit, shown=False).stdout.strip()
            owner = machine.run("stat", "-c", "%U", f"/proc/{pid}", shown=False).stdout.strip()
            run.require(f"the {stage} engine is its own user's", owner == user, owner)
            command = machine.run("readlink", "-f", f"/opt/sealift/engines/{digest[:12]}", shown=False).stdout.strip()
            run.require(
                "an engine runs from its release", command == "/opt/sealift/releases/1/engine-llama-cpp", command
            )


def stop_test_engine(run: Run, digest: str) -> None:
    """Stop it again, as an operator."""
    told = ask(run.machine, "iris", "jobs-operator", do="ask", kind="stop-test-engine", digest12=digest[:12])
    run.require("an operator stops the test engine", told.get("state") == "done", told)


def host_change(run: Run) -> None:
    """Change the site file: nothing follows until two people approved the difference it makes on the host."""
    machine = run.machine
    place = machine.root / "etc/sealift/sealift.toml"
    text = place.read_text()
    with run.stage.chapter("A change of the host takes two people's approval of its difference"):
        place.write_text(text.replace("[network]", '[network]\negress = ["udp 10.77.0.9 123"]'))
        plan = machine.result(*as_person("iris", "sealift", "install", "1", "--plan", "--as", "iris"))
        run.require("the plan shows a change", plan["changes_host"] is True, plan)
        kept = f"/var/lib/sealift/plans/{plan['plan']}.json"
        maker = machine.run("stat", "-c", "%U", kept, shown=False).stdout.strip()
        run.require("the plan is made by a user without rights", maker == "sealift-plan", maker)
        done = machine.run(*as_person("iris", "sealift", "install", "1"), may_fail=True)
        run.require("no install without approvals", done.returncode == 59, done.stderr)
        machine.run(*as_person("iris", "sealift", "host", "approve", plan["plan"], *signing("iris")))
        done = machine.run(*as_person("iris", "sealift", "install", "1"), may_fail=True)
        run.require("one person's approval is not enough for the host", done.returncode == 59, done.stderr)
        again = machine.run(
            *as_person("iris", "sealift", "host", "approve", plan["plan"], *signing("iris")), may_fail=True
        )
        run.require("one person does not count twice", again.returncode == 42, again.stderr)
        machine.run(*as_person("omar", "sealift", "host", "approve", plan["plan"], *signing("omar")))
        place.write_text(text.replace("[network]", '[network]\negress = ["udp 10.77.0.8 123"]'))
        done = machine.run(*as_person("iris", "sealift", "install", "1"), may_fail=True)
        run.require("a changed plan voids the approvals", done.returncode == 59, done.stderr)
        place.write_text(text.replace("[network]", '[network]\negress = ["udp 10.77.0.9 123"]'))
        facts = machine.result(*as_person("omar", "sealift", "install", "1"))
        run.require("what two people approved is installed", facts["changed"] is True, facts)
        rules = machine.run("nft", "list", "ruleset", shown=False).stdout
        run.require("the packet filter has the change", "10.77.0.9" in rules and "10.77.0.8" not in rules)
        run.require("its rules were tried by a unit of their own", bool(accepted(machine, "nftables")))
        facts = machine.result(*as_person("omar", "sealift", "install", "1"))
        run.require("and again nothing changes", facts["changed"] is False, facts)
    with run.stage.chapter("A site file's value is data"):
        found = "{{ lookup('pipe', 'touch /run/pwned /var/lib/sealift/plans/pwned') }}"
        place.write_text(text.replace('hostname = "', f'hostname = "{found}'))
        done = machine.run(*as_person("iris", "sealift", "install", "1", "--plan"), may_fail=True)
        pwned = [(machine.root / one).exists() for one in ("var/lib/sealift/plans/pwned",)]
        pwned.append(machine.run("test", "-e", "/run/pwned", shown=False, may_fail=True).returncode == 0)
        run.require("a lookup in a site file's value runs nothing", not any(pwned), done.stdout[-2000:])
        # None comes as far as Ansible, which takes no text for a template: tests/interop/test_ansible_data.py.
        is_named = done.returncode != 0 and "service.hostname: expected a host name" in done.stderr
        run.require("it is no value of a site file's", is_named, (done.stdout + done.stderr)[-2000:])
        place.write_text(text)


def accepted(machine: Machine, kind: str) -> list[str]:
    """Return the digests of the files of a kind that its trying unit accepted, oldest first."""
    machine.run("journalctl", "--sync", shown=False)
    told = machine.run("journalctl", "-u", f"sealift-try-{kind}@*", "-o", "cat", shown=False, may_fail=True).stdout
    return re.findall(r"^accepted ([0-9a-f]{64}):", told, re.MULTILINE)


def out_of_reach(run: Run) -> None:
    """Run a program as the install unit runs a playbook: it must not reach trust state, pinned root or ledger."""
    machine = run.machine
    with run.stage.chapter("Trust state and ledger are out of the install unit's reach"):
        folder = machine.root / "etc/systemd/system/sealift-install@probe.service.d"
        folder.mkdir(parents=True)
        (machine.root / "opt/touch.py").write_text(_TOUCH)
        (folder / "probe.conf").write_text("[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /opt/touch.py\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "sealift-install@probe.service")
        told = machine.run("journalctl", "-u", "sealift-install@probe", "-o", "cat", shown=False).stdout
        run.require("a playbook reaches neither trust state nor ledger", "reached []" in told, told)
        shutil.rmtree(folder)
        machine.run("systemctl", "daemon-reload")


def _records(machine: Machine, kind: str) -> int:
    # Refusals must leave the ledger as it was, so it is counted by kind, not by size.
    told = machine.result("sealift", "audit", "list", "--kind", kind, "--limit", "1000")
    return len(told["leaves"])
