"""EXPORTs that were made: files in the folder of receipts, found again by the digest that the ledger has of each.

The ledger names the content before its own proof was added. So that digest is computed again here from the file:
nothing that is not exactly what was shown to a person and recorded is ever found.

    /run/sealift/exporting/NAME.fstab  by the job service, as root: how sealift-export@NAME mounts the medium to write
"""

from base64 import b64decode
from binascii import Error as NotBase64
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.errors import JobRefusedError
from appliance.install.arrivals import Arrival
from appliance.store.writing import writing
from media import canonical, durable
from media.digest import sha256_hex
from media.errors import MalformedError, MediaError

MOST_BYTES: Final = 64 * 2**20
WRITER: Final = "sealift-export"
"""The user that writes to a medium, and nobody else does."""
WRITABLE: Final = {
    "vfat": f"uid={WRITER},gid={WRITER},fmask=0133,dmask=0022,utf8",
    "exfat": f"uid={WRITER},gid={WRITER},fmask=0133,dmask=0022",
    "ext4": "data=ordered",
}
"""What mount(8) is told for a type that may be written to, besides rw,nosuid,nodev,noexec."""
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


def require_writable(arrival: Arrival) -> str:
    """Return what mount(8) is told besides, to write to a medium of this type.

    Raises:
        JobRefusedError: Nothing of this type is written to.
    """
    try:
        return WRITABLE[arrival.filesystem]
    except KeyError as error:
        raise JobRefusedError(
            what=f"{arrival.name} takes no EXPORT",
            why="what its file system is cannot be written to",
            fix="see docs/operator/arriving.md",
        ) from error


def table(places: Places, name: str) -> Path:
    """Return where mount(8) reads how a medium is mounted to be written to: an fstab(5) of one line."""
    return places.run / "exporting" / f"{name}.fstab"


def prepare(places: Places, arrival: Arrival) -> None:
    """Say how a medium is mounted to be written to. Root's word: whoever says it says what root mounts.

    Raises:
        JobRefusedError: Nothing of this type is written to.
        StoreWriteError: It could not be said.
    """
    options = f"rw,nosuid,nodev,noexec,{require_writable(arrival)}"
    line = f"/dev/{arrival.name} {places.export_medium} {arrival.filesystem} {options} 0 0\n"
    place = table(places, arrival.name)
    with writing("how a medium is mounted for an EXPORT"):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        durable.replace(place, line.encode(), mode=0o644)


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
