"""What a profile may say of an attached engine, and when it is content-addressed."""

from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import GateFailedError
from appliance.promote.levels import require_content_addressed
from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from media.attachedprofile import DIALECTS, AttachedSettings, faults
from media.errors import MalformedError
from tests.support import attached

PROGRAM = AttachedSettings(
    program="bin/llama-server",
    program_sha256="ab" * 32,
    arguments=("--host", "{socket}", "-m", "{model}", "-c", "{n_ctx}"),
)
MODULE = replace(PROGRAM, program="", program_sha256="", module="xllamacpp.serve")
_VALUES = {"{socket}": "/s", "{model}": "/m", "{n_ctx}": "1", "{n_batch}": "2", "{n_seq_max}": "3", "{threads}": "4"}


@pytest.mark.parametrize(
    "settings", [PROGRAM, MODULE, AttachedSettings(), *(replace(MODULE, dialect=one) for one in DIALECTS)]
)
def test_a_profile_comes_back_as_it_was_written(settings: AttachedSettings) -> None:
    assert not list(faults(settings))
    assert AttachedSettings.from_json(settings.to_json(), "attached") == settings


def test_only_what_a_release_brings_is_content_addressed() -> None:
    assert PROGRAM.is_content_addressed
    assert MODULE.is_content_addressed
    assert not AttachedSettings().is_content_addressed


def test_placeholders_are_filled_in() -> None:
    assert PROGRAM.filled(_VALUES) == ["--host", "/s", "-m", "/m", "-c", "1"]


@pytest.mark.parametrize(
    "change",
    [
        {"module": "os"},
        {"program": "/usr/bin/python3"},
        {"program": "../../bin/sh"},
        {"program": "bin/./x"},
        {"program_sha256": ""},
        {"program_sha256": "AB" * 32},
        {"program": ""},
        {"arguments": ("--host", "{socket}")},
        {"arguments": ("{socket}", "{model}", "{port}")},
    ],
    ids=lambda change: str(change)[:40],
)
def test_what_contradicts_or_leads_elsewhere_is_a_fault(change: dict[str, Any]) -> None:
    assert list(faults(replace(PROGRAM, **change)))


def test_arguments_without_a_program_and_a_module_that_is_none_are_faults() -> None:
    assert list(faults(AttachedSettings(arguments=("x",))))
    assert list(faults(replace(MODULE, module="os; import x")))


def described(engine: str = "attached", **runtime: Any) -> bytes:
    raw = attached.files_of()["data/models/tiny/descriptor.json"]
    fields = canonical.mapping(canonical.loads(raw), "descriptor")
    told = {**fields["runtime"], **runtime}
    return canonical.dumps(
        {**fields, "engine": engine, "runtime": {key: one for key, one in told.items() if one is not None}}
    )


def test_a_descriptor_says_whether_what_answers_came_with_the_release() -> None:
    assert ModelDescriptor.from_bytes(described()).is_content_addressed
    assert not ModelDescriptor.from_bytes(described(attached=dict(attached.SOMEBODYS))).is_content_addressed


@pytest.mark.parametrize(
    ("engine", "runtime"),
    [
        ("llama.cpp", {}),
        ("attached", {"attached": None}),
        ("attached", {"attached": {**attached.SUPERVISED, "dialect": "klingon"}}),
        ("attached", {"attached": {**attached.SUPERVISED, "more": ""}}),
        ("attached", {"attached": {**attached.SUPERVISED, "module": "", "program": "/bin/sh"}}),
        ("attached", {"embedding": {"pooling": "mean", "n_ctx": 8, "dimensions": 8, "matryoshka": False}}),
    ],
    ids=["other engine", "no table", "dialect", "more", "program", "embeddings"],
)
def test_a_descriptor_that_contradicts_itself_is_refused(engine: str, runtime: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        ModelDescriptor.from_bytes(described(engine, **runtime))


def test_the_promoter_takes_no_request_for_what_is_not_content_addressed() -> None:
    somebodys, supervised = ({"runtime": {"attached": dict(one)}} for one in (attached.SOMEBODYS, attached.SUPERVISED))

    require_content_addressed(supervised, "ab" * 32)
    require_content_addressed({"runtime": {}}, "ab" * 32)
    with pytest.raises(GateFailedError, match="not content-addressed"):
        require_content_addressed(somebodys, "ab" * 32)
