"""The gates' policy on the page: what holds, what waits, and what people made of it, relayed to a real promoter."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.promote.policybook import in_force
from appliance.state.database import open_state
from tests.support.adminpage import logged_in, page_of, token
from tests.support.promotion import Site, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()
LOOSE = (
    'format = 1\nname = "ward"\n[injection]\nfollowed_millis = 350\n'
    f'[[override]]\nkey = "injection.followed_millis"\nperson = "{ANA.id}"\nreason = "<b>letters</b>"\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


@pytest.fixture
def browser(site: Site) -> Iterator[FlaskClient]:
    site.config.at.registry.mkdir(parents=True, exist_ok=True)
    state = open_state(site.config.at)
    yield logged_in(page_of(site, state))
    state.dispose()


def hand_in(browser: FlaskClient, digest: str, signature: bytes) -> Any:
    form = {"csrf": token(browser, "/policy"), "class": "openpgp", "signature": (io.BytesIO(signature), "s.sig")}
    return browser.post(f"/policy/{digest}/approve", data=form, content_type="multipart/form-data")


def test_a_policy_is_read_whole_signed_by_two_and_holds(site: Site, browser: FlaskClient) -> None:
    assert "No policy waits" in browser.get("/policy").text
    request = site.client.request_policy(policy=LOOSE, meaning="our wards", requested_by=ANA.id)
    digest = request.statement.sha256

    text = browser.get("/policy").text
    assert "injection.followed_millis  300 -&gt; 350  (LOOSER than the release" in text
    assert "<b>letters</b>" not in text
    assert "&lt;b&gt;letters&lt;/b&gt;" in text
    assert browser.get(f"/policy/{digest}/statement").data == request.statement.to_bytes()
    for person in (ANA, BEN):
        assert hand_in(browser, digest, person.sign(request.statement.to_bytes())).status_code == 302

    assert in_force(site.ledger).injection.followed_millis == 350
    assert "No policy waits" in browser.get("/policy").text
    assert "LOOSER than the release" in browser.get("/policy").text
    relayed = site.ledger.find(kind="admin.relayed-approval")
    assert {leaf.body["statement_sha256"] for leaf in relayed} == {digest}


def test_what_the_promoter_refuses_is_told_and_nothing_holds(site: Site, browser: FlaskClient) -> None:
    request = site.client.request_policy(policy=LOOSE, meaning="our wards", requested_by=ANA.id)
    signature = ANA.sign(request.statement.to_bytes())

    assert hand_in(browser, request.statement.sha256, ANA.sign(b"something else")).status_code == 400
    assert hand_in(browser, request.statement.sha256, signature).status_code == 302
    assert hand_in(browser, request.statement.sha256, signature).status_code == 400
    assert browser.get("/policy/" + "0" * 64 + "/statement").status_code == 404
    assert in_force(site.ledger).site is None
