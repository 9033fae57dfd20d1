"""Records of the ledger as a collector takes them: RFC 5424, JSON lines, CEF. Never a prompt, an answer, a typed text.

Of a record's body only the fields of `SENT` leave, and only where they are text, whole numbers or truth values: ids,
digests, outcomes, counts. Reasons and names that people typed stay. Every message bears the record's sequence and leaf
hash, so that a collector's copy can be held against the ledger, and a message that came twice is seen.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from appliance.audit.leaf import Leaf

SENT: Final = (
    *("request_id", "key_id", "department", "endpoint", "model_digest", "serial", "release", "classification"),
    *("status", "outcome", "code", "finish_reason", "prompt_tokens", "completion_tokens", "latency_ms", "repeated"),
    *("person", "gate", "passed", "error", "exit_code", "site", "job", "version", "export_sha256"),
)
# RFC 5612 sets this number apart for documents; we own none. Collectors match on the name before it.
_SD_ID: Final = "sealift@32473"
_FACILITY: Final = 13  # log audit (RFC 5424, table 1)
_INFORMATIONAL, _WARNING = 6, 4
_LOUD: Final = (
    *("ledger.restored", "ledger.disk-full", "install.returned", "emergency.begun"),
    *("trust.", "promotion.stopped", "retire."),
)
_BAD_ENDINGS: Final = ("refused", "failed", "rejected", "aborted", "damaged")
"""Of the kinds of refusals and failures, such as `admin.login-refused`."""
_ID: Final = r"[a-z0-9](?:-?[a-z0-9]){0,31}"
_PERSON: Final = re.compile(rf"(?:automation:{_ID}@)?{_ID}", re.ASCII)
"""A person's id, or an automation key with it; deeds that root does at the console have any name that was typed."""
_MOST: Final = 256
_SEVERITY: Final = {_INFORMATIONAL: 3, _WARNING: 7}

Encode = Callable[[Leaf, str], bytes]


def fields(leaf: Leaf) -> dict[str, str]:
    """Return what leaves of a record's body."""
    found: dict[str, str] = {}
    for name in SENT:
        value = leaf.body.get(name)
        if name == "person" and not (isinstance(value, str) and _PERSON.fullmatch(value)):
            continue
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str | int):
            found[name] = plain(str(value))
    phi = leaf.body.get("phi")
    if isinstance(phi, Mapping):
        found["phi"] = str(sum(count for count in phi.values() if type(count) is int))
    return found


def plain(text: str) -> str:
    """Return a text on one line in which every character shows itself; what does not is spelled out."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:_MOST])
    return shown.encode(errors="backslashreplace").decode()


def severity(leaf: Leaf) -> int:
    """Return the severity of syslog: a warning for refusals, failures and changes of trust."""
    body = leaf.body
    bad = body.get("outcome") in ("error", "unknown") or body.get("passed") is False or body.get("ok") is False
    is_loud = leaf.kind.startswith(_LOUD) or leaf.kind.endswith(_BAD_ENDINGS)
    return _WARNING if bad or is_loud else _INFORMATIONAL


def rfc5424(leaf: Leaf, host: str) -> bytes:
    """Return one message with structured data, framed by its length (RFC 5425, section 4.3)."""
    known = {"sequence": str(leaf.sequence), "leaf": leaf.hash, "kind": leaf.kind, "door": leaf.via.door}
    data = " ".join(f'{name}="{_sd(value)}"' for name, value in {**known, **fields(leaf)}.items())
    return _framed(leaf, host, f"[{_SD_ID} {data}] {leaf.kind} {leaf.sequence}")


def cef(leaf: Leaf, host: str) -> bytes:
    """Return one message in ArcSight's Common Event Format, in an envelope of RFC 5424."""
    head = "|".join(_head(each) for each in ("CEF:0", "Sealift", "sealift", "1", leaf.kind, leaf.kind))
    known = {"externalId": str(leaf.sequence), "fileHash": leaf.hash, "deviceProcessName": leaf.via.door}
    pairs = " ".join(f"{_key(name)}={_extension(value)}" for name, value in {**known, **fields(leaf)}.items())
    return _framed(leaf, host, f"- {head}|{_SEVERITY[severity(leaf)]}|{pairs}")


def json_line(leaf: Leaf, host: str) -> bytes:
    """Return one object on one line."""
    known: dict[str, Any] = {
        "time": leaf.time,
        "host": host,
        "origin": leaf.origin,
        "sequence": leaf.sequence,
        "leaf": leaf.hash,
        "kind": leaf.kind,
        "door": leaf.via.door,
        "severity": severity(leaf),
    }
    return json.dumps({**known, "fields": fields(leaf)}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


FORMATS: Final[Mapping[str, Encode]] = {"rfc5424": rfc5424, "json": json_line, "cef": cef}


def _framed(leaf: Leaf, host: str, rest: str) -> bytes:
    priority = _FACILITY * 8 + severity(leaf)
    name = "".join(each if (each.isascii() and each.isalnum()) or each in ".-" else "-" for each in host)[:255] or "-"
    message = f"<{priority}>1 {leaf.time} {name} sealift - {leaf.kind[:32]} {rest}".encode()
    return b"%d %b" % (len(message), message)


def _sd(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _head(value: str) -> str:
    return value.replace("\\", "\\\\").replace("|", "\\|") if not value.startswith("CEF:") else value


def _extension(value: str) -> str:
    return value.replace("\\", "\\\\").replace("=", "\\=")


def _key(name: str) -> str:
    return name.replace("_", "")
