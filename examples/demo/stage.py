"""How the demo speaks: chapters with their time, every command as it could be typed, results as JSON where needed."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BOLD, _DIM, _PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class StageError(Exception):
    """A command of the demo failed; its own three lines were printed above."""


class Stage:
    """Runs commands of both sides in one folder.

    Args:
        root: The checkout; printed paths are relative to it.
        tools: Folder of the `sealift` and `sealift-bundler` scripts.
        environment: What commands get besides the caller's environment.
    """

    def __init__(self, root: Path, *, tools: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self.tools = tools
        self.environment = dict(environment)
        self.times: dict[str, float] = {}
        self.now = ""

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Print a heading, and the seconds at the end; `now` names the last one that began."""
        print(f"\n{_BOLD}== {title}{_PLAIN}", flush=True)
        self.now, began = title, time.monotonic()
        yield
        self.times[title] = round(time.monotonic() - began, 1)
        print(f"{_DIM}   ({self.times[title]:.1f} s){_PLAIN}", flush=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        for line in text.splitlines():
            print(f"   {line}", flush=True)

    def run(self, *words: str | Path, quiet: bool = False, feed: str | None = None, tools: Path | None = None) -> None:
        """Run a command and show what it says.

        Raises:
            StageError: It did not end with 0.
        """
        done = self._start(words, capture=quiet, feed=feed, tools=tools)
        if done.returncode != 0:
            if quiet:
                sys.stdout.write(done.stdout + done.stderr)
            message = f"{' '.join(map(str, words[:2]))} ended with {done.returncode}"
            raise StageError(message)

    def ask(self, *words: str | Path, feed: str | None = None, tools: Path | None = None) -> dict[str, Any]:
        """Run a command with ``--json`` and return its result.

        Raises:
            StageError: It did not end with 0, or printed no JSON object.
        """
        done = self._start([*words, "--json"], capture=True, feed=feed, tools=tools)
        if done.returncode != 0:
            sys.stdout.write(done.stdout + done.stderr)
            message = f"{words[0]} {words[1]} ended with {done.returncode}"
            raise StageError(message)
        found = json.loads(done.stdout)
        if not isinstance(found, dict):
            message = f"{words[0]} {words[1]} printed no object"
            raise StageError(message)
        return found

    def _start(
        self, words: Sequence[str | Path], *, capture: bool, feed: str | None, tools: Path | None
    ) -> "subprocess.CompletedProcess[str]":
        texts = [str(word) for word in words]
        print(f"{_DIM}$ {shlex.join(self._short(text) for text in texts)}{_PLAIN}", flush=True)
        program = (tools or self.tools) / texts[0]
        return subprocess.run(
            [str(program) if program.exists() else texts[0], *texts[1:]],
            cwd=self._root,
            env={**os.environ, **self.environment},
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=capture,
            text=True,
            check=False,
        )

    def _short(self, text: str) -> str:
        return text.replace(f"{self._root}/", "")
