"""An authority that alerts depend on is there, readable and one, before anything is installed."""

from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import PreflightError
from appliance.install import vouching
from tests.support import tls

MAIL = {"mail_relay": "10.0.0.25", "mail_to": ["duty@clinic.internal"], "mail_server": "relay.clinic.internal"}
SYSLOG = {"syslog": "tcp 10.0.0.6 6514", "syslog_server": "logs.clinic.internal"}
ONE = tls.pem(tls.authority().certificate)


def site(root: Path, *, alerts: dict[str, Any], enabled: bool = True) -> Config:
    (root / "etc/sealift").mkdir(parents=True, exist_ok=True)
    return Config.model_validate(
        {"site": "s", "places": {"root": str(root)}, "alerts": alerts, "monitoring": {"enabled": enabled}}
    )


def put(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("alerts", "file", "key"), [(MAIL, "mail-ca.pem", "mail_server"), (SYSLOG, "syslog-ca.pem", "syslog_server")]
)
def test_who_is_asked_to_check_certificates_is_told_what_is_missing_and_where(
    tmp_path: Path, alerts: dict[str, Any], file: str, key: str
) -> None:
    config = site(tmp_path, alerts=alerts)

    with pytest.raises(PreflightError, match=key) as refused:
        vouching.require(config)
    put(config.at.etc / file, ONE + ONE)
    vouching.require(config)

    assert refused.value.why == f"{file}: No such file or directory"
    assert f"/etc/sealift/{file}" in refused.value.fix


@pytest.mark.parametrize(
    ("alerts", "enabled"), [({}, True), ({"mail_relay": "10.0.0.25", "mail_to": ["a@b.internal"]}, True), (MAIL, False)]
)
def test_nothing_is_asked_for_where_nothing_is_checked(
    tmp_path: Path, alerts: dict[str, Any], *, enabled: bool
) -> None:
    vouching.require(site(tmp_path, alerts=alerts, enabled=enabled))


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o644, "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n", 0o644, "no certificate"),
        (ONE + b"-----BEGIN PRIVATE KEY-----\n", 0o644, "private key"),
        (ONE, 0o600, "units that need it"),
        (ONE + b"#" * 2**20, 0o644, "larger"),
    ],
)
def test_a_file_that_would_not_do_is_said_to_be_so(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    put(tmp_path / "ca.pem", content, mode=mode)

    assert why in vouching.fault_of(tmp_path / "ca.pem")
