"""The ledger's side of the conversation: what a line asks, and the line that answers it.

    append{kind, body, key?} -> {sequence, leaf_hash, time}     leaf{sequence} -> {sequence, bytes, hash, chain}
    leaves{start, limit, kinds?} -> {leaves: [...], more: bool}
    find{kind?, field?, value?, limit?, newest_first?, start?} -> {leaves: [...], more: bool}
    head -> {origin, size, root}     checkpoint -> {note}     vkey -> {vkey}
    inclusion{sequence, size?} -> {sequence, size, root, hashes, note}
    nodes{start, end} -> {nodes: [[level, position, hash], ...]}     for a thousand leaves at most
    consistency{old, new} -> {old, new, old_root, new_root, hashes}
    room -> {closing, wanted, held, free, size, apart}, or {} where the records lie on a database server
    introduce, introduced{introduction}: see `introductions`

Answers to leaves and find stop after a few megabytes or a thousand leaves; `more` says that a client should ask on
from the last one.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final

from appliance.audit.facts import Appended
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Entry, Log
from appliance.audit.rights import require_account_may, require_may_append, require_own_stage
from appliance.errors import WireError
from appliance.wire import Peer
from media.errors import SealiftError

MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
MAX_KEY_CHARACTERS: Final = 64
MAX_ROWS: Final = 1000
_REMEMBERED_RIGHTS: Final = 1024
_PARSER: Final = json.JSONDecoder()


def decode(untrusted_line: bytes) -> dict[str, Any]:
    """Return the message in one line.

    Raises:
        WireError: It is not a JSON object.
    """
    try:
        # Decoded first: given bytes, the parser looks for other encodings.
        message = _parse(untrusted_line.decode())
    except (ValueError, RecursionError) as error:
        raise _wrong("a message is not JSON", type(error).__name__) from error
    if not isinstance(message, dict):
        raise _wrong("a message is not a JSON object", type(message).__name__)
    return message


def _parse(untrusted: str) -> Any:
    """Return the value in a text; our own clients write no white space around it, which takes long to look for."""
    try:
        value, end = _PARSER.raw_decode(untrusted)
    except ValueError:
        end = -1
    return value if end == len(untrusted) else json.loads(untrusted)


def entry_of(peer: Peer, untrusted: Mapping[str, Any]) -> Entry:
    """Return the checked record that an append asks for.

    Raises:
        LedgerRefusedError: The door may not record this kind, or the body breaks its rules.
        WireError: The message lacks a part.
    """
    kind, body, key = untrusted.get("kind"), untrusted.get("body"), untrusted.get("key", "")
    if not isinstance(kind, str) or not isinstance(body, dict):
        raise _wrong("an append lacks kind or body", "kind is text, body an object")
    if not isinstance(key, str) or len(key) > MAX_KEY_CHARACTERS or not (key.isascii() and key.isprintable()):
        # Half a surrogate pair, for one, is no text that the file takes: it would fail the whole batch.
        raise _wrong("an idempotency key is wrong", f"printable ASCII of at most {MAX_KEY_CHARACTERS} characters")
    via = _may_come(peer.door, peer.uid, kind)
    require_own_stage(peer.door, kind, body)
    return Entry.of(kind, body, via=via, key=key)


@lru_cache(maxsize=_REMEMBERED_RIGHTS)
def _may_come(door: str, uid: int, kind: str) -> Via:
    """Return how a record of this kind comes in; only what may is remembered, since all of it follows from these."""
    require_may_append(door, kind)
    require_account_may(Peer(door=door, pid=0, uid=uid, gid=0), kind)
    return Via(door=door, uid=uid)


def read(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    """Answer every question that changes nothing.

    Raises:
        WireError: The question is unknown or lacks a part.
        SealiftError: As the log's own methods.
    """
    question = untrusted.get("do")
    answer = _QUESTIONS.get(question) if isinstance(question, str) else None
    if answer is None:
        raise _wrong("the ledger was asked for something it does not do", str(question)[:40])
    return answer(log, untrusted)


def ok(answer: Mapping[str, Any]) -> bytes:
    """Return the line of a good answer."""
    return json.dumps({"ok": answer}, separators=(",", ":")).encode() + b"\n"


def appended(outcome: Appended | SealiftError) -> bytes:
    """Return the line that acknowledges or refuses one record."""
    if isinstance(outcome, Appended):
        sequence, leaf_hash, time = outcome
        return f'{{"ok":{{"sequence":{sequence},"leaf_hash":"{leaf_hash}","time":"{time}"}}}}\n'.encode()
    return failed(outcome)


def failed(error: Exception) -> bytes:
    """Return the line of an error; of a fault of ours only its type, because its text may hold content."""
    if isinstance(error, SealiftError):
        fields: Mapping[str, Any] = error.to_json()
    else:
        fields = {
            "code": "internal",
            "exit_code": 1,
            "what": f"the request failed ({type(error).__name__})",
            "why": "this is a fault of ours",
            "fix": "see the journal of sealift-ledger",
        }
    return json.dumps({"error": fields}, separators=(",", ":")).encode() + b"\n"


def _leaves(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    limit = _whole(untrusted, "limit")
    found = log.leaves(_whole(untrusted, "start"), min(limit, MAX_ROWS), kinds=_kinds(untrusted))
    return _page(found, limit)


def _inclusion(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    size = _whole(untrusted, "size") if untrusted.get("size") is not None else None
    return asdict(log.inclusion(_whole(untrusted, "sequence"), size))


def _find(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    kind, field, value = untrusted.get("kind"), untrusted.get("field"), untrusted.get("value")
    if not isinstance(kind, str | None) or not isinstance(field, str | None):
        raise _wrong("a search is wrong", "kind and field are text")
    if not isinstance(value, str | int | bool | None):
        raise _wrong("a search is wrong", "value is text, a whole number, a truth value or null")
    limit = _whole(untrusted, "limit") if "limit" in untrusted else 50
    newest_first = untrusted.get("newest_first", True) is True
    start = _whole(untrusted, "start") if "start" in untrusted else None
    found = log.find(
        kind=kind, field=field, value=value, limit=min(limit, MAX_ROWS), newest_first=newest_first, start=start
    )
    return _page(found, limit)


def _page(leaves: Sequence[Leaf], limit: int) -> dict[str, Any]:
    taken: list[dict[str, Any]] = []
    length = 0
    for leaf in leaves:
        length += len(leaf.raw)
        if taken and length > MAX_ANSWER_BYTES:
            return {"leaves": taken, "more": True}
        taken.append(_leaf(leaf))
    return {"leaves": taken, "more": MAX_ROWS <= len(taken) < limit}


def _leaf(leaf: Leaf) -> dict[str, Any]:
    encoded = b64encode(leaf.raw).decode()
    return {"sequence": leaf.sequence, "bytes": encoded, "hash": leaf.hash, "chain": leaf.chain}


def _kinds(untrusted: Mapping[str, Any]) -> list[str] | None:
    kinds = untrusted.get("kinds")
    if kinds is None:
        return None
    if not isinstance(kinds, list) or len(kinds) > 100 or not all(isinstance(kind, str) for kind in kinds):
        raise _wrong("a question is wrong", "kinds is a list of text")
    return sorted(set(kinds))


def _whole(untrusted: Mapping[str, Any], name: str) -> int:
    value = untrusted.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise _wrong("a question is wrong", f"{name} is a whole number")
    return value


def _wrong(what: str, why: str) -> WireError:
    return WireError(what=what, why=why, fix="use the same release on both sides")


def _checkpoints(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    found = log.checkpoints(_whole(untrusted, "start"), min(_whole(untrusted, "limit"), MAX_ROWS))
    return {"checkpoints": [{"size": size, "note": text} for size, text in found]}


def _nodes(log: Log, untrusted: Mapping[str, Any]) -> dict[str, Any]:
    start = _whole(untrusted, "start")
    found = log.nodes(start, min(_whole(untrusted, "end"), start + MAX_ROWS))
    return {"nodes": [(level, position, hashed.hex()) for level, position, hashed in found]}


def _room(log: Log, _untrusted: Mapping[str, Any]) -> dict[str, Any]:
    return {} if log.standing is None else dict(log.standing())


_QUESTIONS: Final[Mapping[str, Callable[[Log, Mapping[str, Any]], dict[str, Any]]]] = {
    "leaf": lambda log, untrusted: _leaf(log.leaf(_whole(untrusted, "sequence"))),
    "leaves": _leaves,
    "find": _find,
    "head": lambda log, _: asdict(log.head()),
    "checkpoint": lambda log, _: {"note": log.checkpoint()},
    "checkpoints": _checkpoints,
    "cosigned": lambda log, untrusted: {"note": log.cosigned(_whole(untrusted, "size"))},
    "vkey": lambda log, _: {"vkey": log.vkey.to_text()},
    "inclusion": _inclusion,
    "nodes": _nodes,
    "room": _room,
    "consistency": lambda log, untrusted: asdict(log.consistency(_whole(untrusted, "old"), _whole(untrusted, "new"))),
}
