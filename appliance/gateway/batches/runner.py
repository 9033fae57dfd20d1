"""Answers the lines of batches, behind everybody else in the queue, each as a request of its own in the ledger.

Promises: of all gateways of a box one runs batches at a time; of a key's batches the oldest goes first, and no key
waits for another one's batch (`Turns`), whose lines may take long or wait for places; a batch ends with what it has
where its key may keep no more; a line whose result is durable is never asked again; one that was being answered when
the power went is asked once more, under another request id. Before each line the key, stops, the lease and the batch
are looked at again.
"""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flask import Response

from appliance.config import LimitsSection
from appliance.errors import CiphertextError, KeyMissingError, NotActiveError, StoreDamagedError
from appliance.gateway import problems
from appliance.gateway.admission import Wish
from appliance.gateway.auth import ApiKey, ApiKeys
from appliance.gateway.batches import lines, results
from appliance.gateway.batches.kept import MOST_BYTES, Batch
from appliance.gateway.batches.onlyone import OnlyOne
from appliance.gateway.batches.store import BatchStore
from appliance.gateway.batches.turns import Turns
from appliance.gateway.beginning import Come
from appliance.gateway.exchange import Witnesses
from appliance.gateway.identity import new_request_id
from appliance.gateway.logs import Event
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Priority
from appliance.gateway.record import Refusal, Refusals
from appliance.gateway.routing import Routes
from appliance.standby.permit import Permit
from media.errors import SealiftError

Serve = Callable[[str, Come], Response]
_LOOK_SECONDS: Final = 1.0
_FAULT_SECONDS: Final = 30.0
_SLICE: Final = 4
_TRIES: Final = 3
_LONGEST_PAUSE_SECONDS: Final = 60.0
_MOST_DOUBLINGS: Final = 8
# A day or a month that is spent comes anew, perhaps before the batch's window ends; nobody says when.
_QUOTA_PAUSE_SECONDS: Final = 60.0
_LONGEST_ASIDE_SECONDS: Final = 960.0
_MOST_IN_A_ROW: Final = 16
_PATIENCE_SECONDS: Final = 600.0
_CLOSE_SECONDS: Final = 10.0
_EXPIRE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a line is held against before it is asked, and who notes what became of it."""

    limits: LimitsSection
    api_keys: ApiKeys
    routes: Routes
    permit: Permit
    refusals: Refusals
    witnesses: Witnesses


class Runner:
    """Runs batches in a thread of its own, which `start` begins, after any fork.

    Args:
        store: Where batches lie.
        serve: Answers one request of an endpoint.
        world: What lines are held against.
        workers: Lines at a time, which keys share; each has one at least.
    """

    def __init__(self, store: BatchStore, *, serve: Serve, world: World, workers: int) -> None:
        self._store = store
        self._serve = serve
        self._world = world
        self._workers = workers
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._callers: set[socket.socket] = set()
        self._pauses: dict[str, float] = {}
        # Until when a line waits whose tokens were spent, and for how long; how many lines found that in a row.
        self._aside: dict[tuple[str, int], tuple[float, float]] = {}
        self._in_a_row: dict[str, int] = {}
        self._tries: dict[tuple[str, int], int] = {}
        self._broken_off: dict[tuple[str, int], int] = {}
        self._full: set[str] = set()
        self._is_crowded = threading.Event()
        self._expired_at = float("-inf")
        self._only_one = OnlyOne(store.file.with_name("batches.lock"))
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look for batches."""
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cancel the lines that are being answered, which are asked again after the next start, and stop."""
        self._stopping.set()
        with self._lock:
            for caller in self._callers:
                caller.close()
            self._callers.clear()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_SECONDS)
        self._only_one.close()
        self._store.close()

    def look(self) -> bool:
        """Do a part of what there is to do, of each key beside the others; return whether lines were answered.

        While a key's part lasts the others' next ones are begun; returns when none is under way.

        Raises:
            SealiftError: State, ledger or store cannot be used.
        """
        if not self._store.file.exists() or not self._only_one.is_mine():
            return False
        did = False
        with Turns(self._now, pause=_LOOK_SECONDS, is_crowded=self._is_crowded) as turns:
            while True:
                now = self._now()
                self._expire(now)
                due = self._due(now)
                workers = max(self._workers // max(len(due.keys() | turns.keys), 1), 1)
                turns.begin(due, is_over=self._is_over, part=partial(self._of_key, workers=workers))
                if not turns.keys:
                    return did
                did |= turns.ended(_LOOK_SECONDS)
                if not turns.keys:
                    return did

    def _now(self) -> float:
        return self._world.witnesses.clock.monotonic()

    def _expire(self, now: float) -> None:
        if now - self._expired_at > _EXPIRE_SECONDS:
            self._expired_at = now
            self._store.expire(days=self._world.limits.batch_days)

    def _due(self, now: float) -> dict[str, list[Batch]]:
        """Return the batches that may go on, of each key, the oldest first."""
        found: dict[str, list[Batch]] = {}
        for batch in reversed(self._store.batches(running=True)):
            if not self._stopping.is_set() and self._pauses.get(batch.id, now) <= now:
                found.setdefault(batch.key_id, []).append(batch)
        return found

    def _end_of(self, batch: Batch) -> tuple[str, results.Why | None] | None:
        """Return how a batch ends of which nothing is to be asked any more, and what is said of lines without a result.

        None where it goes on.
        """
        if batch.status == "finalizing":
            return "completed", None  # or whatever it began to end as
        if batch.status == "cancelling" or self._world.api_keys.is_ended(batch.key_id):
            return "cancelled", None
        return ("expired", results.EXPIRED) if self._store.now() >= batch.expires else None

    def _is_over(self, batch: Batch) -> bool:
        return self._end_of(batch) is not None

    def _of_key(self, batches: Sequence[Batch], workers: int) -> bool:
        did = False
        for batch in batches:
            if not self._stopping.is_set() and not (did and self._is_crowded.is_set()):
                did |= self._advanced(batch, workers)
        return did

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = _LOOK_SECONDS
            try:
                pause = 0.0 if self.look() else _LOOK_SECONDS
            except Exception as error:  # noqa: BLE001 - a fault in one look must not end all later ones
                # Of a full disk, say: what is answered meanwhile could not be kept and would be asked again.
                self._world.witnesses.log.fault(error, request_id="batches")
                pause = _FAULT_SECONDS
            self._stopping.wait(pause)

    def _advanced(self, batch: Batch, workers: int) -> bool:
        """Advance one; what is wrong with it holds up no other."""
        try:
            return self._advance(batch, workers)
        except StoreDamagedError:
            raise  # of a full disk, say: it is everybody's
        except Exception as error:  # noqa: BLE001 - as above, and this one waits alone
            is_unreadable = isinstance(error, KeyMissingError | CiphertextError)
            is_over = batch.status == "cancelling" or self._store.now() >= batch.expires
            if is_unreadable and is_over and self._store.has_key():
                self._store.lose(batch)
                self._forget(batch)
                return True
            self._world.witnesses.log.fault(error, request_id="batches")
            self._pauses[batch.id] = self._world.witnesses.clock.monotonic() + _FAULT_SECONDS
            return False

    def _advance(self, batch: Batch, workers: int) -> bool:
        end = self._end_of(batch)
        if end is not None:
            return self._finish(batch, *end)
        if not self._may(batch):
            return False
        if batch.id in self._full or self._store.kept(batch.key_id).bytes >= MOST_BYTES:
            return self._finish(batch, "failed", results.FULL)
        aside, most = self._aside_of(batch), workers * _SLICE
        left = [one for one in self._store.left(batch, most=most + len(aside)) if one[0] not in aside][:most]
        self._store.move(batch.id, "in_progress", only_from=("validating",))
        if left:
            with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
                done = list(pool.map(lambda one: self._is_turn(one, left) and self._line(batch, *one), left))
            return any(done) or batch.id in self._full
        if aside:
            # No longer, so that an end by its caller or its window is seen.
            now = self._world.witnesses.clock.monotonic()
            self._pauses[batch.id] = min(*aside.values(), now + _QUOTA_PAUSE_SECONDS)
            return False
        return self._finish(batch, "completed")

    def _is_turn(self, one: object, part: Sequence[object]) -> bool:
        """Tell whether a line of a part may be asked: where other keys wait for their turn, its first one alone."""
        return one is part[0] or not self._is_crowded.is_set()

    def _finish(self, batch: Batch, status: str, unasked: results.Why | None = None) -> bool:
        """End a batch; `unasked` says of each line without a result why it has none."""
        if unasked is not None:
            for number, raw in self._store.left(batch, most=batch.total):
                self._store.add_result(batch, number, results.unasked(raw, unasked), ok=False)
        code, message = unasked or ("", "")
        fault = {"code": code, "line": None, "message": message, "param": None} if status == "failed" else None
        days, goes_on = self._world.limits.batch_days, lambda: not self._stopping.is_set()
        if not self._store.ending.finish(batch, status, days=days, fault=fault, goes_on=goes_on):
            return False
        self._forget(batch)
        return True

    def _forget(self, batch: Batch) -> None:
        """Drop what was noted of a batch that has ended."""
        self._full.discard(batch.id)
        self._pauses.pop(batch.id, None)
        self._in_a_row.pop(batch.id, None)
        of_lines: tuple[dict[tuple[str, int], Any], ...] = (self._aside, self._tries, self._broken_off)
        for noted in of_lines:
            for at in [one for one in list(noted) if one[0] == batch.id]:
                noted.pop(at, None)

    def _aside_of(self, batch: Batch) -> dict[int, float]:
        """Return the lines that found the tokens spent and are not to be asked again yet, and when they are."""
        now = self._world.witnesses.clock.monotonic()
        return {
            number: until for (of, number), (until, _) in list(self._aside.items()) if of == batch.id and until > now
        }

    def _put_aside(self, batch: Batch, number: int) -> None:
        """Let a line wait whose tokens are spent, ever longer; a smaller one behind it may still find enough.

        After so many in a row all of the batch waits for a minute: thousands would be asked for nothing.
        """
        now, at = self._world.witnesses.clock.monotonic(), (batch.id, number)
        seconds = min(2 * self._aside.get(at, (0.0, _QUOTA_PAUSE_SECONDS / 2))[1], _LONGEST_ASIDE_SECONDS)
        self._aside[at] = now + seconds, seconds
        self._in_a_row[batch.id] = self._in_a_row.get(batch.id, 0) + 1
        if self._in_a_row[batch.id] >= _MOST_IN_A_ROW:
            self._in_a_row[batch.id] = 0
            self._pauses[batch.id] = now + _QUOTA_PAUSE_SECONDS

    def _may(self, batch: Batch) -> ApiKey | None:
        """Return the key, if the batch may go on now."""
        world = self._world
        key = world.api_keys.lookup(batch.key_id)
        if key is None or self._stopping.is_set():
            return None
        if world.routes.is_stopped(key_id=key.key_id, department=key.department):
            return None
        try:
            world.permit.require()
        except NotActiveError:
            return None
        return key

    def _line(self, batch: Batch, number: int, raw: bytes) -> bool:
        """Answer one line; return whether it has a result now."""
        key, now = self._may(batch), self._world.witnesses.clock.monotonic()
        if key is None or self._pauses.get(batch.id, now) > now or batch.id in self._full or not self._goes_on(batch):
            return False
        request_id = new_request_id()
        try:
            line = lines.read(raw, endpoint=batch.endpoint)
        except Problem as problem:  # a release of before took it
            self._record(problem, request_id, key, batch)
            self._add(batch, number, lines.custom_id_of(raw), request_id, problem.status, problem.body())
            return True
        ours, theirs = socket.socketpair()
        with self._lock:
            if self._stopping.is_set():
                ours.close()
                theirs.close()
                return False
            self._callers.add(theirs)
        try:
            come = Come(
                request_id=request_id,
                began=now,
                key=key,
                certificate=batch.certificate,
                body=json.dumps(line.body, ensure_ascii=False).encode(errors="surrogatepass"),
                untrusted=line.body,
                label=batch.said.get("label", ""),
                user=batch.said.get("user", ""),
                task=batch.said.get("task", ""),
                environ={"werkzeug.socket": ours},  # whose other end closes when this batch is to stop at once
                wish=Wish(priority=Priority.BATCH, seconds=_PATIENCE_SECONDS),
            )
            status, body = self._asked(batch, number, come)
        finally:
            with self._lock:
                self._callers.discard(theirs)
            theirs.close()
            ours.close()
        if body is None:
            return False
        self._in_a_row.pop(batch.id, None)
        self._aside.pop((batch.id, number), None)
        self._tries.pop((batch.id, number), None)
        self._broken_off.pop((batch.id, number), None)
        self._add(batch, number, line.custom_id, request_id, status, body)
        return True

    def _add(self, batch: Batch, number: int, custom_id: str, request_id: str, status: int, body: Any) -> None:
        told = results.result(custom_id, request_id, status, body)
        if not self._store.add_result(batch, number, told, ok=status == 200, most=MOST_BYTES):
            self._full.add(batch.id)

    def _goes_on(self, batch: Batch) -> bool:
        found = self._store.batch_of(batch.key_id, batch.id)
        return found is not None and found.status in {"validating", "in_progress"}

    def _asked(self, batch: Batch, number: int, come: Come) -> tuple[int, Any]:
        """Return status and body of an answer; no body where the line is to be asked again."""
        try:
            response = self._serve(batch.endpoint, come)
            return response.status_code, results.answered(response)
        except Exception as error:  # noqa: BLE001 - one line's failure is that line's
            problem = problems.from_error(error)
            if problem.code == "internal_error":
                self._world.witnesses.log.fault(error, request_id=come.request_id)
        if not problem.recorded:
            self._record(problem, come.request_id, come.key, batch)
        # Without its key nothing is this line's: the next look tells whether that was ended or is not there for now.
        if problem.status in {problems.caller_left().status, problems.unauthorized().status}:
            return problem.status, None
        if problem.renews:
            self._put_aside(batch, number)
            return problem.status, None
        at = (batch.id, number)
        tries = self._tries[at] = self._tries.get(at, 0) + 1
        # Whose intent is recorded was sent: an engine that is gone then may have died of it, and would every time.
        breaks_off = problem.status == 502 or problem.code == "internal_error"
        breaks_off |= problem.recorded and problem.code == "engine_unavailable"
        broken_off = self._broken_off[at] = self._broken_off.get(at, 0) + breaks_off
        # What 503 says passes, also where no caller is told when: a stop, a queue or counters that cannot be written.
        # So does a search for identifiers that failed: of the box's list, its keys or its disk, not of this line.
        passes = problem.status == 503 or problem.code == "phi_unavailable" or problem.retry_after_seconds is not None
        if broken_off < _TRIES if breaks_off else passes:
            seconds = max(problem.retry_after_seconds or 1.0, 2.0 ** min(tries, _MOST_DOUBLINGS) / 2)
            self._pauses[batch.id] = self._world.witnesses.clock.monotonic() + min(seconds, _LONGEST_PAUSE_SECONDS)
            return problem.status, None
        return problem.status, problem.body()

    def _record(self, problem: Problem, request_id: str, key: ApiKey, batch: Batch) -> None:
        endpoint = batch.endpoint.rpartition("/")[2]
        refusal = Refusal(
            request_id=request_id,
            endpoint="chat" if batch.endpoint == lines.ENDPOINTS[0] else endpoint,
            key_id=key.key_id,
            status=problem.status,
            code=problem.code,
            arm=problem.arm,
            assigned=problem.assigned,
            model_digest=problem.model_digest,
        )
        witnesses = self._world.witnesses
        witnesses.metrics.refused(endpoint=refusal.endpoint, code=problem.code, is_fault=problem.is_fault)
        try:
            self._world.refusals.add(refusal, caller=f"key {key.key_id}")
        except SealiftError as lost:
            witnesses.metrics.unrecorded()
            witnesses.log.alert(Event.UNRECORDED, request_id=request_id, code=lost.code)
