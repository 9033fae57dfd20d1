"""Names of the site's own list through the whole gateway: out of the engine, back in the answer; damaged, no answer."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from appliance.actions import census
from appliance.audit.memory import MemoryLedger
from appliance.keys.files import FileKeys
from appliance.phi.censusfile import NAME
from tests.support.gateway import MODEL, Rig, events, said

TEXT = "When may DOE, jane go home? Or Krüglmann; so may jane doe."


def bring(rig: Rig, *names: str) -> None:
    """Import a list as the command does."""
    keys = FileKeys(Path(rig.config.places.root) / "keys")
    listed = census.parsed("\n".join(names).encode())
    census.bring(rig.config, listed, ledger=MemoryLedger(), keys=keys, person="ada")
    rig.clock.advance(1.1)


def sent(rig: Rig) -> str:
    content = rig.engine.last["messages"][0]["content"]
    assert isinstance(content, str)
    return content


def test_a_name_of_the_list_never_reaches_the_engine_and_comes_back(rig: Rig) -> None:
    rig.chat(TEXT)
    assert sent(rig) == TEXT

    bring(rig, "Jane Doe", "Krüglmann, Hans")
    response = rig.chat(TEXT)

    assert sent(rig) == "When may [NAME_1] go home? Or [NAME_2]; so may [NAME_3]."
    assert response.get_json()["choices"][0]["message"]["content"] == f"You said: {TEXT}"
    assert response.headers["x-sealift-phi"] == "name=3"
    assert rig.bodies("request.intent")[-1]["phi"] == {"name": 3}
    assert rig.bodies("request.intent")[-1]["classification"] == "PHI"


def test_it_comes_back_in_a_stream(rig: Rig) -> None:
    bring(rig, "Jane Doe")
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": TEXT}], "stream": True}

    assert said(events(rig.ask(asked).data)) == f"You said: {TEXT}"
    assert "oe" not in sent(rig)


def test_a_new_list_holds_without_a_restart_and_a_forgotten_one_no_more(rig: Rig) -> None:
    bring(rig, "Max Roe")
    rig.chat(TEXT)
    assert sent(rig) == TEXT

    bring(rig, "Jane Doe")
    rig.chat(TEXT)
    assert "jane" not in sent(rig)

    (rig.config.at.census / NAME).unlink()
    rig.clock.advance(1.1)
    rig.chat(TEXT)
    assert sent(rig) == TEXT


@pytest.mark.parametrize("harm", ["altered", "empty", "unreadable"])
def test_a_damaged_list_refuses_every_request_until_it_is_whole(rig: Rig, harm: str) -> None:
    bring(rig, "Jane Doe")
    rig.chat(TEXT)
    asked = len(rig.engine.asked)
    file = rig.config.at.census / NAME
    if harm == "unreadable":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(file.read_bytes()[:-1] if harm == "altered" else b"")
    rig.clock.advance(1.1)

    for _ in range(2):
        response = rig.chat("nobody is named here")
        assert response.status_code == 500
        assert response.get_json()["error"]["code"] == "phi_unavailable"
    assert len(rig.engine.asked) == asked
    ready = rig.client.get("/readyz")
    assert (ready.status_code, ready.get_json()["error"]["message"]) == (503, "Not ready: census.")

    if harm == "unreadable":
        file.rmdir()
    bring(rig, "Jane Doe")
    assert rig.chat(TEXT).status_code == 200
    assert rig.client.get("/readyz").status_code == 200


def test_a_list_that_does_not_open_is_named_by_readiness_and_the_log(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    bring(rig, "Jane Doe")
    file = rig.config.at.census / NAME
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    rig.clock.advance(1.1)

    assert rig.chat("nobody is named here").status_code == 500
    assert rig.client.get("/readyz").status_code == 503
    (line,) = (one for one in caplog.records if "request_refused" in one.message)
    assert line.levelno == logging.ERROR
    assert json.loads(line.message)["error"] == "CiphertextError"


def test_the_name_is_in_no_record_no_metric_and_no_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    bring(rig, "Jane Doe")
    rig.chat("about Doe, Jane")

    written = generate_latest(rig.metrics.registry) + b"".join(leaf.raw for leaf in rig.ledger.find(limit=1000))
    assert b"Doe" not in written
    assert b"Jane" not in written
    assert "Doe" not in caplog.text
