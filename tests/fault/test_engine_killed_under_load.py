"""One of a version's engines dies again and again while callers ask: nobody fails before the first byte."""

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.dying_engine import DyingEngine, dying_engine
from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
KILLS, CALLERS = 4, 6


@dataclass(slots=True)
class Callers:
    """Ask one after another, every second one streamed, until told to end."""

    server: Server
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def ask(self, number: int) -> None:
        """Be one of them."""
        host, port = self.server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        headers = {"Authorization": f"Bearer {self.server.key}", "content-type": "application/json"}
        turn = 0
        while not self._done.is_set():
            turn += 1
            stream = bool((turn + number) % 2)
            messages = [{"role": "user", "content": f"caller {number}, question {turn}"}]
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps({"model": MODEL, "messages": messages, "stream": stream}),
                headers,
            )
            response = connection.getresponse()
            content = response.read()
            self.statuses[response.status] += 1
            is_whole = content.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason"' in content
            self.broken += not is_whole or b'"error"' in content
        connection.close()

    @property
    def answered(self) -> int:
        """How many answers there were."""
        return self.statuses[200]

    def wait_for(self, more: int) -> None:
        """Return once so many more were answered."""
        wanted, until = self.answered + more, time.monotonic() + 60
        while self.answered < wanted:
            assert time.monotonic() < until, f"after {self.answered} answers: {self.statuses}"
            time.sleep(0.01)

    def end(self) -> None:
        """Let each finish what it asked."""
        self._done.set()


def kill_and_start(engine: DyingEngine, callers: Callers) -> None:
    """Let the others answer for a dead engine, then let it come back."""
    engine.kill()
    callers.wait_for(20)
    engine.start()
    callers.wait_for(20)


def test_callers_notice_nothing_of_an_engine_that_dies_under_load(tmp_path: Path) -> None:
    with gateway_server(tmp_path, limits="requests_per_minute = 1000000") as server:
        server.engine.script = Script(text="fine, thank you")
        path = server.site.places.socket(f"engine-production-{MODEL_DIGEST[:12]}-2")
        with dying_engine(path) as second:
            callers = Callers(server)
            threads = [threading.Thread(target=callers.ask, args=(number,)) for number in range(CALLERS)]
            for thread in threads:
                thread.start()
            try:
                callers.wait_for(20)
                for _ in range(KILLS):
                    kill_and_start(second, callers)
            finally:
                callers.end()
                for thread in threads:
                    thread.join(90)

        assert set(callers.statuses) == {200}
        # What had begun to answer when its engine died ends in an error event; nothing else is broken.
        assert callers.broken <= KILLS * CALLERS
        ended = Counter(one["outcome"] for one in server.outcomes())
        assert ended["ok"] + ended["error"] == sum(ended.values())
