from pathlib import Path

import pytest

from bundler.artifact import Artifact, Component
from bundler.errors import ScanError
from bundler.recipe import AllowedFinding
from bundler.scan import scan
from tests.support.payload import artifact, gguf, safetensors, wheel

KEY = b"AKIA" + b"Q3EGRT7VNHZ2XW4L"


def refused(*artifacts: Artifact, allowed: tuple[AllowedFinding, ...] = ()) -> ScanError:
    with pytest.raises(ScanError) as caught:
        scan(artifacts, allowed=allowed)
    return caught.value


def in_wheel(folder: Path, files: dict[str, bytes], *, name: str = "a") -> Artifact:
    return artifact(wheel(folder, name, files=files))


def made(content: bytes, target: str, kind: str, *, license_name: str = "MIT") -> Artifact:
    return Artifact.of_bytes(content, target=target, kind=kind, component=Component(name="x", license=license_name))


def weights(path: Path, content: bytes) -> Artifact:
    path.write_bytes(content)
    return artifact(path, target=f"data/models/m/{path.name}", kind="weights")


def test_a_clean_payload_passes(tmp_path: Path) -> None:
    report = scan(
        [
            in_wheel(tmp_path, {"a/__init__.py": b"", "a/share.bin": b"\0\1"}),
            weights(tmp_path / "m.gguf", gguf()),
            weights(tmp_path / "m.safetensors", safetensors({"a": ("U8", (4,), (0, 4))}, data=4)),
            made(b'{"a":1}', "data/models/m/config.json", "model"),
            made(b"facts", "data/evals/e.jsonl", "eval"),
            made(b"[Unit]\n", "data/host/systemd/x.service", "host"),
        ]
    )

    assert (report.files, report.findings) == (6, ())
    assert report.predicate()["result"] == "passed"


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"evil.pth": b"import evil\n"}, "pth-file"),
        ({"a/deep/evil.pth": b"import evil\n"}, "pth-file"),
        ({"a-1.0.data/purelib/evil.pth": b"import evil\n"}, "pth-file"),
        ({"ssl.py": b""}, "shadows-stdlib"),
        ({"json/__init__.py": b""}, "shadows-stdlib"),
        ({"a-1.0.data/platlib/_socket.so": b"\0"}, "shadows-stdlib"),
        ({"sitecustomize.py": b""}, "shadows-stdlib"),
        ({"a/state.pkl": b""}, "pickle"),
        ({"a/state.JOBLIB": b""}, "pickle"),
        ({"a-1.0.data/scripts/tool": b"#!/bin/sh\nid\n"}, "foreign-shebang"),
        ({"a/config.py": b"KEY = '" + KEY + b"'\n"}, "secret"),
        ({"a/.netrc": b"machine h.invalid login me password hunter22\n"}, "secret"),
    ],
)
def test_a_wheel_that_may_not_travel_is_refused_before_anything_installs_it(
    tmp_path: Path, files: dict[str, bytes], rule: str
) -> None:
    error = refused(in_wheel(tmp_path, {"a/__init__.py": b"", **files}))

    assert error.what.endswith(f"may not travel: {rule}")
    assert KEY.decode() not in error.why + error.what


def test_a_wheel_that_installs_over_anothers_files_is_refused(tmp_path: Path) -> None:
    """B2: a small dependency brings a file of the verifier's own library."""
    true = in_wheel(tmp_path, {"crypto/__init__.py": b""}, name="crypto")
    evil = in_wheel(
        tmp_path, {"small/x.py": b"", "small-1.0.data/purelib/crypto/__init__.py": b"import os"}, name="small"
    )

    error = refused(true, evil)

    assert error.what == "data/wheels/small-1.0-py3-none-any.whl!crypto/__init__.py may not travel: overlaps"
    assert "crypto-1.0-py3-none-any installs the same file" in error.why


def test_a_wheel_that_breaks_its_own_format_cannot_be_allowed(tmp_path: Path) -> None:
    every_rule = AllowedFinding(path="*", rule="pth-file", reason="two people looked")

    error = refused(artifact(wheel(tmp_path, "a", record="")), allowed=(every_rule,))

    assert "breaks its own format" in error.what


def test_a_licence_must_be_known(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", license_line="Summary: none")

    assert refused(artifact(path)).what.endswith("license-unknown")


@pytest.mark.parametrize(
    ("target", "content", "rule"),
    [
        ("data/models/m/LICENSE.pt", b"x", "unexpected-file"),
        ("data/models/m/modeling.py", b"import os", "unexpected-file"),
        ("data/models/m/vocab.json", b"\x80\x04\x95", "pickle"),
        ("data/models/m/vocab.json", b"PK\x03\x04", "pickle"),
        ("data/models/m/vocab.txt", b"7z\xbc\xaf\x27\x1c", "pickle"),
        ("data/models/m/config.json", b'{"auto_map":{}}', "remote-code"),
        ("data/models/m/chat_template.jinja", b"Dear 123-45-6789", "patient-data"),
        ("data/models/m/descriptor.json", b'{"system_prompt":"MRN 1234567"}', "patient-data"),
        ("data/models/m/provenance.json", b'{"token":"q8ZrT2nVx1LmYp4Kd7Wc3Hb6"}', "secret"),
    ],
)
def test_what_may_not_lie_beside_weights_is_refused(target: str, content: bytes, rule: str) -> None:
    assert rule in refused(made(content, target, "model")).what


@pytest.mark.parametrize("start", [bytes([0x80, protocol]) for protocol in range(2, 6)] + [b"PK\x03\x04"])
def test_pickles_under_the_name_of_weights_are_refused(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(ScanError):
        scan([weights(tmp_path / "m.gguf", start + bytes(64))])


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert "unexpected-file" in refused(weights(tmp_path / "pytorch_model.bin", b"x")).what


def test_weights_with_a_malformed_header_are_refused(tmp_path: Path) -> None:
    assert "malformed GGUF header" in refused(weights(tmp_path / "m.gguf", gguf()[:-1])).what
    assert "safetensors" in refused(weights(tmp_path / "m.safetensors", b"x" * 20)).what


def test_task_sets_with_identifiers_of_people_are_refused() -> None:
    assert "patient-data" in refused(made(b'{"prompt":"ann@example.org"}', "data/evals/e.jsonl", "eval")).what


def test_playbooks_with_paths_of_the_build_machine_are_refused() -> None:
    content = b"src: /home/" + b"ann/x"

    assert "build-path" in refused(made(content, "data/host/ansible/site.yml", "host")).what


def test_an_error_says_how_many_more_there_are(tmp_path: Path) -> None:
    error = refused(in_wheel(tmp_path, {"a.pth": b"", "b.pth": b"", "c.pth": b""}))

    assert "2 more findings" in error.why


def test_a_finding_that_people_allowed_travels_with_their_reason(tmp_path: Path) -> None:
    allowed = AllowedFinding(path="data/wheels/a-*.whl!a/x.pkl", rule="pickle", reason="test data")

    report = scan([in_wheel(tmp_path, {"a/x.pkl": b""})], allowed=[allowed])

    assert report.predicate()["findings"] == [
        {
            "path": "data/wheels/a-1.0-py3-none-any.whl!a/x.pkl",
            "rule": "pickle",
            "detail": "pickled objects run code when they are read",
            "reason": "test data",
        }
    ]


def test_an_allowance_covers_its_rule_only(tmp_path: Path) -> None:
    allowed = AllowedFinding(path="*", rule="pickle", reason="test data")

    error = refused(in_wheel(tmp_path, {"a/x.pkl": b"", "a.pth": b""}), allowed=(allowed,))

    assert "pth-file" in error.what


def test_an_allowance_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    allowed = AllowedFinding(path="data/wheels/b-*", rule="pickle", reason="test data")

    assert "scan.allowed.0" in refused(in_wheel(tmp_path, {}), allowed=(allowed,)).what


def test_our_own_wheel_is_looked_at_more_closely(tmp_path: Path) -> None:
    files = {"appliance/x.py": b"PATH = '/home/" + b"ann/y'\n"}

    assert scan([in_wheel(tmp_path / "1", files, name="other")]).findings == ()
    assert "build-path" in refused(in_wheel(tmp_path / "2", files, name="sealift")).what
