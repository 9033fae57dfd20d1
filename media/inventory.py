"""The inventory of a site: what its store holds, by digests, so that the sender carries only the rest (EXP-4 to EXP-6).

An EXPORT type: fixed fields, no free text, nothing about people, patients or requests. The site writes it and signs it
with its ledger's key; both sides read and write it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from media import canonical, clock, layout, limits
from media.errors import LimitExceededError, MalformedError, UnsupportedFormatError
from media.release import require_site_name

FORMAT: Final = 1
TYPE: Final = "sealift/inventory"
PAYLOAD_TYPE: Final = "application/vnd.sealift.inventory+json"
_FIELDS: Final = ("at", "files", "format", "hashed", "ledger", "releases", "serial", "site", "type")
_FILE_FIELDS: Final = ("blocks", "length", "sha256")
_RELEASE_FIELDS: Final = ("code", "payload_digest", "serial")
_WHAT: Final = "The inventory"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """One file of the store.

    Args:
        sha256: Of its content.
        length: In bytes.
        blocks: SHA-256 of each 64 MiB block; the content's own for a file of one block, none for an empty file.
    """

    sha256: str
    length: int
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """One release of the store."""

    serial: int
    code: str
    payload_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a site's store holds.

    Args:
        site: Which site.
        at: When it was listed.
        serial: The last serial that the site accepted; 0 before the first.
        hashed: Every file was hashed again for this list; else only its length was looked at.
        releases: By rising serial.
        files: By digest, each once.
    """

    site: str
    at: datetime
    serial: int
    hashed: bool
    releases: tuple[HeldRelease, ...]
    files: tuple[HeldFile, ...]

    @classmethod
    def from_payload(cls, untrusted: bytes) -> tuple[Self, dict[str, Any]]:
        """Return the inventory and all its fields; `ledger` is for the caller to judge.

        Raises:
            LimitExceededError: More bytes than an inventory may have.
            MalformedError: A field is wrong.
            UnsupportedFormatError: A later version of the format.
        """
        value = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=limits.INVENTORY_BYTES), _WHAT)
        if canonical.integer(value.get("format"), _WHAT, minimum=1) > FORMAT:
            raise UnsupportedFormatError(
                what="the inventory has a later format",
                why=f"this program reads format {FORMAT}",
                fix="use a newer bundler",
            )
        canonical.exact_keys(value, _FIELDS, (), _WHAT)
        if value["type"] != TYPE:
            raise _malformed("it says that it is something else")
        releases = tuple(_release(each) for each in canonical.array(value["releases"], _WHAT, most=limits.BASE_SERIALS))
        files = tuple(_file(each) for each in canonical.array(value["files"], _WHAT, most=limits.FILES))
        serials, digests = [each.serial for each in releases], [each.sha256 for each in files]
        if serials != sorted(set(serials)) or digests != sorted(set(digests)):
            raise _malformed("its releases or files are not in order, or one is there twice")
        found = cls(
            site=require_site_name(canonical.text(value["site"], _WHAT)),
            at=canonical.moment(value["at"], _WHAT),
            serial=canonical.integer(value["serial"], _WHAT, maximum=limits.SERIAL_MAX),
            hashed=canonical.boolean(value["hashed"], _WHAT),
            releases=releases,
            files=files,
        )
        return found, value

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:
        """Return the canonical bytes.

        Args:
            ledger: The site's proof that this was recorded; None for the bytes whose digest the record names.

        Raises:
            LimitExceededError: The store holds more than an inventory may list.
        """
        payload = canonical.dumps(
            {
                "format": FORMAT,
                "type": TYPE,
                "site": self.site,
                "at": clock.to_text(self.at),
                "serial": self.serial,
                "hashed": self.hashed,
                "releases": [{name: getattr(each, name) for name in _RELEASE_FIELDS} for each in self.releases],
                "files": [
                    {
                        "sha256": each.sha256,
                        "length": each.length,
                        "blocks": list(each.blocks) if len(each.blocks) > 1 else [],
                    }
                    for each in self.files
                ],
                "ledger": None if ledger is None else dict(ledger),
            }
        )
        if len(payload) > limits.INVENTORY_BYTES or len(self.files) > limits.FILES:
            raise LimitExceededError(
                what="the inventory is too large",
                why=f"{len(payload)} bytes of {len(self.files)} files; {limits.INVENTORY_BYTES} and {limits.FILES} may"
                " leave",
                fix="ask the sender for a full medium",
            )
        return payload


def _file(untrusted: Any) -> HeldFile:
    value = canonical.exact_keys(untrusted, _FILE_FIELDS, (), _WHAT)
    sha256 = canonical.sha256_hex(value["sha256"], _WHAT)
    length = canonical.integer(value["length"], _WHAT, maximum=limits.BLOCKS_PER_FILE * layout.BLOCK_BYTES)
    listed = canonical.array(value["blocks"], _WHAT, most=limits.BLOCKS_PER_FILE)
    blocks = tuple(canonical.sha256_hex(each, _WHAT) for each in listed)
    count = -(-length // layout.BLOCK_BYTES)
    if len(blocks) != (count if count > 1 else 0):
        raise _malformed("the blocks of a file do not fit its length")
    return HeldFile(sha256=sha256, length=length, blocks=blocks or (sha256,) * count)


def _release(untrusted: Any) -> HeldRelease:
    value = canonical.exact_keys(untrusted, _RELEASE_FIELDS, (), _WHAT)
    return HeldRelease(
        serial=canonical.integer(value["serial"], _WHAT, minimum=1, maximum=limits.SERIAL_MAX),
        code=canonical.sha256_hex(value["code"], _WHAT),
        payload_digest=canonical.sha256_hex(value["payload_digest"], _WHAT),
    )


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="The inventory is malformed", why=why, fix="ask the site to export it again")
