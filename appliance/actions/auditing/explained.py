"""What explains an export to programs and to people: a JSON Schema of a record, and a page of text."""

from typing import Any, Final

_HEX: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A record of a Sealift ledger, one line of leaves.jsonl",
    "description": "RFC 8785 JSON. SHA-256 of a zero byte and the line without its line feed is its leaf hash.",
    "type": "object",
    "additionalProperties": False,
    "required": ["body", "kind", "origin", "schema", "sequence", "time", "via"],
    "properties": {
        "schema": {"const": 1},
        "origin": {"type": "string", "pattern": "^sealift/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{8}$"},
        "sequence": {"type": "integer", "minimum": 0},
        "time": {"type": "string", "format": "date-time"},
        "kind": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}(\\.[a-z][a-z0-9-]{0,31}){1,3}$"},
        "via": {
            "type": "object",
            "additionalProperties": False,
            "required": ["door", "uid"],
            "properties": {
                "door": {"type": "string"},
                "node": {"type": "string"},
                "uid": {"type": "integer", "minimum": 0},
            },
        },
        "body": {"type": "object"},
    },
    "allOf": [
        {
            "if": {"properties": {"kind": {"const": "request.intent"}}},
            "then": {
                "properties": {
                    "body": {
                        "required": ["request_id", "key_id", "department", "model_digest", "request_hmac"],
                        "properties": {
                            "request_id": {"type": "string"},
                            "model_digest": _HEX,
                            "request_hmac": _HEX,
                            "phi": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
                        },
                        "not": {"anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}]},
                    }
                }
            },
        }
    ],
}
README: Final = """\
AN EXPORT OF A SEALIFT LEDGER
=============================

leaves.jsonl       the records: each line is one, byte for byte as it was hashed; schema.json describes a line
checkpoint.txt     origin, size, root and signature of the whole ledger (C2SP signed note)
checkpoints.jsonl  the earlier ones that lie in this range
ledger.pub         the key: name, id, base64 of a byte 1 and the Ed25519 key
proofs.json        what joins this range to the whole tree
times.json         where the clock went back, and each start
redactions.json    what was erased or expired: keys that were destroyed
records.csv        the records for a spreadsheet; a cell that would be a formula begins with an apostrophe
report.html, .pdf  the same in short, for people
export.json        the SHA-256 of all files above
exported.json      the ledger's own record of this export, with its proof: it covers export.json
mirror.json        only where the records come from another box's mirror: who held it, and its record of what it took

To check all of it, take verify.py from a medium whose release code you know (not from this folder or this box):

    python3 -I verify.py ledger --key "$(cat ledger.pub as written down at the installation)" --printed PRINT FOLDER

Where there is a mirror.json, give the key of the box that held it as a second --key, and --unrecorded: the ledger whose
records these are could not record this export.

By hand, with nothing of ours: the root is SHA-256 of a byte 1, the left and the right half, split at the largest power
of two below the count; a leaf is SHA-256 of a byte 0 and its line. OpenSSL checks the signature over the first three
lines of checkpoint.txt: openssl pkeyutl -verify -rawin; the signature is the last line's base64 after four bytes.
"""
