"""A real, signed medium of any size to receive: the tests' tiny release with weights of random bytes."""

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions.copying import _command
from appliance.store.copier import Job
from bundler.onego import release_in_one_go
from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from media.digest import file_sha256, payload_digest, sha256_hex
from tests.support.candidate import candidate_plan, tiny_payload, write_candidate
from tests.support.medium import MADE_AT, SimulatedMedium, throwaway_ceremony
from tests.support.receiving import terms_for

_WEIGHTS: Final = "data/models/tiny/tiny.gguf"
_PIECE: Final = 2**20
_SMALLEST: Final = 4 * 2**10
_LARGEST: Final = 200 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMedium:
    """A volume with a release, ready to be received or copied."""

    volume: Path
    medium: SimulatedMedium

    @property
    def files(self) -> list[Path]:
        """Every file of the volume."""
        return sorted(path for path in self.volume.rglob("*") if path.is_file())

    @property
    def payload(self) -> list[Path]:
        """The files below data/, parts in block order."""
        return [path for path in self.files if "data" in path.relative_to(self.volume).parts]

    def job(self, store: Path) -> bytes:
        """Return what the copier is told."""
        return Job(
            volumes=(str(self.volume),), store=str(store), terms=terms_for(self.medium), full=False, lock=None
        ).to_bytes()


def copier() -> list[str]:
    """Return the command of the very process that a receive starts."""
    return _command()


def make(folder: Path, size: int, *, volume: Path | None = None) -> BenchMedium:
    """Build, sign and write a release whose weights have `size` bytes; only the volume is kept.

    Args:
        folder: A folder of its own.
        size: Of the weights; all else is a few kilobytes.
        volume: Where the volume is written; below `folder` where none is named.
    """
    work = WorkFolder(root=folder / "work")
    payload = tiny_payload()
    plan = candidate_plan(payload)
    write_candidate(work, plan, payload)
    weights = work.candidate / _WEIGHTS
    fill(weights, size)
    before = {name: (name, len(data), sha256_hex(data)) for name, data in payload.items()}
    now = {**before, _WEIGHTS: (_WEIGHTS, size, file_sha256(weights))}
    for path in work.attest.glob("*.json"):  # they speak of the tiny weights
        text = path.read_text().replace(payload_digest(before.values()), payload_digest(now.values()))
        path.write_text(text.replace(before[_WEIGHTS][2], now[_WEIGHTS][2]))
    made = _written(folder, work, plan, volume=volume or folder / "volume-1")
    weights.unlink()
    return made


def make_many(folder: Path, count: int) -> BenchMedium:
    """Build, sign and write a release with `count` small files of 4 to 200 KiB, as wheels and packages are."""
    work = WorkFolder(root=folder / "work")
    dice, piece = random.Random(count), os.urandom(_PIECE)  # noqa: S311 - sizes only
    small = {f"data/debs/package-{number:06}.deb": _small(dice, piece, number) for number in range(count)}
    payload = {**tiny_payload(), **small}
    plan = candidate_plan(payload)
    write_candidate(work, plan, payload)
    made = _written(folder, work, plan, volume=folder / "volume-1")
    shutil.rmtree(work.candidate)
    return made


def _small(dice: random.Random, piece: bytes, number: int) -> bytes:
    start = dice.randrange(_PIECE // 2)
    size = int(_SMALLEST * (_LARGEST / _SMALLEST) ** dice.random())
    return number.to_bytes(8, "big") + piece[start : start + size - 8]


def _written(folder: Path, work: WorkFolder, plan: ReleasePlan, *, volume: Path) -> BenchMedium:
    ceremony = throwaway_ceremony("demo")
    made = release_in_one_go(work, [volume], ceremony=ceremony, clock=FixedClock(at=MADE_AT), place="Bundling room")
    medium = SimulatedMedium(
        folder=folder,
        volumes=[volume],
        work=work,
        ceremony=ceremony,
        code=made.code,
        release=plan.release,
        serial=plan.serial,
        payload={},
    )
    return BenchMedium(volume=volume, medium=medium)


def fill(path: Path, size: int) -> None:
    """Write `size` bytes that no file system can store in less room and no two blocks share."""
    piece = os.urandom(_PIECE)
    with path.open("wb") as stream:
        for start in range(0, size, _PIECE):
            stamped = start.to_bytes(8, "big") + piece[8:]
            stream.write(stamped[: size - start])
