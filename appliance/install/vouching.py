"""Whether the authorities lie here that certificates of the mail relay and the syslog collector are judged by.

Alertmanager reads its one when it first has a mail to send, so a file that is missing or is none would be found out by
an alert that nobody gets. Promise: it is looked at before an install changes anything.
"""

from collections.abc import Iterator
from pathlib import Path
from stat import S_IROTH
from typing import Final

from cryptography import x509

from appliance.config import Config
from appliance.errors import PreflightError

_MOST_BYTES: Final = 2**20
_KEY: Final = b"PRIVATE KEY-----"


def require(config: Config) -> None:
    """Pass only where each authority that the site file makes alerts depend on is there and can be read by all.

    Raises:
        PreflightError: One is not.
    """
    for key, path, of in _named(config):
        if why := fault_of(path):
            raise PreflightError(
                what=f"alerts.{key} is given, and nobody vouches for the {of}",
                why=f"{path.name}: {why}",
                fix=f"put the certificate authority of the {of} at /etc/sealift/{path.name}, as PEM, readable for all",
            )


def fault_of(path: Path) -> str:
    """Return what is wrong with a file of authorities; empty when it holds."""
    try:
        with path.open("rb") as file:
            untrusted = file.read(_MOST_BYTES + 1)
        is_for_all = path.stat().st_mode & S_IROTH
    except OSError as error:
        return error.strerror or "it cannot be read"
    if len(untrusted) > _MOST_BYTES:
        return f"it is larger than {_MOST_BYTES} bytes"
    if _KEY in untrusted:
        return "it holds a private key, which belongs to nobody but its owner"
    if not is_for_all:
        return "it cannot be read by the units that need it"
    try:
        x509.load_pem_x509_certificates(untrusted)
    except ValueError:
        return "it holds no certificate that reads"
    return ""


def _named(config: Config) -> Iterator[tuple[str, Path, str]]:
    alerts, places = config.alerts, config.at
    if not config.monitoring.enabled:
        return
    if alerts.mail_server:
        yield "mail_server", places.mail_authority, "mail relay"
    if alerts.syslog_server:
        yield "syslog_server", places.syslog_authority, "syslog collector"
