"""A file for the web server or the packet filter, tried by a small unit of its own before it is put in place.

Entry point: ``python -I -m appliance.install.tried [--config FILE] nginx|nftables PATH``, which the playbook names
where it writes such a file (`validate:`). Trying takes rights and sockets that installing has not; the unit has them,
and nothing else (ADR 52).

    tried/KIND-SHA256            the bytes handed over, written by root
    tried/KIND/SHA256.verdict    what the unit found (`appliance.install.tryunit`), in a folder of its own

Promises: this ends with 0 only where the unit ended well and left a verdict, made by this start, that accepts exactly
the bytes that lie at PATH before and after; a unit that is absent, fails, hangs or says nothing lets no file pass.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from appliance import config as configuration
from appliance.config import Places
from appliance.errors import InstallError
from appliance.install import plans
from appliance.install.supervisor import Supervisor, SystemdSupervisor
from media import canonical, durable, endings
from media.digest import sha256_hex
from media.errors import MediaError, SealiftError

KINDS: Final = ("nginx", "nftables")
UNIT: Final = "sealift-try-{kind}@{digest}.service"
LONGEST: Final = 1024 * 1024
"""Bytes of a file that is tried; the largest that roles write is a hundredth of it."""
_FORMAT: Final = 1
_MOST_SAID: Final = 300
_VERDICT_BYTES: Final = 8 * 1024
# More than the unit's own limit: it is the one that ends what hangs.
_SECONDS: Final = 150
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the unit found of the bytes with one digest; `why` is what the program said where it refuses them."""

    kind: str
    digest: str
    accepted: bool
    why: str = ""

    def to_bytes(self) -> bytes:
        """Return the verdict as its unit leaves it."""
        return canonical.dumps({"format": _FORMAT, **asdict(self), "why": endings.one_line(self.why, _MOST_SAID)})

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse what a unit left.

        Raises:
            MediaError: It is not a verdict.
        """
        fields = canonical.exact_keys(
            canonical.loads(untrusted), ("format", "kind", "digest", "accepted", "why"), what="verdict"
        )
        canonical.integer(fields["format"], "verdict.format", minimum=_FORMAT, maximum=_FORMAT)
        return cls(
            kind=canonical.one_of(fields["kind"], KINDS, "verdict.kind"),
            digest=canonical.sha256_hex(fields["digest"], "verdict.digest"),
            accepted=canonical.boolean(fields["accepted"], "verdict.accepted"),
            why=canonical.text(fields["why"], "verdict.why", most=_MOST_SAID, may_be_empty=True),
        )


def require(places: Places, supervisor: Supervisor, kind: str, path: Path) -> None:
    """Return where the unit of that kind accepts the bytes of a file, and they have not changed meanwhile.

    Raises:
        InstallError: It refuses them, said nothing of them, or they cannot be handed over.
        UnitError: It did not come to its end, or was not started.
    """
    try:
        data = plans.read_strange(path, LONGEST + 1)
        verdict = _asked(places, supervisor, kind, data)
        is_same = plans.read_strange(path, LONGEST + 1) == data
    except OSError as error:
        raise _failed(kind, f"it could not be handed over: {error.strerror}") from error
    if verdict is None:
        raise _failed(kind, f"{_unit(kind, sha256_hex(data))} said nothing of it")
    if not verdict.accepted:
        raise _failed(kind, verdict.why or "it is refused without a word")
    if not is_same:
        raise _failed(kind, "the file changed while it was tried")


def handed_over(places: Places, kind: str, digest: str) -> Path:
    """Return where the bytes lie that the unit of that kind and digest is to try.

    Raises:
        InstallError: There is no such kind, or that is no digest.
    """
    if kind not in KINDS or not _DIGEST.fullmatch(digest):
        raise InstallError(
            what="that cannot be tried",
            why=f"a kind is {' or '.join(KINDS)}, a digest 64 hex digits",
            fix="units of that name are started by an install alone",
        )
    return folder(places) / f"{kind}-{digest}"


def folder(places: Places) -> Path:
    """Return where files lie on their way to be tried; the playbook makes it (tmpfiles.d)."""
    return places.run / "tried"


def left_at(places: Places, kind: str, digest: str) -> Path:
    """Return where the unit leaves its verdict."""
    return folder(places) / kind / f"{digest}.verdict"


def _asked(places: Places, supervisor: Supervisor, kind: str, data: bytes) -> Verdict | None:
    """Start the unit for these bytes and return its verdict on them; nothing is left of either."""
    if len(data) > LONGEST:
        raise _failed(kind, f"it is longer than {LONGEST} bytes")
    if not data:
        # No plain file, or an empty one: the kernel accepts no rules at all, too.
        raise _failed(kind, "there is nothing in it")
    digest = sha256_hex(data)
    bytes_at, verdict_at = handed_over(places, kind, digest), left_at(places, kind, digest)
    # What an earlier run said is never taken for what this one says.
    verdict_at.unlink(missing_ok=True)
    durable.replace(bytes_at, data, mode=0o644)
    try:
        supervisor.start(_unit(kind, digest))
        return _read(verdict_at, kind, digest)
    except SealiftError:
        # A unit that refuses ends badly, too, and says why; one that ended badly has not accepted, whatever it left.
        said = _read(verdict_at, kind, digest)
        if said is None or said.accepted:
            raise
        return said
    finally:
        for place in (bytes_at, verdict_at):
            place.unlink(missing_ok=True)


def _read(place: Path, kind: str, digest: str) -> Verdict | None:
    with suppress(OSError, MediaError):
        found = Verdict.from_bytes(plans.read_strange(place, _VERDICT_BYTES))
        return found if (found.kind, found.digest) == (kind, digest) else None
    return None


def _unit(kind: str, digest: str) -> str:
    return UNIT.format(kind=kind, digest=digest)


def _failed(kind: str, why: str) -> InstallError:
    return InstallError(
        what=f"the file for {kind} is not put in place",
        why=why,
        fix=f"read `journalctl -u 'sealift-try-{kind}@*'`; what was there before is in force",
    )


def main(arguments: Sequence[str] | None = None, *, supervisor: Supervisor | None = None) -> int:
    """Have one file tried; returns the exit code, 0 where it may be put in place."""
    parser = argparse.ArgumentParser(prog="sealift-tried")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    try:
        places = configuration.load(options.config).at
        require(places, supervisor or SystemdSupervisor(start_seconds=_SECONDS), options.kind, options.path)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
