"""EXPORTs that were made: files in the folder of receipts, found again by the digest that the ledger has of each.

The ledger names the content before its own proof was added. So that digest is computed again here from the file:
nothing that is not exactly what was shown to a person and recorded is ever found.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.errors import JobRefusedError
from media import canonical
from media.digest import sha256_hex
from media.errors import MalformedError, MediaError

MOST_BYTES: Final = 64 * 2**20
_ENVELOPE: Final = ".dsse.json"
_LEDGER: Final = "ledger"


def content_of(untrusted: bytes) -> tuple[bytes, str]:
    """Return what an export's file says without the ledger's proof, canonical, and its payload type.

    The type is empty for an export that is no envelope.

    Raises:
        MediaError: It is no file of an export.
    """
    value = canonical.mapping(canonical.loads(untrusted, max_bytes=MOST_BYTES), "export")
    kind = ""
    if "payload" in value:
        fields = canonical.exact_keys(value, ("payload", "payloadType", "signatures"), what="export")
        kind = canonical.text(fields["payloadType"], "export.payloadType")
        try:
            payload = b64decode(str(fields["payload"]), validate=True)
        except NotBase64 as error:
            raise MalformedError(what="the export is malformed", why="its payload", fix="make it again") from error
        value = canonical.mapping(canonical.loads_canonical(payload, max_bytes=MOST_BYTES), "export")
    else:
        return untrusted, ""
    return canonical.dumps({**value, _LEDGER: None}), kind


def find(places: Places, digest: str) -> Path:
    """Return the file of the export whose recorded digest this is.

    Raises:
        JobRefusedError: None is here.
    """
    try:
        candidates = sorted(places.receipts.glob(f"*-{digest[:12]}*.json"))
    except OSError:
        candidates = []
    for path in candidates:
        try:
            if path.stat().st_size <= MOST_BYTES and sha256_hex(content_of(path.read_bytes())[0]) == digest:
                return path
        except (OSError, MediaError):
            continue
    raise JobRefusedError(
        what=f"no EXPORT {digest[:12]} is here",
        why="the folder of receipts has none",
        fix="make it with `sealift export`",
    )
