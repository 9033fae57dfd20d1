"""How a job ended, as typed fields: what the unit that carried it out may tell, and nothing more."""

import re
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.install.supervisor import require_unit_name
from appliance.wire import RemoteError
from media import canonical, endings
from media.errors import MalformedError, SealiftError

_STEP: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_LONGEST: Final = 400
_MOST_UNITS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether it went well; the digest of what it made (evidence, plan); units started and stopped; or an error."""

    ok: bool
    digest: str = ""
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    millis: int = 0
    changed: bool = False
    code: str = ""
    exit_code: int = 0
    what: str = ""
    why: str = ""
    fix: str = ""

    @classmethod
    def of_error(cls, error: SealiftError, *, digest: str = "", millis: int = 0) -> Self:
        """Return the outcome that an error is, with what was made before it."""
        fields = error.to_json()
        return cls(
            ok=False,
            digest=digest,
            millis=millis,
            code=str(fields["code"]),
            exit_code=int(fields["exit_code"]),
            what=_cut(fields["what"]),
            why=_cut(fields["why"]),
            fix=_cut(fields["fix"]),
        )

    @classmethod
    def unsaid(cls, unit: str) -> Self:
        """Return the outcome of a unit that ended without a word."""
        return cls(
            ok=False, code="unit", exit_code=53, what=f"{unit} said nothing", why="", fix=f"read `journalctl -u {unit}`"
        )

    @classmethod
    def from_json(cls, untrusted: dict[str, Any]) -> Self:
        """Parse what a unit told.

        Raises:
            MalformedError: A field is missing, unknown or of another shape.
        """
        fields = canonical.exact_keys(untrusted, cls._names(), what="outcome")
        digest = canonical.text(fields["digest"], "outcome.digest", may_be_empty=True)
        return cls(
            ok=canonical.boolean(fields["ok"], "outcome.ok"),
            digest=canonical.sha256_hex(digest, "outcome.digest") if digest else "",
            millis=canonical.integer(fields["millis"], "outcome.millis"),
            changed=canonical.boolean(fields["changed"], "outcome.changed"),
            exit_code=canonical.integer(fields["exit_code"], "outcome.exit_code", maximum=255),
            started=_units(fields["started"]),
            stopped=_units(fields["stopped"]),
            code=_text(fields, "code"),
            what=_text(fields, "what"),
            why=_text(fields, "why"),
            fix=_text(fields, "fix"),
        )

    @staticmethod
    def _names() -> tuple[str, ...]:
        return (
            *("ok", "digest", "started", "stopped", "millis", "changed"),
            *("code", "exit_code", "what", "why", "fix"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        found = {name: getattr(self, name) for name in self._names()}
        return {**found, "started": list(self.started), "stopped": list(self.stopped)}

    def headline(self) -> dict[str, Any]:
        """Return what the ledger keeps: no text, since a text could hold anything."""
        return {"ok": self.ok, "exit_code": self.exit_code, "code": self.code, "digest": self.digest}

    def require_ok(self) -> Self:
        """Return it when it went well.

        Raises:
            RemoteError: It did not; the error is the one that the unit told.
        """
        if not self.ok:
            raise RemoteError(
                what=self.what, why=self.why, fix=self.fix, code=self.code or "unit", exit_code=self.exit_code or 53
            )
        return self


def step_of(untrusted: Any) -> str:
    """Return the name of a step.

    Raises:
        MalformedError: It is not a short word.
    """
    text = canonical.text(untrusted, "step")
    if not _STEP.fullmatch(text):
        raise MalformedError(what="a step is refused", why="a short lower-case word", fix="use the same release")
    return text


def _units(untrusted: Any) -> tuple[str, ...]:
    return tuple(require_unit_name(str(one)) for one in canonical.array(untrusted, "outcome.units", most=_MOST_UNITS))


def _text(fields: dict[str, Any], name: str) -> str:
    return canonical.text(fields[name], f"outcome.{name}", most=_LONGEST, may_be_empty=True)


def _cut(text: object) -> str:
    return endings.one_line(text, _LONGEST)
