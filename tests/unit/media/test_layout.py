"""Names: what a medium may hold, and how its own files are called."""

import pytest

from media import layout, limits
from media.errors import MalformedError, UnsafePathError

_FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"


@pytest.mark.parametrize(
    "name",
    [
        "data/release.json",
        "data/wheels/torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "data/host/systemd/sealift-engine-test@.service",
        "data/debs/nginx-light_1.22.1-9+deb12u3_amd64.deb",
        "data/debs/libgcc-s1_12.2.0-14~bpo_amd64.deb",
        "data/models/smol/SmolLM2-135M-Instruct.Q4_1.gguf",
        "data/host/ansible/roles/_base/tasks/main.yml",
        "a",
        "x" * limits.NAME_CHARS,
        "/".join(["d"] * limits.PATH_PARTS),
        "/".join(["x" * 59] * 4) + "y",
    ],
)
def test_names_that_a_release_needs_pass(name: str) -> None:
    assert str(layout.safe_path(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../etc/passwd",
        "data/../../etc/passwd",
        "data/..",
        "./data",
        "/etc/passwd",
        "//server/share",
        "data//x",
        "data/",
        "/",
        "C:/windows",
        "C:\\windows",
        "data\\x",
        "data/x\x00",
        "data/x\n",
        "data/x\r",
        "data/\x1b[2J",
        "data/x\x7f",
        "data/x y",
        " data",
        "data/x.",
        "data/x~",
        "data/.hidden",
        "data/-rf",
        "data/~root",
        "data/@x",
        "data/+x",
        "data/x:y",
        "data/x%2e",
        "data/$HOME",
        "data/`id`",
        "data/x;y",
        "data/x|y",
        "data/x*",
        "data/x?",
        'data/x"y',
        "data/<x>",
        "data/é",
        "data/e\u0301",
        "data/\u202egpj.exe",
        "data/\uff0e\uff0e/x",
        "data/\u2024\u2024",
        "data/\ud800",
        "data/\uff58",
        "data/CON",
        "data/con.txt",
        "data/Aux",
        "nul/x",
        "data/COM1.log",
        "data/lpt9",
        "x" * (limits.NAME_CHARS + 1),
        "/".join(["d"] * (limits.PATH_PARTS + 1)),
        "/".join(["x" * 60] * 4) + "y",
    ],
)
def test_names_that_could_lead_elsewhere_or_mean_two_things_are_refused(name: str) -> None:
    with pytest.raises(UnsafePathError) as caught:
        layout.safe_path(name)

    assert len(name) < 3 or name not in str(caught.value.to_json())


def test_names_that_only_resemble_device_names_pass() -> None:
    for name in ("console", "com", "com10", "auxiliary.py", "null", "lpt"):
        layout.safe_path(name)


@pytest.mark.parametrize(
    "names",
    [
        ["data/A.txt", "data/a.txt"],
        ["data/a", "data/a"],
        ["data/a", "data/a/b"],
        ["data/a/b", "data/A"],
        ["data/x/1", "data/X/2"],
        ["DATA/x", "data/y"],
    ],
)
def test_names_that_would_be_one_file_somewhere_are_refused(names: list[str]) -> None:
    for order in (names, names[::-1]):
        with pytest.raises(UnsafePathError):
            layout.require_distinct(order)


def test_distinct_names_pass() -> None:
    layout.require_distinct(["data/a", "data/b/c", "data/b/d", "data/b.c", "data/ab"])


def test_a_shell_sorts_parts_in_block_order() -> None:
    names = [layout.part_name("data/w.gguf", first, first + 59) for first in range(0, 600, 60)]

    assert names[:2] == ["data/w.gguf.000000-000059", "data/w.gguf.000060-000119"]
    assert sorted(names) == names


def test_a_part_is_below_what_fat32_holds() -> None:
    assert layout.PART_BYTES == 4_026_531_840 < 2**32 - 1


def test_a_signature_s_name_holds_its_signer() -> None:
    name = layout.signature_name(_FINGERPRINT)

    assert name == f"tagmanifest-sha256.txt.{_FINGERPRINT}.sig"
    assert layout.signer_of(name) == _FINGERPRINT


@pytest.mark.parametrize(
    "name",
    [
        "tagmanifest-sha256.txt",
        "tagmanifest-sha256.txt.sig",
        f"tagmanifest-sha256.txt.{_FINGERPRINT.lower()}.sig",
        f"tagmanifest-sha256.txt.{_FINGERPRINT[:16]}.sig",
        f"tagmanifest-sha256.txt.{_FINGERPRINT}.sig.sig",
        f"manifest-sha256.txt.{_FINGERPRINT}.sig",
        f"x/tagmanifest-sha256.txt.{_FINGERPRINT}.sig",
        f"tagmanifest-sha512.txt.{_FINGERPRINT}.sig",
        f"tagmanifest-sha256.txt.{_FINGERPRINT}.asc",
    ],
)
def test_other_names_have_no_signer(name: str) -> None:
    assert layout.signer_of(name) is None


def test_every_file_of_the_format_has_a_safe_name() -> None:
    digest = "ab" * 32
    names = [
        layout.root_name(1),
        layout.snapshot_name(12),
        layout.targets_name(12),
        layout.attestation_name("sbom"),
        layout.sealed_custody_name(1),
        layout.certificate_name(_FINGERPRINT),
        layout.custody_name(3, digest),
        layout.signature_name(_FINGERPRINT),
        layout.TIMESTAMP,
        layout.VOLUMES,
        layout.VERIFY,
    ]

    assert [str(layout.safe_path(name)) for name in names] == names
    assert names[:7] == [
        "metadata/1.root.json",
        "metadata/12.snapshot.json",
        "metadata/12.targets.json",
        "attest/sbom.dsse.json",
        "attest/custody-sealed-1.dsse.json",
        f"check/signers/{_FINGERPRINT}.gpg",
        "003-abababababab.dsse.json",
    ]


def test_a_hand_over_s_name_holds_its_number() -> None:
    assert layout.custody_number("003-abababababab.dsse.json") == 3
    for name in ("3-abababababab.dsse.json", "003-ABABABABABAB.dsse.json", "003-abababababab.json", "README.txt"):
        assert layout.custody_number(name) is None


@pytest.mark.parametrize(
    "text", ["", _FINGERPRINT.lower(), _FINGERPRINT[:16], _FINGERPRINT + "\n", "0x" + _FINGERPRINT]
)
def test_only_full_upper_case_fingerprints_count(text: str) -> None:
    with pytest.raises(MalformedError):
        layout.require_fingerprint(text)


@pytest.mark.parametrize("text", ["", "A", "-x", ".x", "x/y", "x y", "x" * 65, "x\n"])
def test_release_names_are_plain(text: str) -> None:
    assert layout.require_release_name("2026.11-clinic_a") == "2026.11-clinic_a"
    with pytest.raises(MalformedError):
        layout.require_release_name(text)
