"""A job's unit does its work whoever listens: how it is told must not count as what was found."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import canary, elsewhere, worker
from appliance.actions.proof import Found, Prover
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, WireError
from appliance.wire import RemoteError
from media.errors import SealiftError

RESTARTED = RemoteError(what="no media job runs", why="", fix="", code="job-refused", exit_code=52)


class Jobs:
    """A job service that takes no word."""

    def __init__(self, error: SealiftError) -> None:
        self.error, self.told = error, 0

    def tell_progress(self, _step: str, _done: int, _total: int) -> None:
        self.told += 1
        raise self.error


@pytest.mark.parametrize("error", [RESTARTED, WireError(what="it is away", why="", fix="")], ids=["refuses", "away"])
def test_a_link_holds_though_the_job_service_takes_no_word_of_it(error: SealiftError) -> None:
    jobs: Any = Jobs(error)
    prover = Prover(worker._teller(jobs))

    def hashed() -> Found[None]:
        prover.tell("weights", 1, 1)
        return Found(value=None, detail="hashed again")

    prover.check("weights", hashed)

    assert [(step.name, step.ok) for step in prover.steps] == [("weights", True)]
    assert jobs.told == 2


@pytest.mark.parametrize(
    ("node", "code", "followed", "ends"),
    [
        ("b", LedgerUnavailableError.code, 1, 0),
        ("b", "conflict", 0, RemoteError.exit_code),
        ("", LedgerUnavailableError.code, 0, RemoteError.exit_code),
    ],
)
def test_a_node_that_may_record_no_verdict_follows_the_one_that_leads(
    node: str, code: str, followed: int, ends: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    section = {"kind": "postgresql", "socket": str(tmp_path), "node": node} if node else {}
    config = Config.model_validate({"site": "demo", "places": {"root": str(tmp_path)}, "database": section})
    seen: list[object] = []

    def refuse(_: object) -> None:
        raise RemoteError(what="another node leads", why="", fix="", code=code, exit_code=90)

    monkeypatch.setattr(worker, "_on_production", lambda *_, **__: nullcontext("here"))
    monkeypatch.setattr(canary, "judge", refuse)
    monkeypatch.setattr(elsewhere, "follow", seen.append)

    assert worker.judge(config) == ends
    assert len(seen) == followed
