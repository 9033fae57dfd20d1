"""`make box`: the release into a real air-gapped Debian 12, from the trust sheet to an answer after a reboot.

Root only. What happens: a base image (kept in the cache) is copied and booted in a container without a network; the
sheet's commands are run in it word for word; two people type the code; the release is received, installed by Ansible
from the medium alone, promoted by two approvals, and asked over TLS from another network name space; it must not start
one connection by itself; it serves again after a reboot; a second install changes nothing.

Facts go to build/box/summary.json.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from examples.demo.people import SitePerson, make_person
from tests.box import confined, heldstill, looks, operators
from tests.box.facility import AT_ONCE_SECONDS
from tests.box.machine import Machine, base_image, install_tools
from tests.box.network import BOX_ADDRESS, FACILITY_ADDRESS
from tests.box.reach import who_reaches_what
from tests.box.run import HOSTNAME, ROOT, Run, wait_for_engine
from tests.box.sender import RECIPE, Sealed, make_release
from tests.box.sheet import commands_of, holds
from tests.box.watched import watched

MODEL = "smollm2-135m-instruct"
SITE_FILE = f"""format = 1
site = "demo-hospital"
environment = "demo"

[service]
hostname = "{HOSTNAME}"
tls = true

[network]
addresses = ["{BOX_ADDRESS}"]
clients = ["10.77.0.0/24"]
management = ["10.77.0.0/24"]
"""
SERVICES = ("ledger", "promoter", "gateway", "admin")


def first_trust(run: Run, sealed: Sealed) -> None:
    """Type the sheet's commands at the box's console, then the code, twice."""
    commands = commands_of(sealed.sheet)
    machine = run.machine
    (machine.root / "etc/sealift").mkdir(parents=True)
    (machine.root / "etc/sealift/sealift.toml").write_text(SITE_FILE)
    with run.stage.chapter("First trust: the sheet's commands, word for word"):
        print(f"box# {commands.prepare}")
        done = machine.shell(f"set -e\n{commands.prepare}")
        run.require("copied", done.returncode == 0, done.stdout)
        for command, expected in commands.checks:
            print(f"box# {command}")
            told = machine.shell(f"cd /root/sealift-first\n{command}").stdout
            run.require("the sheet's checks hold", holds(told, expected), told)
    with run.stage.chapter("Two people type the code; the bootstrap builds and receives"):
        typed = f"Gina Goods\n{sealed.code}\nHugo Hall\n{sealed.code}\n"
        print(f"box# {commands.begin}")
        done = machine.shell(
            f"{commands.prepare.splitlines()[0]}\ncd /root/sealift-first\n{commands.begin}", feed=typed
        )
        sys.stdout.write(done.stdout)
        run.require("bootstrap and receive end with 0", done.returncode == 0, done.returncode)
        run.require("the code was never shown", sealed.code not in _until_receive(done.stdout))
        run.require("the root is pinned", (machine.root / "etc/sealift/trust/1.root.json").is_file())


def install(run: Run) -> None:
    """Install, twice; the second time nothing may change."""
    machine = run.machine
    with run.stage.chapter("Install: environments, accounts, packages, units, TLS, packet filter"):
        facts = machine.result("sealift", "install")
        run.require("install changed the host", facts["host"] == "changed", facts)
    with run.stage.chapter("Install again: nothing changes"):
        facts = machine.result("sealift", "install")
        run.require("a second install changes nothing", facts["changed"] is False, _log(machine))
        preview = machine.result("sealift", "install", "--dry-run")
        run.require("its preview says so too", preview["changed"] is False, preview["difference"])
    with run.stage.chapter("The units and who may reach them"):
        for name in SERVICES:
            state = machine.run("systemctl", "is-active", f"sealift-{name}.service", shown=False, may_fail=True).stdout
            run.require(f"sealift-{name} is active", state.strip() == "active", state)
        machine.run("sealift", "status", may_fail=True)


def as_units(run: Run) -> None:
    """Let the sandboxed units do again what root's commands did: receive as a user of its own, install as root."""
    machine, mounted = run.machine, "/run/sealift/media/stick"
    with run.stage.chapter("The same by the units: receive without a network, as a user of its own; install"):
        machine.run("mkdir", "-p", mounted)
        machine.run("mount", "--bind", "-o", "ro", "/media/sealift-1", mounted)
        for unit in ("sealift-receive@stick.service", "sealift-install@1.service"):
            done = machine.run("systemctl", "start", unit, may_fail=True)
            run.require(f"{unit} ends with 0", done.returncode == 0, looks.journal(run, unit))
        run.require("the unit proved every byte again", "proven again" in looks.journal(run, "sealift-receive@stick"))
        run.require("the unit changed nothing", "nothing was changed" in looks.journal(run, "sealift-install@1"))
        machine.run("umount", mounted)


def promote(run: Run) -> str:
    """Enrol two people, validate, approve twice, promote; return the API key."""
    machine = run.machine
    with run.stage.chapter("Two people of the site enrol"):
        people = [
            make_person(run.out / "site-people", "iris", "Iris Mora"),
            make_person(run.out / "site-people", "omar", "Omar Haddad"),
        ]
        codes = machine.result("sealift", "people", "codes")["codes"]
        for person, code in zip(people, codes, strict=True):
            _enrol(machine, person, code)
        for person in people:
            operators.make_operator(run, person)
    with run.stage.chapter("Validate, approve by two, promote: two people, neither of them root"):
        machine.result(*operators.as_person("iris", "sealift", "validate", MODEL))
        machine.run(*operators.as_person("iris", "sealift", "promote", MODEL, "--as", "iris"))
        alone = machine.run(*operators.as_person("iris", "sealift", "approve", MODEL, *operators.signing("iris")))
        refused = machine.run(*operators.as_person("iris", "sealift", "promote", MODEL, "--as", "iris"), may_fail=True)
        run.require("one approval is not enough", refused.returncode == 43, alone.stdout)
        machine.run(*operators.as_person("omar", "sealift", "approve", MODEL, *operators.signing("omar")))
        told = machine.result(*operators.as_person("omar", "sealift", "promote", MODEL, "--as", "omar"))
        run.require("an operator brings it to production", told["step"] == "serving", told)
        run.facts["promoted"] = told["model_digest"]
    made = machine.result(
        "sealift", "keys", "create", "--department", "radiology", "--owner", "box", "--phi", "tokenise"
    )
    return str(made["key"])


def serve(run: Run, key: str, *, chapter: str) -> dict[str, Any]:
    """Ask from the facility over TLS and prove the answer on the box."""
    machine = run.machine
    with run.stage.chapter(chapter):
        answer = run.workstation("ask", key=key)
        print(f"   {answer['request_id']}: {answer['text']}")
        run.require("the streamed answer came in pieces and is the same", answer["pieces"] > 1, answer)
        # What a web server keeps until the end comes at once.
        run.require("and each as it was made", answer["came_over_seconds"] > AT_ONCE_SECONDS, answer)
        records = machine.result("sealift", "audit", "list", "--request", answer["request_id"])
        run.require("the request is recorded", answer["request_id"] in json.dumps(records), records)
        proof = machine.result("sealift", "prove", answer["request_id"])
        run.require("the proof holds", proof["ok"] is True, proof)
    return answer


def watch_gap(run: Run) -> None:
    """Show that nothing left by itself, and that an attempt is stopped and counted."""
    machine = run.machine
    with run.stage.chapter("Nothing leaves"):
        before = run.facility.connections_from_box()
        quiet = _egress(machine)
        attempt = f"import socket; socket.create_connection(('{FACILITY_ADDRESS}', 9), timeout=1)"
        tried = machine.run("python3", "-I", "-c", attempt, may_fail=True)
        run.require("an attempt to leave fails", tried.returncode != 0)
        counted = _egress(machine) - quiet
        run.facts["connections_leaving"] = run.facility.connections_from_box()
        run.facts["egress_attempts_before_the_test"] = quiet
        run.require("no connection left the box", before == 0 and run.facts["connections_leaving"] == 0)
        run.require("nothing had tried to", quiet == 0, quiet)
        run.require("the attempt was counted", counted > 0)
        print(f"   connections that left: 0; attempts counted by the test of the filter: {counted}")


def whole(run: Run) -> tuple[Sealed, str]:
    """Everything, in order; return the medium and the API key."""
    with run.stage.chapter("The connected side: build, rehearse, sign, write"):
        sealed = make_release(run.stage, run.out, recipe=RECIPE, ceremony=run.out / "ceremony")
    with run.stage.chapter("Boot a bare Debian 12 with no network"):
        run.machine.create(base_image())
        run.facts["boot_seconds"] = round(run.machine.boot(), 1)
        run.require("the box has only a loopback", _links(run.machine) == ["lo"], _links(run.machine))
    first_trust(run, sealed)
    install(run)
    as_units(run)
    run.facility.create()
    run.facility.plug_in(run.machine.leader)
    key = promote(run)
    first = serve(run, key, chapter="Ask from the facility over TLS, and prove the answer")
    digest = str(run.facts["promoted"])
    watched(run)
    operators.stages_apart(run, digest)
    who_reaches_what(run)
    confined.units_hold(run, digest)
    confined.processes_held(run, digest)
    heldstill.units_hold(run)
    confined.hung_service_comes_back(run)
    operators.stop_test_engine(run, digest)
    operators.developers_try(run, digest, key)
    operators.forged_jobs(run, digest)
    operators.out_of_reach(run)
    with run.stage.chapter("The admin page in a browser"):
        page = run.workstation("look", screenshot=str(run.out / "admin.png"))
        print(f"   {page['title']} at {page['url']}, {page['tls']}, fields {page['fields']}")
        run.require("the page asks for a login", "password" in page["fields"], page)
    watch_gap(run)
    with run.stage.chapter("Reboot"):
        run.facts["reboot_seconds"] = round(run.machine.reboot(), 1)
        run.facility.plug_in(run.machine.leader)
        wait_for_engine(run)
    again = serve(run, key, chapter="It serves again")
    run.require("the same question has the same answer", again["text"] == first["text"], again["text"])
    run.machine.run("sealift", "status")
    run.facts |= {"request_id": first["request_id"], "answer": first["text"], "model_digest": first["model_digest"]}
    return sealed, key


def _enrol(machine: Machine, person: SitePerson, code: str) -> None:
    home = machine.root / "root" / person.id
    shutil.copytree(person.home.parent, home, symlinks=True)
    machine.run(
        "sealift", "people", "enrol", "--code", code, "--id", person.id, "--name", person.name,
        "--certificate", f"/root/{person.id}/{person.id}.gpg", "--password-file", "-", feed=person.password + "\n",
    )  # fmt: skip


def _egress(machine: Machine) -> int:
    return int(machine.told("sealift", "status")["egress"]["refused_packets"])


def _links(machine: Machine) -> list[str]:
    return [one["ifname"] for one in json.loads(machine.run("ip", "-json", "link", shown=False).stdout)]


def _log(machine: Machine) -> str:
    path = machine.root / "var/lib/sealift/logs/install.log"
    return path.read_text()[-6000:] if path.exists() else ""


def _until_receive(text: str) -> str:
    return text.partition("`sealift receive` takes over")[0]


def main() -> int:
    """Run it all and write the summary."""
    parser = argparse.ArgumentParser(prog="make box", description="A real air-gapped Debian 12, end to end (root).")
    parser.add_argument("--keep", action="store_true", help="leave the box running and its folder in place")
    parser.add_argument("--out", type=Path, default=ROOT / "build/box")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the box is a container of its own, and only root can start one", file=sys.stderr)
        return 55
    install_tools()
    out = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    media = {"/media/sealift-1": out / "media/volume-1"}
    run = Run.of(out, name=f"sealift-box-{os.getpid()}", media=media)
    machine = run.machine
    try:
        with run.summary():
            sealed, key = whole(run)
            if not arguments.keep:
                from tests.box import prepared  # it takes the chapters of this module

                digest = str(run.facts["promoted"])
                machine.stop()
                prepared.keep(run, prepared.Served(key=key, digest=digest, sheet=sealed.sheet, code=sealed.code))
    finally:
        if not arguments.keep:
            run.facility.remove()
            machine.stop()
            shutil.rmtree(machine.root, ignore_errors=True)
    return 0 if run.facts["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
