"""What a scan is asked to do besides looking, what it found and did, and what the signed statement says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bundler.cache import Cache
from bundler.scanning import antivirus
from bundler.scanning.findings import CHECKS, Finding, Tally
from bundler.scanning.loads import Load
from media.clock import Clock

RULES: Final = (
    "antivirus-stale", "build-path", "few-answers", "foreign-shebang", "license-terms", "license-text",
    "license-unknown", "malware", "native-code", "not-loaded", "overlaps", "patient-data", "pickle", "programs",
    "pth-file", "quantization", "rare-tokenizer", "remote-code", "secret", "shadows-stdlib", "template",
    "unexpected-file", "unpinned",
)  # fmt: skip
MALFORMED: Final = "malformed"
"""What breaks its own format; no recipe can allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Antivirus:
    """ClamAV is wanted, with signatures of at most this age in days; `database` if not the machine's own."""

    max_age_days: int
    clock: Clock
    database: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Models are loaded by engines for this version of Python; `cache` holds the engines and what was loaded."""

    python: str
    cache: Cache
    clock: Clock


@dataclass(slots=True, kw_only=True)
class Examination:
    """All that was found and done, before anyone judges it."""

    files: int
    tally: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    clamav: antivirus.Scanned | None = None
    loads: tuple[Load, ...] = ()

    def report(self, judged: Sequence[Finding]) -> "ScanReport":
        """Return what people are told, with the findings that do not block."""
        return ScanReport(
            files=self.files,
            findings=tuple(judged),
            counts=dict(self.tally.files),
            templates=tuple(self.templates),
            clamav=self.clamav,
            loads=self.loads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """A scan that found nothing that blocks."""

    files: int
    findings: tuple[Finding, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    templates: tuple[Mapping[str, Any], ...] = ()
    clamav: antivirus.Scanned | None = None
    loads: tuple[Load, ...] = ()

    def predicate(self) -> dict[str, Any]:
        """Return what the scan statement says (SCAN-1 to SCAN-6)."""
        return {
            "format": 2,
            "rules": list(RULES),
            "files": self.files,
            "result": "passed",
            "checks": [
                {"check": check, "version": CHECKS[check], "files": self.counts.get(check, 0)}
                for check in sorted(CHECKS)
            ],
            "findings": [
                {"path": found.path, "rule": found.rule, "detail": found.detail, "reason": found.reason}
                for found in self.findings
            ],
            "templates": [dict(template) for template in self.templates],
            "loads": [load.to_json() for load in self.loads],
            "antivirus": None if self.clamav is None else self.clamav.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a scan that goes on to the end found; `report` holds what does not block."""

    report: ScanReport
    refused: tuple[Finding, ...]
