"""Scripts of a site that ask: for a validation, for a promotion, for a canary to wait; people decide each time."""

import time
from typing import Any

from examples.demo.people import password_of
from tests.box import looks
from tests.box.operators import as_person, signing
from tests.box.run import Run

_API = "/api/v1"
_SCRIPTS = {"validate": "nightly", "request": "deploy", "hold": "dashboard"}
_SECRET = "/root/iris.password"
# What is asked of versions here is answers, not speed: another version is measured beside whatever the machine does.
_POLICY = """format = 1
name = "box-1"

[performance]
unnoticed_millis = 60000

[[override]]
key = "performance.unnoticed_millis"
person = "iris"
reason = "speed is measured elsewhere"
"""


def policy_of_site(run: Run) -> None:
    """Let two people sign thresholds of the site's own."""
    machine = run.machine
    with run.stage.chapter("Two people sign a policy of the site's own"):
        place = "/srv/box.toml"
        (machine.root / place.lstrip("/")).write_text(_POLICY)
        words = ("sealift", "policy", "import", place, "--as", "iris", "--reason", "for this test")
        asked = machine.result(*as_person("iris", *words))["statement"][:12]
        for person in ("iris", "omar"):
            machine.run(*as_person(person, "sealift", "policy", "approve", asked, *signing(person)))
        shown = machine.run("sealift", "policy", "show").stdout
        run.require("the policy that two people signed holds", "box-1" in shown, shown)


def scripts_ask(run: Run, digest: str) -> None:
    """Scripts have a version validated, ask people for its promotion, and hold its canary; people decide."""
    machine, version = run.machine, f"{_API}/versions/{digest}"
    (machine.root / _SECRET.lstrip("/")).write_text(password_of("iris") + "\n")
    deeds = {
        "validate": f"{version}/validation",
        "request": f"{version}/request",
        "hold": f"{_API}/rollout/hold",
    }
    with run.stage.chapter("A script has a version validated and asks for its promotion; people decide"):
        keys = {scope: _key(run, scope) for scope in deeds}
        tried = [_post(run, keys[scope], deeds[deed]) for scope in deeds for deed in deeds if deed != scope]
        run.require("no scope opens what another is for", [one["status"] for one in tried] == [403] * 6, tried)
        asked = _post(run, keys["validate"], deeds["validate"])
        run.require("a script has a version validated", asked["status"] == 202, asked)
        job = f"{_API}/jobs/{asked['told']['job']}"
        seen: list[dict[str, Any]] = []
        looks.wait(lambda: _is_over(run, keys["validate"], job, seen), lambda: str(seen[-1]))
        run.require("and sees how that went", seen[-1]["outcome"] is None or not seen[-1]["outcome"]["what"], seen[-1])
        found = _get(run, keys["validate"], version)
        run.require("every gate of what a script validated passed", found["told"]["gates_passed"] is True, found)
        made = _post(run, keys["request"], deeds["request"], meaning="the shorter profile, change 4712")
        run.require("a script asks people for a promotion", made["status"] == 201, made)
        waiting = _get(run, keys["request"], f"{_API}/requests")["told"]["requests"]
        by = [(one["requested_by"], one["approvals"]) for one in waiting if one["model_digest"] == digest]
        run.require(
            "the request names the machine and who answers for it",
            by == [(f"automation:{_SCRIPTS['request']}@iris", [])],
            by,
        )
    with run.stage.chapter("Two people approve; the script holds the canary, and a person lets it go on"):
        for person in ("iris", "omar"):
            alone = machine.run(*as_person("omar", "sealift", "canary", "start", digest), may_fail=True)
            run.require("a script's request is nobody's approval", alone.returncode == 43, alone.stderr)
            machine.run(*as_person(person, "sealift", "approve", digest, *signing(person)))
        machine.run(*as_person("omar", "sealift", "canary", "start", digest))
        held = _post(run, keys["hold"], deeds["hold"], reason="the dashboard is red")
        run.require("a script holds a canary", held["status"] == 200 and _canary(run)["held"] is True, held)
        resumed = _post(run, keys["hold"], f"{_API}/rollout/resume", reason="it is green again")
        run.require("and cannot let it go on", resumed["status"] == 403 and _canary(run)["held"] is True, resumed)
        for step in ("resume", "abort"):
            words = ("sealift", "canary", step, "--as", "iris", "--reason", "change 4712", "--password-file", _SECRET)
            machine.run(*words)
            if step == "resume":
                run.require("a person lets it go on", _canary(run)["held"] is False, _canary(run))
        used = [(one["body"]["name"], one["body"]["deed"]) for one in looks.records(run, "automation.used")]
        run.require("what scripts asked for is recorded", {(_SCRIPTS[deed], deed) for deed in deeds} <= set(used), used)


def _key(run: Run, scope: str) -> str:
    named = ("--name", _SCRIPTS[scope], "--as", "iris", "--password-file", _SECRET)
    made = run.machine.result("sealift", "automation", "create", *named, "--scope", scope, "--scope", "read")
    return str(made["key"])


def _post(run: Run, key: str, path: str, **sent: str) -> dict[str, Any]:
    return _answer(run, key, "POST", path, sent)


def _get(run: Run, key: str, path: str) -> dict[str, Any]:
    return _answer(run, key, "GET", path, {})


def _answer(run: Run, key: str, method: str, path: str, sent: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = run.workstation("automation", key=key, asked=[(method, path, 8443, sent)])["answers"][0]
    return found


def _is_over(run: Run, key: str, job: str, seen: list[dict[str, Any]]) -> bool:
    time.sleep(3)  # a key may ask sixty times a minute
    seen.append(_get(run, key, job)["told"])
    return str(seen[-1]["state"]) not in {"waiting", "running"}


def _canary(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.machine.result("sealift", "canary", "status")["canary"]
    return found
