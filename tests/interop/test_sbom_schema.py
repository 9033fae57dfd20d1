"""Our bills of materials by the schema that CycloneDX publishes, with its own validator."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler import sbom
from bundler.artifact import Artifact, Component
from tests.support.peers import peer_python
from tests.support.workshop import candidate

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(f"{error}"[:2000] if error else 0)
"""


@pytest.fixture(scope="module")
def validator() -> Path:
    return peer_python("sbom-schema")


def judged(python: Path, bill: object) -> str:
    done = subprocess.run(
        [str(python), "-I", "-c", VALIDATE], input=json.dumps(bill), capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def test_the_bill_of_a_build_is_what_the_schema_asks_for(tmp_path: Path, validator: Path) -> None:
    bill = json.loads((candidate(tmp_path).attest / "sbom.json").read_text())["predicate"]

    assert judged(validator, bill) == ""
    bill["components"][0]["type"] = "thing"
    assert "thing" in judged(validator, bill)


def test_the_bill_of_quantized_weights_and_odd_licences_is_too(validator: Path) -> None:
    about = Component(
        name="m", version="1", license="Llama 3.1 Community", parent_sha256="a" * 64, parent_purl="pkg:pypi/m@1"
    )
    weights = Artifact.of_bytes(b"w", target="data/models/m/m.gguf", kind="weights", component=about)

    bill = sbom.predicate(
        [weights], release="r", serial=1, created=datetime(2026, 11, 20, tzinfo=UTC), payload_digest="d" * 64
    )

    assert judged(validator, bill) == ""
