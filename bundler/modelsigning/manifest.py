"""What a model signature signs: one digest for each file or piece of a file, in an in-toto statement.

Rules: statement type and predicate type are the published ones; there is one subject, whose digest is the SHA-256 of
all resource digests in the order of the list; digests are SHA-256; a name is a plain relative path and occurs once; the
pieces of a file begin at 0, leave no gap, and all but the last have the stated size. Fields that the predicate's
version 1.0 does not know are passed over, as its specification says.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bundler.errors import SourceError
from media import canonical
from media.errors import MediaError
from media.limits import PAYLOAD_BYTES

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
FILES: Final = "files"
SHARDS: Final = "shards"
SHARD_BYTES: Final = 1_000_000_000
"""The piece size that upstream takes where nobody says another."""
NOT_SIGNED: Final = (".git", ".gitattributes", ".github", ".gitignore")
_READ: Final = 4 * 2**20
_PIECE: Final = re.compile(r"(?P<name>.+):(?P<start>0|[1-9][0-9]{0,17}):(?P<end>[1-9][0-9]{0,17})", re.DOTALL)
_MOST_SHARD_BYTES: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Piece:
    """A file (`end` is 0), or the bytes of it from `start` up to `end`."""

    path: PurePosixPath
    start: int = 0
    end: int = 0

    @property
    def name(self) -> str:
        """How a resource of the statement is called."""
        return f"{self.path}:{self.start}:{self.end}" if self.end else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The signed list. `shard_bytes` is 0 where whole files are signed."""

    name: str
    digests: Mapping[Piece, str]
    shard_bytes: int = 0
    ignored: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """`files` or `shards`."""
        return SHARDS if self.shard_bytes else FILES

    @property
    def root(self) -> str:
        """The one digest over all others, by which other documents speak of the model."""
        return _root(self.digests.values())

    @property
    def files(self) -> frozenset[str]:
        """The paths that are signed, whole or in pieces."""
        return frozenset(str(piece.path) for piece in self.digests)

    @classmethod
    def of(
        cls, name: str, files: Mapping[str, Path], *, shard_bytes: int = 0, ignored: Iterable[str] = ()
    ) -> "Manifest":
        """Hash files and list them, by their paths in the model.

        Raises:
            OSError: A file cannot be read.
        """
        digests = {piece: digest for path in files for piece, digest in measured(path, files[path], shard_bytes)}
        return cls(
            name=name,
            digests={piece: digests[piece] for piece in sorted(digests)},
            shard_bytes=shard_bytes,
            ignored=tuple(ignored),
        )

    def to_statement(self) -> bytes:
        """Return the in-toto statement in canonical form, so that one list has one statement."""
        algorithm = f"sha256-sharded-{self.shard_bytes}" if self.shard_bytes else "sha256"
        serialization: dict[str, Any] = {
            "method": self.method,
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": list(self.ignored),
        }
        if self.shard_bytes:
            serialization["shard_size"] = self.shard_bytes
        resources = [
            {"name": piece.name, "algorithm": algorithm, "digest": digest} for piece, digest in self.digests.items()
        ]
        return canonical.dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": self.name, "digest": {"sha256": self.root}}],
                "predicateType": PREDICATE_TYPE,
                "predicate": {"serialization": serialization, "resources": resources},
            }
        )

    @classmethod
    def from_statement(cls, untrusted: bytes) -> "Manifest":
        """Read a statement whose signature held.

        Raises:
            SourceError: It breaks a rule of this module.
        """
        try:
            # Upstream writes the piece size as a decimal number.
            statement = canonical.mapping(
                canonical.loads(untrusted, max_bytes=PAYLOAD_BYTES, allow_floats=True), "the statement"
            )
            return cls._parsed(statement)
        except MediaError as error:
            raise malformed(f"{error.what}: {error.why}") from error

    @classmethod
    def _parsed(cls, statement: Mapping[str, Any]) -> "Manifest":
        for field, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
            if statement.get(field) != expected:
                raise malformed(f"its {field} is not {expected}")
        subjects = canonical.array(statement.get("subject"), "subject", most=1)
        subject = canonical.mapping(next(iter(subjects), None), "subject")
        predicate = canonical.mapping(statement.get("predicate"), "predicate")
        serialization = canonical.mapping(predicate.get("serialization"), "serialization")
        shard_bytes = _shard_bytes(serialization)
        expected = f"sha256-sharded-{shard_bytes}" if shard_bytes else "sha256"
        digests: dict[Piece, str] = {}
        for untrusted in canonical.array(predicate.get("resources"), "resources"):
            resource = canonical.mapping(untrusted, "a resource")
            if resource.get("algorithm") != expected:
                raise malformed(f"a resource is not hashed by {expected}")
            piece = _piece(resource.get("name"), shard_bytes)
            if piece in digests:
                raise malformed("a resource is named twice")
            digests[piece] = canonical.sha256_hex(resource.get("digest"), "a resource's digest")
        if not digests:
            raise malformed("it signs nothing")
        stated = canonical.sha256_hex(canonical.mapping(subject.get("digest"), "digest").get("sha256"), "subject")
        if stated != _root(digests.values()):
            raise malformed("the subject's digest is not that of the resources")
        ignored = canonical.array(serialization.get("ignore_paths", []), "ignore_paths")
        _require_whole(digests, shard_bytes)
        return cls(
            name=canonical.text(subject.get("name"), "subject.name", may_be_empty=True),
            digests=digests,
            shard_bytes=shard_bytes,
            ignored=tuple(canonical.text(each, "ignore_paths") for each in ignored),
        )


def measured(path: str, file: Path, shard_bytes: int) -> Iterator[tuple[Piece, str]]:
    """Yield each piece of a file with its digest; an empty file has none where pieces are signed.

    Raises:
        OSError: It cannot be read.
    """
    place = PurePosixPath(path)
    with file.open("rb") as source:
        start = 0
        while True:
            hasher, length = sha256(), 0
            while data := source.read(min(_READ, shard_bytes - length) if shard_bytes else _READ):
                hasher.update(data)
                length += len(data)
            if not shard_bytes:
                yield Piece(path=place), hasher.hexdigest()
                return
            if not length:
                return
            yield Piece(path=place, start=start, end=start + length), hasher.hexdigest()
            start += length


def malformed(why: str) -> SourceError:
    """Return the error for a signature that does not read."""
    return SourceError(
        what="the model signature is malformed", why=why, fix="take it from its publisher again, or leave it out"
    )


def _root(digests: Iterable[str]) -> str:
    return sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _shard_bytes(serialization: Mapping[str, Any]) -> int:
    method = canonical.one_of(serialization.get("method"), (FILES, SHARDS), "method")
    if serialization.get("hash_type") != "sha256":
        raise malformed("only SHA-256 is compared here")
    if method == FILES:
        return 0
    size = serialization.get("shard_size")
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    return canonical.integer(size, "shard_size", minimum=1, maximum=_MOST_SHARD_BYTES)


def _piece(untrusted: Any, shard_bytes: int) -> Piece:
    name = canonical.text(untrusted, "a resource's name")
    found = _PIECE.fullmatch(name) if shard_bytes else None
    if shard_bytes and found is None:
        raise malformed("a resource is no piece of a file")
    path, start, end = (name, 0, 0) if found is None else (found["name"], int(found["start"]), int(found["end"]))
    place = PurePosixPath(path)
    if place.is_absolute() or str(place) != path or {"..", "."}.intersection(place.parts):
        raise malformed("a resource's name is no plain path")
    return Piece(path=place, start=start, end=end)


def _require_whole(digests: Mapping[Piece, str], shard_bytes: int) -> None:
    if not shard_bytes:
        return
    at: dict[PurePosixPath, int] = {}
    for piece in sorted(digests):
        start = at.get(piece.path, 0)
        if piece.start != start or start % shard_bytes or not 0 < piece.end - start <= shard_bytes:
            raise malformed("the pieces of a file overlap, leave a gap, or are not of the stated size")
        at[piece.path] = piece.end
