"""A caller's certificate at the gateway: recorded with the request, bound to its API key, believed from nginx alone."""

from typing import Any

import pytest

from tests.support.gateway import MODEL, Rig

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
BEHIND_NGINX = {"REMOTE_ADDR": ""}
SERIAL = "0A1B2C3D4E5F"


def ask(rig: Rig, told: str, **environ: str) -> Any:
    headers = {**rig.headers(), "X-Sealift-Client": told}
    response = rig.client.post(
        "/v1/chat/completions", json=CHAT, headers=headers, environ_overrides={**BEHIND_NGINX, **environ}
    )
    response.get_data()
    return response


def test_the_serial_of_the_certificate_is_in_the_record_of_the_request(rig: Rig) -> None:
    assert ask(rig, f"{SERIAL} CN=emr-1").status_code == 200

    assert rig.bodies("request.intent")[0]["certificate"] == "a1b2c3d4e5f"


def test_without_a_certificate_the_record_has_none(rig: Rig) -> None:
    assert ask(rig, "").status_code == 200

    assert "certificate" not in rig.bodies("request.intent")[0]


def test_a_certificate_that_names_the_key_goes_with_it(rig: Rig) -> None:
    assert ask(rig, f"{SERIAL} UID=abcdefgh23,CN=emr-1").status_code == 200


def test_a_certificate_that_names_another_key_is_refused_and_recorded(rig: Rig) -> None:
    response = ask(rig, f"{SERIAL} UID=zzzzzzzzzz,CN=emr-1")

    assert (response.status_code, response.json["error"]["code"]) == (403, "certificate_mismatch")
    assert rig.engine.asked == []
    assert rig.bodies("request.refused")[0]["code"] == "certificate_mismatch"


@pytest.mark.parametrize(
    "told", ["CN=emr-1", f"{SERIAL} CN=emr-1,O=x", f"{SERIAL} UID=abcdefgh23", "x CN=a", f"{SERIAL} CN=A", "a" * 5000]
)
def test_what_is_not_of_a_certificate_of_this_box_is_refused(rig: Rig, told: str) -> None:
    response = ask(rig, told)

    assert (response.status_code, response.json["error"]["code"]) == (403, "certificate_refused")
    assert rig.engine.asked == []


def test_over_tcp_nobody_is_believed(rig: Rig) -> None:
    assert ask(rig, f"{SERIAL} UID=zzzzzzzzzz,CN=root", REMOTE_ADDR="10.0.0.9").status_code == 200

    assert "certificate" not in rig.bodies("request.intent")[0]
