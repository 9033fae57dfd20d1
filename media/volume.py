"""Which volume carries which blocks: the signed index (FMT-70 to FMT-86). `media.volumeplan` makes one.

A target is one whole file; a part is what of it lies on one volume. A whole file keeps its name; a part of a cut file
is named by its first and last block, so that `cat NAME.*` joins the parts in order. A delta set carries less than the
release: what it leaves out, its base holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from media import canonical, digest, layout, limits
from media.deltabase import Base, Run
from media.errors import MalformedError, UnsupportedFormatError
from media.release import Target

_FIELDS = ("format", "payload_digest", "release", "serial", "volumes")
_PART_FIELDS = ("first", "last", "length", "path", "sha256", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of one target lies on one volume.

    Args:
        target: Path of the whole file.
        first: Number of the first block.
        last: Number of the last block; equal to `first` for an empty file.
        path: Where it lies: the target's own path when it is whole.
        length: Bytes.
        sha256: Of the part; empty in a plan until the writer has hashed it.
    """

    target: str
    first: int
    last: int
    path: str
    length: int
    sha256: str

    @property
    def is_whole(self) -> bool:
        """Tell whether the whole file lies in this part."""
        return self.path == self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume of a release.

    Args:
        number: From 1.
        id: Derived from payload and number; what tells volumes apart.
        parts: Sorted by path.
    """

    number: int
    id: str
    parts: tuple[Part, ...]

    @property
    def payload_bytes(self) -> int:
        """Sum of the sizes of its parts."""
        return sum(part.length for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeIndex:
    """`metadata/volumes.json`, equal on all volumes and signed through each one's tag manifest.

    Args:
        release: The release's name.
        serial: Its serial.
        payload_digest: Names all files below data/.
        volumes: In order of their numbers.
        base: What a delta set takes for granted; None for a full set.
    """

    release: str
    serial: int
    payload_digest: str
    volumes: tuple[Volume, ...]
    base: Base | None = None

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read an index.

        Raises:
            LimitExceededError: More bytes than JSON may have.
            MalformedError: Not in canonical form, a field is wrong, or parts overlap, leave gaps or have other names.
            UnsafePathError: A path is not one that a medium may hold.
            UnsupportedFormatError: A later version of the format.
        """
        value = canonical.mapping(canonical.loads_canonical(untrusted), "The volume index")
        _require_format(value)
        canonical.exact_keys(value, _FIELDS, ("base",), "The volume index")
        base, signed_set = Base.from_json(value["base"]) if "base" in value else (None, "")
        listed = canonical.array(value["volumes"], "The volume index", most=limits.VOLUMES)
        index = cls(
            release=layout.require_release_name(canonical.text(value["release"], "The release name")),
            serial=canonical.integer(value["serial"], "The serial", minimum=1, maximum=limits.SERIAL_MAX),
            payload_digest=canonical.sha256_hex(value["payload_digest"], "The volume index"),
            volumes=tuple(_volume(each, number) for number, each in enumerate(listed, start=1)),
            base=base,
        )
        _require_sound(index)
        if index.set_digest != signed_set:
            raise _malformed("The volume index", "its set is not the one that follows from its base and parts")
        return index

    def to_bytes(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            MalformedError: A part was not hashed yet, or the index is one that `from_bytes` would refuse.
        """
        _require_sound(self)
        volumes = [
            {
                "number": volume.number,
                "id": volume.id,
                "parts": [{name: getattr(part, name) for name in _PART_FIELDS} for part in volume.parts],
            }
            for volume in self.volumes
        ]
        value: dict[str, Any] = {
            "format": layout.FORMAT,
            "release": self.release,
            "serial": self.serial,
            "payload_digest": self.payload_digest,
            "volumes": volumes,
        }
        if self.base is not None:
            value["base"] = {**self.base.to_json(), "set": self.set_digest}
        return canonical.dumps(value)

    @property
    def set_digest(self) -> str:
        """What tells a delta set from every other set of the release; empty for the full set."""
        return self.base.set_digest([[part.path for part in each.parts] for each in self.volumes]) if self.base else ""

    def with_ids(self) -> Self:
        """Return the index with the ids that follow from payload, set and numbers (FMT-23)."""
        chosen = self.set_digest
        volumes = tuple(
            replace(volume, id=digest.volume_id(self.payload_digest, volume.number, chosen)) for volume in self.volumes
        )
        return replace(self, volumes=volumes)

    def sealed_entry(self, number: int) -> str:
        """Return where the sealed custody entry of one of its volumes lies."""
        return layout.sealed_custody_name(number, delta=self.base is not None)

    def pieces(self) -> Mapping[str, Sequence[Part | Run]]:
        """Return, by target, its parts and the runs of the base, in block order; what is held whole is absent."""
        return _by_target(self)

    def held_whole(self, targets: Mapping[str, Target]) -> tuple[Target, ...]:
        """Return the targets below data/ that the base must hold as they are; none for a full set."""
        carried = _by_target(self).keys()
        return tuple(
            target for path, target in targets.items() if path.startswith(f"{layout.DATA}/") and path not in carried
        )

    def parts_of(self, target: str) -> tuple[tuple[Volume, Part], ...]:
        """Return the parts of a target in block order, each with its volume."""
        return _in_order((volume, part) for volume in self.volumes for part in volume.parts if part.target == target)

    def with_part_digests(self, digests: Mapping[str, str]) -> Self:
        """Return the index with the SHA-256 of cut parts filled in, by path; a digest that is known stays."""
        volumes = tuple(
            replace(
                volume,
                parts=tuple(replace(part, sha256=part.sha256 or digests.get(part.path, "")) for part in volume.parts),
            )
            for volume in self.volumes
        )
        return replace(self, volumes=volumes)

    def sharing(self, targets: Mapping[str, Target]) -> Self:
        """Return the same index holding the very texts of the targets: a release may have many thousand files."""
        return replace(
            self,
            volumes=tuple(
                replace(each, parts=tuple(_shared(part, targets) for part in each.parts)) for each in self.volumes
            ),
        )

    def require_covers(self, targets: Mapping[str, Target]) -> None:
        """Refuse an index whose parts are not exactly the targets below data/, joined in block order (FMT-76).

        In a delta set a target may be absent, and runs of the base may stand between parts (FMT-83).

        Raises:
            MalformedError: A target is missing, cut elsewhere, of another length or digest, or one is too many.
        """
        joined = _by_target(self)
        wanted = {path for path in targets if path.startswith(f"{layout.DATA}/")}
        odd = joined.keys() - wanted if self.base else joined.keys() ^ wanted
        if odd:
            raise _malformed("The volume index", f"{min(odd)} is in the index or in the targets, not in both")
        for path, pieces in joined.items():
            _require_fits(targets[path], pieces)


def _volume(untrusted: Any, number: int) -> Volume:
    what = f"Volume {number} of the index"
    value = canonical.exact_keys(untrusted, ("id", "number", "parts"), (), what)
    if canonical.integer(value["number"], what) != number:
        raise _malformed(what, "its number is not the one that follows from its place")
    return Volume(
        number=number,
        id=canonical.text(value["id"], what),
        parts=tuple(_read_part(each) for each in canonical.array(value["parts"], what)),
    )


def _read_part(untrusted: Any) -> Part:
    what = "A part of the index"
    value = canonical.exact_keys(untrusted, _PART_FIELDS, (), what)
    target, path = canonical.text(value["target"], what), canonical.text(value["path"], what)
    return Part(
        target=target,
        first=canonical.integer(value["first"], what, maximum=limits.BLOCKS_PER_FILE - 1),
        last=canonical.integer(value["last"], what, maximum=limits.BLOCKS_PER_FILE - 1),
        path=target if path == target else path,  # the same text once: most files are whole, and there are many
        length=canonical.integer(value["length"], what, maximum=layout.PART_BYTES),
        sha256=canonical.sha256_hex(value["sha256"], what),
    )


def _require_sound(index: VolumeIndex) -> None:
    parts = [part for volume in index.volumes for part in volume.parts]
    if not index.volumes or len(index.volumes) > limits.VOLUMES or len(parts) > limits.FILES:
        raise _malformed("The volume index", "it has no volume, or too many volumes or parts")
    for volume in index.volumes:
        paths = [part.path for part in volume.parts]
        if paths != sorted(paths):
            raise _malformed("The volume index", f"the parts of volume {volume.number} are not sorted by path")
    for part in parts:
        canonical.sha256_hex(part.sha256, f"The digest of {part.path}")
        _require_part(part)
    layout.require_distinct(part.path for part in parts)
    joined = _by_target(index)
    layout.require_distinct(joined)
    for path, found in joined.items():
        if not path.startswith(f"{layout.DATA}/"):
            raise _malformed(f"The file {path}", "it does not lie below data/")
        _require_joined(path, found)
    if index.with_ids() != index:
        raise _malformed("The volume index", "an id is not the one that follows from the payload")


def _require_part(part: Part) -> None:
    if layout.safe_path(part.target).parts[0] != layout.DATA or len(layout.safe_path(part.path).parts) < 2:
        raise _malformed("A part of the index", "it does not lie below data/")
    blocks = part.last - part.first + 1
    if blocks > layout.PART_BLOCKS or blocks != max(-(-part.length // layout.BLOCK_BYTES), 1):
        raise _malformed(f"The part {part.path}", "its length does not fit its blocks")
    if part.path not in {part.target, layout.part_name(part.target, part.first, part.last)}:
        raise _malformed(f"The part {part.path}", "its name does not follow from its target and blocks")


def _require_joined(path: str, pieces: Sequence[Part | Run]) -> None:
    what = f"The file {path}"
    parts = [piece for piece in pieces if isinstance(piece, Part)]
    if any(part.is_whole for part in parts) and (len(pieces) != 1 or pieces[0].first != 0):
        raise _malformed(what, "a whole file has one part")
    if len(pieces) == 1 and parts and not parts[0].is_whole:
        raise _malformed(what, "a cut file has at least two parts")
    following = 0
    for piece in pieces:
        if piece.first != following:
            raise _malformed(what, "its parts overlap or leave a gap")
        following = piece.last + 1
        full = (piece.last - piece.first + 1) * layout.BLOCK_BYTES
        if piece is not pieces[-1] and isinstance(piece, Part) and piece.length != full:
            raise _malformed(what, "only its last part may end within a block")
    last = pieces[-1]
    if isinstance(last, Part) and not last.length and last.last != 0:
        raise _malformed(what, "its last part is empty")


def _require_fits(target: Target, pieces: Sequence[Part | Run]) -> None:
    what = f"The file {target.path}"
    if pieces[-1].last + 1 != max(len(target.blocks), 1):
        raise _malformed(what, "its parts have another length than the target")
    for piece in pieces:
        end = min((piece.last + 1) * layout.BLOCK_BYTES, target.length)
        if isinstance(piece, Run):
            if not target.length:
                raise _malformed(what, "an empty file has no blocks to take from a base")
            continue
        if piece.length != end - piece.first * layout.BLOCK_BYTES:
            raise _malformed(what, "its parts have another length than the target")
        known = piece.sha256
        if piece.is_whole:
            known = target.sha256
        elif piece.first == piece.last:
            known = target.blocks[piece.first]
        if piece.sha256 != known:
            raise _malformed(f"The part {piece.path}", "its digest is not that of the target")


def _by_target(index: VolumeIndex) -> dict[str, list[Part | Run]]:
    """Return the parts and runs of each target in block order."""
    found: dict[str, list[Part | Run]] = {}
    for volume in index.volumes:
        for part in volume.parts:
            found.setdefault(part.target, []).append(part)
    for run in index.base.runs if index.base else ():
        found.setdefault(run.target, []).append(run)
    return {path: sorted(pieces, key=lambda piece: piece.first) for path, pieces in found.items()}


def _shared(part: Part, targets: Mapping[str, Target]) -> Part:
    target = targets.get(part.target)
    if target is None or not part.is_whole or part.sha256 != target.sha256:
        return part
    return replace(part, target=target.path, path=target.path, sha256=target.sha256)


def _in_order(found: Iterable[tuple[Volume, Part]]) -> tuple[tuple[Volume, Part], ...]:
    return tuple(sorted(found, key=lambda pair: pair[1].first))


def _require_format(value: Mapping[str, Any]) -> None:
    version = canonical.integer(value.get("format"), "The volume index", minimum=1)
    if version > layout.FORMAT:
        raise UnsupportedFormatError(
            what=f"The volume index has format version {version}",
            why=f"this program reads version {layout.FORMAT}",
            fix="Install a release that reads it first; ask the sender which one.",
        )


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
