"""A box that does not hold the lease answers nobody, and says so: to callers, to load balancers and on its page."""

from pathlib import Path

from appliance.config import Config
from appliance.standby import permit
from tests.support.gateway import gateway


def test_a_gateway_answers_only_while_its_box_holds_the_lease(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="[standby]\nlease = true\n") as rig:
        folder = permit.folder_of(rig.config.at)
        folder.mkdir(parents=True)

        before = rig.chat("hello")
        permit.write(folder, until=permit.boottime() + 3600, term=1)
        during = rig.chat("hello")
        permit.write(folder, until=permit.boottime(), term=1)
        after = rig.chat("hello")

        for refused in (before, after):
            assert (refused.status_code, refused.json["error"]["code"]) == (503, "not_active")
            assert int(refused.headers["retry-after"]) >= 1
        assert during.status_code == 200
        assert len(rig.bodies("request.intent")) == 1
        assert "Not ready: lease." in rig.client.get("/readyz").text
        assert rig.client.get("/livez").status_code == 200


def test_the_page_says_whether_this_box_serves(tmp_path: Path) -> None:
    standing = Config.model_validate(
        {"site": "demo", "environment": "demo", "places": {"root": str(tmp_path)}, "standby": {"lease": True}}
    )
    alone = Config.model_validate({"site": "demo", "places": {"root": str(tmp_path)}})

    assert permit.shown(alone) == ""
    assert permit.shown(standing) == "stands by"
    folder = permit.folder_of(standing.at)
    folder.mkdir(parents=True)
    permit.write(folder, until=permit.boottime() + 3600, term=1)
    assert permit.shown(standing) == "serves"


def test_packets_of_paired_boxes_are_let_in_and_out_and_no_others() -> None:
    named = {"listen": "10.9.0.1", "peer": "two", "peer_address": "10.9.0.2", "witness_address": "10.9.0.3"}
    config = Config.model_validate({"site": "demo", "standby": named})

    assert config.standby.callers == ("10.9.0.2 7443", "10.9.0.3 7443")
    assert {"tcp 10.9.0.2 7443", "tcp 10.9.0.3 7443"} <= set(config.destinations)
    assert Config.model_validate({"site": "demo", "standby": {**named, "listen": ""}}).standby.callers == ()


def test_a_witness_lets_in_the_boxes_that_ask_it_and_calls_nobody() -> None:
    named = {"listen": "10.9.0.3", "boxes": ["10.9.0.1", "10.9.0.2"]}
    config = Config.model_validate({"site": "demo", "standby": named})

    assert config.standby.callers == ("10.9.0.1 7443", "10.9.0.2 7443")
    assert config.destinations == ()
