"""A canary under load with a regression that ends it, and going back while callers ask: real processes."""

from pathlib import Path

import pytest

from tests.support.engine import Script
from tests.support.promoting import homes
from tests.support.rollout_site import RolloutSupervisor, approve, load_on, rollout_site
from tests.support.running_site import as_json
from tests.support.versions import short_folder

__all__ = ["homes"]  # a fixture
pytestmark = [pytest.mark.fault, pytest.mark.timeout(800)]


def test_a_canary_that_fails_under_load_ends_by_itself_and_nobody_else_notices(homes: dict[str, Path]) -> None:
    with short_folder() as root, rollout_site(root, homes) as (site, run, first, second):
        engines = site.supervisor
        assert isinstance(engines, RolloutSupervisor)
        with load_on(site, run, callers=4) as load:
            started = as_json(run, "canary", "start", second, "--percent", "50")
            assert started["step"] == "canary-started"
            assert started["outlook"]["needed_requests"] == 600
            load.wait_for(lambda got: sum(one.version == second for one in got) >= 20)
            assert as_json(run, "canary", "judge")["canary"]["verdict"]["state"] == "going"
            assert not load.lost
            key = as_json(run, "keys", "create", "--department", "research", "--owner", "x")["key_id"]
            as_json(run, "canary", "pin", key, "--version", first, "--reason", "a study runs")
            (pinned,) = as_json(run, "canary", "keys")["keys"]
            assert (pinned["key_id"], pinned["model_digest"], bool(pinned["leaves"])) == (key, first, True)
            assert run("canary", "pin", "nonexistent", "--version", first, "--reason", "x").code == 2
            as_json(run, "canary", "free", key, "--reason", "the study is over")
            assert as_json(run, "canary", "keys")["keys"] == []
            touched = as_json(run, "affected", "--version", second, "--limit", "5")
            assert touched["answers"] >= 20
            assert (len(touched["requests"]), list(touched["arms"])) == (5, ["canary"])

            engines.engines[second].script = Script(error_after=0)
            # A stream that breaks off has a status of 200, and the share may hold streaming callers only.
            load.wait_for(lambda _: len(load.lost) >= 30)
            found = as_json(run, "canary", "judge")
            while found["canary"] is not None:
                found = as_json(run, "canary", "judge")
            assert found["changed"]["kind"] == "canary-aborted"
            assert "errors" in found["changed"]["reason"]
            assert found["stopped"] == [f"sealift-engine-production@{second[:12]}.service"]

            after = len(load.got)
            load.wait_for(lambda got: len(got) >= after + 60)
            # A few requests had begun on the canary when it ended; none begins there any more.
            assert {one.version for one in load.got[after + 20 :]} == {first}
        assert all(one.version in {second, ""} for one in load.lost)
        assert as_json(run, "review", "list")["open"] == []


def test_rollback_after_a_cut_over_loses_no_request(homes: dict[str, Path]) -> None:
    with short_folder() as root, rollout_site(root, homes) as (site, run, first, second):
        with load_on(site, run, callers=4) as load:
            as_json(run, "canary", "start", second, "--percent", "50")
            load.wait_for(lambda got: any(one.version == second for one in got))
            assert run("canary", "cutover", "--as", "eva-rossi", "--reason", "early").code == 43
            approve(run, second, homes)
            done = as_json(run, "canary", "cutover", "--as", "eva-rossi", "--reason", "we are sure")
            assert (done["model_digest"], done["stopped"]) == (second, [])
            after = len(load.got)
            load.wait_for(lambda got: len(got) >= after + 60)
            assert as_json(run, "canary", "status")["beside"]["version"] == first

            back = as_json(run, "rollback", "--as", "finn-olsen", "--reason", "worse answers")
            assert (back["model_digest"], back["was_warm"]) == (first, True)
            assert back["stopped"] == [f"sealift-engine-production@{second[:12]}.service"]
            after = len(load.got)
            load.wait_for(lambda got: len(got) >= after + 60)
            assert {one.version for one in load.got[after + 16 :]} == {first}
        assert load.lost == []
        (waiting,) = as_json(run, "review", "list")["open"]
        assert waiting["what"] == "went back"
        note = ("--as", "eva-rossi", "--note", "looked at the answers")
        as_json(run, "review", "done", str(waiting["sequence"]), *note)
        assert as_json(run, "review", "list")["open"] == []


def test_one_person_stops_a_department_and_then_everything_with_no_version_before(homes: dict[str, Path]) -> None:
    with (
        short_folder() as root,
        rollout_site(root, homes) as (site, run, first, _),
        load_on(site, run, callers=2) as load,
    ):
        why = ("--as", "eva-rossi", "--reason", "prompts leak")
        as_json(run, "stop", "--department", "radiology", *why)
        load.wait_for(lambda got: sum(one.status == 503 for one in got) >= 5)
        assert run("stop", "--department", "radiology", "--lift", *why).code == 45
        as_json(run, "stop", "--department", "radiology", "--lift", "--as", "finn-olsen", "--reason", "mended")
        after = len(load.got)
        load.wait_for(lambda got: any(one.status == 200 for one in got[after:]))

        assert as_json(run, "stop", "--version", first, *why)["previous"] == first
        after = len(load.got)
        load.wait_for(lambda got: [one.status for one in got[after:]][-5:] == [503] * 5)
