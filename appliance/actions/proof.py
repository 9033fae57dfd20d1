"""A proof as a list of steps, each checked by itself and each said in one line a person can read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from appliance.errors import ProofError
from media.clock import Clock, to_text
from media.errors import SealiftError

REQUEST: Final = "request"
"""The step that finds the answer by its id; nobody else's mistake is as likely there as that of who typed it."""
_KEEP: Final = "keep this output; nothing on this machine may be changed before it is looked into"
_COMPARE: Final = f"compare the id with the x-request-id header of the answer; where it is that one, {_KEEP}"
_Value = TypeVar("_Value")
Tell = Callable[[str, int, int], None]
"""Told of each step as it begins, and of how much of it is done out of how much where it takes a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was checked: what it is, whether it holds, and what was found or what is wrong.

    `at` is when it was looked at; empty where nobody gave a clock, and where it was not looked at.
    """

    name: str
    ok: bool
    detail: str
    data: dict[str, Any] = field(default_factory=dict)
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        own: dict[str, Any] = {"name": self.name, "ok": self.ok, "detail": self.detail}
        return own | ({"data": self.data} if self.data else {}) | ({"at": self.at} if self.at else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """Everything that was checked about one answer."""

    subject: str
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether every step holds."""
        return all(step.ok for step in self.steps)

    def to_text(self) -> str:
        """Return one line for each step, ✓ or ✗ first."""
        width = max(len(step.name) for step in self.steps)
        lines = [f"{'✓' if step.ok else '✗'} {step.name:<{width}}  {step.detail}" for step in self.steps]
        verdict = "every step holds" if self.ok else f"{sum(not step.ok for step in self.steps)} steps do not hold"
        return "\n".join([f"Proof of {self.subject}", *lines, verdict]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"subject": self.subject, "ok": self.ok, "steps": [step.to_json() for step in self.steps]}

    def require(self) -> None:
        """Return when every step holds.

        Raises:
            ProofError: One does not; `what` names the first.
        """
        for step in self.steps:
            if not step.ok:
                raise ProofError(
                    what=f"the proof of {self.subject} fails at {step.name}",
                    why=step.detail,
                    fix=_COMPARE if step.name == REQUEST else _KEEP,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[_Value]):
    """What a step returns when it holds."""

    value: _Value
    detail: str
    data: dict[str, Any] = field(default_factory=dict)


class Prover:
    """Runs steps one after the other; one that fails does not hinder the next."""

    def __init__(self, tell: Tell = lambda *_: None, *, clock: Clock | None = None) -> None:
        self.steps: list[Step] = []
        self.tell = tell
        self._clock = clock

    def check(self, name: str, step: Callable[[], Found[_Value]]) -> _Value | None:
        """Run a step and note the outcome; None when it does not hold."""
        self.tell(name, 0, 1)
        try:
            found = step()
        except SealiftError as error:
            detail = f"{error.what}{f': {error.why}' if error.why else ''}"
            self.steps.append(Step(name=name, ok=False, detail=detail, at=self._now()))
            return None
        except Exception as error:  # noqa: BLE001 - what cannot be checked does not hold, and the rest is still looked at
            detail = f"it cannot be checked ({type(error).__name__})"
            self.steps.append(Step(name=name, ok=False, detail=detail, at=self._now()))
            return None
        self.steps.append(Step(name=name, ok=True, detail=found.detail, data=found.data, at=self._now()))
        return found.value

    def leave_out(self, *names: str, why: str) -> None:
        """Note steps that could not be looked at; they do not hold."""
        self.steps += [Step(name=name, ok=False, detail=f"not checked: {why}") for name in names]

    def _now(self) -> str:
        return "" if self._clock is None else to_text(self._clock.now())
