"""One volume's own layer: its signed tag manifest, the small files that it covers, and the names of all the others.

Rules:
 * The signatures over the tag manifest's raw bytes come first; the keyring is the trusted root's, never the medium's.
 * Every signature file must hold and be named after the key that made it; people are counted, not files.
 * metadata/, attest/ and check/ are read once, kept (compressed, so that many files fit the budget of memory), and
   compared with the tag manifest.
 * Nothing may be there that no list names, and nothing that a list names may miss, before a byte of data/ is opened.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, Self

from appliance.verify.medium import Medium, TopLevel
from media import bagit, layout, limits
from media.digest import same, sha256_hex
from media.errors import (
    BadSignatureError,
    DigestMismatchError,
    ExtraFileError,
    LimitExceededError,
    MissingFileError,
    SealiftError,
)
from media.openpgp import verify_detached
from media.people import People, Person, Role

_TAG_BYTES: Final = limits.ENVELOPE_BYTES
_ALL_TAGS_BYTES: Final = 64 * 2**20
_PACKED_FROM_BYTES: Final = 64 * 2**10
_PIECE_BYTES: Final = 2**20
_ROOT_SUFFIX: Final = ".root.json"
_NEW_COPY: Final = "ask the sender for a new copy of this volume"


class UntrustedBag:
    """A volume whose names and types were checked, and nothing else. Small files are read when asked for, once."""

    def __init__(self, medium: Medium) -> None:
        """List the volume.

        Raises:
            MediaError: Its root, names or types are not those of a volume, or it cannot be read.
        """
        self.medium = medium
        self.top: TopLevel = medium.top_level()
        self.sizes: Mapping[str, int] = medium.files(layout.RELEASE)
        self._read: dict[str, bytes] = {}
        self._packed: dict[str, bytes] = {}
        self._refused: dict[str, SealiftError] = {}
        self._left = _ALL_TAGS_BYTES

    @property
    def tag_names(self) -> set[str]:
        """The names of all files that are not payload."""
        return {path for path in self.sizes if not path.startswith(f"{layout.DATA}/")}

    @property
    def signatures(self) -> dict[str, str]:
        """The signature files by name, each with the fingerprint that its name holds."""
        named = {path: layout.signer_of(path) for path in sorted(self.tag_names)}
        return {path: fingerprint for path, fingerprint in named.items() if fingerprint is not None}

    def forget_payload(self) -> None:
        """Let go of the names below data/: of many thousand files they take as much room as the signed index."""
        self.sizes = {path: self.sizes[path] for path in self.tag_names}

    def roots(self) -> dict[int, str]:
        """Return the names of the root metadata that the volume brings, by version."""
        found: dict[int, str] = {}
        for path in self.tag_names:
            number = path.removeprefix(f"{layout.METADATA}/").removesuffix(_ROOT_SUFFIX)
            if number.isascii() and number.isdigit() and path == layout.root_name(int(number)):
                found[int(number)] = path
        return found

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield one small file by pieces, for whoever only passes it on.

        Raises:
            MediaError: As `file`.
        """
        if path not in self._packed:
            content = self.file(path)
            if path not in self._packed:
                yield content
                return
        unpacked, left = zlib.decompressobj(), self._packed[path]
        while left:
            yield unpacked.decompress(left, _PIECE_BYTES)
            left = unpacked.unconsumed_tail
        yield unpacked.flush()

    def file(self, path: str) -> bytes:
        """Return one small file; the medium is asked once, also where it did not give the file.

        Raises:
            LimitExceededError: It, or all of them together, is too large.
            MissingFileError: It is not there.
            MediaError: It cannot be read.
        """
        if path not in self.sizes:
            raise _missing(self.medium, path)
        if path in self._packed:
            return b"".join(self.pieces(path))
        if path in self._refused:
            raise self._refused[path]
        if path not in self._read:
            try:
                content = self.medium.read(f"{layout.RELEASE}/{path}", limit=min(self._left, _limit(path)))
            except SealiftError as error:
                self._refused[path] = error
                raise
            self._left -= len(content)
            if len(content) >= _PACKED_FROM_BYTES:
                self._packed[path] = zlib.compress(content, 1)
                return content
            self._read[path] = content
        return self._read[path]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBag:
    """A volume whose tag manifest enough people signed and whose small files are what it says.

    Args:
        bag: What was read.
        info: What `bag-info.txt` says.
        tags: Digests of the small files.
        payload: Digests of the files below data/ on this volume.
        signers: Who signed the tag manifest.
        code: SHA-256 of the tag manifest.
    """

    bag: UntrustedBag
    info: bagit.BagInfo
    tags: Mapping[str, str]
    payload: Mapping[str, str]
    signers: tuple[Person, ...]
    code: str

    @property
    def label(self) -> str:
        """What errors call the volume."""
        return self.bag.medium.label

    def without_payload(self) -> Self:
        """Return it without the names of its payload, once the signed index is known to say the same."""
        self.bag.forget_payload()
        return replace(self, payload={})


def require_signed(bag: UntrustedBag, people: People) -> SignedBag:
    """Return the volume as signed by enough release people.

    Raises:
        MediaError, TrustError: As `count_signatures` and `require_listed`.
    """
    return require_listed(bag, count_signatures(bag, people))


def count_signatures(bag: UntrustedBag, people: People) -> tuple[Person, ...]:
    """Return who signed the volume's tag manifest, once enough release people did.

    Raises:
        BadSignatureError: A signature does not hold, or is not by a release person of the trusted root.
        LimitExceededError, MissingFileError: There are too many signatures, or no tag manifest.
        ThresholdError, SamePersonError: Too few people signed.
    """
    return _require_signatures(bag, bag.file(layout.TAG_MANIFEST), people)


def require_listed(bag: UntrustedBag, signers: tuple[Person, ...]) -> SignedBag:
    """Return the volume whose tag manifest these people signed, once its small files are what that says.

    Raises:
        DigestMismatchError: A small file is not what was signed.
        ExtraFileError, MissingFileError: The files are not those that were signed.
        MalformedError, LimitExceededError, UnsafePathError: A list does not read.
    """
    tag_manifest = bag.file(layout.TAG_MANIFEST)
    tags = bagit.parse_manifest(tag_manifest)
    _require_names(bag.medium, bag.tag_names - bag.signatures.keys() - {layout.TAG_MANIFEST}, tags)
    _require_known(bag.medium, tags)
    for path, digest in tags.items():
        found = sha256_hex(bag.file(path))
        if not same(found, digest):
            raise DigestMismatchError(
                what=f"{bag.medium.label}: {path} is damaged",
                why=f"expected sha256 {digest[:12]}, found {found[:12]}",
                fix=_NEW_COPY,
            )
    bagit.require_bagit_txt(bag.file(layout.BAGIT))
    payload = bagit.parse_manifest(bag.file(layout.MANIFEST))
    _require_names(bag.medium, bag.sizes.keys() - bag.tag_names, payload)
    return SignedBag(
        bag=bag,
        info=bagit.parse_bag_info(bag.file(layout.BAG_INFO)),
        tags=tags,
        payload=payload,
        signers=signers,
        code=sha256_hex(tag_manifest),
    )


def _require_signatures(bag: UntrustedBag, tag_manifest: bytes, people: People) -> tuple[Person, ...]:
    named = bag.signatures
    if len(named) > limits.SIGNATURES:
        raise LimitExceededError(
            what=f"{bag.medium.label}: too many signature files", why=f"more than {limits.SIGNATURES}", fix=_NEW_COPY
        )
    certificates = people.certificates(Role.RELEASE)
    found = [verify_detached(bag.file(path), tag_manifest, certificates).fingerprint for path in named]
    # Counted before the names are judged: who signed twice is told so.
    signers = people.require_signers(found, Role.RELEASE, people.thresholds["release"])
    if found != list(named.values()):
        raise BadSignatureError(
            what=f"{bag.medium.label}: a signature file is named after another key than the one that made it",
            why="names of signature files hold the signer's fingerprint",
            fix="do not use this medium; ask the sender who signed it",
        )
    return signers


def _require_names(medium: Medium, found: AbstractSet[str], signed: Iterable[str]) -> None:
    wanted = set(signed)
    if missing := sorted(wanted - found):
        raise _missing(medium, missing[0], more=len(missing) - 1)
    if extra := sorted(found - wanted):
        raise ExtraFileError(
            what=f"{medium.label}: {extra[0]} does not belong there",
            why="no signed list names it" + (f"; {len(extra) - 1} more" if len(extra) > 1 else ""),
            fix=f"ask who had the medium; {_NEW_COPY}",
        )


def _require_known(medium: Medium, tags: Iterable[str]) -> None:
    folders = (f"{layout.METADATA}/", f"{layout.ATTEST}/", f"{layout.CHECK}/")
    unknown = sorted(path for path in tags if path not in layout.TAG_FILES and not path.startswith(folders))
    if unknown:
        raise ExtraFileError(
            what=f"{medium.label}: {unknown[0]} has no place in this format",
            why="the signed list names it, and the format does not (FMT-59)",
            fix="do not use this medium; ask the sender who made it",
        )


def _missing(medium: Medium, path: str, *, more: int = 0) -> MissingFileError:
    return MissingFileError(
        what=f"{medium.label}: {path} is missing",
        why="a signed list names it" + (f"; {more} more" if more else ""),
        fix=_NEW_COPY,
    )


def _limit(path: str) -> int:
    if layout.signer_of(path) is not None:
        return limits.SIGNATURE_BYTES
    if path in {layout.MANIFEST, layout.TAG_MANIFEST}:
        return limits.MANIFEST_BYTES
    if path.startswith(f"{layout.METADATA}/"):
        return limits.JSON_BYTES
    return _TAG_BYTES
