"""Running the copier: the child process that alone touches a medium, and what it says while it works.

The child runs the very code of its parent, isolated from environment and user paths, with an environment of nothing but
a PATH. It inherits the lock on the store, so that the lock lives as long as anyone copies.
"""

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import appliance
from appliance.errors import CopierError
from appliance.store.copier import Job
from appliance.verify.steps import Check, OnStep, unheard
from appliance.wire import RemoteError
from media import canonical
from media.errors import SealiftError

_MODULE: Final = "appliance.store.copier"
_LINE_BYTES: Final = 96 * 2**20
_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

OnRoot = Callable[[tuple[str, ...]], None]
OnVerified = Callable[[Mapping[str, Any]], None]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What the copier did.

    Args:
        facts: The release as it was verified.
        held: This box had accepted this very serial and payload before.
        root_chain: The chain that the trust record will hold.
        moved: Bytes read and written, files reused and resumed.
    """

    facts: Mapping[str, Any]
    held: bool
    root_chain: tuple[str, ...]
    moved: Mapping[str, int]


class Refused(Exception):  # noqa: N818 - carries the error that the caller raises, and what was known by then
    """The copier refused the medium."""

    def __init__(self, error: SealiftError, facts: Mapping[str, Any]) -> None:
        super().__init__(error.what)
        self.error = error
        self.facts = facts


def copy(
    job: Job, *, on_root: OnRoot, on_verified: OnVerified, progress: Progress, on_step: OnStep = unheard
) -> Copied:
    """Run the copier on a job and return what it did; `on_step` hears when each check begins.

    Raises:
        Refused: It refused; the error is inside.
        CopierError: It ended without an answer.
    """
    descriptors = () if job.lock is None else (job.lock,)
    facts: Mapping[str, Any] = {}
    held, chain = False, ()
    with _started(descriptors) as (process, talk):
        _give(process, job)
        for line in _lines(process):
            event = line.get("event")
            if event == "progress":
                progress(line["done"], line["total"], line["path"])
            elif event == "step":
                on_step(Check(line["check"]))
            elif event == "root":
                on_root(tuple(line["chain"]))
            elif event == "verified":
                facts, held, chain = line["facts"], line["held"], tuple(line["root_chain"])
                on_verified(facts)
            elif event == "refused":
                raise Refused(error_of(line["error"]), line["facts"])
            elif event == "done":
                moved = {name: value for name, value in line.items() if isinstance(value, int)}
                return Copied(facts=facts, held=held, root_chain=chain, moved=moved)
        raise _no_answer(process.wait(), talk)


def error_of(fields: Mapping[str, Any]) -> SealiftError:
    """Return the error with this code, as the child would have raised it here."""
    texts = {name: str(fields.get(name, "")) for name in ("what", "why", "fix")}
    waiting: list[type[SealiftError]] = [SealiftError]
    while waiting:
        kind = waiting.pop()
        if vars(kind).get("code") == fields.get("code"):
            error = kind(**texts)
            error.details = fields.get("details")
            return error
        waiting.extend(kind.__subclasses__())
    return RemoteError(**texts, code=str(fields.get("code")), exit_code=int(fields.get("exit_code", 1)))


@contextmanager
def _started(descriptors: tuple[int, ...]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=talk,
            pass_fds=descriptors,
            env=_ENVIRONMENT,
            cwd="/",
        )
        with process:
            try:
                yield process, talk
            finally:
                process.kill()
                process.wait()  # the lock is the child's too; for Ctrl-C alone Popen would not wait to the end


def _command() -> list[str]:
    home = str(Path(appliance.__file__).parents[1])
    if home in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        return [sys.executable, "-I", "-m", _MODULE]
    # Run from a checkout: isolation leaves nothing of it on the path, so its folder is named.
    start = f"import sys, runpy; sys.path.insert(0, {home!r}); runpy.run_module({_MODULE!r}, run_name='__main__')"
    return [sys.executable, "-I", "-c", start]


def _give(process: subprocess.Popen[bytes], job: Job) -> None:
    if process.stdin is None:
        raise CopierError(what="the copier could not be started", why="no pipe", fix="try again")
    try:
        process.stdin.write(job.to_bytes())
        process.stdin.close()
    except BrokenPipeError:  # it ended before it read: what it said, or its exit status, tells why
        return


def _lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    if process.stdout is None:
        return
    while line := process.stdout.readline(_LINE_BYTES):
        if not line.endswith(b"\n"):
            return
        yield canonical.mapping(canonical.loads(line, max_bytes=_LINE_BYTES), "The copier's line")


def _no_answer(status: int, talk: IO[bytes]) -> CopierError:
    talk.seek(0)
    last = talk.read()[-4096:].decode(errors="replace").strip().rpartition("\n")[2]
    kind = last.partition(":")[0] if status > 0 else ""
    why = f"signal {-status}" if status < 0 else f"exit status {status} {kind}".strip()
    return CopierError(
        what="the copier ended without an answer",
        why=why,
        fix="receive again: what was stored is kept and not read again",
    )
