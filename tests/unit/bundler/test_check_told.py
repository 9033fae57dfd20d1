"""What the second opinion says, where it ends and what no terminal obeys: of a machine, of a medium, of a print."""

import base64
import binascii
import hashlib
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bundler.check import verify

CORPUS = Path(__file__).parents[2] / "corpus"
VOLUMES = CORPUS / "v1/valid/medium-full"
BOX = CORPUS / "box/0.1.0"
SIGNER = Ed25519PrivateKey.generate()
MATERIAL = b"\x01" + SIGNER.public_key().public_bytes_raw()
ID = hashlib.sha256(b"demo\n" + MATERIAL).digest()[:4]
KEY = f"demo+{ID.hex()}+{base64.b64encode(MATERIAL).decode()}"


def print_of(size: int, root: bytes) -> str:
    text = f"demo\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(ID + SIGNER.sign(text.encode())).decode()
    return f"{text}\n\u2014 demo {signature}\n"


def prove() -> int:
    return verify.proof(["--key", (BOX / "etc/sealift/ledger.pub").read_text().strip(), str(BOX / "root/proof.json")])


def held_against(path: Path, *, origin: str = "demo") -> None:
    """Hold a print against a tree of this origin, whose records name the key, or another's where it is only given."""
    key, walk = verify.Key(KEY), verify.Walk(0, 0, [])
    walk.begin_chain({"origin": origin, "sequence": 0}, key)
    head = verify.signed_head(print_of(5, b"a" * 32), [key])
    verify.check_prints({"format": 1, "continues": []}, head, walk, [key], [path])


def test_a_machine_that_lacks_what_opens_files_safely_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows has no such thing; every door said there that a list is malformed."""
    monkeypatch.delattr(os, "O_NOFOLLOW")

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(verify.__file__), run_name="__main__")

    assert ended.value.code == 18
    assert "on Windows: WSL" in capsys.readouterr().err


def test_a_proof_holds_with_the_base64_of_an_older_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python 3.10, which Ubuntu 22.04 has, knows no strict mode: a true proof was malformed there."""
    own = binascii.a2b_base64
    monkeypatch.setattr(binascii, "a2b_base64", lambda data, /: own(data))

    assert prove() == 0
    assert "HOLDS" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["YQ", "YQ==\n", "Y Q==", "YR==", "YQ==YQ==", "YQ=="[:-1], "-w==", "=YQ=="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(verify.RefusedError):
        verify.base64(text)


def test_a_proof_on_a_machine_without_gpgv_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")

    assert prove() == 18
    assert capsys.readouterr().err.startswith("NOT CHECKED: gpgv could not be run: ")


def test_a_print_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ending = verify.proof(["--printed", str(tmp_path / "november.txt"), str(BOX / "root/proof.json")])

    assert ending == 18
    assert capsys.readouterr().err.startswith("NOT CHECKED: november.txt could not be read: ")


def test_a_name_on_a_medium_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(VOLUMES / "volume-1", tmp_path / "volume")
    (tmp_path / "volume/release/data/\x1b[2K\rHOLDS: every file is what these signers sealed.\x1b[8m").touch()

    ending = verify.main([str(tmp_path / "volume")])

    assert ending == 13
    assert "\x1b" not in capsys.readouterr().err


def test_folders_in_folders_without_end_end_by_a_line(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(200):
        deep /= "a"
    deep.mkdir(parents=True)

    with pytest.raises(verify.RefusedError, match="too deep") as refused:
        list(verify.walk(tmp_path))
    assert refused.value.ending == 13


def test_lists_in_lists_without_end_are_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proof.json").write_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
    monkeypatch.setattr(sys, "argv", ["verify.py", "proof", str(tmp_path / "proof.json")])

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(verify.__file__), run_name="__main__")
    assert ended.value.code == 10


def test_who_breaks_it_off_reads_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_path: object, _flags: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    monkeypatch.setattr(sys, "argv", ["verify.py", str(VOLUMES / "volume-1")])

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(verify.__file__), run_name="__main__")

    assert (ended.value.code, capsys.readouterr().err) == (18, "NOT CHECKED: interrupted\n")


def test_a_print_of_the_same_size_over_other_records_is_a_contradiction(tmp_path: Path) -> None:
    """The one thing that a print is kept for; it was told as one that the file does not reach."""
    (tmp_path / "november.txt").write_text(print_of(5, b"b" * 32))

    with pytest.raises(verify.RefusedError, match="INCONSISTENT") as refused:
        held_against(tmp_path / "november.txt")
    assert refused.value.ending == 91


def test_a_print_of_another_ledger_contradicts_nothing(tmp_path: Path) -> None:
    (tmp_path / "november.txt").write_text(print_of(5, b"b" * 32))

    with pytest.raises(verify.RefusedError, match=r"^another ledger is the one that november\.txt signed"):
        held_against(tmp_path / "november.txt", origin="other")


@pytest.mark.parametrize("around", [("", ""), ("\ufeff", ""), ("", "\n\n"), ("\ufeff", "  \n")])
def test_what_editors_and_copies_add_to_a_print_makes_it_no_other(tmp_path: Path, around: tuple[str, str]) -> None:
    text = print_of(5, b"a" * 32)
    (tmp_path / "november.txt").write_text(text.rstrip().join(around), encoding="utf-8")

    held_against(tmp_path / "november.txt")


def test_a_print_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "november.txt").write_text(print_of(5, b"a" * 32), encoding="utf-16")

    with pytest.raises(verify.RefusedError, match=r"november\.txt is not text in UTF-8"):
        held_against(tmp_path / "november.txt")


def test_a_code_may_be_pasted_as_the_sheet_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    volumes = [str(VOLUMES / "volume-1"), str(VOLUMES / "volume-2")]
    verify.main(volumes)
    lines = capsys.readouterr().out.splitlines()
    code, signers = lines[0].split()[-1], [line.split()[-1] for line in lines if line.startswith("signed by")]
    on_paper = f"{code[:32]}\n\t{code[32:]}\n"

    assert verify.main([*volumes, "--code", on_paper, *(f"--signer={each} " for each in signers)]) == 0
    assert "HOLDS" in capsys.readouterr().out


def test_the_help_tells_of_every_door(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verify.main(["--help"])

    told = capsys.readouterr().out
    assert all(f"verify.py {door} " in told for door in verify.COMMANDS)
