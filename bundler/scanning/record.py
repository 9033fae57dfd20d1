"""The scan statement read back, for people who look before they sign. Nothing in it is believed by any program.

Formats 1 and 2 are read (SCAN-1). What is shown is shortened: listed findings of one rule share a line.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bundler.scanning.findings import LISTED, Finding
from media.canonical import array, boolean, integer, mapping, text
from media.errors import UnsupportedFormatError

_FORMATS: Final = (1, 2)
_SHARED: Final = 3
_LONG: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRecord:
    """What became of one model."""

    model: str
    loaded: bool
    reason: str
    engine: str
    sandbox: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRecord:
    """What a scan statement says."""

    files: int
    findings: tuple[Finding, ...]
    checks: Mapping[str, int]
    loads: tuple[LoadRecord, ...] = ()
    templates: Mapping[str, str]
    antivirus: str = ""

    @classmethod
    def from_predicate(cls, untrusted: Any) -> Self:
        """Read a predicate.

        Raises:
            MalformedError: A field of it does not read.
            UnsupportedFormatError: It has another format.
        """
        value = mapping(untrusted, "the scan statement")
        if value.get("format", 1) not in _FORMATS:
            raise UnsupportedFormatError(
                what="the scan statement has another format",
                why=str(value.get("format"))[:20],
                fix="use a newer program",
            )
        scanner = value.get("antivirus")
        return cls(
            files=integer(value.get("files", 0), "files"),
            findings=tuple(map(_finding, array(value.get("findings", []), "findings"))),
            checks={
                text(mapping(check, "checks").get("check"), "check"): integer(check.get("files"), "checks: files")
                for check in array(value.get("checks", []), "checks")
            },
            loads=tuple(map(_load, array(value.get("loads", []), "loads"))),
            templates={
                text(mapping(made, "templates").get("path"), "templates: path"): text(made.get("sha256"), "sha256")
                for made in array(value.get("templates", []), "templates")
            },
            antivirus="" if scanner is None else _antivirus(mapping(scanner, "antivirus")),
        )

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        for load in self.loads:
            where = f"{load.engine}, sandbox {load.sandbox}" if load.loaded else load.reason
            yield f"model {load.model} {'loaded once' if load.loaded else 'NOT loaded'}: {where}"
        for path, sha256 in self.templates.items():
            yield f"template {path}: rendered, sha256 {sha256[:12]}"
        if self.antivirus:
            yield f"antivirus: {self.antivirus}"
        shared: defaultdict[str, list[Finding]] = defaultdict(list)
        for found in self.findings:
            if found.reason == LISTED:
                shared[found.rule].append(found)
            else:
                yield f"{found.rule} in {found.path}: {found.detail}; allowed: {found.reason}"
        for rule, listed in shared.items():
            if len(listed) > _SHARED:
                yield f"{rule}: listed for {len(listed)} files; --json names them"
            else:
                yield from (f"{rule} in {found.path}: {found.detail} (listed)" for found in listed)


def _finding(untrusted: Any) -> Finding:
    value = mapping(untrusted, "findings")
    return Finding(
        path=text(value.get("path"), "findings: path"),
        rule=text(value.get("rule"), "findings: rule"),
        detail=text(value.get("detail"), "findings: detail", most=_LONG, may_be_empty=True),
        reason=text(value.get("reason"), "findings: reason", most=_LONG, may_be_empty=True),
    )


def _load(untrusted: Any) -> LoadRecord:
    value = mapping(untrusted, "loads")
    return LoadRecord(
        model=text(value.get("model"), "loads: model"),
        loaded=boolean(value.get("loaded"), "loads: loaded"),
        reason=text(value.get("reason", ""), "loads: reason", may_be_empty=True),
        engine=text(value.get("engine", ""), "loads: engine", may_be_empty=True),
        sandbox=text(value.get("sandbox", ""), "loads: sandbox", may_be_empty=True),
    )


def _antivirus(value: Mapping[str, Any]) -> str:
    program = text(value.get("program"), "antivirus: program")
    days = integer(value.get("database_age_days"), "antivirus: database_age_days")
    passed_over = integer(value.get("too_large"), "antivirus: too_large")
    left_out = f", {passed_over} too large" if passed_over else ""
    return f"{program}, signatures {days} days old{left_out}"
