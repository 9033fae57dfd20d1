"""Work of other contexts on the scheduler's thread, between the steps of those who are answering."""

import threading

import pytest

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.engine import Generation, Sampling
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import EchoDecoder


def test_work_returns_what_it_made_on_the_decoders_thread() -> None:
    scheduler = Scheduler(EchoDecoder())

    assert scheduler.between_steps(threading.current_thread).name == "scheduler"
    scheduler.stop()


def test_work_that_fails_tells_its_type_alone_and_the_thread_goes_on() -> None:
    scheduler = Scheduler(EchoDecoder())

    nobody: dict[str, int] = {}

    with pytest.raises(EngineProtocolError) as failed:
        scheduler.between_steps(lambda: nobody["a patient's name"])

    assert "patient" not in str(failed.value)
    assert scheduler.between_steps(lambda: 7) == 7
    scheduler.stop()


def test_an_answer_goes_on_while_work_keeps_coming() -> None:
    decoder = EchoDecoder()
    scheduler = Scheduler(decoder)
    done = threading.Event()

    def keep_working() -> None:
        while not done.is_set():
            scheduler.between_steps(lambda: None)

    workers = [threading.Thread(target=keep_working) for _ in range(3)]
    for worker in workers:
        worker.start()
    sampling = Sampling(temperature=0)
    handle = scheduler.submit(Generation(tokens=[97, 98], max_tokens=8, sampling=sampling))
    text = "".join(piece.text for piece in handle.pieces())
    done.set()
    for worker in workers:
        worker.join(10)

    assert text == "AB"
    scheduler.stop()


def test_after_the_end_nothing_waits_for_ever() -> None:
    scheduler = Scheduler(EchoDecoder())
    scheduler.stop()

    with pytest.raises(EngineUnavailableError):
        scheduler.between_steps(lambda: 1)
