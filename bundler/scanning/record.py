"""The scan statement read back, for people who look before they sign. Nothing in it is believed by any program.

Formats 1 and 2 are read, each with exactly the fields that it names (SCAN-1, FMT-38). What is shown is shortened:
listed findings of one rule share a line.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bundler.scanning.findings import LISTED, Finding
from media.canonical import array, boolean, exact_keys, integer, mapping, moment, sha256_hex, text
from media.errors import UnsupportedFormatError

_FIRST: Final = ("format", "rules", "files", "result", "findings")
_FIELDS: Final = {1: _FIRST, 2: (*_FIRST, "checks", "templates", "loads", "antivirus")}
_LOAD: Final = (
    "model", "weights_sha256", "engine", "engine_wheel_sha256", "loaded", "reason", "sandbox", "vocabulary",
    "milliseconds",
)  # fmt: skip
_ANTIVIRUS: Final = (
    "program", "database_files", "database_time", "database_age_days", "database_sha256", "files", "too_large",
)  # fmt: skip
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
        version = integer(value.get("format"), "the scan statement: format", minimum=1)
        if version not in _FIELDS:
            raise UnsupportedFormatError(
                what="the scan statement has another format", why=str(version), fix="use a newer program"
            )
        value = exact_keys(value, _FIELDS[version], (), "the scan statement")
        scanner = value.get("antivirus")
        return cls(
            files=integer(value["files"], "files"),
            findings=tuple(map(_finding, array(value["findings"], "findings"))),
            checks=dict(map(_check, array(value.get("checks", []), "checks"))),
            loads=tuple(map(_load, array(value.get("loads", []), "loads"))),
            templates=dict(map(_template, array(value.get("templates", []), "templates"))),
            antivirus="" if scanner is None else _antivirus(scanner),
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


def _check(untrusted: Any) -> tuple[str, int]:
    value = exact_keys(untrusted, ("check", "version", "files"), (), "checks")
    integer(value["version"], "checks: version", minimum=1)
    return text(value["check"], "checks: check"), integer(value["files"], "checks: files")


def _finding(untrusted: Any) -> Finding:
    value = exact_keys(untrusted, ("path", "rule", "detail", "reason"), (), "findings")
    return Finding(
        path=text(value["path"], "findings: path"),
        rule=text(value["rule"], "findings: rule"),
        detail=text(value["detail"], "findings: detail", most=_LONG, may_be_empty=True),
        reason=text(value["reason"], "findings: reason", most=_LONG, may_be_empty=True),
    )


def _template(untrusted: Any) -> tuple[str, str]:
    value = exact_keys(untrusted, ("path", "sha256", "conversations", "refused", "output_sha256"), (), "templates")
    for count in ("conversations", "refused"):
        integer(value[count], f"templates: {count}")
    sha256_hex(value["output_sha256"], "templates: output_sha256")
    return text(value["path"], "templates: path"), sha256_hex(value["sha256"], "templates: sha256")


def _load(untrusted: Any) -> LoadRecord:
    value = exact_keys(untrusted, _LOAD, (), "loads")
    for count in ("vocabulary", "milliseconds"):
        integer(value[count], f"loads: {count}")
    for digest in ("weights_sha256", "engine_wheel_sha256"):  # empty where it was not tried
        if value[digest] != "":
            sha256_hex(value[digest], f"loads: {digest}")
    return LoadRecord(
        model=text(value["model"], "loads: model"),
        loaded=boolean(value["loaded"], "loads: loaded"),
        reason=text(value["reason"], "loads: reason", may_be_empty=True),
        engine=text(value["engine"], "loads: engine", may_be_empty=True),
        sandbox=text(value["sandbox"], "loads: sandbox", may_be_empty=True),
    )


def _antivirus(untrusted: Any) -> str:
    value = exact_keys(untrusted, _ANTIVIRUS, (), "antivirus")
    program = text(value["program"], "antivirus: program")
    moment(value["database_time"], "antivirus: database_time")
    sha256_hex(value["database_sha256"], "antivirus: database_sha256")
    for count in ("database_files", "files"):
        integer(value[count], f"antivirus: {count}")
    days = integer(value["database_age_days"], "antivirus: database_age_days")
    passed_over = integer(value["too_large"], "antivirus: too_large")
    left_out = f", {passed_over} too large" if passed_over else ""
    return f"{program}, signatures {days} days old{left_out}"
