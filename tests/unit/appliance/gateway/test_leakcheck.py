"""The real gateway in front of an engine: what an honest one counts, and each way in which one may leak."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from appliance.gateway import leakcheck
from appliance.gateway.leakcheck import Patient
from appliance.phi.policy import PhiMode
from tests.support.engine import MODEL_DIGEST, FakeEngine, Script, fake_engine
from tests.support.versions import short_folder


@contextmanager
def counted(script: Script | None = None, patients: int = 3) -> Iterator[dict[str, int]]:
    with short_folder() as folder, fake_engine(folder / "engine.sock") as engine:
        if script is not None:
            engine.script = script
        (folder / "own").mkdir()
        yield leakcheck.check(engine.path, model_digest=MODEL_DIGEST, patients=patients, folder=folder / "own")


def test_an_honest_engine_behind_the_gateway_leaks_nothing_and_values_come_back() -> None:
    with counted() as found:
        assert found["restored"] > 0
        bad = ("to_engine", "from_engine", "foreign", "crossed", "recorded", "failed", "unknown_tokens")
        assert {name: found[name] for name in bad} == dict.fromkeys(bad, 0)
        assert (found["patients"], found["identifiers"]) == (3, 18)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (f"I know {Patient.invented(1).identifiers[1]}", "from_engine"),
        (f"I know {Patient.invented(1).identifiers[2]}", "foreign"),
        (f"Before you there was case {Patient.invented(2).word}", "crossed"),
        ("Ask [NAME_9] about it", "unknown_tokens"),
    ],
)
def test_what_an_engine_says_of_others_is_counted(said: str, name: str) -> None:
    with counted(Script(text=said)) as found:
        assert found[name] > 0


@pytest.mark.parametrize("script", [Script(refuse=(500, "engine_failed")), Script(tear_after=1)])
def test_requests_without_an_answer_are_counted(script: Script) -> None:
    with counted(script) as found:
        assert found["failed"] == 3


def test_a_gateway_that_protects_nothing_is_seen_by_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unprotected(leakcheck._OneKey):
        def __init__(self, keys: Any) -> None:
            super().__init__(keys)
            self._key = replace(self._key, phi_mode=PhiMode.PASS)

    monkeypatch.setattr(leakcheck, "_OneKey", Unprotected)
    with counted() as found:
        assert found["to_engine"] == 18


def test_the_command_prints_counts_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with short_folder() as folder, fake_engine(folder / "engine.sock") as engine:
        assert isinstance(engine, FakeEngine)
        arguments = ["--engine", str(engine.path), "--model-digest", MODEL_DIGEST, "--patients", "2"]
        assert leakcheck.main(arguments) == 0

    printed = capsys.readouterr().out
    assert '"to_engine": 0' in printed
    assert all(identifier not in printed for identifier in Patient.invented(0).identifiers)
