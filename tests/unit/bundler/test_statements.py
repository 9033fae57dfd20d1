import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bundler import provenance, sbom, statement
from bundler.artifact import Artifact, Component, Material
from tests.support.payload import recipe

PAYLOAD = "d" * 64


def made(target: str, kind: str, **about: str) -> Artifact:
    return Artifact.of_bytes(
        target.encode(), target=target, kind=kind, component=Component(**{"name": target.rpartition("/")[2], **about})
    )


ARTIFACTS = (
    made("data/debs/Packages", "deb"),
    made("data/debs/a_1.0_amd64.deb", "deb", name="a", version="1.0", purl="pkg:deb/debian/a@1.0?arch=amd64"),
    made("data/evals/e.jsonl", "eval"),
    made("data/models/m/m.gguf", "weights", name="m", version="1", license="Apache-2.0", origin="somebody"),
    made("data/release.json", "release"),
    made("data/wheels/b.whl", "wheel", name="b", version="2.0", purl="pkg:pypi/b@2.0", license="Apache 2.0 or so"),
)


def bill() -> dict[str, Any]:
    return sbom.predicate(
        ARTIFACTS, release="small", serial=3, created=datetime(2026, 11, 20, tzinfo=UTC), payload_digest=PAYLOAD
    )


def test_every_file_is_one_component_and_every_component_one_file() -> None:
    listed = [
        (item["value"], component["hashes"][0]["content"])
        for component in bill()["components"]
        for item in component["properties"]
        if item["name"] == sbom.PATH_PROPERTY
    ]

    assert sorted(listed) == [(artifact.target, artifact.sha256) for artifact in ARTIFACTS]


def test_components_are_what_they_are() -> None:
    types = {component["bom-ref"]: component["type"] for component in bill()["components"]}

    assert types == {
        "data/debs/Packages": "file",
        "data/debs/a_1.0_amd64.deb": "library",
        "data/evals/e.jsonl": "data",
        "data/models/m/m.gguf": "machine-learning-model",
        "data/release.json": "file",
        "data/wheels/b.whl": "library",
    }


def test_the_bill_is_cyclonedx_and_does_not_depend_on_the_day_it_is_made() -> None:
    first = bill()

    assert (first["bomFormat"], first["specVersion"]) == ("CycloneDX", "1.6")
    assert first["metadata"]["component"]["name"] == "small"
    assert first == bill()


def test_licences_are_given_as_expressions_where_they_are_and_as_text_otherwise() -> None:
    licenses = {component["name"]: component.get("licenses") for component in bill()["components"]}

    assert licenses["m"] == [{"license": {"id": "Apache-2.0"}}]
    assert licenses["b"] == [{"license": {"name": "Apache 2.0 or so"}}]
    assert licenses["a"] is None


def test_a_statement_is_in_totos_and_canonical() -> None:
    content = statement.about_payload(PAYLOAD, statement.SCAN, {"b": 1, "a": 2})

    assert json.loads(content) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "payload", "digest": {"sha256": PAYLOAD}}],
        "predicateType": "urn:sealift:scan:1",
        "predicate": {"a": 2, "b": 1},
    }
    assert content.index(b'"a"') < content.index(b'"b"')


def test_a_statement_about_files_names_each() -> None:
    value = json.loads(statement.about_files(ARTIFACTS, statement.PROVENANCE, {}))

    assert [subject["name"] for subject in value["subject"]] == [artifact.target for artifact in ARTIFACTS]


def test_provenance_names_every_material_once_and_no_machine(tmp_path: Path) -> None:
    wanted = recipe(tmp_path)
    wheel = Material(uri="pkg:pypi/b@2.0", sha256="b" * 64)
    commit = Material(uri="git+sealift", git_commit="c" * 40, note="with changes that are not in this commit")

    value = provenance.predicate(
        wanted,
        [wheel, commit, wheel],
        started=datetime(2026, 11, 20, 9, tzinfo=UTC),
        finished=datetime(2026, 11, 20, 10, tzinfo=UTC),
    )

    definition = value["buildDefinition"]
    assert definition["externalParameters"]["recipe_sha256"] == wanted.sha256
    assert definition["resolvedDependencies"] == [
        {"uri": "git+sealift", "digest": {"gitCommit": "c" * 40}, "annotations": {"note": commit.note}},
        {"uri": "pkg:pypi/b@2.0", "digest": {"sha256": "b" * 64}},
    ]
    assert value["runDetails"]["metadata"] == {
        "startedOn": "2026-11-20T09:00:00Z",
        "finishedOn": "2026-11-20T10:00:00Z",
    }
    assert str(tmp_path) not in json.dumps(value)
