"""The job service goes on looking after windows, whatever broke one look."""

import threading
from typing import Any

import pytest

from appliance.install import jobservice


class AtOnce(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


class Desk:
    """Its first look breaks; the second is the last."""

    def __init__(self) -> None:
        self.done, self.looks = AtOnce(), 0

    def look_after_windows(self) -> None:
        self.looks += 1
        if self.looks > 1:
            self.done.set()
            return
        raise RuntimeError("Jane Doe")


def test_a_look_that_breaks_is_followed_by_another_and_says_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    desk: Any = Desk()

    jobservice._look_after_windows(desk, desk.done)

    assert desk.looks == 2
    assert capsys.readouterr().err == "the look after windows failed (RuntimeError)\n"
