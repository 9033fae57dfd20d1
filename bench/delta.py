"""What a delta medium weighs beside the bytes that changed: `make bench-delta`, or SIZE=4GiB python -m bench.delta.

Two real releases are signed, the second with other wheels and unchanged weights; the delta set between them is sealed,
written, read back and received on top of the first: one that did not apply would fail here. Ours is every byte on the
delta medium: lists, signatures, statements and check files included. The peer is what changed, counted from the files
themselves: whole files that are new or different, and of big files the 64 MiB blocks.
"""

import random
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from appliance.store.content import ContentStore
from bench.measuring import Row, machine, say, size_in_bytes, write
from bench.media import fill
from bundler.onego import release_in_one_go
from bundler.workfolder import WorkFolder
from media import layout
from media.clock import FixedClock
from media.digest import file_sha256, payload_digest, sha256_hex
from tests.support.candidate import candidate_plan, tiny_payload, write_candidate
from tests.support.delta import delta_medium, holdings_of
from tests.support.medium import MADE_AT, SimulatedMedium, throwaway_ceremony
from tests.support.receiving import copy_here

_WEIGHTS: Final = "data/models/tiny/tiny.gguf"
_TIMES: Final = 1.05
# Like the wheels that the demo's server and engine need: many small ones, a few large ones; 46 MB in all.
_WHEELS: Final = {f"part{number:02d}": 40_000 + number * 55_000 for number in range(22)} | {
    "engine": 18_000_000,
    "cryptography": 4_500_000,
    "ansible-core": 2_200_000,
    "sqlalchemy": 3_200_000,
    "sealift": 780_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One new release beside the old one."""

    name: str
    wheels: Mapping[str, bytes]
    weights: Path
    has_goal: bool


def wheels(seed: int, *names: str) -> dict[str, bytes]:
    """Return wheels of random bytes, the same for the same seed."""
    source = random.Random(seed)  # noqa: S311 - bytes that do not compress, not secrets
    every = {name: source.randbytes(size) for name, size in _WHEELS.items()}
    return {f"data/wheels/{name}-1.0-py3-none-any.whl": every[name] for name in names or _WHEELS}


def release(folder: Path, serial: int, own: Mapping[str, bytes], weights: Path) -> SimulatedMedium:
    """Build, sign and write a release with these wheels and weights."""
    work = WorkFolder(root=folder / "work")
    payload = {**tiny_payload(serial=serial, weights=b"weights"), **own}
    plan = candidate_plan(payload, serial=serial)
    write_candidate(work, plan, payload)
    place = work.candidate / _WEIGHTS
    place.unlink()
    place.hardlink_to(weights)
    before = {name: (name, len(data), sha256_hex(data)) for name, data in payload.items()}
    now = {**before, _WEIGHTS: (_WEIGHTS, weights.stat().st_size, file_sha256(weights))}
    for path in work.attest.glob("*.json"):  # they speak of the small weights
        text = path.read_text().replace(payload_digest(before.values()), payload_digest(now.values()))
        path.write_text(text.replace(before[_WEIGHTS][2], now[_WEIGHTS][2]))
    ceremony = throwaway_ceremony("demo")
    volume = folder / "volume-1"
    made = release_in_one_go(work, [volume], ceremony=ceremony, clock=FixedClock(at=MADE_AT), place="Bundling room")
    return SimulatedMedium(
        folder=folder,
        volumes=[volume],
        work=work,
        ceremony=ceremony,
        code=made.code,
        release=plan.release,
        serial=serial,
        payload={},
    )


def changed_bytes(old: SimulatedMedium, new: SimulatedMedium) -> int:
    """Count what differs, from the files alone: whole small files, 64 MiB blocks of big ones."""
    before = {path.relative_to(old.work.data): path for path in old.work.data.rglob("*") if path.is_file()}
    known = {file_sha256(path) for path in before.values()}
    total = 0
    for path in (path for path in new.work.data.rglob("*") if path.is_file()):
        if file_sha256(path) in known:
            continue
        other = before.get(path.relative_to(new.work.data))
        blocks = set(_blocks(other)) if other else set()
        total += sum(length for digest, length in _blocks(path) if (digest, length) not in blocks)
    return total


def measure(folder: Path, old: SimulatedMedium, change: Change, store: Path) -> list[Row]:
    """Return the rows of one change."""
    new = release(folder / "new", 2, change.wheels, change.weights)
    delta = delta_medium(folder / "delta", new, holdings_of(old))
    ours = sum(path.stat().st_size for volume in delta.volumes for path in volume.rglob("*") if path.is_file())
    full = sum(path.stat().st_size for path in new.volumes[0].rglob("*") if path.is_file())
    peer = changed_bytes(old, new)
    carried = sum(volume.payload_bytes for volume in delta.index.volumes)
    code, lines = copy_here(replace(new, volumes=delta.volumes), store)
    if code:
        raise SystemExit(f"the delta set was refused: {lines[-1]['error']}")
    if file_sha256(ContentStore(store).object_path(file_sha256(change.weights))) != file_sha256(change.weights):
        raise SystemExit("the store has other weights than the release")
    ratio = ours / peer
    say(f"  {change.name}: {ours:,} bytes on the medium, {peer:,} changed, {carried:,} below data/")
    return [
        Row(
            name=f"delta medium, {change.name}, to changed bytes",
            ours=float(ours),
            peer=float(peer),
            unit="B",
            ratio=ratio,
            goal=f"at most {_TIMES:g} times the changed bytes" if change.has_goal else None,
            met=ratio <= _TIMES if change.has_goal else None,
            more={"carried_payload_bytes": carried, "lists_and_evidence_bytes": ours - carried},
        ),
        Row(name=f"the full medium, {change.name}", ours=float(full), peer=float(ours), unit="B", ratio=full / ours),
    ]


def main() -> int:
    """Measure and write the result."""
    size = size_in_bytes("512MiB")
    folder = Path(tempfile.mkdtemp(prefix="sl-bench-delta-"))
    try:
        weights, other = folder / "weights", folder / "other"
        fill(weights, size)
        shutil.copyfile(weights, other)
        with other.open("r+b") as stream:
            for block in (1, size // layout.BLOCK_BYTES - 1):
                stream.seek(block * layout.BLOCK_BYTES + 4711)
                stream.write(b"another tensor")
        old = release(folder / "old", 1, wheels(1), weights)
        changes = (
            Change(name="unchanged weights and a new server", wheels=wheels(2), weights=weights, has_goal=True),
            Change(name="new server and two blocks of weights", wheels=wheels(2), weights=other, has_goal=True),
            Change(
                name="only our own wheel is new",
                wheels={**wheels(1), **wheels(2, "sealift")},
                weights=weights,
                has_goal=False,
            ),
        )
        rows = []
        for number, change in enumerate(changes):
            store = folder / f"store-{number}"
            if copy_here(old, store)[0]:
                raise SystemExit("the old release was refused")
            rows += measure(folder / str(number), old, change, store)
            shutil.rmtree(folder / str(number))
            shutil.rmtree(store)
        return write("delta", [*rows, machine()])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _blocks(path: Path) -> list[tuple[str, int]]:
    found = []
    with path.open("rb") as source:
        while block := source.read(layout.BLOCK_BYTES):
            found.append((sha256(block).hexdigest(), len(block)))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
