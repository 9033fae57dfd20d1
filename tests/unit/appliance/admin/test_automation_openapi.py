"""The web service's description: it names what is served, and real answers are as it says."""

import re
from collections.abc import Mapping
from typing import Any

from appliance.admin import openapi
from appliance.admin.automation import DEEDS as ADDRESSES
from appliance.promote.automation_key import DEEDS
from appliance.state import projection
from tests.support.automation import ALL, Service, bearer
from tests.support.signatories import signatories
from tests.support.versions import store_version

ANA, BEN, *_ = signatories()


def faults(value: Any, schema: Mapping[str, Any], where: str = "answer") -> list[str]:
    """Return what of a value is not as a schema of the description says; it knows the words that are used there."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
    allowed = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", list(kinds))
    found = []
    if type(value) not in {kinds[one] for one in allowed} or value != schema.get("const", value):
        found.append(f"{where} is {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where} is {value!r}")
    if isinstance(value, int) and value < schema.get("minimum", value):
        found.append(f"{where} is {value}")
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{where} has no {name}" for name in schema["required"] if name not in value]
        found += [f"{where} has {name}" for name in value if name not in schema["properties"]]
        for name in value.keys() & schema["properties"].keys():
            found += faults(value[name], schema["properties"][name], f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        found += [one for entry in value for one in faults(entry, schema["items"], f"{where}[]")]
    return found


def test_the_description_names_every_address_and_its_scope_and_no_other(service: Service) -> None:
    assert service.get("/api/v1/openapi.json").status_code == 401
    document = service.get("/api/v1/openapi.json", service.key("read")).json

    described = {
        (path, method.upper(), operation["operationId"], operation["x-sealift-scope"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    served = {
        (re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.rule), method, ADDRESSES[rule.endpoint])
        for rule in service.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("automation.") and rule.endpoint != "automation.never"
    }
    assert described == {(path, method, deed, str(DEEDS[deed])) for path, method, deed in served}
    assert set(openapi.ANSWERS) == set(DEEDS)
    assert "approve" not in str(document["paths"].keys())
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"401", "403", "429"} <= operation["responses"].keys()


def test_what_is_answered_is_as_described_and_so_is_what_is_refused(service: Service) -> None:
    key = service.key(*ALL)
    document = service.get("/api/v1/openapi.json", key).json
    (_, old), (_, new) = (store_version(service.site.config, serial=n, weights=w) for n, w in ((1, b"o"), (2, b"n")))
    service.site.promote(old.model_digest)
    service.site.validate(new.model_digest)
    intent = {"request_id": "req_1", "department": "x", "model_digest": old.model_digest, "arm": "production"}
    service.site.ledger.append("request.intent", intent)
    projection.catch_up(service.state, service.site.ledger)

    def asked(method: str, path: str, deed: str, **named: Any) -> Any:
        operation = document["paths"][f"/api/v1{path}"][method]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        sent = dict.fromkeys(body["required"], "why") if body else None
        address = f"/api/v1{path}".format(**named)
        answer: Any = service.client.open(address, method=method.upper(), headers=bearer(key), json=sent)
        known = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
        assert faults(answer.json, known) == [], (path, answer.status_code)
        assert operation["operationId"] == deed
        return answer

    version = {"digest": new.model_digest}
    requested = asked("post", "/versions/{digest}/request", "request", **version)
    assert requested.status_code == 201
    job = asked("post", "/versions/{digest}/validation", "validate", **version)
    assert job.status_code == 202
    assert asked("get", "/jobs/{number}", "job", number=job.json["job"]).status_code == 200
    assert asked("get", "/jobs/{number}", "job", number=99999).status_code == 404
    assert asked("post", "/rollout/hold", "hold").status_code == 409
    assert asked("get", "/rollout", "rollout").json["canary"] is None
    [waiting] = asked("get", "/requests", "requests").json["requests"]
    assert waiting["statement_sha256"] == requested.json["statement_sha256"]
    request = service.site.approve(service.site.client.pending()[0], ANA, BEN)
    service.site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    assert asked("post", "/rollout/hold", "hold").status_code == 200
    for path, deed in (
        ("/status", "status"), ("/versions", "versions"), ("/rollout", "rollout"), ("/history", "history")
    ):  # fmt: skip
        assert asked("get", path, deed).status_code == 200
    assert len(asked("get", "/versions", "versions").json["versions"]) == 2
    assert asked("get", "/versions/{digest}", "version", **version).json["gates"]
    assert asked("get", "/versions/{digest}", "version", digest="0" * 64).status_code == 404
    assert asked("get", "/versions/{digest}/affected", "affected", digest=old.model_digest).json["answers"] == 1
