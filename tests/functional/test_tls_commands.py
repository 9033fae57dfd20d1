"""`sealift tls` as a person types it: results as text and JSON, files with the right modes, dry runs, exit codes."""

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography import x509

from appliance.cli import context as shared
from appliance.cli import main, tls, tls_here
from appliance.install.tlsfolder import TlsFolder
from tests.support.tls import authority, pem

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sealift(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    site = tmp_path / "sealift.toml"
    site.write_text(
        f'format = 1\nsite = "ward-7"\n[places]\nroot = "{tmp_path}"\nrun = "/run/none"\n'
        '[service]\nhostname = "llm.hospital.example"\ntls = true\n'
        '[tls]\nauthority = "facility"\nclients = "optional"\n'
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(main._root)
        tls.register(app)
        with monkeypatch.context() as own:
            own.setattr(sys, "argv", ["sealift", "--config", str(site), *arguments])
            code = 0
            try:
                shared.run(app)
            except SystemExit as ended:
                code = int(ended.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def facts(sealift: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = sealift("--json", *arguments)
    assert code == 0, (out, err)
    found: dict[str, Any] = json.loads(out)
    return found


def test_nothing_is_shown_before_the_first_rotation_and_a_dry_run_changes_that_not(sealift: Run) -> None:
    assert facts(sealift, "tls", "rotate", "--dry-run")["made"] == ["ca", "server", "crl"]
    code, out, _ = sealift("tls", "show")

    assert code == 52
    assert "there is none" in out


def test_rotate_says_what_it_made_and_the_playbook_whether_anything_changed(sealift: Run) -> None:
    assert facts(sealift, "tls", "rotate", "--no-reload")["changed"] is True
    assert facts(sealift, "tls", "rotate", "--no-reload")["changed"] is False
    assert sealift("tls", "rotate")[1] == "nothing is due\n"
    assert facts(sealift, "tls", "rotate", "--now", "test")["made"] == ["server"]
    assert facts(sealift, "tls", "show")["server"]["names"] == ["llm.hospital.example"]


def test_the_facilitys_certificate_from_request_to_import(sealift: Run, tmp_path: Path) -> None:
    root, request, chain = authority(), tmp_path / "box.csr", tmp_path / "chain.pem"
    (tmp_path / "root.pem").write_bytes(root.pem)
    facts(sealift, "tls", "rotate")
    assert facts(sealift, "tls", "request", "--dry-run") == {"waits": False}
    asked = facts(sealift, "tls", "request", "--out", str(request))
    assert request.read_text() == asked["request"]
    assert "PRIVATE" not in asked["request"]
    begins = datetime.now(tz=UTC) - timedelta(days=1)
    made = root.issue(x509.load_pem_x509_csr(request.read_bytes()).public_key(), begins=begins)
    chain.write_bytes(pem(made))

    dry = facts(sealift, "tls", "import", str(chain), "--root", str(tmp_path / "root.pem"), "--dry-run")
    assert dry["in_place"] is False
    assert facts(sealift, "tls", "show")["facility_root"] is None
    done = facts(sealift, "tls", "import", str(chain), "--root", str(tmp_path / "root.pem"))

    assert done["in_place"] is True
    assert facts(sealift, "tls", "show")["server"]["fingerprint"] == done["fingerprint"]
    still = f"callers are shown {done['fingerprint'][:12]} still, until the facility's authority has made another one"
    told = [sealift("tls", "rotate", "--now", "it may have been copied")[1] for _ in range(2)]
    assert [one.partition(still)[0] for one in told] == ["made request; ", ""]
    assert all(still in one for one in told)


def test_a_refusal_has_its_number_and_names_the_rule(sealift: Run, tmp_path: Path) -> None:
    facts(sealift, "tls", "rotate")
    facts(sealift, "tls", "request")
    (tmp_path / "root.pem").write_bytes(authority().pem)

    code, out, err = sealift(
        "--json", "tls", "import", str(tmp_path / "root.pem"), "--root", str(tmp_path / "root.pem")
    )

    assert code == 103
    assert json.loads(out)["error"]["code"] == "certificate-refused"
    assert "for the key on this box" in err


def test_a_callers_certificate_from_issue_to_revocation(sealift: Run, tmp_path: Path) -> None:
    facts(sealift, "tls", "rotate")
    out = tmp_path / "emr.pem"

    made = facts(sealift, "tls", "clients", "issue", "emr-1", "--key", "ABCDEFGH23", "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_bytes().count(b"PRIVATE KEY") == 2
    assert sealift("tls", "clients", "issue", "emr-2", "--out", str(out))[0] == 2
    (listed,) = facts(sealift, "tls", "clients", "list")["clients"]
    assert (listed["serial"], listed["key_id"], listed["state"]) == (made["serial"], "ABCDEFGH23", "valid")

    facts(sealift, "tls", "clients", "revoke", "emr-1", "--reason", "superseded", "--dry-run")
    assert facts(sealift, "tls", "show")["crl"]["revoked"] == 0
    facts(sealift, "tls", "clients", "revoke", made["serial"], "--reason", "superseded")

    assert facts(sealift, "tls", "show")["crl"]["revoked"] == 1
    assert facts(sealift, "tls", "clients", "list")["clients"][0]["state"] == "revoked"


def test_a_callers_certificate_that_ends_soon_is_named_by_show(sealift: Run, tmp_path: Path) -> None:
    facts(sealift, "tls", "rotate")
    facts(sealift, "tls", "clients", "issue", "lab", "--out", str(tmp_path / "lab.pem"))
    assert sealift("tls", "show")[0] == 0
    facts(sealift, "tls", "clients", "issue", "emr-1", "--days", "5", "--out", str(tmp_path / "emr.pem"))

    code, out, _ = sealift("tls", "show")

    assert code == 52
    assert "emr-1 ends in 4 days" in out
    assert "lab" not in out


def test_the_shown_certificate_is_taken_back_by_its_serial(sealift: Run) -> None:
    facts(sealift, "tls", "rotate")
    before = facts(sealift, "tls", "show")["server"]
    with_colons = ":".join(f"{int(before['serial'], 16):040X}"[at : at + 2] for at in range(0, 40, 2))

    assert sealift("tls", "revoke", "not-hex", "--reason", "superseded")[0] == 2
    assert facts(sealift, "tls", "revoke", with_colons, "--reason", "key-compromise")["serial"] == before["serial"]

    assert facts(sealift, "tls", "show")["server"]["serial"] != before["serial"]


def test_nothing_is_issued_where_its_key_could_not_be_written(
    sealift: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts(sealift, "tls", "rotate")
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")

    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for out in ("gone/emr.pem", "link.pem"):
        assert sealift("tls", "clients", "issue", "emr", "--out", str(tmp_path / out))[0] == 2
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", is_full)
        assert sealift("tls", "clients", "issue", "emr", "--out", str(tmp_path / "emr.pem"))[0] == 2
    assert sealift("tls", "clients", "issue", "emr", "--days", "0", "--out", str(tmp_path / "emr.pem"))[0] == 2

    assert facts(sealift, "tls", "clients", "list")["clients"] == []
    assert not (tmp_path / "emr.pem").exists()


@pytest.mark.parametrize("serial", ["0", "-5", "f" * 40, "1" * 41, "", "1_0"])
def test_what_can_be_no_serial_number_is_not_taken_back(sealift: Run, tmp_path: Path, serial: str) -> None:
    facts(sealift, "tls", "rotate")

    code, _, err = sealift("tls", "revoke", "--reason", "superseded", "--", serial)

    assert (code, "not a serial number" in err) == (2, True)
    assert not any(b"tls.revoked" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_facilitys_certificate_is_not_put_in_place_where_the_next_rotation_would_take_it_away(
    sealift: Run, tmp_path: Path
) -> None:
    facts(sealift, "tls", "rotate")
    facts(sealift, "tls", "request")
    site = tmp_path / "sealift.toml"
    site.write_text(site.read_text().replace('authority = "facility"', 'authority = "own"'))
    (tmp_path / "any.pem").write_bytes(authority().pem)

    code, _, err = sealift("tls", "import", str(tmp_path / "any.pem"), "--root", str(tmp_path / "any.pem"))

    assert code == 103
    assert 'set tls.authority = "facility"' in err


def test_two_commands_change_certificates_one_after_the_other(sealift: Run, tmp_path: Path) -> None:
    facts(sealift, "tls", "rotate")
    own = shared.Context(config_path=tmp_path / "sealift.toml", as_json=True)
    ended = threading.Event()
    code = """
import sys
from appliance.cli import main
sys.argv = ["sealift", "--config", sys.argv[1], "tls", "rotate", "--now", "test"]
main.main()
"""

    def wait(typed: subprocess.Popen[bytes]) -> None:
        typed.wait(timeout=60)
        ended.set()

    with tls_here.here_of(own) as here:
        before = here.folder.shown()
        typed = subprocess.Popen([sys.executable, "-c", code, str(own.config_path)], stderr=subprocess.PIPE)
        waiting = threading.Thread(target=wait, args=(typed,))
        waiting.start()
        assert typed.stderr is not None
        assert b"goes on after it" in typed.stderr.readline()
        assert not ended.is_set()
        assert here.folder.shown() == before
    waiting.join()

    assert typed.returncode == 0
    assert TlsFolder.of(own.config).shown() != before
    typed.stderr.close()


def test_nobody_who_may_only_read_the_folders_keeps_certificates_from_being_changed(
    sealift: Run, tmp_path: Path
) -> None:
    facts(sealift, "tls", "rotate")
    held = [os.open(folder, os.O_RDONLY) for folder in (tmp_path / "etc/sealift", tmp_path / "etc/sealift/tls")]
    for descriptor in held:  # what every process of the box may do with a folder that it may read
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    ended = threading.Event()

    def give_up() -> None:
        if not ended.wait(timeout=10):
            for descriptor in held:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    watching = threading.Thread(target=give_up)
    watching.start()
    begun = time.monotonic()
    serial = facts(sealift, "tls", "show")["server"]["serial"]
    assert facts(sealift, "tls", "revoke", serial, "--reason", "superseded")["done"] is True
    took = time.monotonic() - begun
    ended.set()
    watching.join()
    for descriptor in held:
        os.close(descriptor)

    assert took < 9
    locks = [path for path in (tmp_path / "etc/sealift/tls").iterdir() if path.suffix == ".lock"]
    assert locks
    assert {stat.S_IMODE(path.stat().st_mode) for path in locks} == {0o600}
