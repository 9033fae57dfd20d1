"""How the forwarder to the site's collector stands, as it says itself: a small file in /run that anybody may read.

The cursor itself is the forwarder's own (0700). What is published names no record's content: numbers, times, and the
words of our own error.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.install.certificates import first_end
from media import canonical, durable
from media.clock import Clock, from_text, to_text
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "standing.json"
CLIENT: Final = "collector-client.pem"
"""The credential, and the file beside the site file, with the certificate that the collector asks for, and its key."""
SILENT_SECONDS: Final = 300
BEHIND_SECONDS: Final = 900
_KEYS: Final = ("at", "error", "format", "oldest", "sequence", "taken", "waiting")
_WARN_DAYS: Final = 21
_PAGE: Final = "docs/operator/siem.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the forwarder stands.

    Attributes:
        at: When it said so.
        sequence: The next record to send.
        waiting: How many records wait.
        oldest: When the oldest of them was recorded; empty for none.
        taken: When the collector last took a batch; empty for never in this boot.
        error: What keeps it, in our words; empty for nothing.
    """

    at: str
    sequence: int
    waiting: int
    oldest: str
    taken: str
    error: str

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return what was published; None where nothing was, or what is there does not read."""
        try:
            untrusted = canonical.loads_canonical((folder / FILE).read_bytes())
            value = canonical.exact_keys(untrusted, _KEYS, (), "the standing")
            canonical.integer(value["format"], "format", minimum=FORMAT, maximum=FORMAT)
            at, oldest, taken, error = (
                canonical.text(value[name], name, may_be_empty=True) for name in ("at", "oldest", "taken", "error")
            )
            found = cls(
                at=at,
                sequence=canonical.integer(value["sequence"], "sequence", minimum=0),
                waiting=canonical.integer(value["waiting"], "waiting", minimum=0),
                oldest=oldest,
                taken=taken,
                error=error,
            )
            from_text(found.at)
            if found.oldest:
                from_text(found.oldest)
        except (OSError, MediaError, ValueError):
            return None
        return found

    def write(self, folder: Path) -> None:
        """Publish it; everybody may read.

        Raises:
            OSError: It cannot be written.
        """
        durable.replace(folder / FILE, canonical.dumps(self.to_json()), mode=0o644)

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {"format": FORMAT, **{name: getattr(self, name) for name in _KEYS if name != "format"}}

    def age_seconds(self, clock: Clock) -> float:
        """Return how long ago it was said."""
        return max((clock.now() - from_text(self.at)).total_seconds(), 0.0)

    def behind_seconds(self, clock: Clock) -> float:
        """Return how long the oldest record has waited; 0 for none."""
        return max((clock.now() - from_text(self.oldest)).total_seconds(), 0.0) if self.oldest else 0.0


def client_file(config: Config, credentials: str) -> Path:
    """Return where the client's certificate and key are: a unit's credential, else beside the site file."""
    return (Path(credentials) if credentials else config.at.etc) / CLIENT


def findings(config: Config, *, clock: Clock) -> Iterator[Finding]:
    """Look at what the forwarder needs and at how it stands; nothing where the site file names no collector."""
    if not config.siem.address:
        return
    yield certificate("collector authority", config.at.collector_authority, clock, is_secret=False)
    if config.siem.client:
        yield certificate("collector client certificate", config.at.etc / CLIENT, clock, is_secret=True)
    yield _standing(config, clock)


def _standing(config: Config, clock: Clock) -> Finding:
    found = Standing.read(config.at.siem_now)
    why = "records do not leave the box: who takes it over could take them away unseen"
    fix = "sealift siem status; journalctl -u sealift-siem"
    if found is None or found.age_seconds(clock) > SILENT_SECONDS:
        return Finding(name="collector", is_good=False, text="the forwarder does not run", why=why, fix=fix)
    behind = found.behind_seconds(clock)
    text = f"{found.waiting} records wait, the oldest for {behind / 60:.0f} minutes" if found.waiting else "up to date"
    is_good = behind <= BEHIND_SECONDS
    return Finding(
        name="collector", is_good=is_good, text=f"{text}{f'; {found.error}' if found.error else ''}", why=why, fix=fix
    )


def certificate(name: str, path: Path, clock: Clock, *, is_secret: bool, page: str = _PAGE) -> Finding:
    """Look at a certificate of the site's by which this box reaches a service of it.

    Args:
        name: What the finding is called.
        path: Where it is, as PEM.
        clock: What days are counted from.
        is_secret: Whether its key stands in the same file.
        page: Where the handbook says of it.
    """
    try:
        content = path.read_bytes()
        ends = first_end(x509.load_pem_x509_certificates(content))
        if is_secret:
            ssl.create_default_context().load_cert_chain(path)
    except PermissionError:
        return Finding(name=name, is_good=None, text="only root can look at it")
    except (OSError, ValueError):
        return Finding(
            name=name,
            is_good=False,
            text=f"{path.name} is not there or does not read",
            why="the service is not reached without it",
            fix=f"put it there: {page}",
        )
    return _ending(name, ends, clock, page)


def _ending(name: str, ends: datetime, clock: Clock, page: str) -> Finding:
    days = (ends - clock.now()).days
    return Finding(
        name=name,
        is_good=days >= _WARN_DAYS,
        text=f"until {to_text(ends)}",
        why=f"it ends in {days} days, and then the service is not reached",
        fix=f"put the next one there: {page}",
    )
