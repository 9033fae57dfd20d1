"""What a box that serves is asked for afterwards: its report, the origin of an answer, an export; keys of scripts.

And a second engine of the version in production, one of which is killed while questions come in.
"""

import subprocess
import sys
import time
from typing import Any

from examples.demo.people import password_of
from tests.box import looks
from tests.box.box import MODEL
from tests.box.load import load
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run

# The timer as it is, but for its moment: systemd starts what it names, with nobody's help.
_SOON = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\n"
_SOON_FILE = "etc/systemd/system/sealift-report.timer.d/soon.conf"
_ENDINGS = {"html", "pdf", "json"}
_SERVING = 6  # callers at once, so that one engine alone is not enough


def all_of_it(run: Run, served: Served) -> None:
    """Each of these, in an order in which none disturbs the next."""
    quarterly_report(run)
    origin_verified(run, served)
    export_accepted(run)
    script_asks(run, served)
    two_engines(run, served)


def quarterly_report(run: Run) -> None:
    """Let the timer start the report of the quarter that is over; the page hands it out as it was recorded."""
    machine, place = run.machine, run.machine.root / _SOON_FILE
    with run.stage.chapter("The timer makes the report of the quarter that is over; the page hands it out"):
        place.parent.mkdir()
        place.write_text(_SOON)
        machine.run("systemctl", "daemon-reload", shown=False)
        machine.run("systemctl", "restart", "sealift-report.timer")
        looks.wait(
            lambda: bool(looks.records(run, "evidence.reported")), lambda: looks.journal(run, "sealift-report@due")
        )
        place.unlink()
        machine.run("systemctl", "daemon-reload", shown=False)
        machine.run("systemctl", "restart", "sealift-report.timer", shown=False)
        body = looks.records(run, "evidence.reported")[0]["body"]
        owner = machine.run(
            "stat", "-c", "%U %G %a", f"/var/lib/sealift/reports/{body['name']}.pdf", shown=False
        ).stdout
        run.require(
            "a report is the page's to read", owner.split() == ["sealift-receive", "sealift-admin", "640"], owner
        )
        handed = run.workstation("report", **_by("iris"), quarter=body["name"])
        run.require("the report of the timer is handed out as recorded", handed == body["files"], (handed, body))
        run.require("it is to read, to print and to count", set(handed) == _ENDINGS, handed)
        print(f"   {body['name']}: {', '.join(sorted(handed))}")


def origin_verified(run: Run, served: Served) -> None:
    """A person has an answer's origin verified on the page by `sealift-prove@`, and its file is checked outside."""
    with run.stage.chapter(
        "A person has the origin of an answer verified afresh on the page; the file is checked outside"
    ):
        answer = run.workstation("ask", key=served.key)
        found = run.workstation("verify", **_by("iris"), request=answer["request_id"])
        run.require("the page shows every link of an answer verified afresh", bool(found["links"]), found["job"])
        broken = [name for name, holds in found["links"].items() if holds != "yes"]
        run.require("every link that the unit verified holds", not broken, found)
        recorded = looks.records(run, "evidence.proven")[0]["body"]
        run.require("what the page's job found is recorded", recorded["failed"] == [], recorded)
        (saved := run.out / "proof.json").write_text(found["proof"])
        told = _checked(run, "proof", saved)
        run.require("the checker outside accepts the page's proof", told.returncode == 0, told.stdout + told.stderr)
        print(f"   {len(found['links'])} links hold: {', '.join(found['links'])}")


def export_accepted(run: Run) -> None:
    """Export all records on the box; the checker of the medium accepts them outside, with a print from before."""
    machine = run.machine
    with run.stage.chapter("An auditor's export of the box, accepted by the checker outside"):
        printed = machine.result("sealift", "audit", "checkpoint")["note"]
        (note := run.out / "printed.txt").write_text(printed)
        machine.result("sealift", "audit", "export", "/root/for-the-auditor")
        folder = machine.root / "root/for-the-auditor"
        told = _checked(run, "ledger", folder, "--printed", str(note))
        run.require("the checker outside accepts the box's export", told.returncode == 0, told.stdout + told.stderr)
        run.require("and says that the records hold", "HOLDS" in told.stdout, told.stdout)
        with (folder / "leaves.jsonl").open("r+b") as leaves:
            leaves.seek(200)
            byte = leaves.read(1)
            leaves.seek(200)
            leaves.write(b"0" if byte != b"0" else b"1")
        refused = _checked(run, "ledger", folder, "--printed", str(note))
        run.require("and not one with another byte", refused.returncode != 0, refused.stdout)


def script_asks(run: Run, served: Served) -> None:
    """A key of a script reads through nginx what its scopes open, and decides nothing."""
    machine = run.machine
    with run.stage.chapter("A script of the site reads with an automation key over TLS, and can decide nothing"):
        (machine.root / "root/ana").write_text(password_of("iris") + "\n")
        named = ("--as", "iris", "--password-file", "/root/ana")
        made = machine.result(
            "sealift", "automation", "create", "--name", "nightly", *named, "--scope", "read", "--scope", "export"
        )
        api, version = "/api/v1", f"/api/v1/versions/{served.digest}"
        opened = [("GET", f"{api}/status", 8443), ("GET", version, 8443), ("GET", f"{version}/affected", 8443)]
        refused = [
            ("POST", f"{version}/request", 8443),
            ("POST", f"{version}/validation", 8443),
            ("POST", f"{api}/promotion/{served.digest}/approve", 8443),
            ("POST", f"/promotion/{served.digest}/approve", 8443),
            ("GET", "/origin", 8443),
        ]
        answers = _asked(run, made["key"], [*opened, *refused, ("GET", "/v1/models", 443)])
        good, never, elsewhere = answers[: len(opened)], answers[len(opened) : -1], answers[-1]
        run.require("a key reads what its scopes open", [one["status"] for one in good] == [200] * 3, good)
        run.require("it reads of the version in production", good[0]["told"]["production"] is not None, good[0])
        run.require("and whom that answered", good[2]["told"]["answers"] > 0, good[2])
        run.require("no key decides or opens a page", [one["status"] for one in never] == [403] * len(refused), never)
        run.require("it is no key of the model service", elsewhere["status"] == 401, elsewhere)
        noted = looks.records(run, "automation.refused")
        run.require("each refusal is recorded", len(noted) == len(refused), noted)
        machine.run("sealift", "automation", "revoke", "nightly", *named, "--reason", "it leaked", shown=False)
        ended = _asked(run, made["key"], opened[:1])
        run.require("a revoked key ends at once", ended[0]["status"] == 401, ended)
        (machine.root / "root/ana").unlink()


def two_engines(run: Run, served: Served) -> None:
    """Two engines of the version in production share the answers; one is killed, and no caller notices."""
    machine = run.machine
    first, second = (f"sealift-engine-production@{served.digest[:12]}{more}.service" for more in ("", "-2"))
    site_file = machine.root / "etc/sealift/sealift.toml"
    with run.stage.chapter("Two engines of one version: both answer; one is killed, and callers get their answers"):
        site_file.write_text(site_file.read_text() + "\n[engines.production]\ncount = 2\n")
        told = machine.result(*as_person("omar", "sealift", "promote", MODEL, "--as", "omar"))
        run.require("a promotion starts the further engine", looks.is_active(run, second), told)
        with load(run, served.key, callers=_SERVING) as asked:
            before = [looks.worked(run, unit) for unit in (first, second)]
            looks.wait(
                lambda: all(
                    looks.worked(run, unit) >= seconds + 1
                    for unit, seconds in zip((first, second), before, strict=True)
                ),
                lambda: f"one engine did nothing: {before}",
            )
            began, main = time.time(), looks.main_process(run, first)
            machine.run("systemctl", "kill", "--signal=KILL", first)
            asked.answered_since(time.time())
            looks.wait(
                lambda: looks.is_active(run, first) and looks.main_process(run, first) not in {"0", main},
                lambda: looks.journal(run, first),
            )
            run.facts["further_engine_back_seconds"] = round(time.time() - began, 1)
            asked.answered_since(time.time())
        run.facts["asked_while_an_engine_was_killed"] = len(asked.asked)
        lost = [one for one in asked.asked if one.status != 200]
        run.require("no caller lost an answer to a killed engine", not lost, lost)
        run.require("systemd brought the engine back", looks.is_active(run, first) and looks.is_active(run, second))
        print(f"   {len(asked.asked)} answers; back after {run.facts['further_engine_back_seconds']} s")


def _by(person: str) -> dict[str, str]:
    return {"person": person, "password": password_of(person)}


def _asked(run: Run, key: str, asked: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.workstation("automation", key=key, asked=asked)["answers"]
    return found


def _checked(run: Run, door: str, path: object, *more: str) -> "subprocess.CompletedProcess[str]":
    """Check with the program of the medium and the key of the site's papers."""
    checker = run.out / "media/volume-1/release/check/verify.py"
    key = (run.machine.root / "etc/sealift/ledger.pub").read_text().strip()
    words = [sys.executable, "-I", str(checker), door, "--key", key, *more, str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False)
