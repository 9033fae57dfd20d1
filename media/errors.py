"""Every error has three parts for a person (what, why, fix) and one number for a program.

The exit codes of all three packages form one table, `docs/exit-codes.md`; a test keeps codes unique and the table
complete. Ranges: 10-19 malformed media, 20-29 and 100-104 trust, 30-39 store and space, 40-49 registry and approval,
50-59 host, 60-63 and 110-119 bundler, 80-89 engine, 90-99 ledger. 64-78 belong to sysexits(3), 200-243 to systemd.

Texts name artifacts, volumes and the first twelve hex digits of digests. They never hold prompts, answers, PHI, keys
or absolute host paths, because they are shown on pages and printed on evidence.
"""

from typing import Any, ClassVar


class SealiftError(Exception):
    """The root of all errors a person may see.

    Args:
        what: What failed, naming the artifact, volume or person.
        why: Expected against found.
        fix: The command to run or the person to ask.

    `details` is for programs and records: bounded, JSON, None where the three parts say all.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal"

    def __init__(self, *, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.details: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads: code, exit_code, what, why, fix, and details where there are any."""
        fields = {
            "code": self.code,
            "exit_code": self.exit_code,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }
        return fields if self.details is None else {**fields, "details": self.details}


class UsageError(SealiftError):
    """The command line does not make sense; nothing was done."""

    exit_code = 2
    code = "usage"


class BrokenOffError(SealiftError):
    """Ctrl-C or SIGTERM ended the command; what it had done until then stays."""

    exit_code = 130  # 128 and the number of SIGINT, as shells have it
    code = "interrupted"


class MediaError(SealiftError):
    """Root of what may be wrong with a medium."""


class MalformedError(MediaError):
    """A file breaks the format's rules; it is not evidence of tampering by itself."""

    exit_code = 10
    code = "malformed"


class MissingFileError(MediaError):
    """A file that a signed list names is not there."""

    exit_code = 11
    code = "missing-file"


class ExtraFileError(MediaError):
    """A file is there that no signed list names."""

    exit_code = 12
    code = "extra-file"


class UnsafePathError(MediaError):
    """A name or file type that could lead outside the medium, or is not a regular file."""

    exit_code = 13
    code = "unsafe-path"


class WrongVolumeError(MediaError):
    """A volume is foreign, given twice, or of another release."""

    exit_code = 14
    code = "wrong-volume"


class DigestMismatchError(MediaError):
    """Bytes differ from what was signed."""

    exit_code = 15
    code = "digest-mismatch"


class LimitExceededError(MediaError):
    """A size, depth or count is above the limit of this format version."""

    exit_code = 16
    code = "limit-exceeded"


class MissingVolumeError(MediaError):
    """The set of volumes is not complete."""

    exit_code = 17
    code = "missing-volume"


class UnreadableError(MediaError):
    """A medium or a file could not be read or written: an I/O error, not a verdict on its content."""

    exit_code = 18
    code = "unreadable"


class UnsupportedFormatError(MediaError):
    """The format version is newer than this program."""

    exit_code = 19
    code = "unsupported-format"


class BaseMissingError(MediaError):
    """A delta set takes for granted what its receiver does not hold; `why` names files and block ranges."""

    exit_code = 36
    code = "base-missing"


class TrustError(SealiftError):
    """Root of refusals that protect trust."""


class BadSignatureError(TrustError):
    """A signature is wrong, of a wrong kind, or made by a key that the root does not name."""

    exit_code = 20
    code = "bad-signature"


class ThresholdError(TrustError):
    """Fewer people signed than the root demands."""

    exit_code = 21
    code = "threshold"


class SamePersonError(TrustError):
    """Two signatures come from one person; the threshold counts people."""

    exit_code = 22
    code = "same-person"


class SupersededError(TrustError):
    """The serial is below one already accepted. Never overridable."""

    exit_code = 23
    code = "superseded"


class WrongSiteError(TrustError):
    """The release was made for other sites."""

    exit_code = 24
    code = "wrong-site"


class StaleError(TrustError):
    """The release is past the date people chose. Two site people may override by name and reason."""

    exit_code = 25
    code = "stale"


class CustodyError(TrustError):
    """Custody evidence is absent, broken or unreadable and waits for a person's decision."""

    exit_code = 26
    code = "custody"


class TargetMismatchError(TrustError):
    """The release does not fit this machine (CPU flags, platform, profile)."""

    exit_code = 27
    code = "target-mismatch"


class NoTrustError(TrustError):
    """No root is pinned, or the trust record is lost or damaged."""

    exit_code = 28
    code = "no-trust"


class WrongEnvironmentError(TrustError):
    """A demo or rehearsal root where production is expected, or the other way round."""

    exit_code = 29
    code = "wrong-environment"


class SerialJumpError(TrustError):
    """The serial jumps further than the cap allows (fast-forward attack)."""

    exit_code = 100
    code = "serial-jump"


class CannotVerifyError(TrustError):
    """A signature could not be checked at all (gpgv is missing or died): no verdict, and therefore a refusal."""

    exit_code = 101
    code = "cannot-verify"


class KeyUnusableError(TrustError):
    """A private key is absent, locked, expired or revoked, or GnuPG could not use it."""

    exit_code = 102
    code = "key-unusable"
