"""llama.cpp's engine, told to stop, brings the answer that it is at to its end, as every engine does."""

import pytest

from tests.engines.contract import lets_an_answer_end
from tests.support.engine_process import engine_site, running_engine, wait_ready

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

# The answer is the question's letters, one in each step; a step takes long beside what stopping does.
_SLOW = """
import time
from tests.support import taken_over_engine as engine

class Slow(engine.TakenOver):
    def decode(self, rows):
        time.sleep(0.05)
        return super().decode(rows)

engine.TakenOver = Slow
engine.main()
"""


def test_told_to_stop_it_lets_an_answer_come_to_its_end() -> None:
    asked = {"messages": [{"role": "user", "content": "tell me of the sea"}], "temperature": 0}
    with engine_site() as site, running_engine(site, program=_SLOW) as (name, process, notices):
        wait_ready(notices)

        lets_an_answer_end(site.at.socket(f"engine-{name}"), process.terminate, asked=asked, most=12)

        assert process.wait(30) == 0
