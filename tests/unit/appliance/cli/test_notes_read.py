"""A checkpoint from outside was copied or typed by somebody: a blank line more or less at its end is no other note."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from appliance.audit.note import Checkpoint, VerifierKey, sign, verify_checkpoint
from appliance.cli import main, trust
from appliance.cli.context import Context
from appliance.cli.opened import read_note
from appliance.config import Config
from appliance.errors import ProofError
from media.errors import UsageError

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey(name="sealift/demo/0a1b2c3d", public=PRIVATE.public_key().public_bytes_raw())
NOTE = sign(Checkpoint(origin=KEY.name, size=7, root=bytes(32)).to_text(), KEY, PRIVATE.sign)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", " \n"])
def test_how_a_copy_of_a_checkpoint_ends_makes_it_no_other_one(tmp_path: Path, end: str) -> None:
    file = tmp_path / "printed.txt"
    file.write_text(NOTE.rstrip("\n") + end)

    assert verify_checkpoint(read_note(file), [KEY]).size == 7


def test_what_an_editor_puts_before_it_makes_it_no_other_one(tmp_path: Path) -> None:
    file = tmp_path / "printed.txt"
    file.write_text(NOTE, encoding="utf-8-sig")

    assert verify_checkpoint(read_note(file), [KEY]).size == 7


def test_trust_is_not_recovered_by_what_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's other encoding ended as a fault of ours."""
    site_file, file = tmp_path / "sealift.toml", tmp_path / "printed.txt"
    site_file.write_text(f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\n')
    file.write_text(NOTE, encoding="utf-16")
    line = ["sealift", "--config", str(site_file), "trust", "recover", "--by", "Ann", "--by", "Ben", "--code", "c"]
    monkeypatch.setattr(sys, "argv", [*line, "--code", "c", "--checkpoint", str(file)])

    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == UsageError.exit_code


def test_what_stands_in_it_counts_as_before(tmp_path: Path) -> None:
    file = tmp_path / "printed.txt"
    file.write_text(NOTE.replace("7", "8", 1) + "\n")

    with pytest.raises(ProofError):
        verify_checkpoint(read_note(file), [KEY])
    with pytest.raises(UsageError):
        read_note(tmp_path / "none.txt")


def test_it_is_read_whatever_letters_the_console_has(tmp_path: Path) -> None:
    (tmp_path / "printed.txt").write_text(NOTE, encoding="utf-8")
    words = "import sys, pathlib; from appliance.cli import opened; opened.read_note(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-X", "utf8=0", "-c", words, str(tmp_path / "printed.txt")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env={"LC_ALL": "C"})

    assert (done.returncode, done.stderr) == (0, "")


def test_the_recovery_of_trust_says_that_a_print_is_not_there(tmp_path: Path) -> None:
    app, own = typer.Typer(), Context(config_path=tmp_path / "none.toml")
    trust.register(app)
    own._config = Config(site="demo")
    code, people = ["--code", "a" * 64], ["--by", "Ann", "--by", "Bo"]

    done = CliRunner().invoke(
        app, ["trust", "recover", *people, *code, *code, "--checkpoint", str(tmp_path / "none.txt")], obj=own
    )

    assert isinstance(done.exception, UsageError)
