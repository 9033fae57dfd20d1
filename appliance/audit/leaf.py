"""One record: the exact bytes that are hashed, and the only codec for them.

A leaf is RFC 8785 JSON with the members schema (1), origin, sequence, time, kind, via {door, uid}, body; where several
nodes record into one ledger, via names the node, too. Bodies hold no number beyond 2**53 - 1 and no text that UTF-8
cannot carry, so that every JSON reader sees the same value. Reading is strict: bytes that would not be written again
exactly so are refused.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from appliance.audit import tree
from appliance.errors import LedgerDamagedError, LedgerRefusedError
from media import canonical
from media.clock import from_text
from media.errors import MediaError

SCHEMA: Final = 1
MAX_LEAF_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 16
NODE: Final = r"[a-z0-9](-?[a-z0-9]){0,31}"
"""How a node is named."""
_MAX_INTEGER: Final = 2**53 - 1
_MEMBERS: Final = frozenset({"schema", "origin", "sequence", "time", "kind", "via", "body"})
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}(?:\.[a-z][a-z0-9-]{0,31}){1,3}")
_ORIGIN = re.compile(r"sealift/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{8}")
# A circle is refused as nested too deeply before anything is encoded.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"), default=dict
)
# Tuples, with what is frequent first: these checks run for every value of every record.
_PLAIN: Final = (str, bool)
_NUMBERS: Final = (int, float)
_MAPPINGS: Final = (dict, Mapping)
FORM: Final = b'{"body":%b%b%d%b'
"""A leaf's bytes: its body, what is between, its sequence, and what comes after; see `around`."""
_DOOR = re.compile(r"[a-z][a-z-]{0,31}")
_NODE = re.compile(NODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Via:
    """Through which door a record came, the user the kernel named, and the node where several answer at once."""

    door: str
    uid: int
    node: str = ""

    def is_of(self, node: str) -> bool:
        """Tell whether it is a node's own: what names none was recorded while a single one answered.

        Args:
            node: Its name; empty where a single one answers.
        """
        return not node or self.node in {"", node}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A record as read back; `raw` are the bytes in the tree, `hash` their leaf hash, `chain` the hash so far."""

    origin: str
    sequence: int
    time: str
    kind: str
    via: Via
    body: Mapping[str, Any]
    raw: bytes
    hash: str
    chain: str = ""

    @classmethod
    def from_bytes(cls, untrusted: bytes, *, hashed: bytes = b"") -> "Leaf":
        """Parse a leaf.

        Args:
            untrusted: The bytes.
            hashed: Their leaf hash, where the caller has it.

        Raises:
            LedgerDamagedError: These bytes are not exactly what `encode` writes.
        """
        try:
            members = canonical.loads_canonical(untrusted, max_bytes=2 * MAX_LEAF_BYTES, allow_floats=True)
        except MediaError as error:
            raise _damaged(f"{error.what}: {error.why}") from error
        if not isinstance(members, dict) or set(members) != _MEMBERS or _whole(members, "schema") != SCHEMA:
            raise _damaged("it lacks the members of a leaf of schema 1")
        body = members["body"]
        if not isinstance(body, dict):
            raise _damaged("body is not an object")
        return cls(
            origin=_text(members, "origin", _ORIGIN),
            sequence=_whole(members, "sequence"),
            time=_time(members),
            kind=_text(members, "kind", _KIND),
            via=_via(members["via"]),
            body=body,
            raw=untrusted,
            hash=(hashed or tree.leaf_hash(untrusted)).hex(),
        )

    @classmethod
    def of_ours(cls, raw: bytes, *, hashed: str, chain: str) -> "Leaf":
        """Return the leaf in bytes that the ledger's own process wrote or vouches for, without proving their form.

        Raises:
            LedgerDamagedError: They are not a leaf at all.
        """
        try:
            members = json.loads(raw.decode())
            return cls(
                origin=members["origin"],
                sequence=members["sequence"],
                time=members["time"],
                kind=members["kind"],
                via=Via(**members["via"]),
                body=members["body"],
                raw=raw,
                hash=hashed,
                chain=chain,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(type(error).__name__) from error


def require_kind(untrusted: object) -> str:
    """Return the kind when it is one: lower-case words joined by dots.

    Raises:
        LedgerRefusedError: It is not.
    """
    if not isinstance(untrusted, str) or not _KIND.fullmatch(untrusted):
        raise LedgerRefusedError(what="a record has no proper kind", why="expected words joined by dots")
    return untrusted


def encode_body(kind: str, body: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a body.

    Raises:
        LedgerRefusedError: It holds what a record may not hold, or is too long; `why` names the field.
    """
    if not isinstance(body, _MAPPINGS):
        raise _refused(kind, "the body is not an object")
    exact = _require_plain(kind, body, "body", MAX_DEPTH)
    text = _ENCODER.encode(body)
    # Python orders keys by code point, RFC 8785 by UTF-16 unit, and they write fractions differently: for all
    # else, nearly every record, the C encoder gives the same bytes at a fifth of the time (checked by a property test).
    if exact and text.isascii():
        encoded = text.encode()
    else:
        try:
            encoded = canonical.dumps(_as_dicts(body), allow_floats=True)
        except MediaError as error:
            raise _refused(kind, error.why) from error
    if len(encoded) > MAX_LEAF_BYTES:
        raise _refused(kind, f"{len(encoded)} bytes, and the limit is {MAX_LEAF_BYTES}")
    return encoded


def encode(*, origin: str, sequence: int, time: str, kind: str, via: Via, body: bytes) -> bytes:
    """Return a leaf's bytes; `body` comes from `encode_body`. All other texts are plain ASCII by their grammar."""
    between, after = around(origin=origin, time=time, kind=kind, via=via)
    return FORM % (body, between, sequence, after)


def around(*, origin: str, time: str, kind: str, via: Via) -> tuple[bytes, bytes]:
    """Return what stands between body and sequence in `FORM`, and after the sequence: alike for many records."""
    node = b'"node":"%b",' % via.node.encode() if via.node else b""
    return (
        b',"kind":"%b","origin":"%b","schema":1,"sequence":' % (kind.encode(), origin.encode()),
        b',"time":"%b","via":{"door":"%b",%b"uid":%d}}' % (time.encode(), via.door.encode(), node, via.uid),
    )


def _require_plain(kind: str, value: object, at: str, depth: int) -> bool:
    """Return whether the value holds no fraction; refuse what has no place in a record."""
    if value is None or isinstance(value, _PLAIN):
        return True
    if isinstance(value, _NUMBERS):
        return _require_number(kind, value, at)
    if depth == 0:
        raise _refused(kind, f"{at} is nested deeper than {MAX_DEPTH}")
    exact = True
    if isinstance(value, _MAPPINGS):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refused(kind, f"{at} has a name that is not text")
            what = type(item)
            if what is str or what is bool or item is None or (what is int and -_MAX_INTEGER <= item <= _MAX_INTEGER):
                continue
            exact &= _require_plain(kind, item, f"{at}.{key}", depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            exact &= _require_plain(kind, item, f"{at}[]", depth - 1)
    else:
        raise _refused(kind, f"{at} is a {type(value).__name__}")
    return exact


def _require_number(kind: str, value: float, at: str) -> bool:
    # In this order: a very large whole number is not even comparable as a float.
    if abs(value) > _MAX_INTEGER or not math.isfinite(value):
        raise _refused(kind, f"{at} is not finite or larger than 2**53 - 1: write it as text")
    return isinstance(value, int)


def _as_dicts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_dicts(item) for key, item in value.items()}
    return [_as_dicts(item) for item in value] if isinstance(value, list | tuple) else value


def _text(members: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = members[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _damaged(f"{name} is not in its form")
    return value


def _time(members: Mapping[str, Any]) -> str:
    value = members["time"]
    try:
        return _moment(value)
    except (ValueError, TypeError) as error:
        raise _damaged("time is not in its form") from error


@lru_cache(maxsize=1024)
def _moment(untrusted: str) -> str:
    """Return a time that is one; remembered, because many records bear the same second, and reading it takes long.

    Raises:
        ValueError, TypeError: It is none.
    """
    from_text(untrusted)
    return untrusted


def _whole(members: Mapping[str, Any], name: str) -> int:
    value = members[name]
    if type(value) is not int or value < 0:
        raise _damaged(f"{name} is not a whole number")
    return value


def _via(untrusted: object) -> Via:
    if not isinstance(untrusted, dict) or set(untrusted) - {"node"} != {"door", "uid"}:
        raise _damaged("via is not door and uid")
    node = _text(untrusted, "node", _NODE) if "node" in untrusted else ""
    return Via(door=_text(untrusted, "door", _DOOR), uid=_whole(untrusted, "uid"), node=node)


def _refused(kind: str, why: str) -> LedgerRefusedError:
    return LedgerRefusedError(
        what=f"a record of kind {kind} cannot be written", why=why, fix="report it: a fault of ours"
    )


def _damaged(why: str) -> LedgerDamagedError:
    return LedgerDamagedError(what="a ledger leaf does not read", why=why, fix="see docs/operator/ledger.md: recovery")
