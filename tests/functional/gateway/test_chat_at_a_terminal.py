"""`sealift chat` as a person sits at it: lines that are edited, pasted and stopped, and refusals that end nothing."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from tests.support.browser import served
from tests.support.engine import Script
from tests.support.gateway import Rig
from tests.support.ports import held_port
from tests.support.terminal import CTRL_C, Terminal, at_terminal

pytestmark = pytest.mark.slow


@pytest.fixture
def chat(rig: Rig) -> Iterator[Terminal]:
    port = held_port()
    arguments = ["chat", "--url", f"http://127.0.0.1:{port}/v1"]
    with (
        served(rig.app, port),
        at_terminal(arguments, more={"SEALIFT_KEY": rig.key}) as terminal,
    ):
        terminal.wait_for("> ")
        yield terminal


def _asked(rig: Rig) -> list[list[str]]:
    return [[one["content"] for one in body["messages"]] for _, body in rig.engine.asked]


def test_what_is_pasted_is_one_question_and_a_line_can_be_edited(rig: Rig, chat: Terminal) -> None:
    chat.paste("Dear colleague,\n\nthank you.")
    chat.press(b"\r")
    chat.wait_for("req_")
    chat.press(b"wrd\x1b[D\x1b[Do\r")  # back by two letters, and the missing one
    chat.wait_for("req_", times=2)
    chat.press(b"/bye\r")

    assert chat.code() == 0
    assert [said[-1] for said in _asked(rig)] == ["Dear colleague,\n\nthank you.", "word"]


def test_ctrl_c_stops_an_answer_and_ends_no_conversation(rig: Rig, chat: Terminal) -> None:
    rig.engine.script = Script(pieces=("one ", "two "), hold=(held := threading.Event()))
    chat.press(b"first\r")
    assert rig.engine.started.wait(20)
    chat.press(CTRL_C)
    chat.wait_for("> ", times=2)
    held.set()
    rig.engine.script = Script()
    chat.press(b"second\r")
    chat.wait_for("> ", times=3)  # before a prompt, keys are another's to read
    while chat.shown.count(b"/bye ends") < 2:
        chat.press(CTRL_C)  # one that comes just before Python waits for keys is noticed with the next
        chat.wait(1)
    chat.press(b"/bye\r")

    assert chat.code() == 0
    assert _asked(rig)[-1] == ["second"]
    assert b"interrupted" not in chat.shown


def test_what_was_read_of_a_stopped_answer_is_said_before() -> None:
    asked: list[Any] = []
    left = threading.Event()

    def slowly() -> Iterator[str]:
        said = {"model": "m", "choices": [{"delta": {"content": "one two"}, "finish_reason": None}]}
        yield f"data: {json.dumps(said)}\n\n"
        left.wait(20)

    def service(environ: Any, start_response: Any) -> Any:
        asked.append(json.loads(Request(environ).get_data())["messages"])
        return Response(slowly(), headers={"x-request-id": "req_slow"})(environ, start_response)

    port = held_port()
    with (
        served(service, port),  # type: ignore[arg-type]
        at_terminal(["chat", "--url", f"http://127.0.0.1:{port}/v1"], more={"SEALIFT_KEY": "k"}) as terminal,
    ):
        terminal.wait_for("> ")
        terminal.press(b"first\r")
        terminal.wait_for("one two")
        terminal.press(CTRL_C)
        terminal.wait_for("> ", times=2)
        terminal.press(b"second\r")
        terminal.wait_for("one two", times=2)
        left.set()
        terminal.wait_for("> ", times=3)
        terminal.press(b"/bye\r")
        assert terminal.code() == 0

    assert b"req_slow: stopped" in terminal.shown
    assert [one["content"] for one in asked[1]] == ["first", "one two", "second"]


def test_an_answer_that_breaks_off_or_a_question_that_is_refused_ends_no_conversation(rig: Rig, chat: Terminal) -> None:
    chat.press(b"first\r")
    chat.wait_for("req_")
    rig.engine.script = Script(pieces=("one ", "two "), error_after=1)
    chat.press(b"second\r")
    chat.wait_for("error: the answer broke off")
    rig.engine.n_ctx, rig.engine.script = 8, Script()
    chat.press(b"a question of far too many words for a context of eight tokens\r")
    chat.wait_for("context_length_exceeded")
    rig.engine.n_ctx = 4096
    chat.press(b"/help\rthird\r")
    chat.wait_for("You said: third")
    chat.press(b"\r")

    assert chat.code() == 0
    assert b"/new begins anew, without what was said before" in chat.shown
    assert _asked(rig)[-1] == ["first", "You said: first", "third"]


def test_spaces_of_every_kind_are_shown_and_orders_to_a_terminal_are_not(rig: Rig, chat: Terminal) -> None:
    rig.engine.script = Script(text="10\u202fmg,\u00a0\u3000s\u200c\u200dt\x1b]0;mine\x07\u202e\u2028end")
    chat.press(b"how much?\r")
    chat.wait_for("req_")

    assert "10\u202fmg,\u00a0\u3000s\u200c\u200dt]0;mineend" in chat.shown.decode()
