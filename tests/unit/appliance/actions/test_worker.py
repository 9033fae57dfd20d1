"""A job's unit does its work whoever listens: how it is told must not count as what was found."""

from typing import Any

import pytest

from appliance.actions import worker
from appliance.actions.proof import Found, Prover
from appliance.errors import WireError
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
