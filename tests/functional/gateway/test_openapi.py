"""The API's description: it says what the code does, because it is made of it."""

import io
import re
from typing import Any

import pytest

from appliance.gateway import parameters, schemas
from appliance.gateway.access import Access, access_of
from appliance.gateway.openapi import PATH
from appliance.gateway.parameters import Endpoint
from tests.support.gateway import MODEL, Rig, key_text
from tests.support.json_schema import fits


def described(rig: Rig) -> dict[str, Any]:
    response = rig.client.get(PATH, headers=rig.headers())
    assert response.status_code == 200
    return dict(response.get_json())


def request_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    return dict(document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


def answer_of(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    return dict(document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"])


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


HELLO = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OWN_CALL = {"function": {"name": "f", "arguments": {}}}
TOOL = {"type": "function", "function": {"name": "f", "description": None, "parameters": []}}
CALLED = [HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [HELLO], "nonsense": None, "logit_bias": {"7": -1.5}, "n": 2}),
    ("/v1/chat/completions", {"messages": [{**HELLO, "content": [{"type": "text", "text": "a"}], "name": "x"}]}),
    ("/v1/chat/completions", {"messages": [*CALLED, {"role": "tool", "content": "1", "tool_call_id": "call_1"}]}),
    ("/v1/chat/completions", {"messages": [{**HELLO, "tool_calls": [], "refusal": None, "audio": []}]}),
    ("/v1/chat/completions", {"messages": [HELLO], "tools": [TOOL], "tool_choice": "auto"}),
    ("/v1/chat/completions", {"messages": [HELLO], "response_format": {"type": "json_object"}}),
    ("/v1/chat/completions", {"messages": [HELLO], "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/embeddings", {"input": ["a", "b"], "nonsense": None}),
    ("/api/chat", {"messages": [HELLO], "options": {"seed": -1, "num_predict": -2, "num_ctx": "any", "tfs_z": 1.0}}),
    ("/api/chat", {"messages": [HELLO], "options": {"repeat_last_n": 0, "repeat_penalty": 99}, "keep_alive": "5m"}),
    ("/api/chat", {"messages": [{**HELLO, "images": [], "nonsense": ""}], "format": "json", "template": ""}),
    ("/api/chat", {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [OWN_CALL]}]}),
    ("/api/chat", {"messages": [], "stream": "whatever", "format": 7}),
    ("/api/chat", {}),
    ("/api/generate", {"prompt": "hello", "system": "be brief", "raw": False, "context": [], "think": None}),
    ("/api/generate", {"prompt": "", "options": {"temperature": "hot"}}),
    ("/api/embed", {"input": ["a", "b"], "truncate": True, "options": {"num_ctx": 9}}),
    ("/api/embed", {"input": []}),
    ("/api/embeddings", {"prompt": "a", "keep_alive": 0}),
    ("/api/show", {"verbose": True, "system": "", "options": {}}),
]
NOT_TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "nobody", "content": "a"}]}),
    ("/v1/chat/completions", {"messages": [{**HELLO, "nonsense": None}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": None}]}),
    ("/v1/chat/completions", {"messages": [{**HELLO, "tool_calls": [CALL]}]}),
    ("/v1/chat/completions", {"messages": [HELLO], "tools": [{**TOOL, "strict": True}]}),
    ("/v1/chat/completions", {"messages": [HELLO], "response_format": {"type": "xml"}}),
    ("/v1/chat/completions", {"messages": [HELLO], "logit_bias": {"x": 1}}),
    ("/api/chat", {"messages": [HELLO], "stream": "whatever"}),
    ("/api/chat", {"messages": [{**HELLO, "images": ["x"]}]}),
    ("/api/chat", {"messages": [HELLO], "options": {"nonsense": 1}}),
    ("/api/chat", {"messages": [HELLO], "options": {"mirostat": 2}}),
    ("/api/chat", {"messages": [], "options": {"nonsense": None}}),
    ("/api/chat", {"messages": [HELLO], "prompt": "a"}),
    ("/api/generate", {"prompt": "hello", "suffix": "more"}),
    ("/api/generate", {"prompt": 7}),
    ("/api/generate", {"prompt": "", "images": ["x"]}),
    ("/api/embed", {"input": "a", "dimensions": 0}),
    ("/api/embed", {"input": [[1, 2]]}),
    ("/api/embeddings", {"prompt": "a", "input": "a"}),
    ("/api/show", {"template": "mine"}),
]


@pytest.mark.parametrize(
    ("path", "body", "is_taken"), [*((*one, True) for one in TAKEN), *((*one, False) for one in NOT_TAKEN)]
)
def test_what_a_body_may_hold_is_what_the_route_takes(
    rig: Rig, path: str, body: dict[str, Any], *, is_taken: bool
) -> None:
    asked = {"model": MODEL, **body}
    answer = rig.ask(asked, path=path)

    assert (answer.status_code, fits(asked, request_of(described(rig), path))) == (200 if is_taken else 400, is_taken)


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version"])
def test_lists_of_ollamas_are_as_described(rig: Rig, path: str) -> None:
    assert fits(rig.client.get(path, headers=rig.headers()).get_json(), answer_of(described(rig), "get", path))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [HELLO], "stream": False}),
        ("/api/chat", {}),
        ("/api/generate", {"prompt": "hello", "stream": False}),
        ("/api/embed", {"input": "a"}),
        ("/api/embeddings", {"prompt": "a"}),
        ("/api/show", {}),
    ],
)
def test_answers_of_ollamas_are_as_described(rig: Rig, path: str, body: dict[str, Any]) -> None:
    answer = rig.ask({"model": MODEL, **body}, path=path).get_json()

    assert fits(answer, answer_of(described(rig), "post", path)), answer


def test_files_and_batches_are_as_described_from_one_to_the_next(rig: Rig) -> None:
    document = described(rig)
    paths = document["paths"]
    upload = {"purpose": "batch", "file": (io.BytesIO(b'{"custom_id": "a"}\n'), "a.jsonl")}
    file = rig.client.post("/v1/files", data=upload, headers=rig.headers()).get_json()
    assert fits(file, answer_of(document, "post", "/v1/files"))
    schema = request_of(document, "/v1/batches")
    asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    batch = rig.ask(asked, path="/v1/batches").get_json()
    assert fits(batch, answer_of(document, "post", "/v1/batches"))
    changes: list[dict[str, Any]] = [{}, {"metadata": {"a": "b"}}, {"nonsense": None}, {"metadata": {"a": 1}}]
    windows = ("0h", "1h", "9h", "10h", "24h", "25h", "01h", "24H", "24h\n", "h", 24)
    for change in (*changes, *({"completion_window": one} for one in windows)):
        assert fits(asked | change, schema) == (rig.ask(asked | change, path="/v1/batches").status_code == 200)
    for path in ("/v1/files", "/v1/batches"):
        listed = rig.client.get(path, headers=rig.headers()).get_json()
        assert fits(listed, answer_of(document, "get", path))
        query = {one["name"]: one["schema"] for one in paths[path]["get"]["parameters"]}
        for name, values in {"limit": (1, 100, 0, 10**5), "order": ("asc", "up"), "after": ("", "x")}.items():
            for value in values:
                status = rig.client.get(path, query_string={name: value}, headers=rig.headers()).status_code
                assert (status == 200) == (name in query and fits(value, query[name])), (path, name, value)

    links = {**paths["/v1/files"]["post"]["responses"]["200"]["links"]}
    links |= paths["/v1/batches"]["post"]["responses"]["200"]["links"]
    operations = {one["operationId"] for of_path in paths.values() for one in of_path.values()}
    assert {one["operationId"] for one in links.values()} == set(links) <= operations
    assert "requestBody" not in paths["/v1/batches/{batch_id}/cancel"]["post"]
    assert set(paths["/v1/files"]["post"]["requestBody"]["content"]) == {"multipart/form-data"}
