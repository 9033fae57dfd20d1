"""Types commands of the connected side in this process and keeps what came out."""

import json
import os
from typing import Any

import pytest

from bundler.cli.main import main


class Typist:
    """Someone at a terminal; PINs and passphrases go through a descriptor of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.talk = ""

    def run(self, *arguments: object, secrets: tuple[str, ...] = ()) -> tuple[int, str]:
        """Return the exit code and what was printed."""
        typed = [str(argument) for argument in arguments]
        if secrets:
            reading, writing = os.pipe()
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                stream.write("".join(f"{each}\n" for each in secrets))
            typed += ["--secret-fd", str(reading)]
        with pytest.raises(SystemExit) as ended:
            main(typed)
        captured = self._capsys.readouterr()
        self.talk = captured.err
        return int(ended.value.code or 0), captured.out

    def facts(self, *arguments: object, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the JSON result of a command that must succeed."""
        code, out = self.run("--json", *arguments, secrets=secrets)
        assert code == 0, self.talk
        found: dict[str, Any] = json.loads(out)
        return found
