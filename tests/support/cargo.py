"""Files to carry, of any size and cut into parts, with the digests that signed metadata would hold."""

import hashlib
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from appliance.store.cargo import Cargo, Piece
from appliance.verify.medium import Medium
from media.layout import BLOCK_BYTES, part_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A medium with one file on it, perhaps in parts, and the cargo that it is."""

    medium: Medium
    cargo: Cargo
    paths: tuple[Path, ...]
    content: bytes


def load(folder: Path, length: int, *, name: str = "data/big.bin", cut_at: tuple[int, ...] = ()) -> Load:
    """Write a file of `length` bytes below `folder`, cut before the given block numbers."""
    content = random.Random(length).randbytes(min(length, 4096)) * (length // 4096 + 1)
    content = content[:length]
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, length, BLOCK_BYTES)]
    bounds = [0, *cut_at, max(len(blocks), 1)]
    spans = list(itertools.pairwise(bounds))
    names = [name] if len(spans) == 1 else [part_name(name, first, last - 1) for first, last in spans]
    paths = []
    for (first, last), part in zip(spans, names, strict=True):
        path = folder / "release" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[first * BLOCK_BYTES : last * BLOCK_BYTES])
        paths.append(path)
    medium = Medium.open(folder, label="volume folder 1")
    pieces = [
        Piece(medium=medium, path=f"release/{part}", length=path.stat().st_size, volume=1)
        for part, path in zip(names, paths, strict=True)
    ]
    cargo = Cargo.in_pieces(
        path=name,
        sha256=hashlib.sha256(content).hexdigest(),
        length=length,
        blocks=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
        pieces=pieces,
    )
    return Load(medium=medium, cargo=cargo, paths=tuple(paths), content=content)
