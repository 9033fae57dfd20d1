"""The only JSON codec: RFC 8785 out, strict in (FMT-30 to FMT-39), and readers for single fields.

`loads` turns any bytes into a value or into one of our errors, in time linear in their number. It refuses what two
readers could understand differently: duplicate keys, numbers that are not exact integers, NaN, lone surrogates, a byte
order mark, and more depth or bytes than the format allows; both are counted before the parser runs.
"""

import json
import re
import sys
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, TypeVar

import rfc8785

from media import clock, limits
from media.errors import LimitExceededError, MalformedError

# One bracket a match, with everything before it: text outside strings, whole strings, and an unterminated one to the
# end, so that no byte is looked at twice.
_BRACKET = re.compile(rb'(?:[^"\[{\]}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))*+(?:([\[{])|([\]}])|\Z)', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
# Controls, separators of lines, and marks that turn the reading direction: they make a line say something else.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNPRINTABLE_LINES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
"""How what is signed writes a number that may have decimals: as text, without a sign or an exponent."""
_WRITTEN_AS_INTEGER = 1e21  # below this RFC 8785 writes a float without fraction like an integer
_LONG_BYTES = 2**18  # such a document lists files, whose names and digests stand in other lists too
_INTEGER_CHARS = len(str(limits.INTEGER_MAX)) + 1


def dumps(value: Any, *, allow_floats: bool = False) -> bytes:
    """Return the one canonical form of a value (RFC 8785), without a newline.

    Args:
        value: None, booleans, integers, text, lists, tuples and dictionaries with text keys.
        allow_floats: Finite floats may occur. Nothing of the medium's own files has any.

    Raises:
        MalformedError: The value has no canonical form, or `loads` would refuse it.
    """
    try:
        written = rfc8785.dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise _malformed("A value cannot be written as JSON", str(error)[:120]) from error
    _require_depth(written, limits.JSON_DEPTH)
    _require_readable(value, allow_floats=allow_floats)
    return written


def loads(
    untrusted: bytes,
    *,
    max_bytes: int = limits.JSON_BYTES,
    max_depth: int = limits.JSON_DEPTH,
    allow_floats: bool = False,
) -> Any:
    """Return the value that strict JSON bytes hold.

    Args:
        untrusted: Any bytes.
        max_bytes: Refuse more without looking at them.
        max_depth: Refuse deeper nesting before parsing.
        allow_floats: Take finite decimal numbers as floats (model settings and measured figures have them).

    Raises:
        LimitExceededError: More bytes than `max_bytes`.
        MalformedError: Everything else that is not exactly one unambiguous JSON value.
    """
    if len(untrusted) > max_bytes:
        raise LimitExceededError(
            what="A JSON document is too large",
            why=f"{len(untrusted)} bytes, at most {max_bytes} are read",
            fix="Do not use this medium; ask the sender for a new one.",
        )
    _require_depth(untrusted, max_depth)
    try:
        text = untrusted.decode("utf-8", errors="strict")
        value = json.loads(
            text,
            object_pairs_hook=_object if len(untrusted) < _LONG_BYTES else _object_of_many,
            parse_int=_integer,
            parse_float=_float if allow_floats else _no_float,
            parse_constant=_no_float,
        )
    except UnicodeDecodeError as error:
        raise _malformed("A JSON document is not UTF-8", f"byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _malformed("A JSON document cannot be parsed", f"{error.msg} at character {error.pos}") from error
    if _SURROGATE.search(untrusted):
        _require_no_lone_surrogate(value)
    return value


def loads_canonical(untrusted: bytes, *, max_bytes: int = limits.JSON_BYTES, allow_floats: bool = False) -> Any:
    """Return the value of bytes that are already in canonical form, so that a value has one file only (FMT-31).

    Raises:
        LimitExceededError: More bytes than `max_bytes`.
        MalformedError: Not strict JSON, or not in the form that `dumps` writes.
    """
    if len(untrusted) < min(max_bytes, _LONG_BYTES) and (plain := _plain(untrusted)) is not None:
        return plain
    value = loads(untrusted, max_bytes=max_bytes, allow_floats=allow_floats)
    if dumps(value, allow_floats=allow_floats) != untrusted:
        raise _malformed("A JSON document is not in canonical form", "RFC 8785 writes these values differently")
    return value


def _plain(untrusted: bytes) -> dict[str, Any] | None:
    """Return the object in ASCII bytes of few values that are canonical beyond doubt; None leaves it to `loads`.

    The C encoder orders keys by code point and RFC 8785 by UTF-16 unit, which are one order in ASCII; fractions, which
    the two write differently, are left. What reads back to the same bytes has no key twice and no white space.
    """
    if not untrusted.isascii() or untrusted.count(b"[") + untrusted.count(b"{") > limits.JSON_DEPTH:
        return None
    text = untrusted.decode()
    try:
        value, end = _PLAIN_DECODER.raw_decode(text)
    except (ValueError, MalformedError):
        return None
    return value if isinstance(value, dict) and end == len(text) and _PLAIN_ENCODER.encode(value) == text else None


_Choice = TypeVar("_Choice", bound=str)


def mapping(untrusted: Any, what: str) -> dict[str, Any]:
    """Return the value if it is an object.

    Raises:
        MalformedError: It is not; `what` names the field to the reader.
    """
    if not isinstance(untrusted, dict):
        raise _field(what, "expected an object")
    return untrusted


def array(untrusted: Any, what: str, *, most: int = limits.FILES) -> list[Any]:
    """Return the value if it is an array of at most `most` items.

    Raises:
        MalformedError: It is not.
    """
    if not isinstance(untrusted, list):
        raise _field(what, "expected an array")
    if len(untrusted) > most:
        raise _field(what, f"expected at most {most} items, found {len(untrusted)}")
    return untrusted


def text(
    untrusted: Any, what: str, *, most: int = limits.TEXT_CHARS, may_be_empty: bool = False, lines: bool = False
) -> str:
    """Return the value if it is text that may be shown to a person.

    Args:
        untrusted: The value.
        what: Names the field to the reader.
        most: Characters.
        may_be_empty: Accept an empty text.
        lines: Accept tabulators and line feeds.

    Raises:
        MalformedError: Not text, empty, too long, or with characters that are not printed or turn the direction.
    """
    if not isinstance(untrusted, str):
        raise _field(what, "expected text")
    if not untrusted and not may_be_empty:
        raise _field(what, "expected text, found none")
    if len(untrusted) > most:
        raise _field(what, f"expected at most {most} characters, found {len(untrusted)}")
    if (_UNPRINTABLE_LINES if lines else _UNPRINTABLE).search(untrusted):
        raise _field(what, "holds control characters or marks that change the reading direction")
    return untrusted


def integer(untrusted: Any, what: str, *, minimum: int = 0, maximum: int = limits.INTEGER_MAX) -> int:
    """Return the value if it is an integer in the closed range; true and false are none.

    Raises:
        MalformedError: It is not.
    """
    if not isinstance(untrusted, int) or isinstance(untrusted, bool):
        raise _field(what, "expected an integer")
    if not minimum <= untrusted <= maximum:
        raise _field(what, f"expected {minimum} to {maximum}")
    return untrusted


def boolean(untrusted: Any, what: str) -> bool:
    """Return the value if it is true or false.

    Raises:
        MalformedError: It is not.
    """
    if not isinstance(untrusted, bool):
        raise _field(what, "expected true or false")
    return untrusted


def sha256_hex(untrusted: Any, what: str) -> str:
    """Return the value if it is 64 lower-case hexadecimal digits.

    Raises:
        MalformedError: It is not.
    """
    if not isinstance(untrusted, str) or not _SHA256.fullmatch(untrusted):
        raise _field(what, "expected 64 lower-case hexadecimal digits")
    return untrusted


def moment(untrusted: Any, what: str) -> datetime:
    """Return the value if it is a time in exactly the form ``2026-11-20T08:00:00Z``.

    Raises:
        MalformedError: It is not, or there is no such time.
    """
    if isinstance(untrusted, str) and _MOMENT.fullmatch(untrusted):
        try:
            return clock.from_text(untrusted)
        except ValueError as error:
            raise _field(what, "there is no such time") from error
    raise _field(what, "expected a UTC time like 2026-11-20T08:00:00Z")


def one_of(untrusted: Any, choices: Iterable[_Choice], what: str) -> _Choice:
    """Return the choice that equals the value; choices are texts or a text enumeration.

    Raises:
        MalformedError: None does.
    """
    for choice in choices:
        if isinstance(untrusted, str) and untrusted == choice:
            return choice
    raise _field(what, "expected one of the values that this format version names")


def exact_keys(
    untrusted: Any, required: Collection[str], optional: Collection[str] = (), what: str = "object"
) -> dict[str, Any]:
    """Return the value if it is an object with all the required keys and none but those and the optional ones.

    Raises:
        MalformedError: It is not.
    """
    value = mapping(untrusted, what)
    missing = sorted(set(required) - value.keys())
    if missing:
        raise _field(what, f"lacks {missing[0]}")
    if len(value) > len(set(required) | (set(optional) & value.keys())):
        raise _field(what, "holds a field that this format version does not name")
    return value


def _field(what: str, why: str) -> MalformedError:
    return _malformed(f"{what} is malformed", why)


def _require_depth(untrusted: bytes, max_depth: int) -> None:
    opened = untrusted.count(b"[") + untrusted.count(b"{")
    if opened <= max_depth:
        return
    if opened > limits.JSON_CONTAINERS:
        raise _malformed("A JSON document holds too many values", f"more than {limits.JSON_CONTAINERS} brackets")
    depth = 0
    for bracket in _BRACKET.finditer(untrusted):
        if bracket[1]:
            depth += 1
            if depth > max_depth:
                raise _malformed("A JSON document is nested too deeply", f"more than {max_depth} levels")
        elif bracket[2]:
            depth -= 1
            if depth < 0:
                raise _malformed("A JSON document cannot be parsed", "a bracket closes nothing")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _malformed("A JSON document names a key twice", "each key of an object may occur once")
    return value


def _object_of_many(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a long list: equal texts (paths, digests) are held once, in whatever document they stand."""
    return _object([(sys.intern(key), _once(item)) for key, item in pairs])


def _once(item: Any) -> Any:
    if isinstance(item, str):
        return sys.intern(item)
    if isinstance(item, list):
        return [sys.intern(each) if isinstance(each, str) else each for each in item]
    return item


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_CHARS or abs(int(digits)) > limits.INTEGER_MAX:
        raise _malformed("A JSON document holds a number that is too large", "beyond 2**53 - 1 readers differ")
    if digits == "-0":
        raise _malformed("A JSON document holds a negative zero", "readers differ on it")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value in {float("inf"), float("-inf")}:
        raise _malformed("A JSON document holds a number that is too large", "it is not finite as a double")
    return value


def _no_float(digits: str) -> float:
    raise _malformed("A JSON document holds a number that is not an integer", digits[:24])


_PLAIN_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_no_float, parse_constant=_no_float)
_PLAIN_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))


def _require_no_lone_surrogate(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8", errors="strict")
    except UnicodeEncodeError as error:
        raise _malformed("A JSON document holds half a character", "a lone surrogate is no text") from error


def _require_readable(value: Any, *, allow_floats: bool) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and (not allow_floats or limits.INTEGER_MAX < abs(item) < _WRITTEN_AS_INTEGER):
            raise _malformed("A value cannot be written as JSON", "a float has no place here, or reads as an integer")
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(what=what, why=why, fix="Do not use this file; ask its maker for a correct one.")
