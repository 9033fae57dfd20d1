"""A script that asks for one more model, or for one in another's place: by a key that may say so, and by no other."""

from typing import Any

import pytest

from appliance.promote.automation import MADE, USED
from appliance.promote.statement import LINE_FORMAT
from appliance.state import projection
from appliance.wire import RemoteError
from tests.support.automation import ALL, Service
from tests.support.versions import store_version
from tests.unit.appliance.admin.test_automation_openapi import faults


def prepare(service: Service, name: str, serial: int) -> str:
    """Store a version whose gates passed; return its digest."""
    changes = {"weights": f"{serial}".encode(), "name": name}
    version = store_version(service.site.config, serial=serial, **changes)[1].model_digest
    service.site.validate(version, name=name)
    projection.catch_up(service.state, service.site.ledger)
    return version


@pytest.fixture
def classes(service: Service) -> str:
    """A version of another name than the model in production."""
    service.site.promote(prepare(service, "chat", 1), name="chat")
    return prepare(service, "classes", 2)


def ask(service: Service, version: str, key: str, **said: Any) -> Any:
    return service.post(f"/api/v1/versions/{version}/request", key, json={"meaning": "the nightly build", **said})


def test_a_key_of_that_scope_asks_for_one_more_model_and_it_is_listed_as_that(service: Service, classes: str) -> None:
    key = service.key("request", "line", "read")
    document = service.get("/api/v1/openapi.json", key).json["paths"]
    silent = ask(service, classes, key)
    assert (silent.status_code, "`beside` or `replaces`" in silent.json["error"]["fix"]) == (409, True)

    made = ask(service, classes, key, beside=True)

    assert made.status_code == 201, made.text
    [waiting] = service.site.client.pending()
    assert (waiting.statement.format, waiting.statement.replaces) == (LINE_FORMAT, None)
    listed = service.get("/api/v1/requests", key).json
    schema = document["/api/v1/requests"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert faults(listed, schema) == []
    assert [one["beside"] for one in listed["requests"]] == [True]
    assert ask(service, classes, key, replaces="chat").status_code == 201
    assert ask(service, classes, key, replaces="mail").status_code == 409
    assert "line" in document["/api/v1/versions/{digest}/request"]["post"]["description"]


def test_the_scope_by_itself_asks_for_nothing(service: Service, classes: str) -> None:
    answer = ask(service, classes, service.key("line"), beside=True)

    assert (answer.status_code, service.refusals()[-1]) == (403, ("AUTO-2", "request"))


def test_a_line_that_is_said_in_another_shape_asks_for_nothing(service: Service, classes: str) -> None:
    key = service.key("request", "line")
    shapes: list[dict[str, Any]] = [
        *({"beside": one} for one in (False, None, 1, "true")),
        *({"replaces": one} for one in ("", None, 7, ["chat"], "a\u202eb")),
        {"beside": True, "replaces": "chat"},
        {"line": "chat"},
    ]

    for said in shapes:
        answer = ask(service, classes, key, **said)
        assert answer.status_code == 400, (said, answer.text)
    assert service.site.client.pending() == ()


def test_a_key_without_it_asks_as_it_did_before_the_scope_was_there(service: Service, classes: str) -> None:
    key = service.key(*(one for one in ALL if one != "line"))
    [made] = service.site.ledger.find(kind=MADE)
    assert made.body["scopes"] == ["read", "export", "validate", "request", "hold"]
    assert ask(service, prepare(service, "chat", 3), key).status_code == 201
    assert ask(service, classes, key).status_code == 409
    used = len(service.site.ledger.find(kind=USED, limit=50))
    # The page's process is not asked which scopes a key has.
    promoter = service.app.extensions["sealift"].promoter

    for said in ({"beside": True}, {"replaces": "chat"}):
        answer = ask(service, classes, key, **said)
        assert answer.status_code == 403
        why = answer.json["error"]["why"]
        assert why.startswith("AUTO-2: request with `beside` or `replaces` takes the scope line, and the key has read,")
        assert service.refusals()[-1] == ("AUTO-2", "request")
        with pytest.raises(RemoteError, match="may not do that"):
            promoter.call("automation-request", key=key, model_digest=classes, meaning="x", **said)
    assert len(service.site.client.pending()) == 1
    assert len(service.site.ledger.find(kind=USED, limit=50)) == used
