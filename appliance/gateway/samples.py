"""Answers that the site's policy keeps for people who judge quality, handed to the review store's own process.

Rules:
    SMP-1 Only what the policy chooses, by department and by chance; by default nothing.
    SMP-2 Identifiers are replaced in prompt and answer together, whatever the key's own mode is; what cannot be
          searched is not kept.
    SMP-3 Keeping never holds an answer up and never fails one: it happens afterwards, in a thread of its own. What
          cannot be kept is counted and forgotten; no text of it goes anywhere else.
    SMP-4 This process holds no key of the store: what it handed in it cannot read again.

Why it drops and does not fail closed: the record of an answer is evidence, a sample of it is not.
"""

import base64
import json
import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.actions.retention.reviewdesk import MAX_CONTENT_BYTES
from appliance.errors import WireError
from appliance.gateway.classification import DataClass
from appliance.gateway.metrics import Metrics
from appliance.gateway.parameters import Asked
from appliance.phi.detect import Detector
from appliance.phi.tokens import Masked, mask
from appliance.sections import ReviewSection
from appliance.wire import RemoteError
from media.clock import Clock, to_text

FORMAT: Final = 1
MAX_TEXT_BYTES: Final = 64 * 1024
WAITING: Final = 16
"""How many answers wait for the store at most; one more is dropped."""
_ENDING_SECONDS: Final = 5.0
_SHORTEST: Final = 3

KEPT: Final = "kept"
BUSY: Final = "dropped-busy"
TOO_LONG: Final = "dropped-too-long"
UNPROTECTED: Final = "dropped-unprotected"
REFUSED: Final = "dropped-refused"
UNREACHABLE: Final = "dropped-unreachable"
RESULTS: Final = (KEPT, BUSY, TOO_LONG, UNPROTECTED, REFUSED, UNREACHABLE)
"""What becomes of an answer that policy chose."""


class Store(Protocol):
    """The review store's process, at the door of the gateway."""

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Hand something in.

        Raises:
            WireError: It does not answer.
            RemoteError: It refused.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is kept beside the texts, and whose keys keep it."""

    request_id: str
    subject: str
    department: str
    model_digest: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    about: About
    roles: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    asked: _Asked
    answer: str
    at: str

    @property
    def texts(self) -> tuple[str, ...]:
        return (*self.asked.texts, self.answer)


class Samples:
    """Chooses answers and hands them in.

    Args:
        policy: Which departments, and one answer in how many.
        store: Where they go.
        detector: Finds identifiers.
        metrics: Counts what was kept and what was dropped, and why.
        clock: When an answer ended.
        below: Returns a number from 0 up to, without, the one it is given; by chance.
    """

    def __init__(
        self,
        policy: ReviewSection,
        *,
        store: Store,
        detector: Detector,
        metrics: Metrics,
        clock: Clock,
        below: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._policy = policy
        self._store = store
        self._detector = detector
        self._metrics = metrics
        metrics.may_sample(RESULTS)
        self._clock = clock
        self._below = below
        self._chosen: dict[str, _Asked] = {}
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def choose(self, asked: Asked, about: About, *, label: str) -> None:
        """Decide whether the answer to a request is to be kept; what is labelled secret never is."""
        one_in = self._policy.of(about.department)
        if not one_in or label.strip().upper() == DataClass.SECRET or self._below(one_in):
            return
        roles = (*(message.role for message in asked.messages), *("prompt" for _ in asked.prompts))
        texts = (*(message.content or "" for message in asked.messages), *asked.prompts)
        self._chosen[about.request_id] = _Asked(about=about, roles=roles, texts=texts)

    def has_chosen(self, request_id: str) -> bool:
        """Tell whether a running request's answer is to be kept."""
        return request_id in self._chosen

    def ended(self, request_id: str, answer: str | None) -> None:
        """Take the answer of a request that ended, where it was chosen; None where there is no whole, recorded one."""
        asked = self._chosen.pop(request_id, None)
        if asked is not None and answer is not None:
            self._offer(_Waiting(asked=asked, answer=answer, at=to_text(self._clock.now())))

    def close(self) -> None:
        """Hand in what waits, for a few seconds; nothing is taken after this."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._queue.put(None, timeout=_ENDING_SECONDS)
            except queue.Full:
                return
            thread.join(_ENDING_SECONDS)

    def _offer(self, waiting: _Waiting) -> None:
        if sum(len(text.encode(errors="surrogatepass")) for text in waiting.texts) > MAX_TEXT_BYTES:
            self._metrics.sampled(TOO_LONG)
            return
        try:
            self._start()
            self._queue.put_nowait(waiting)
        except (queue.Full, RuntimeError):  # or no thread is to be had
            self._metrics.sampled(BUSY)

    def _start(self) -> None:
        # Not before the first one: a thread does not survive the fork of a web server.
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._metrics.sampled(self._hand_in(waiting))

    def _hand_in(self, waiting: _Waiting) -> str:
        try:
            content = _content(waiting, self._detector)
        except Exception:  # noqa: BLE001 - whatever the search failed on, its text may hold what it looked for
            return UNPROTECTED
        if len(content) > MAX_CONTENT_BYTES:
            return TOO_LONG
        about = waiting.asked.about
        try:
            self._store.call(
                "keep",
                request_id=about.request_id,
                subject=about.subject or about.request_id,
                content=base64.b64encode(content).decode(),
            )
        except RemoteError:
            return REFUSED
        except WireError:
            return UNREACHABLE
        return KEPT


def _content(waiting: _Waiting, detector: Detector) -> bytes:
    masked = mask(list(waiting.texts), detector)
    texts = [_without_values(text, masked) for text in masked.texts]
    asked = waiting.asked
    about, roles = asked.about, (*asked.roles, "answer")
    value = {
        "format": FORMAT,
        "at": waiting.at,
        "department": about.department,
        "model_digest": about.model_digest,
        "endpoint": about.endpoint,
        "texts": [{"role": role, "text": text} for role, text in zip(roles, texts, strict=True)],
    }
    # Not as ASCII, which makes a letter of Greek, Russian or Chinese two or three times as long; half letters pass.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def _without_values(text: str, masked: Masked) -> str:
    """Replace what was found in one text wherever another text has it, also where no pattern would see it there."""
    found = sorted(masked.tokens.values.items(), key=lambda item: -len(item[1]))
    for (word, number), value in found:
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"[{word}_{number}]")
    return text
