"""Going back while callers ask: how long it takes, and how many requests it costs.

Two versions are loaded (memory holds both), the newer one serves, callers ask one after another, streamed and whole,
and somebody runs `sealift rollback`. Ledger, promoter and gateway are their real processes and the command is one, as
typed; engines are stand-ins that answer at once, so that what is measured is ours. The time counts from the command's
start to the last answer that began on the newer version.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from bench.measuring import Row, machine, say, write
from tests.support.promoting import homes_of_people
from tests.support.rollout_site import Got, approve, by_process, load_on, rollout_site
from tests.support.running_site import as_json
from tests.support.versions import short_folder

CALLERS, ROUNDS = 16, 3
GOAL_SECONDS = 5.0


def main() -> int:
    """Measure and write `build/bench/rollback.json`; returns 1 when a goal was missed."""
    seconds: list[float] = []
    commands: list[float] = []
    lost: list[int] = []
    asked: list[int] = []
    with ExitStack() as stack:
        homes = stack.enter_context(homes_of_people())
        root = stack.enter_context(short_folder())
        site, run, _, second = stack.enter_context(rollout_site(root, homes))
        load = stack.enter_context(load_on(site, run, callers=CALLERS))
        for number in range(ROUNDS):
            if number:
                approve(run, second, homes)
            as_json(run, "canary", "start", second)
            approve(run, second, homes)
            as_json(run, "canary", "cutover", "--as", "eva-rossi", "--reason", "measured")
            before = len(load.got)
            load.wait_for(partial(_answered_by, second, before))
            mark = len(load.got)
            began = time.monotonic()
            back = as_json(by_process(site), "rollback", "--as", "finn-olsen", "--reason", "measured")
            commands.append(time.monotonic() - began)
            if not back["was_warm"]:
                raise SystemExit("the version before was not loaded")
            after = len(load.got)
            load.wait_for(partial(_went_on, after))
            later = [one for one in load.got[mark:] if one.began >= began]
            seconds.append(max([one.began - began for one in later if one.version == second], default=0.0))
            lost.append(sum(one.status != 200 or not one.whole for one in load.got[mark:]))
            asked.append(len(load.got) - mark)
            say(f"  round {number + 1}: {seconds[-1]:.2f} s, {lost[-1]} of {asked[-1]} lost")
    runs = {"seconds": seconds, "command_seconds": commands, "lost": lost, "requests": asked}
    return write(
        "rollback",
        [
            machine(),
            Row(
                name=f"rollback with the previous version warm, {CALLERS} callers",
                ours=median(seconds),
                peer=None,
                unit="s",
                goal="under 5 s",
                met=median(seconds) < GOAL_SECONDS,
                more={"runs": runs},
            ),
            Row(
                name="requests lost by it",
                ours=float(sum(lost)),
                peer=None,
                unit="requests",
                goal="0",
                met=sum(lost) == 0,
                more={"requests": sum(asked)},
            ),
            Row(name="the command, until the engine left is stopped", ours=median(commands), peer=None, unit="s"),
        ],
    )


def _answered_by(version: str, before: int, got: Sequence[Got]) -> bool:
    return sum(one.version == version for one in got[before:]) >= 10 * CALLERS


def _went_on(after: int, got: Sequence[Got]) -> bool:
    return len(got) >= after + 4 * CALLERS


if __name__ == "__main__":
    raise SystemExit(main())
