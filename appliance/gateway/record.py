"""What the gateway writes to the ledger: that a request will be answered, how that ended, and what was refused.

Content is there as keyed hashes only: `request_hmac` over the exact bytes of the request's body, `response_hmac` over
the UTF-8 text that was delivered (then, for each tool call, a line feed and its name and arguments), `thoughts_hmac`
over what a model thought aloud beside it, where it did. People are there as keyed hashes of the name their application
gave.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from appliance.audit.facts import SendingLedger, Sent
from appliance.errors import LedgerRefusedError, LedgerUnavailableError, WireError
from appliance.gateway.arms import Caller, Chosen
from appliance.gateway.classification import Decision
from appliance.keys.provider import KeyProvider
from appliance.keys.stages import key_name
from appliance.phi.patterns import PhiClass
from appliance.phi.policy import PhiMode
from appliance.stages import Stage
from media.clock import Clock, to_text
from media.errors import SealiftError

CONTENT_KEY: Final = "content-hmac"
_FOLD_SECONDS: Final = 1.0
_MAX_FOLDS: Final = 10_000
# Told before anybody is asked for a key, so no allowance bounds how often.
_UNASKED: Final = "not_active"
Outcome = Literal["ok", "error", "cancelled"]


def stamped(body: Mapping[str, Any], stage: Stage) -> Mapping[str, Any]:
    """Return a body that says its stage; production's need not, and the ledger's doors hold each gateway to its own."""
    return body if stage is Stage.PRODUCTION else {**body, "stage": stage.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Everything that is known before the first byte of an answer."""

    request_id: str
    endpoint: str
    key_id: str
    certificate: str
    department: str
    user_hash: str
    chosen: Chosen
    caller: Caller
    decision: Decision
    phi: Mapping[PhiClass, int]
    phi_mode: PhiMode
    flagged: tuple[str, ...]
    stream: bool
    body: bytes
    cache: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an answer ended, and the text that was delivered; `sampled` when policy chose it for the review store.

    `thoughts` were delivered beside it by a model that thinks aloud, and have a hash of their own: whoever has the
    answer alone, as it is kept in a file, can show that it is this one.
    """

    status: int
    outcome: Outcome
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int
    ttft_ms: int | None
    delivered: str
    thoughts: str = ""
    sampled: bool = False


class Recorder:
    """Writes through one door of the ledger."""

    def __init__(
        self, ledger: SendingLedger, *, keys: KeyProvider, clock: Clock, stage: Stage = Stage.PRODUCTION
    ) -> None:
        self._stage = stage
        self._ledger = ledger
        self._keys = keys
        self._clock = clock

    def intent(self, intent: Intent) -> "Recording":
        """Begin to record that a request will be answered; no byte of an answer may leave before it is recorded.

        Raises:
            LedgerUnavailableError: It is not recorded, so it must not be answered.
            KeyMissingError: Its content cannot be hashed.
        """
        version = self._keys.newest(CONTENT_KEY)
        route, decision = intent.chosen.route, intent.decision
        body = {
            "request_id": intent.request_id,
            "at": to_text(self._clock.now()),
            "endpoint": intent.endpoint,
            "key_id": intent.key_id,
            "department": intent.department,
            "user_hash": intent.user_hash,
            "model": route.name,
            "model_digest": route.model_digest,
            "serial": route.serial,
            "release": route.release,
            "arm": intent.chosen.arm.value,
            "assigned": intent.chosen.assigned.value,
            "bucket": intent.caller.bucket,
            "conversation": intent.caller.conversation,
            "classification": decision.data_class.value,
            "route": decision.route.value,
            "route_overridden": decision.overridden,
            "phi": {one.value: count for one, count in intent.phi.items()},
            "phi_mode": intent.phi_mode.value,
            "stream": intent.stream,
            "request_hmac": self._keys.hmac(CONTENT_KEY, intent.body, version=version).hex(),
            "hmac_key": f"{key_name(self._stage, CONTENT_KEY)}.v{version}",
        }
        if intent.chosen.rule:
            body["rule"] = intent.chosen.rule
        if intent.flagged:
            body["flagged"] = list(intent.flagged)
        if intent.cache:
            body["cache"] = intent.cache
        if intent.certificate:
            body["certificate"] = intent.certificate
        return self._send("request.intent", body)

    def outcome(self, request_id: str, intent_sequence: int, ending: Ending) -> "Recording":
        """Begin to record how an answer ended; its last byte may not leave before it is recorded.

        Raises:
            LedgerUnavailableError: It is not recorded.
            KeyMissingError: Its content cannot be hashed.
        """
        delivered = ending.delivered.encode(errors="surrogatepass")
        body = {
            "request_id": request_id,
            "intent_sequence": intent_sequence,
            "status": ending.status,
            "outcome": ending.outcome,
            "finish_reason": ending.finish_reason,
            "prompt_tokens": ending.prompt_tokens,
            "completion_tokens": ending.completion_tokens,
            "latency_ms": ending.latency_ms,
            "ttft_ms": ending.ttft_ms,
            "response_hmac": self._keys.hmac(CONTENT_KEY, delivered).hex(),
            **({"sampled": True} if ending.sampled else {}),
        }
        if ending.thoughts:
            thoughts = ending.thoughts.encode(errors="surrogatepass")
            body["thoughts_hmac"] = self._keys.hmac(CONTENT_KEY, thoughts).hex()
        return self._send("request.outcome", body)

    def refused(self, refusal: "Refusal", *, repeated: int = 1) -> None:
        """Record a refusal; `repeated` when one record stands for several.

        Raises:
            LedgerUnavailableError: It is not recorded.
        """
        body: dict[str, Any] = {
            "request_id": refusal.request_id,
            "endpoint": refusal.endpoint,
            "key_id": refusal.key_id,
            "status": refusal.status,
            "code": refusal.code,
        }
        if refusal.arm:
            body |= {"arm": refusal.arm, "assigned": refusal.assigned}
        if refusal.model_digest:
            body["model_digest"] = refusal.model_digest
        self._send("request.refused", body if repeated == 1 else {**body, "repeated": repeated}).wait()

    def _send(self, kind: str, body: Mapping[str, Any]) -> "Recording":
        try:
            return Recording(self._ledger.send(kind, stamped(body, self._stage)))
        except (WireError, LedgerRefusedError) as error:
            raise _not_taken(error) from error


class Recording:
    """A record that is being made; one thread's."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent

    def fileno(self) -> int:
        """Return what can be read when the ledger has answered; -1 where there is nothing to wait for."""
        return self._sent.fileno()

    def wait(self) -> int:
        """Return where it is recorded, durably.

        Raises:
            LedgerUnavailableError: It is not.
        """
        try:
            return self._sent.wait().sequence
        except (WireError, LedgerRefusedError) as error:
            raise _not_taken(error) from error

    def give_up(self) -> None:
        """Wait no longer."""
        self._sent.close()


def _not_taken(error: Exception) -> LedgerUnavailableError:
    return LedgerUnavailableError(
        what="the ledger took no record", why=type(error).__name__, fix="see `sealift status`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that got no answer, without a word of it; `arm` is set where a version was chosen before.

    So is `model_digest`, where that version is of a further line of production.
    """

    request_id: str
    endpoint: str
    key_id: str | None
    status: int
    code: str
    arm: str = ""
    assigned: str = ""
    model_digest: str = ""


@dataclass(slots=True)
class _Counted:
    last: Refusal
    count: int


@dataclass(slots=True)
class _Fold:
    """What is counted of one caller, by kind, the longest counted first; `until` its next record may be made."""

    until: float
    kinds: dict[Refusal, _Counted] = field(default_factory=dict)

    def count(self, refusal: Refusal, count: int = 1) -> None:
        kind = replace(refusal, request_id="")
        counted = self.kinds.setdefault(kind, _Counted(refusal, 0))
        counted.last, counted.count = refusal, counted.count + count

    def next(self) -> _Counted:
        return self.kinds.pop(next(iter(self.kinds)))


class Refusals:
    """Records every refusal, but of those for asking too often, or a box that stands by, one a second for each caller.

    A record that stands for several says how many (`repeated`), and these are alike in all but their request ids: code,
    endpoint, version and arm. Where a caller is refused for several reasons, each has its turn, a second for each.
    Otherwise a client gone wild, or an attacker without a key, could fill the disk that records are kept on for seven
    years. How many kinds there are is bounded, as codes, endpoints and the versions of production are.
    """

    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock
        self._lock = threading.Lock()
        self._folds: dict[str, _Fold] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to record each second what is only counted, by a thread: after any fork."""
        threading.Thread(target=self._run, name="refusals", daemon=True).start()

    def close(self) -> None:
        """Record all that is counted, and begin nothing more.

        Raises:
            LedgerUnavailableError: Something is not recorded.
        """
        self._ended.set()
        while self._folds:
            self.flush(everything=True)

    def _run(self) -> None:
        while not self._ended.wait(_FOLD_SECONDS):
            with suppress(SealiftError):  # they stay counted
                self.flush()

    def add(self, refusal: Refusal, *, caller: str) -> None:
        """Record, or count towards the caller's next record of refusals like this one.

        Raises:
            LedgerUnavailableError: It is not recorded.
        """
        self.flush()
        if refusal.status == 429 or refusal.code == _UNASKED:
            with self._lock:
                fold = self._folds.get(caller)
                if fold is not None:
                    fold.count(refusal)
                    return
                if len(self._folds) < _MAX_FOLDS:
                    self._folds[caller] = _Fold(self._clock.monotonic() + _FOLD_SECONDS)
        self._recorder.refused(refusal)

    def flush(self, *, everything: bool = False) -> None:
        """Record of each caller who is due what was counted longest, or with `everything` of all callers.

        Raises:
            LedgerUnavailableError: Something is not recorded; it stays counted.
        """
        if not self._folds:
            return
        now = self._clock.monotonic()
        due: dict[str, tuple[float, _Counted]] = {}
        with self._lock:
            for caller, fold in [one for one in self._folds.items() if everything or one[1].until <= now]:
                if not fold.kinds:
                    del self._folds[caller]
                    continue
                due[caller] = fold.until, fold.next()
                fold.until = now + _FOLD_SECONDS
        while due:
            caller, (_, counted) = next(iter(due.items()))
            try:
                self._recorder.refused(counted.last, repeated=counted.count)
            except LedgerUnavailableError:
                self._keep(due)
                raise
            del due[caller]

    def _keep(self, due: Mapping[str, tuple[float, _Counted]]) -> None:
        with self._lock:
            for caller, (until, counted) in due.items():
                fold = self._folds.setdefault(caller, _Fold(until))
                fold.until = min(fold.until, until)
                fold.count(counted.last, counted.count)
