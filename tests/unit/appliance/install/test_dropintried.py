"""A drop-in is judged beside its unit's file by systemd itself, and by what it adds alone."""

import shutil
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.errors import InstallError
from appliance.install import dropins, dropintried, hostfiles
from tests.support import others_units

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
UNITS = hostfiles.folder("systemd")
GATEWAY = "sealift-gateway@.service"
SITE = """site = "s"
[keys]
provider = "token"
module = "/usr/lib/hsm.so"
token = "ward 7"
device = "/dev/tpmrm0"
group = "tss"
[database]
kind = "postgresql"
server = "db.h"
address = "10.0.0.8"
node = "a"
[engines.production]
gpus = [0, 1]
"""


def judged(folder: Path, text: str, *, unit: str = GATEWAY, debian: Path = dropintried.DEBIAN) -> str:
    """Return why the drop-in is refused, nothing where it is not."""
    path = folder / "handed-over"
    path.write_text(text)
    try:
        dropintried.require(UNITS, unit, "70-sealift-x.conf", path, debian=debian)
    except InstallError as error:
        return error.why
    return ""


def test_what_a_site_file_adds_is_accepted_each_beside_its_unit(tmp_path: Path) -> None:
    made = dropins.drop_ins(configuration.parse(SITE.encode()), UNITS, needed=("gpu", "vllm"))
    assert len({each.name for each in made}) >= 5

    for each in made:
        assert judged(tmp_path, each.text, unit=each.unit) == "", each


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Service]\nIPAddressAllow=10.0.0.300\n", "70-sealift-x.conf:2: Address prefix is invalid"),
        ("[Service]\nPrivateNetwrk=no\n", "70-sealift-x.conf:2: Unknown key"),
        ("[Servce]\nPrivateNetwork=no\n", "70-sealift-x.conf:1: Unknown section"),
        ("LoadCredential=a:b\n", "70-sealift-x.conf:1: Assignment outside of section"),
        ("[Service]\nExecStart=/bin/true\n", "more than one ExecStart="),
    ],
)
def test_what_systemd_would_pass_over_or_refuse_is_not_put_in_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in judged(tmp_path, text)


def test_a_program_that_the_same_install_brings_may_be_missing_still(tmp_path: Path) -> None:
    assert judged(tmp_path, "[Service]\nExecStartPre=-+/opt/sealift/none/bin/python\n") == ""


def test_debians_unit_is_taken_where_the_release_has_none_and_one_that_does_nothing_where_no_one_has(
    tmp_path: Path,
) -> None:
    text = others_units.drop_in("nginx")

    for debian in (others_units.DEBIAN, tmp_path / "nowhere"):
        assert judged(tmp_path, text, unit="nginx.service", debian=debian) == ""
        assert "Unknown key" in judged(tmp_path, f"{text}Nonsense=1\n", unit="nginx.service", debian=debian)


@pytest.mark.parametrize(("unit", "name"), [("../x.service", "a.conf"), (GATEWAY, "../a.conf"), ("x.socket", "a.conf")])
def test_names_lead_nowhere_else(tmp_path: Path, unit: str, name: str) -> None:
    with pytest.raises(InstallError, match="not put in place"):
        dropintried.require(UNITS, unit, name, tmp_path)


def test_no_judgement_is_none_in_favour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemd-analyze"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "ended with -9" in judged(tmp_path, "[Service]\n")
    program.unlink()
    assert "could not be asked" in judged(tmp_path, "[Service]\n")


def test_the_playbooks_command_ends_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "handed-over"
    words = ["--units", str(UNITS), GATEWAY, "70-sealift-x.conf", str(path)]

    path.write_text("[Service]\nLoadCredential=a:/etc/sealift/a\n")
    assert dropintried.main(words) == 0
    path.write_text("[Service]\nPrivateNetwrk=no\n")
    assert dropintried.main(words) != 0
    assert "PrivateNetwrk" in capsys.readouterr().err
