"""The ledger through one of its doors."""

import itertools
import json
import os
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from appliance.audit import tree
from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, Sent, TreeHead
from appliance.audit.introductions import INTRODUCE, INTRODUCED, Introduced
from appliance.audit.leaf import Leaf
from appliance.audit.note import VerifierKey
from appliance.audit.pipe import Asked, Pool, opened, raise_errors
from appliance.errors import LedgerRefusedError, LedgerUnavailableError
from media.errors import SealiftError

TIMEOUT_SECONDS: Final = 30.0

_Fact = TypeVar("_Fact", TreeHead, InclusionProof, ConsistencyProof, Introduced)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


# What contains itself is too deep for it all the same; looking for that costs a third.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False, default=_plain)


class _Keys:
    """Idempotency keys that nobody else makes: a random beginning for each process, and a number.

    They need not be secret, and each draw from the kernel lets another thread go on.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._owner = 0
        self._beginning = ""

    def following(self) -> str:
        if self._owner != os.getpid():
            # A fork would go on with the parent's.
            self._beginning = secrets.token_hex(12)
            self._owner = os.getpid()
        return f"{self._beginning}-{next(self._numbers)}"


_keys: Final = _Keys()


class _Sent:
    """A record on its way; see `appliance.audit.facts.Sent`."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._outcome: Appended | SealiftError | None = None

    def fileno(self) -> int:
        return self._asked.fileno()

    def wait(self) -> Appended:
        if self._outcome is None:
            self._outcome = self._told()
        if isinstance(self._outcome, SealiftError):
            raise self._outcome
        return self._outcome

    def close(self) -> None:
        self._asked.close()

    def _told(self) -> Appended | SealiftError:
        try:
            (answer,) = self._asked.answers()
            told = opened(answer)
            return told if isinstance(told, SealiftError) else _appended(told)
        except SealiftError as error:
            return error


class SocketLedger:
    """A `Ledger` over a Unix socket. One object serves all threads of a process, also after a fork."""

    def __init__(self, path: Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._pool = Pool(path, timeout_seconds=timeout_seconds)

    def append(self, kind: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        """Record durably; see `Ledger.append`. A caller that retries over restarts of its own passes its own `key`."""
        return self.append_many([(kind, body)], keys=None if key is None else [key])[0]

    def send(self, kind: str, body: Mapping[str, Any]) -> Sent:
        """Begin to record; see `SendingLedger.send`."""
        line = _line({"do": "append", "key": _keys.following(), "kind": kind, "body": body})
        return _Sent(Asked(self._pool, [line]))

    def append_many(
        self, records: Sequence[tuple[str, Mapping[str, Any]]], *, keys: Sequence[str] | None = None
    ) -> list[Appended]:
        """Record several at once, all in flight together; each is durable or not on its own.

        Raises:
            LedgerUnavailableError: At least one could not be made durable.
            LedgerRefusedError: At least one was refused.
        """
        chosen = keys or [_keys.following() for _ in records]
        lines = [
            _line({"do": "append", "key": key, "kind": kind, "body": body})
            for (kind, body), key in zip(records, chosen, strict=True)
        ]
        return [_appended(answer) for answer in raise_errors(self._pool.ask(lines))]

    def leaf(self, sequence: int) -> Leaf:
        """Return one leaf; see `Ledger.leaf`."""
        return _leaf(self._ask("leaf", sequence=sequence))

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        """Return leaves in order; see `Ledger.leaves`."""
        more = {} if kinds is None else {"kinds": sorted(kinds)}
        return self._pages("leaves", start, limit, 1, **more)

    def find(
        self,
        kind: str | None = None,
        field: str | None = None,
        value: str | int | bool | None = None,  # noqa: FBT001 - as the protocol
        limit: int = 50,
        newest_first: bool = True,  # noqa: FBT001, FBT002 - as the protocol
    ) -> list[Leaf]:
        """Return the leaves that match; see `Ledger.find`."""
        question = {"kind": kind, "field": field, "value": value, "newest_first": newest_first}
        return self._pages("find", None, limit, -1 if newest_first else 1, **question)

    def head(self) -> TreeHead:
        """Return size and root; see `Ledger.head`."""
        return _fact(TreeHead, self._ask("head"))

    def checkpoint(self) -> str:
        """Return a signed checkpoint; see `Ledger.checkpoint`."""
        return str(self._ask("checkpoint").get("note", ""))

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return kept checkpoints with their sizes; see `EvidenceLedger.checkpoints`."""
        found = self._ask("checkpoints", start=start, limit=limit).get("checkpoints")
        try:
            return [(int(one["size"]), str(one["note"])) for one in found or ()]
        except (KeyError, TypeError, ValueError) as error:
            raise _strange("checkpoints are not what was asked for") from error

    def nodes(self, start: int, end: int) -> list[tree.Node]:
        """Return stored nodes of the tree; see `Ledger.nodes`."""
        found = self._ask("nodes", start=start, end=end).get("nodes")
        try:
            return [(int(level), int(place), bytes.fromhex(hashed)) for level, place, hashed in found or ()]
        except (TypeError, ValueError) as error:
            raise _strange("nodes are not what was asked for") from error

    def cosigned(self, size: int) -> str:
        """Return a kept checkpoint with every signature there is; see `EvidenceLedger.cosigned`."""
        return str(self._ask("cosigned", size=size).get("note", ""))

    def vkey(self) -> VerifierKey:
        """Return the key that the ledger says it signs with."""
        return VerifierKey.from_text(str(self._ask("vkey").get("vkey", "")))

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf; see `Ledger.inclusion`."""
        return _fact(InclusionProof, self._ask("inclusion", sequence=sequence, size=size))

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof between two sizes; see `Ledger.consistency`."""
        return _fact(ConsistencyProof, self._ask("consistency", old=old, new=new))

    def introduce(self) -> str:
        """Return what shows the job service who this process is; see `introductions`."""
        return str(self._ask(INTRODUCE).get("introduction", ""))

    def introduced(self, introduction: str) -> Introduced:
        """Return who was given this introduction. The job service alone may ask, and once.

        Raises:
            LedgerRefusedError: Nobody was, or it was told before, or it is not for this process to know.
        """
        return _fact(Introduced, self._ask(INTRODUCED, introduction=introduction))

    def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()

    def _ask(self, do: str, **members: Any) -> dict[str, Any]:
        return raise_errors(self._pool.ask([_line({"do": do, **members})]))[0]

    def _pages(self, do: str, start: int | None, limit: int, step: int, **members: Any) -> list[Leaf]:
        found: list[Leaf] = []
        place = {} if start is None else {"start": max(start, 0)}
        while len(found) < limit:
            answer = self._ask(do, limit=limit - len(found), **place, **members)
            page = answer.get("leaves")
            if not isinstance(page, list):
                raise _strange("leaves is not a list")
            found += [_leaf(untrusted) for untrusted in page]
            if not answer.get("more") or not page:
                break
            place = {"start": found[-1].sequence + step}
        return found


def _line(message: Mapping[str, Any]) -> bytes:
    try:
        text = _ENCODER.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerRefusedError(
            what="a record cannot be written", why=f"its body is not JSON ({type(error).__name__})", fix="report it"
        ) from error
    return text.encode() + b"\n"


def _leaf(untrusted: Any) -> Leaf:
    try:
        raw = b64decode(untrusted["bytes"], validate=True)
        chain = str(untrusted["chain"])
    except (KeyError, TypeError, ValueError, Base64Error) as error:
        raise _strange("a leaf lacks its bytes") from error
    return Leaf.of_ours(raw, hashed=tree.leaf_hash(raw).hex(), chain=chain)


def _appended(untrusted: Mapping[str, Any]) -> Appended:
    try:
        return Appended(sequence=untrusted["sequence"], leaf_hash=untrusted["leaf_hash"], time=untrusted["time"])
    except KeyError as error:
        raise _strange("an acknowledgement lacks a member") from error


def _fact(kind: type[_Fact], untrusted: Mapping[str, Any]) -> _Fact:
    members: dict[str, Any] = {one.name: untrusted.get(one.name) for one in fields(kind)}
    if isinstance(members.get("hashes"), list):
        members["hashes"] = tuple(str(one) for one in members["hashes"] or ())
    if None in members.values():
        raise _strange(f"{kind.__name__} lacks a member")
    return kind(**members)


def _strange(why: str) -> LedgerUnavailableError:
    return LedgerUnavailableError(
        what="the ledger's answer breaks the protocol", why=why, fix="use the same release on both sides"
    )
