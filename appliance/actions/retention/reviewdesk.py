"""The counter of the review store: who may hand in a sample, and who may look at one and say what it is worth.

Three doors, each a socket with its own group. The gateway hands in and reads nothing, not even what it handed in; the
page and the operators' commands read and hand in nothing. Whoever looks is in the ledger before the first byte leaves.

    keep{request_id,subject,content} -> {expires}                       gateway; content is base64
    standing -> {count,most,days,rated}                                 admin, operator
    list -> {samples:[{request_id,made,expires,rating}]}                admin, operator
    draw{person,reason} -> {request_id,content}                         one that nobody rated, by chance
    show{request_id,person,reason} -> {request_id,content}
    rate{request_id,rating,person} -> {request_id,rating}               by somebody who looked at it
    due{until} -> {samples}                                             root, through the operators' door
    destroy{until} -> {samples}                                         a piece of them, after it was recorded

Rules:
    REV-1 What is kept was protected by the gateway and bounded by the site file; this desk does not take its word for
          how long and how many.
    REV-2 A sample that cannot be recorded as looked at is not shown (RET-4).
    REV-3 A rating is one of a closed list: nobody can type an answer's words into the ledger.
"""

import base64
import binascii
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from appliance.actions.retention.deeds import READ, Retention
from appliance.actions.retention.reviewstore import ReviewStore, Sample
from appliance.audit.facts import EVERY, Ledger
from appliance.errors import LedgerRefusedError, WireError
from appliance.sections import ReviewSection
from appliance.watchdog.loops import is_free
from appliance.wire import Peer
from media import canonical
from media.clock import Clock, to_text
from media.errors import UsageError

GATEWAY_DOOR: Final = "review-gateway"
ADMIN_DOOR: Final = "review-admin"
OPERATOR_DOOR: Final = "review-operator"
DOORS: Final = (GATEWAY_DOOR, ADMIN_DOOR, OPERATOR_DOOR)
RATED: Final = "review.rated"
RATINGS: Final = ("good", "incomplete", "wrong", "harmful", "not-protected")
FORMAT: Final = 1
MAX_CONTENT_BYTES: Final = 96 * 1024
_ID: Final = 64

Fields = Mapping[str, Any]


class Reviews(Protocol):
    """What asks the desk, through whichever door."""

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the answer.

        Raises:
            WireError: The review store's process does not answer.
            RemoteError: It refused.
        """
        ...


class ReviewDesk:
    """Answers each message of a door.

    Args:
        store: The samples.
        ledger: Where every look and every rating is recorded.
        policy: How long and how many, and whether any.
        clock: What time it is.
        choose: Takes one of several samples by chance.
    """

    def __init__(
        self,
        store: ReviewStore,
        ledger: Ledger,
        *,
        policy: ReviewSection,
        clock: Clock,
        choose: Callable[[Sequence[Sample]], Sample] = secrets.choice,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._retention = Retention(store, ledger, clock=clock)
        self._policy = policy
        self._clock = clock
        self._choose = choose
        self._lock = threading.Lock()

    def __call__(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        """Answer one message.

        Raises:
            LedgerRefusedError: The door has no right to ask that.
            UsageError, NoSpaceError, StoreWriteError, KeyMissingError: As the store and `Retention`.
            LedgerUnavailableError: It is not recorded, so it did not happen.
        """
        do = untrusted.get("do")
        answer = self._doing(peer).get(do if isinstance(do, str) else "")
        if answer is None:
            raise LedgerRefusedError(
                what=f"the door {peer.door} has no right to that",
                why="the gateway hands samples in, people look at them, and nobody does both",
                fix="report it: a fault of ours, or a misuse",
            )
        with self._lock:
            return answer(peer, untrusted)

    def turns(self, seconds: float) -> bool:
        """Whether a message would have its turn within so many seconds."""
        return is_free(self._lock, seconds)

    def _doing(self, peer: Peer) -> Mapping[str, Callable[[Peer, Fields], Mapping[str, Any]]]:
        if peer.door == GATEWAY_DOOR:
            return {"keep": self._keep}
        is_roots = peer.door == OPERATOR_DOOR and peer.uid in {0, os.getuid()}
        nightly = {"due": self._due, "destroy": self._destroy} if is_roots else {}
        if peer.door in {ADMIN_DOOR, OPERATOR_DOOR}:
            return {
                **nightly,
                "standing": self._standing,
                "list": self._list,
                "draw": self._draw,
                "show": self._show,
                "rate": self._rate,
            }
        return {}

    def _keep(self, _peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        request_id, subject = _text(untrusted, "request_id", _ID), _text(untrusted, "subject", 512)
        content = _content(untrusted.get("content"))
        if not self._policy.keeps:
            raise UsageError(what="no sample is kept here", why="the site file says so", fix="set review.one_in")
        self._store.require_room(most=self._policy.most)
        sample = self._store.add(request_id, subject=subject, content=content, days=self._policy.days)
        return {"expires": sample.expires}

    def _standing(self, _peer: Peer, _untrusted: Fields) -> Mapping[str, Any]:
        samples, ratings = self._current(), self._ratings()
        rated = sum(sample.request_id in ratings for sample in samples)
        return {"count": len(samples), "most": self._policy.most, "days": self._policy.days, "rated": rated}

    def _list(self, _peer: Peer, _untrusted: Fields) -> Mapping[str, Any]:
        ratings = self._ratings()
        return {
            "samples": [
                {
                    "request_id": sample.request_id,
                    "made": sample.made,
                    "expires": sample.expires,
                    "rating": ratings.get(sample.request_id, ""),
                }
                for sample in self._current()
            ]
        }

    def _draw(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        ratings = self._ratings()
        waiting = [sample for sample in self._current() if sample.request_id not in ratings]
        if not waiting:
            raise UsageError(what="no sample waits to be rated", why="", fix="see `sealift samples list`")
        return self._shown(peer, untrusted, self._choose(waiting).request_id)

    def _show(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        return self._shown(peer, untrusted, _text(untrusted, "request_id", _ID))

    def _shown(self, peer: Peer, untrusted: Fields, request_id: str) -> Mapping[str, Any]:
        person, reason = _text(untrusted, "person", 200), _text(untrusted, "reason", 400)
        through = f"{peer.door}, user {peer.uid}"
        content = self._retention.read(request_id, person=person, reason=reason, through=through)
        return {"request_id": request_id, "content": json.loads(content)}

    def _rate(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        request_id, person = _text(untrusted, "request_id", _ID), _text(untrusted, "person", 200)
        rating = untrusted.get("rating")
        if rating not in RATINGS:
            raise UsageError(what="that is no rating", why="", fix=f"give one of {', '.join(RATINGS)}")
        looked = self._ledger.find(READ, field="request_id", value=request_id, limit=EVERY)
        if person not in {leaf.body.get("person") for leaf in looked}:
            raise UsageError(
                what=f"{person} has not looked at it", why="a rating is by who looked", fix="show the sample first"
            )
        through = f"{peer.door}, user {peer.uid}"
        self._ledger.append(RATED, {"request_id": request_id, "rating": rating, "person": person, "through": through})
        return {"request_id": request_id, "rating": rating}

    def _due(self, _peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        return {"samples": self._retention.due(_text(untrusted, "until", _ID))}

    def _destroy(self, _peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        return {"samples": self._retention.destroy(_text(untrusted, "until", _ID))}

    def _current(self) -> tuple[Sample, ...]:
        now = to_text(self._clock.now())
        return tuple(sample for sample in self._store.samples() if sample.expires > now)

    def _ratings(self) -> dict[str, str]:
        """Return the newest rating of each sample that has one."""
        newest_first = self._ledger.find(RATED, limit=EVERY)
        return {str(leaf.body.get("request_id")): str(leaf.body.get("rating")) for leaf in reversed(newest_first)}


def _text(untrusted: Fields, name: str, most: int) -> str:
    value = untrusted.get(name)
    return canonical.text(value.strip() if isinstance(value, str) else value, f"the {name}", most=most)


def _content(untrusted: object) -> bytes:
    try:
        content = base64.b64decode(untrusted if isinstance(untrusted, str) else "", validate=True)
        value = json.loads(content)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _malformed(type(error).__name__) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _malformed(f"it is not an object of format {FORMAT}")
    if len(content) > MAX_CONTENT_BYTES:
        raise _malformed(f"it has more than {MAX_CONTENT_BYTES} bytes")
    return content


def _malformed(why: str) -> WireError:
    return WireError(what="a sample's content does not read", why=why, fix="use the same release on both sides")
