"""The API's description: it says what the code does, because it is made of it."""

import re
from typing import Any

import pytest

from appliance.gateway import parameters, schemas
from appliance.gateway.access import Access, access_of
from appliance.gateway.openapi import PATH
from appliance.gateway.parameters import Endpoint
from tests.support.gateway import MODEL, Rig, key_text


def described(rig: Rig) -> dict[str, Any]:
    response = rig.client.get(PATH, headers=rig.headers())
    assert response.status_code == 200
    return dict(response.get_json())


def request_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    return dict(document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def test_it_names_every_route_that_somebody_may_call_and_no_other(rig: Rig) -> None:
    views = rig.app.view_functions
    routes = {
        (re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.rule), method.lower())
        for rule in rig.app.url_map.iter_rules()
        if access_of(views[rule.endpoint]) in {Access.PUBLIC, Access.KEYED}
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    paths = described(rig)["paths"]
    assert {(path, method) for path, operations in paths.items() for method in operations} == routes
    assert "/metrics" not in paths


def test_it_is_for_keys_and_says_which_routes_are(rig: Rig) -> None:
    assert rig.client.get(PATH).status_code == 401

    paths = described(rig)["paths"]
    assert paths["/livez"]["get"]["security"] == []
    assert paths["/v1/embeddings"]["post"]["security"] == [{"bearer": []}, {"key": []}]


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_it_knows_the_parameters_that_the_reader_knows_and_their_forms(rig: Rig, endpoint: Endpoint) -> None:
    path = "/v1/chat/completions" if endpoint is Endpoint.CHAT else "/v1/completions"
    request = request_of(described(rig), path)

    assert request["additionalProperties"] == schemas.NULL
    assert set(request["properties"]) == set(parameters.known(endpoint))
    passed_on = {name for name, values in parameters.known(endpoint).items() if values is None} - parameters.IGNORED
    assert all(request["properties"][name] for name in passed_on), "each has a form in `schemas`"


def test_it_names_the_models_of_the_moment_and_the_sites_limits(rig: Rig) -> None:
    properties = request_of(described(rig), "/v1/chat/completions")["properties"]

    assert properties["model"]["enum"] == [MODEL, "production"]
    assert properties["max_tokens"]["maximum"] == rig.config.limits.max_tokens
    rig.routes.route = None
    assert request_of(described(rig), "/v1/embeddings")["properties"]["model"] == schemas.TEXT


def test_every_answer_of_ours_has_the_form_that_it_says(rig: Rig) -> None:
    document = described(rig)
    asked: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
        "/v1/completions": {"prompt": "hello"},
        "/v1/embeddings": {"input": "hello"},
    }
    for path, body in asked.items():
        answer = rig.ask({"model": MODEL, **body}, path=path).get_json()
        schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(schema["required"]) <= set(answer)
        assert answer["object"] == schema["properties"]["object"]["const"]
        refused = rig.ask({"model": MODEL, **body, "nonsense": 1}, path=path)
        assert str(refused.status_code) in document["paths"][path]["post"]["responses"]


def test_a_key_that_is_unknown_learns_nothing(rig: Rig) -> None:
    refused = rig.client.get(PATH, headers=rig.headers(key_text("unknown234")))

    assert (refused.status_code, "paths" in refused.get_json()) == (401, False)
