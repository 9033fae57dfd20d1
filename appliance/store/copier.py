"""The child process that touches a medium: verifies it and copies it, and can do nothing else.

One JSON job on stdin, one JSON object per line on stdout; runs as ``python -I -m appliance.store.copier``. It knows no
site file, no ledger and no key, and loads only what the verifier and the store need. Its parent records and decides.

Lines: ``step`` (a check begins), ``root`` (a verified rotation, to be committed at once), ``verified`` (the release's
facts), ``progress``, ``done`` (with what was read and written), or ``refused`` (the error's fields, and the facts known
by then).
"""

import ctypes
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self, TextIO

from appliance.store.content import ContentStore
from appliance.store.ingest import IngestFacts, check, ingest
from appliance.store.kept import kept_volumes
from appliance.verify.fit import Machine
from appliance.verify.freshness import CustodyAcceptance, Decisions, StaleAcceptance
from appliance.verify.medium import Medium
from appliance.verify.sitecustody import SiteCustody
from appliance.verify.steps import Check
from appliance.verify.trust import TrustRecord
from appliance.verify.verified import VerifiedRelease
from appliance.verify.verifier import Terms, verify_medium
from media import canonical
from media.clock import to_text
from media.errors import SealiftError
from media.release import ReleaseTerms
from media.volume import Volume

FORMAT: Final = 1
_JOB_BYTES: Final = 80 * 2**20
_PROGRESS_SECONDS: Final = 0.1
_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_LARGE_BYTES: Final = 128 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the copier is told; everything else it finds on the medium.

    Args:
        volumes: Folders of the mounted volumes.
        store: Folder of the store; empty for a dry run.
        terms: What to hold the release against.
        full: Ignore the journal of an interrupted receive.
        lock: Descriptor of the parent's lock on the store; None when nobody holds it.
    """

    volumes: tuple[str, ...]
    store: str
    terms: Terms
    full: bool
    lock: int | None

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a job.

        Raises:
            MalformedError, LimitExceededError: It does not read.
        """
        what = "The copier's job"
        value = canonical.mapping(canonical.loads(untrusted, max_bytes=_JOB_BYTES), what)
        level, lock = value["level"], value["lock"]
        return cls(
            volumes=tuple(canonical.text(each, what, most=4096) for each in canonical.array(value["volumes"], what)),
            store=canonical.text(value["store"], what, most=4096, may_be_empty=True),
            terms=Terms(
                trust=TrustRecord.from_json(value["trust"]),
                site=canonical.text(value["site"], what),
                environment=canonical.text(value["environment"], what),
                machine=Machine.from_json(value["machine"]),
                level=None if level is None else canonical.text(level, what),
                serial_jump=canonical.integer(value["serial_jump"], what, minimum=1),
                now=canonical.moment(value["now"], what),
                floor=canonical.moment(value["floor"], what),
                decisions=_decisions(canonical.mapping(value["decisions"], what)),
                custody=SiteCustody.from_json(value["custody"]),
            ),
            full=canonical.boolean(value["full"], what),
            lock=None if lock is None else canonical.integer(lock, what),
        )

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        terms = self.terms
        stale, custody = terms.decisions.stale, terms.decisions.custody
        return canonical.dumps(
            {
                "format": FORMAT,
                "volumes": list(self.volumes),
                "store": self.store,
                "trust": terms.trust.to_json(),
                "site": terms.site,
                "environment": terms.environment,
                "machine": terms.machine.to_json(),
                "level": terms.level,
                "serial_jump": terms.serial_jump,
                "now": to_text(terms.now),
                "floor": to_text(terms.floor),
                "decisions": {
                    "stale": None
                    if stale is None
                    else {"code": stale.code, "reason": stale.reason, "names": list(stale.names)},
                    "custody": None if custody is None else {"name": custody.name, "reason": custody.reason},
                },
                "custody": terms.custody.to_json(),
                "full": self.full,
                "lock": self.lock,
            }
        )


class Lines:
    """What the parent reads. A parent that went away ends the copier at the next line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def send(self, event: str, **fields: Any) -> None:
        """Write one line."""
        self._stream.write(canonical.dumps({"event": event, **fields}).decode() + "\n")
        self._stream.flush()

    def step(self, check: Check) -> None:
        """Say that a check begins, and so that the one before it held."""
        self.send("step", check=str(check))

    def progress(self, done: int, total: int, path: str) -> None:
        """Write progress, at most ten times a second."""
        now = monotonic()
        if now - self._last >= _PROGRESS_SECONDS or done == total:
            self._last = now
            self.send("progress", done=done, total=total, path=path)


def run(job: Job, lines: Lines) -> int:
    """Do the job; return the exit code of its outcome."""
    facts: dict[str, Any] = {}
    try:
        with ExitStack() as stack:
            media = [
                stack.enter_context(Medium.open(Path(folder), label=f"volume folder {number}"))
                for number, folder in enumerate(job.volumes, start=1)
            ]
            store = ContentStore(Path(job.store)) if job.store else None
            if store is not None:
                stack.enter_context(store.locked(descriptor=job.lock))
            verified = verify_medium(
                media,
                job.terms,
                on_root=lambda chain: lines.send("root", chain=list(chain)),
                on_named=lambda terms: facts.update(_named(terms)),
                on_step=lines.step,
                may_miss=True,
                kept=lambda wanted: _kept(store, wanted, stack) if store is not None and not job.full else [],
            )
            if not verified.missing:
                facts = verified.to_json()
                lines.send("verified", facts=facts, held=verified.held, root_chain=list(verified.root_chain))
            moved = _move(verified, store, job, lines)
    except SealiftError as error:
        lines.send("refused", error=error.to_json(), facts=facts)
        return error.exit_code
    lines.send(
        "done",
        read_bytes=moved.read_bytes,
        written_bytes=moved.written_bytes,
        reused_files=moved.reused_files,
        resumed_files=moved.resumed_files,
    )
    return 0


def main() -> int:
    """Read the job from stdin and do it."""
    _give_memory_back()
    job = Job.from_bytes(sys.stdin.buffer.read(_JOB_BYTES + 1))
    return run(job, Lines(sys.stdout))


def _give_memory_back() -> None:
    """Have glibc return large pieces of memory at once when they are freed, instead of keeping ever larger ones.

    Lists of 20,000 files have some megabytes each and are used one after another; the budget is for all together.
    """
    with suppress(OSError, AttributeError):  # another C library has no such setting, and needs none
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _move(verified: VerifiedRelease, store: ContentStore | None, job: Job, lines: Lines) -> IngestFacts:
    if store is None:
        lines.step(Check.BYTES)
        return check(verified, progress=lines.progress)
    lines.step(Check.ROOM)
    return ingest(
        verified, store, received_at=to_text(job.terms.now), full=job.full, progress=lines.progress, on_step=lines.step
    )


def _kept(store: ContentStore, wanted: Sequence[Volume], stack: ExitStack) -> list[Medium]:
    """Open what an earlier receive kept of these volumes; it is verified like a medium."""
    return [
        stack.enter_context(Medium.open(folder, label=f"volume {number} as it was kept"))
        for number, folder in kept_volumes(store, wanted)
    ]


def _named(terms: ReleaseTerms) -> dict[str, Any]:
    return {"release": terms.release, "serial": terms.serial, "payload_digest": terms.payload_digest}


def _decisions(value: Mapping[str, Any]) -> Decisions:
    what = "The copier's job"
    stale, custody = value.get("stale"), value.get("custody")
    return Decisions(
        stale=None
        if stale is None
        else StaleAcceptance(
            code=canonical.text(stale["code"], what),
            reason=canonical.text(stale["reason"], what, may_be_empty=True),
            names=tuple(canonical.text(each, what) for each in canonical.array(stale["names"], what)),
        ),
        custody=None
        if custody is None
        else CustodyAcceptance(
            name=canonical.text(custody["name"], what), reason=canonical.text(custody["reason"], what)
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
