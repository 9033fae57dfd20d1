import json
import struct
from pathlib import Path
from typing import Any

import pytest

from bundler.artifact import Artifact, Component
from bundler.errors import ScanError
from bundler.recipe import AcceptedLicence
from bundler.scan import Finding, ScanReport, scan
from bundler.scanning import licences, remotecode
from bundler.scanning.findings import LISTED
from media.canonical import dumps
from media.errors import MediaError
from tests.support.payload import artifact, gguf, safetensors

TEMPLATE = b"{% for message in messages %}{{ message['content'] }}{% endfor %}"


def beside(name: str, content: bytes, *, license_name: str = "MIT") -> Artifact:
    return Artifact.of_bytes(
        content, target=f"data/models/m/{name}", kind="model", component=Component(name=name, license=license_name)
    )


def weights(folder: Path, content: bytes, name: str = "m.gguf") -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return artifact(folder / name, target=f"data/models/m/{name}", kind="weights")


def refused(*artifacts: Artifact, accepted: tuple[AcceptedLicence, ...] = ()) -> str:
    with pytest.raises(ScanError) as caught:
        scan(artifacts, accepted=accepted)
    return f"{caught.value.what}: {caught.value.why}; {caught.value.fix}"


def found(report: ScanReport, rule: str) -> list[Finding]:
    return [each for each in report.findings if each.rule == rule]


def shard(name: str) -> bytes:
    return safetensors({name: ("U8", (4,), (0, 4))}, data=4)


def index(places: dict[str, str]) -> Artifact:
    return beside("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": places}).encode())


def test_weights_in_several_files_need_an_index_about_these_files(tmp_path: Path) -> None:
    one, two = weights(tmp_path, shard("a"), "1.safetensors"), weights(tmp_path, shard("b"), "2.safetensors")

    assert scan([one, two, index({"a": "1.safetensors", "b": "2.safetensors"})]).findings == ()
    for places, why in (
        ({"a": "1.safetensors", "b": "3.safetensors"}, "looks for 'b' in '3.safetensors', which is not there"),
        ({"a": "1.safetensors", "b": "../2.safetensors"}, "which is not there"),
        ({"a": "1.safetensors", "b": "/etc/passwd"}, "which is not there"),
        ({"a": "2.safetensors", "b": "2.safetensors"}, "has no tensor 'a'"),
        ({"a": "1.safetensors"}, "does not name 2.safetensors"),
        ({}, "does not name 1.safetensors"),
    ):
        assert why in refused(one, two, index(places))


def test_an_index_that_leaves_a_tensor_out_is_refused(tmp_path: Path) -> None:
    both = safetensors({"a": ("U8", (4,), (0, 4)), "hidden": ("U8", (4,), (4, 8))}, data=8)

    assert "holds 'hidden'" in refused(weights(tmp_path, both, "1.safetensors"), index({"a": "1.safetensors"}))


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b'{"weight_map":[]}', b'{"weight_map":{"a":1}}', b"{", b'{"weight_map":{"a":"1","a":"2"}}'],
)
def test_an_index_that_does_not_read_is_refused(tmp_path: Path, content: bytes) -> None:
    made = beside("model.safetensors.index.json", content)

    with pytest.raises(ScanError, match=r"is not about the files beside it|may not travel: unexpected-file"):
        scan([weights(tmp_path, shard("a"), "1.safetensors"), made])


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    made = [weights(tmp_path, shard("a"), name) for name in ("1.safetensors", "2.safetensors")]

    assert "overlaps: the tensor 'a' lies in 1.safetensors too" in refused(*made)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"auto_map": {"AutoModel": "modeling_x.X"}}'),
        ("config.json", b'{"deep": [{"auto\\u005fmap": {"AutoModel": "x"}}]}'),
        ("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["x", null]}}'),
        ("config.json", b'{"trust_remote_code": true}'),
        ("config.json", b'{" Trust_Remote_Code ": "yes"}'),
        ("config.json", b'{"custom_pipelines": {"a": {}}}'),
        ("generation_config.json", b'{"custom_generate": "someone/repo"}'),
    ],
)
def test_configuration_that_makes_a_library_run_code_is_refused(name: str, content: bytes) -> None:
    assert "may not travel: remote-code" in refused(beside(name, content))


@pytest.mark.parametrize("name", ["modeling.py", "kernel.so", "setup.sh", "x.ipynb", "x.PYC", "x.pth"])
def test_code_beside_weights_is_refused(name: str) -> None:
    rules = {each.rule for each in _examined(beside(name, b"x = 1\n"))}

    assert "remote-code" in rules


def _examined(*artifacts: Artifact) -> list[Finding]:
    from bundler.scan import examine

    return examine(artifacts).findings


def test_configuration_that_runs_nothing_is_left_alone() -> None:
    made = b'{"trust_remote_code": false, "auto_map": null, "model_type": "llama", "temperature": 0.7}'

    assert scan([beside("config.json", made)]).findings == ()


@pytest.mark.parametrize("content", [b'{"a": 1, "a": 2}', b"{", b'{"a": NaN}', b'\xef\xbb\xbf{"a": 1}'])
def test_json_that_two_readers_could_read_differently_is_refused(content: bytes) -> None:
    assert "two readers" in refused(beside("config.json", content))
    with pytest.raises(MediaError):
        list(remotecode.orders(content))


def test_a_model_under_terms_that_nobody_accepted_is_refused(tmp_path: Path) -> None:
    terms = "Example Community License 1.0"
    made = described(tmp_path, license_name=terms)

    told = refused(*made)
    assert f"license-terms: nobody has accepted {terms}" in told
    assert "name them in [[accept_licences]]" in told
    accepted = (AcceptedLicence(license="example community license  1.0", reason="read by Ann, 2026-11-02"),)
    listed = found(scan(made, accepted=accepted), "license-terms")
    assert [each.reason for each in listed] == ["read by Ann, 2026-11-02"]


def test_an_acceptance_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    accepted = (AcceptedLicence(license="Other", reason="read"),)

    assert "accept_licences.0: nothing here has this licence" in refused(*described(tmp_path), accepted=accepted)


@pytest.mark.parametrize(
    ("stated", "is_free"),
    [
        ("MIT", True), ("Apache-2.0", True), ("apache 2.0", True), ("BSD License", True), ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False), ("GPL-3.0-or-later", False), ("Llama 3.1 Community License", False),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True), ("(MIT OR GPL-2.0-only) AND MIT", False),
        ("MIT, Apache-2.0", True), ("MIT-like, see file", False), ("", False), ("OR", False), ("cc-by-nc-4.0", False),
    ],
)  # fmt: skip
def test_licences_are_weighed_as_they_are_stated(stated: str, *, is_free: bool) -> None:
    assert licences.is_permissive(stated) is is_free


def described(
    folder: Path, *, license_name: str = "MIT", changed: dict[str, bytes | None] | None = None, **said: Any
) -> list[Artifact]:
    """Return a whole model; `changed` replaces or removes files beside it, `said` is more of its descriptor."""
    made = weights(folder, gguf())
    template = beside("chat_template.jinja", TEMPLATE, license_name=license_name)
    descriptor = {
        "files": [{"path": made.target, "role": "weights", "sha256": made.sha256}],
        "chat_template": {"path": template.target, "sha256": template.sha256},
        **said,
    }
    files = {
        "LICENSE": b"Terms.",
        "chat_template.jinja": TEMPLATE,
        "descriptor.json": dumps(descriptor),
        **(changed or {}),
    }
    return [
        made,
        *(beside(name, content, license_name=license_name) for name, content in files.items() if content is not None),
    ]


def test_a_whole_model_passes_and_its_other_template_is_listed(tmp_path: Path) -> None:
    report = scan(described(tmp_path))

    assert [(each.rule, each.path) for each in report.findings] == [
        ("template", "data/models/m/m.gguf!tokenizer.chat_template")
    ]
    assert [made["path"] for made in report.templates] == ["data/models/m/chat_template.jinja"]
    assert report.counts["template"] == 2


@pytest.mark.parametrize(
    ("engine", "answers", "is_listed"),
    [("vllm", 64, True), ("vllm", 127, True), ("vllm", 128, False), ("llama.cpp", 4, False)],
)
def test_who_signs_reads_that_vllm_makes_fewer_answers_at_once_than_in_production(
    tmp_path: Path, engine: str, answers: int, *, is_listed: bool
) -> None:
    report = scan(described(tmp_path, engine=engine, runtime={"n_seq_max": answers}))

    found = [(each.path, each.detail, each.reason) for each in report.findings if each.rule == "few-answers"]
    told = f"n_seq_max is {answers}; in production vLLM is given at least 128"
    assert found == [("data/models/m/descriptor.json", told, LISTED)] * is_listed


@pytest.mark.parametrize("content", [None, b""])
def test_a_model_without_the_text_of_its_licence_is_refused(tmp_path: Path, content: bytes | None) -> None:
    assert "license-text" in refused(*described(tmp_path, changed={"LICENSE": content}))


def test_a_template_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    assert "unpinned" in refused(*described(tmp_path, changed={"chat_template.jinja": TEMPLATE + b" "}))


def test_templates_in_a_tokenizers_configuration_are_looked_at_too() -> None:
    hostile = "{{ cycler.__init__.__globals__.os.popen('id') }}"
    for value in (hostile, [{"name": "tool", "template": hostile}]):
        made = beside("tokenizer_config.json", json.dumps({"chat_template": value}).encode())
        assert "may not travel: template" in refused(made)


def test_a_hostile_template_in_gguf_metadata_is_refused_though_no_engine_runs_it(tmp_path: Path) -> None:
    made = gguf(template="{{ cycler.__init__.__globals__.os.popen('id') }}")

    assert "m.gguf!tokenizer.chat_template may not travel: template" in refused(weights(tmp_path, made))


def test_a_part_of_several_gguf_files_is_refused(tmp_path: Path) -> None:
    """llama.cpp would look for the other parts by a name that it makes up."""
    assert "one part of several" in refused(weights(tmp_path, gguf(metadata={"split.count": 2}, template="")))


def test_a_tokenizer_whose_code_was_faulty_needs_a_word(tmp_path: Path) -> None:
    """Of the loader's faults of August 2026 one is in the tokenizer of plamo2 and was not mended."""
    made = gguf(metadata={"tokenizer.ggml.model": "plamo2"}, template="")

    assert "rare-tokenizer" in refused(weights(tmp_path, made))


@pytest.mark.parametrize(
    "content",
    [
        b"MSH|^~\\&|HIS|RIH|EKG|EKG|199904140038||ADT^A01||P|2.2\r",
        b"note\nPID|0001|00009874|00001122|A00977|SMITH^JOHN^M||19581119|F\r",
        b'{"resourceType": "Patient", "id": "1"}',
        b'{"prompt":"{\\"resourceType\\": \\"Patient\\"}"}',
        b'<ClinicalDocument xmlns="urn:hl7-org:v3">',
        b"SSN: 123-45-6789",
        b"MRN 12345678",
        bytes(128) + b"DICM",
    ],
)
def test_clinical_records_in_any_text_beside_weights_are_refused(content: bytes) -> None:
    assert "patient-data" in refused(beside("notes.txt", content))


@pytest.mark.parametrize(
    "text", [b"A reader of HL7 (MSH, PID) and FHIR Patient resources.", b"call 123-45-6789 tokens", b"DICM", b"ssn"]
)
def test_words_about_clinical_systems_are_left_alone(text: bytes) -> None:
    assert scan([beside("README.md", text)]).findings == ()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b' {"a":{}}', "does not start with a brace"),
        (b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{}}', "JSON"),
        (b'{"__metadata__":{"a":1},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', "metadata"),
        (b'{"__metadata__":[],"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', "metadata"),
        (b'{"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', "name is empty"),
        (b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"more":1}}', "malformed"),
        (b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,4]}}', "malformed shape"),
        (b'{"a":{"dtype":"U8","shape":[9007199254740992],"data_offsets":[0,4]}}', "JSON"),
    ],
)
def test_a_safetensors_header_that_two_readers_could_read_differently_is_refused(
    tmp_path: Path, header: bytes, why: str
) -> None:
    data = struct.pack("<Q", len(header)) + header + bytes(4)

    assert why in refused(weights(tmp_path, data, "m.safetensors"))


def test_a_safetensors_header_that_claims_a_petabyte_is_refused_without_reading_it(tmp_path: Path) -> None:
    made = struct.pack("<Q", 2**50) + b"{" + bytes(100)

    assert "does not fit" in refused(weights(tmp_path, made, "m.safetensors"))
