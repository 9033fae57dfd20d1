"""A client of something that is no ledger, or one of another release: it never takes a record for written."""

import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import pytest

from appliance.audit.client import SocketLedger
from appliance.errors import LedgerDamagedError, LedgerRefusedError, LedgerUnavailableError, ProofError
from media.errors import UsageError
from tests.support.ledger import LedgerSite, intent


class Impostor:
    """Answers every line with what a test told it, `answers` one after the other before `answer`."""

    def __init__(self, path: Path) -> None:
        self.answer = b"{}\n"
        self.answers: list[bytes] = []
        self.hang_up = 0
        self.asked: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines:
                for line in lines:
                    self.asked.append(line)
                    if self.hang_up:
                        self.hang_up -= 1
                        break
                    client.sendall(self.answers.pop(0) if self.answers else self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def impostor() -> Iterator[tuple[Impostor, SocketLedger]]:
    with tempfile.TemporaryDirectory(prefix="sealift-") as folder:
        path = Path(folder) / "ledger.sock"
        made = Impostor(path)
        ledger = SocketLedger(path, timeout_seconds=0.3)
        yield made, ledger
        ledger.close()
        made.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"rubbish\n",
        b"[]\n",
        b"{}\n",
        b'{"ok":{}}\n',
        b'{"ok":[]}\n',
        b'{"ok":{"sequence":1}}\n',
        b'{"error":{}}\n',
        b'{"error":"no"}\n',
        b'{"error":{"code":"internal","what":"it broke"}}\n',
        b'{"error":{"code":"wire","what":"it broke"}}\n',
        b"never ends",
    ],
)
def test_an_answer_that_is_no_acknowledgement_is_no_record(
    impostor: tuple[Impostor, SocketLedger], answer: bytes
) -> None:
    server, ledger = impostor
    server.answer = answer

    with pytest.raises(LedgerUnavailableError):
        ledger.append("request.intent", intent("a"))


@pytest.mark.parametrize(
    "answer",
    [
        b'{"ok":{}}\n',
        b'{"ok":{"leaves":{}}}\n',
        b'{"ok":{"leaves":[{}]}}\n',
        b'{"ok":{"leaves":[{"bytes":"!","chain":""}]}}\n',
        b'{"ok":{"leaves":[7]}}\n',
    ],
)
def test_an_answer_that_is_no_leaf_is_not_believed(impostor: tuple[Impostor, SocketLedger], answer: bytes) -> None:
    server, ledger = impostor
    server.answer = answer

    for ask in (lambda: ledger.leaves(0, 5), lambda: ledger.find("a.b"), ledger.head, lambda: ledger.leaf(0)):
        with pytest.raises(LedgerUnavailableError):
            ask()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ledger-damaged", LedgerDamagedError),
        ("ledger-refused", LedgerRefusedError),
        ("ledger-unavailable", LedgerUnavailableError),
        ("proof", ProofError),
        ("usage", UsageError),
    ],
)
def test_errors_arrive_as_what_they_are(
    impostor: tuple[Impostor, SocketLedger], code: str, kind: type[Exception]
) -> None:
    server, ledger = impostor
    server.answer = f'{{"error":{{"code":"{code}","what":"the what","why":"the why","fix":"the fix"}}}}\n'.encode()

    with pytest.raises(kind) as caught:
        ledger.inclusion(1)

    assert vars(caught.value) == {"what": "the what", "why": "the why", "fix": "the fix", "details": None}


def test_a_connection_that_broke_is_replaced_once_and_the_same_line_sent_again(
    impostor: tuple[Impostor, SocketLedger],
) -> None:
    server, ledger = impostor
    server.answer = b'{"ok":{"sequence":5,"leaf_hash":"00","time":"t"}}\n'
    server.hang_up = 1

    assert ledger.append("request.intent", intent("a")).sequence == 5

    assert len(server.asked) == 2
    assert server.asked[0] == server.asked[1]


def test_a_server_that_always_hangs_up_is_unavailable(impostor: tuple[Impostor, SocketLedger]) -> None:
    server, ledger = impostor
    server.hang_up = 9

    with pytest.raises(LedgerUnavailableError):
        ledger.append("request.intent", intent("a"))

    assert len(server.asked) == 2


def test_a_server_that_does_not_answer_in_time_is_asked_once(impostor: tuple[Impostor, SocketLedger]) -> None:
    server, ledger = impostor
    server.answer = b""

    with pytest.raises(LedgerUnavailableError):
        ledger.append("request.intent", intent("a"))

    assert len(server.asked) == 1


def test_a_record_is_sent_with_a_key_of_its_own(impostor: tuple[Impostor, SocketLedger]) -> None:
    server, ledger = impostor
    server.answer = b'{"ok":{"sequence":5,"leaf_hash":"00","time":"t"}}\n'

    ledger.append_many([("a.b", {}), ("a.b", {})])
    ledger.append("a.b", MappingProxyType({"x": MappingProxyType({})}), key="mine")

    assert len(set(server.asked)) == 3
    assert b'"key":"mine"' in server.asked[2]


def test_the_key_that_the_ledger_signs_with_is_told(site: LedgerSite) -> None:
    with site.running() as log:
        ledger = site.door("ledger-admin")
        asks: list[Callable[[], object]] = [ledger.vkey, lambda: ledger.leaf(0).body["vkey"]]

        assert [str(asks[0]()), asks[1]()] == [str(log.vkey), log.vkey.to_text()]
        ledger.close()


def test_a_ledger_that_is_silent_for_too_long_is_not_asked_again(impostor: tuple[Impostor, SocketLedger]) -> None:
    server, ledger = impostor
    server.answer = b'{"ok":{"sequence":5,'

    began = time.monotonic()
    with pytest.raises(LedgerUnavailableError) as caught:
        ledger.append("request.intent", intent("a"))

    assert caught.value.why == "timed out"
    assert 0.2 < time.monotonic() - began < 30
    assert len(server.asked) == 1


def test_answers_may_come_in_pieces_that_end_anywhere(impostor: tuple[Impostor, SocketLedger]) -> None:
    server, ledger = impostor
    whole = b'{"ok":{"sequence":5,"leaf_hash":"00","time":"t"}}\n'
    server.answers = [whole[:20], whole[20:] + whole[:7], whole[7:] + whole]

    found = ledger.append_many([("request.intent", intent(name)) for name in "abc"])

    assert [one.sequence for one in found] == [5, 5, 5]


def test_a_record_that_was_sent_is_told_once_it_is_durable_and_each_time_the_same(site: LedgerSite) -> None:
    with site.running() as log, closing(site.door("ledger-gateway")) as ledger:
        sent = ledger.send("request.intent", intent("req_sent"))
        assert select.select([sent], [], [], 5)[0]
        found = sent.wait()
        assert sent.wait() == found
        assert sent.fileno() == -1
        assert log.leaf(found.sequence).body["request_id"] == "req_sent"
        sent.close()
        # Its connection may be used again.
        assert ledger.append("request.intent", intent("req_next")).sequence == found.sequence + 1


def test_the_answer_to_a_record_that_was_given_up_is_nobody_elses(site: LedgerSite) -> None:
    with site.running(), closing(site.door("ledger-gateway")) as ledger:
        ledger.send("request.intent", intent("req_left")).close()
        found = ledger.append("request.intent", intent("req_next"))
        assert ledger.leaf(found.sequence).body["request_id"] == "req_next"


def test_a_record_whose_ledger_began_anew_while_it_was_on_its_way_is_sent_again_with_its_own_key(
    impostor: tuple[Impostor, SocketLedger],
) -> None:
    made, ledger = impostor
    made.hang_up, made.answer = 1, b'{"ok":{"sequence":5,"leaf_hash":"00","time":"t"}}\n'
    sent = ledger.send("request.intent", intent("req_again"))

    assert sent.wait().sequence == 5
    first, second = made.asked
    assert first == second


def test_a_record_that_was_sent_to_nobody_is_refused_and_stays_refused(
    impostor: tuple[Impostor, SocketLedger],
) -> None:
    made, ledger = impostor
    made.answer = b"never ends"
    sent = ledger.send("request.intent", intent("req_lost"))

    for _ in range(2):
        with pytest.raises(LedgerUnavailableError):
            sent.wait()
