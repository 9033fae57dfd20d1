"""What a check reports: findings by rule, and how many files it looked at."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bundler import leaks
from bundler.artifact import Artifact

CHECKS: Final = {
    "antivirus": 1, "clinical-data": 1, "deb": 1, "gguf": 2, "license": 1, "load": 1, "pickle": 2, "remote-code": 2,
    "safetensors": 2, "secret": 1, "template": 1, "wheel": 2,
}  # fmt: skip
"""Each check and its version, which rises when it finds more or other things; both are in the scan statement."""

LISTED: Final = "listed for the people who sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that people must know of; `reason` says who allowed it and why, or that it is only listed."""

    path: str
    rule: str
    detail: str
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """Counts the files that each check looked at."""

    files: Counter[str] = field(default_factory=Counter)

    def add(self, check: str, count: int = 1) -> None:
        """Count files under a check that `CHECKS` names."""
        if check not in CHECKS:
            raise KeyError(check)
        self.files[check] += count


LeakRule = Callable[[bytes], Iterator[leaks.Leak]]


def finding(artifact: Artifact, rule: str, detail: str, member: str = "", *, reason: str = "") -> Finding:
    """Return a finding about a file, or about a member of it."""
    path = f"{artifact.target}!{member}" if member else artifact.target
    return Finding(path=path, rule=rule, detail=detail, reason=reason)


def leaked(artifact: Artifact, data: bytes, rules: Sequence[LeakRule], member: str = "") -> Iterator[Finding]:
    """Yield what the given rules find in some bytes: the line, never the text."""
    for rule in rules:
        for leak in rule(data):
            yield finding(artifact, leak.rule, f"{leak.what}, line {leak.line}", member)
