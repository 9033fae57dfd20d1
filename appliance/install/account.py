"""Reads Ansible's own account of a run: how much it changed, or which task failed and why."""

import re
from dataclasses import dataclass
from typing import Final

from appliance.errors import InstallError
from appliance.install.maintainer import Package

_RECAP: Final = re.compile(r"^localhost\s+: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)
_TEXT: Final = r'((?:[^"\\]|\\.){1,300})'
_REASONS: Final = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (rf'"stderr": "{_TEXT}', rf'"msg": "{_TEXT}', r"^\[ERROR\]: (.{1,300})")
)
# apt says only that dpkg failed; which package it was stands where dpkg wrote it, among what it did before. apt gives
# dpkg a terminal of its own, which ends lines by two characters.
_PACKAGE: Final = re.compile(
    r"dpkg: error processing (?:package|archive) ([^\s\"\\]{1,200})[^\"\\]{0,100}(?:\\r)?\\n ([^\"\\]{1,300})"
)
_STARTED_ANEW: Final = re.compile(r"^RUNNING HANDLER \[(?:\w+ : )?Restart Sealift\]", re.MULTILINE)
_HEADING: Final = re.compile(r"(?:TASK|RUNNING HANDLER) \[([^\]]{1,200})\]")


class PlayFailedError(InstallError):
    """A task of a playbook failed; `account` is Ansible's whole text, for the install log alone."""

    def __init__(self, *, what: str, why: str, account: str) -> None:
        super().__init__(
            what=f"{what} failed on this host",
            why=why,
            fix="read install.log in the state folder's logs, then run it again",
        )
        self.account = account


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayResult:
    """What a run of a playbook did.

    Attributes:
        changed: How many tasks changed something.
        text: The account of it: what came of each task, and the count at its end.
        warnings: What Ansible said beside the account. It is no outcome: whether a warning comes can hang on how busy
            the machine is, so it belongs into a log and not into what people approve.
        packages: In a preview, those that it would put in.
    """

    changed: int
    text: str
    warnings: str = ""
    packages: tuple[Package, ...] = ()

    @property
    def started_anew(self) -> bool:
        """Whether everything of ours was: most of what a playbook changes asks for that, but not all."""
        return _STARTED_ANEW.search(self.text) is not None


def read(output: str, warnings: str, *, code: int) -> PlayResult:
    """Return what a run changed.

    Args:
        output: Ansible's standard output.
        warnings: Its standard error.
        code: The exit status.

    Raises:
        PlayFailedError: A task failed, or the account does not say that none did; `what` names the task.
    """
    recap = _RECAP.search(output)
    if code != 0 or recap is None or (recap[2], recap[3]) != ("0", "0"):
        whole = output + warnings
        raise PlayFailedError(what=_failed_task(whole), why=_reason(whole), account=whole)
    return PlayResult(changed=int(recap[1]), text=output, warnings=warnings)


def _failed_task(text: str) -> str:
    heading = ""
    for line in text.splitlines():
        if found := _HEADING.match(line):
            heading = found[1]
        elif heading and line.startswith(("fatal:", "failed:")):
            return f"the task '{heading}'"
    return "the playbook"


def _reason(text: str) -> str:
    said = next((str(found[-1]) for pattern in _REASONS if (found := pattern.findall(text))), "")
    # What failed for want of another stands behind that other; the log has all of them.
    packages = [f"{name}: {why}" for name, why in _PACKAGE.findall(text)[:2]]
    return "; ".join(filter(None, (said, *packages))) or "see the install log"
