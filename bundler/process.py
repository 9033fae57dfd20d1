"""Running one program: no shell, output by lines, and a failure that says what the program said last."""

import codecs
import io
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bundler.errors import BuildError, BundlerError

Progress = Callable[[str], None]
"""Called with one line of talk at a time; `print` fits, and so does the command line's `say`."""

_KEPT_LINES = 12
_END_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_READ_BYTES = 65536
# No program that is started here has a use for them, and some of them read or build what strangers wrote.
_WITHHELD = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})


def quiet(line: str) -> None:
    """Show nothing."""


def run(
    arguments: Sequence[str | Path],
    *,
    what: str,
    fix: str,
    error: type[BundlerError] = BuildError,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    on_line: Progress = quiet,
) -> str:
    """Run a program to its end and return its output, stdout and stderr together.

    Where we are interrupted, the program ends too, with all that it has started.

    Args:
        arguments: The program and its arguments.
        what: What is being tried, for the error.
        fix: What to do when it fails, for the error.
        error: The type of that error.
        environment: Variables set on top of our own.
        folder: Where it runs.
        on_line: Sees each line as it comes.

    Raises:
        BundlerError: Of the type `error`: the program is absent or ended with another code than 0.
    """
    lines: list[str] = []
    try:
        with subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_inherited(), **(environment or {})},
            cwd=folder,
            process_group=0,  # so that a build ends whole: pip, cmake and every compiler
        ) as child:
            try:
                for line in _lines(child):
                    lines.append(line)
                    on_line(line)
                while child.returncode is None:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(_LOOK_SECONDS)
            except BaseException:
                _end(child)
                raise
    except OSError as absent:
        raise error(what=what, why=f"{Path(arguments[0]).name}: {absent.strerror}", fix=fix) from absent
    if child.returncode != 0:
        raise error(what=what, why=f"exit code {child.returncode}: {_last(lines)}", fix=fix)
    return "\n".join(lines)


def capture(
    arguments: Sequence[str | Path],
    *,
    what: str,
    fix: str,
    error: type[BundlerError] = BuildError,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> bytes:
    """Run a program to its end and return what it wrote to stdout, and nothing else; see `run`.

    Raises:
        BundlerError: Of the type `error`.
    """
    try:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**_inherited(), **(environment or {})},
            cwd=folder,
            check=False,
        )
    except OSError as absent:
        raise error(what=what, why=f"{Path(arguments[0]).name}: {absent.strerror}", fix=fix) from absent
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").splitlines()
        raise error(what=what, why=f"exit code {done.returncode}: {_last(said)}", fix=fix)
    return done.stdout


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[str]:
    """Yield the lines of a program as they come, without their ends.

    A signal that comes just before a read begins is seen when that ends, which may be never; so it is looked whether
    there is something to read, for a second at a time.
    """
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    output = child.stdout.fileno()
    waiting = select.poll()
    waiting.register(output, select.POLLIN)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    rest = ""
    while True:
        if not waiting.poll(_LOOK_SECONDS * 1000):
            continue
        raw = os.read(output, _READ_BYTES)
        *lines, rest = (rest + decoder.decode(raw, final=not raw)).split("\n")
        yield from lines
        if not raw:
            if rest:
                yield rest
            return


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a program's whole group: asked first, then at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_END_SECONDS)


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _WITHHELD}


def _last(lines: Sequence[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in said):
        said = said[-1:]  # the frames name folders of this machine, and tell only a programmer something
    return " | ".join(said[-_KEPT_LINES:])[-1500:]
