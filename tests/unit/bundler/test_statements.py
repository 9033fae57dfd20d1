import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

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


def test_what_is_not_known_of_a_file_is_said() -> None:
    unknown = {
        component["name"]: [each["value"] for each in component["properties"] if each["name"] == sbom.UNKNOWN_PROPERTY]
        for component in bill()["components"]
    }

    assert unknown["m"] == ["package-url", "training-data"]
    assert unknown["a"] == ["license"]
    assert unknown["b"] == unknown["Packages"] == unknown["release.json"] == []
    assert bill()["compositions"] == [
        {"aggregate": "complete", "assemblies": ["release:small:3"]},
        {"aggregate": "unknown", "assemblies": ["data/models/m/m.gguf"]},
    ]


def test_quantized_weights_name_the_ones_they_were_made_from() -> None:
    quantized = made(
        "data/models/m/m.gguf", "weights", name="m", version="1", parent_sha256="e" * 64, parent_purl="pkg:pypi/m@1"
    )

    found = sbom.predicate(
        [quantized], release="small", serial=3, created=datetime(2026, 11, 20, tzinfo=UTC), payload_digest=PAYLOAD
    )

    ancestor = found["components"][0]["pedigree"]["ancestors"][0]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "e" * 64}]
    assert ancestor["purl"] == "pkg:pypi/m@1"


def test_the_bill_says_what_made_it_and_when_in_its_life() -> None:
    metadata = bill()["metadata"]

    assert metadata["lifecycles"] == [{"phase": "build"}]
    assert [tool["name"] for tool in metadata["tools"]["components"]] == ["sealift-bundler"]


def test_where_the_date_of_the_sources_is_set_the_whole_statement_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, materials = recipe(tmp_path), [Material(uri="pkg:pypi/b@2.0", sha256="b" * 64)]
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (20, 21)]

    plain = [provenance.predicate(wanted, materials, started=day, finished=day) for day in days]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(wanted.source_date_epoch))
    fixed = [
        statement.about_files((), "p", provenance.predicate(wanted, materials, started=d, finished=d)) for d in days
    ]

    assert plain[0]["buildDefinition"] == plain[1]["buildDefinition"]
    assert plain[0] != plain[1]
    assert fixed[0] == fixed[1]


def test_what_another_machine_would_make_with_other_bytes_is_named(tmp_path: Path) -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC)
    compiled = Material(uri="pkg:pypi/c@1?kind=sdist", sha256="c" * 64, note=f"{provenance.BUILT_HERE}: compiler")

    facts = [
        provenance.predicate(recipe(tmp_path / str(n)), materials, started=day, finished=day)["buildDefinition"]
        for n, materials in enumerate([[], [compiled]])
    ]

    assert [each["internalParameters"]["reproducible"] for each in facts] == [True, False]
    assert facts[1]["internalParameters"]["not_reproducible"] == [compiled.uri]
