"""What the gateway hands to the review store: what policy chose, protected, and never in an answer's way."""

import base64
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.actions.retention.reviewdesk import MAX_CONTENT_BYTES
from appliance.errors import WireError
from appliance.gateway.messages import Message
from appliance.gateway.metrics import Metrics
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.samples import MAX_TEXT_BYTES, WAITING, About, Samples
from appliance.phi.detect import Detector, Finding, PatternDetector
from appliance.sections import ReviewSection
from appliance.wire import RemoteError
from media.clock import FixedClock

SSN = "123-45-6789"


class Store:
    """Takes what is handed in, fails as it is told, or waits."""

    def __init__(self, error: Exception | None = None) -> None:
        self.taken: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._error = error

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        assert do == "keep"
        self.arrived.set()
        assert self.may_go_on.wait(60)
        if self._error is not None:
            raise self._error
        self.taken.append(fields)
        return {"expires": ""}

    def content(self) -> dict[str, Any]:
        return dict(json.loads(base64.b64decode(self.taken[0]["content"])))


class Broken(Detector):
    def find(self, text: str) -> Sequence[Finding]:
        raise RuntimeError(text)


class Site:
    def __init__(self, store: Store, *, detector: Detector | None = None, below: int = 0, **policy: Any) -> None:
        self.metrics, self.store = Metrics(), store
        self.samples = Samples(
            ReviewSection(**(policy or {"one_in": 1})),
            store=store,
            detector=detector or PatternDetector(),
            metrics=self.metrics,
            clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)),
            below=lambda count: below % count,
        )

    def answered(self, prompt: str, answer: str | None = "fine", *, number: int = 1, **about: Any) -> bool:
        facts = {"subject": "", "department": "cardiology", "model_digest": "a" * 64, "endpoint": "chat", **about}
        label = facts.pop("label", "")
        request_id = f"req_{number}"
        self.samples.choose(asked(prompt), About(request_id=request_id, **facts), label=label)
        chosen = self.samples.has_chosen(request_id)
        self.samples.ended(request_id, answer)
        return chosen

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("sealift_review_samples_total", {"result": result}) or 0.0


def asked(prompt: str) -> Asked:
    message = Message(role="user", content=prompt)
    return Asked(endpoint=Endpoint.CHAT, model="m", max_tokens=10, messages=(message,))


def test_what_may_become_of_an_answer_is_told_from_the_start_so_that_the_first_one_is_an_increase() -> None:
    """Prometheus' `increase()` sees none where a series begins at one: the first that is dropped would tell nobody."""
    site = Site(Store())

    told = {
        one.labels["result"]: one.value
        for family in site.metrics.registry.collect()
        for one in family.samples
        if one.name == "sealift_review_samples_total"
    }

    assert told == dict.fromkeys(
        ("kept", "dropped-busy", "dropped-too-long", "dropped-unprotected", "dropped-refused", "dropped-unreachable"), 0
    )


def test_what_is_handed_in_has_no_identifier_of_prompt_or_answer() -> None:
    site = Site(store := Store())

    assert site.answered(f"Patient: Ada Lovelace, SSN {SSN}", f"{SSN} belongs to Lovelace", subject="pat 7")
    site.samples.close()

    content = store.content()
    assert SSN not in json.dumps(content)
    assert "Lovelace" not in json.dumps(content)
    assert [one["role"] for one in content["texts"]] == ["user", "answer"]
    assert "[SSN_1]" in content["texts"][1]["text"]
    assert (store.taken[0]["subject"], site.count("kept")) == ("pat 7", 1)


def test_what_was_found_in_the_prompt_is_replaced_in_the_answer_also_where_no_pattern_would_see_it() -> None:
    site = Site(store := Store())

    site.answered("DOB 3/4/1950", "paper born3/4/1950x")
    site.samples.close()

    assert [one["text"] for one in store.content()["texts"]] == ["DOB [DATE_1]", "paper born[DATE_1]x"]


@pytest.mark.parametrize(
    ("policy", "about", "chosen"),
    [
        ({"one_in": 0}, {}, False),
        ({"one_in": 1}, {}, True),
        ({"one_in": 2}, {}, False),
        ({"one_in": 0, "departments": {"cardiology": 1}}, {}, True),
        ({"one_in": 0, "departments": {"radiology": 1}}, {}, False),
        ({"one_in": 1, "departments": {"cardiology": 0}}, {}, False),
        ({"one_in": 1}, {"label": " secret"}, False),
    ],
)
def test_policy_chooses_by_department_by_chance_and_never_what_is_secret(
    policy: dict[str, Any], about: dict[str, Any], *, chosen: bool
) -> None:
    site = Site(store := Store(), below=1, **policy)

    assert site.answered("a question", **about) is chosen
    site.samples.close()
    assert bool(store.taken) is chosen


def test_an_answer_that_was_not_whole_or_not_recorded_is_not_kept() -> None:
    site = Site(store := Store())

    site.answered("a question", None)
    site.samples.close()

    assert store.taken == []
    assert not site.samples.has_chosen("req_1")


def test_a_store_that_does_not_answer_holds_nobody_up_and_what_is_too_much_is_dropped() -> None:
    site = Site(store := Store())
    store.may_go_on.clear()
    site.answered("the first")
    assert store.arrived.wait(60)

    for number in range(WAITING + 3):
        site.answered("another", number=number + 2)  # returns at once, or this test never ends
    assert site.count("dropped-busy") == 3

    store.may_go_on.set()
    site.samples.close()
    assert site.count("kept") == WAITING + 1


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (WireError(what="x", why="y", fix="z"), "dropped-unreachable"),
        (RemoteError(what="full", why="", fix="", code="no-space", exit_code=30), "dropped-refused"),
    ],
)
def test_what_the_store_does_not_take_is_counted_and_forgotten(error: Exception, result: str) -> None:
    site = Site(Store(error))

    site.answered("a question")
    site.samples.close()

    assert site.count(result) == 1


def test_what_cannot_be_searched_for_identifiers_is_not_kept_and_its_text_goes_nowhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    site = Site(store := Store(), detector=Broken())

    site.answered(f"SSN {SSN}")
    site.samples.close()

    assert (store.taken, site.count("dropped-unprotected")) == ([], 1)
    assert SSN not in "".join(capfd.readouterr())


def test_what_is_longer_than_a_sample_may_be_is_not_kept() -> None:
    site = Site(store := Store())

    site.answered("x" * MAX_TEXT_BYTES)
    site.samples.close()

    assert (store.taken, site.count("dropped-too-long")) == ([], 1)


@pytest.mark.parametrize("letter", ["a", "é", "ж", "医", "\U0001f600"])
def test_a_text_in_any_letters_is_kept_up_to_what_a_sample_may_be(letter: str) -> None:
    answer = letter * ((MAX_TEXT_BYTES - 100) // len(letter.encode()))
    site = Site(Store())

    site.answered("why?", answer)
    site.samples.close()

    assert site.count("kept") == 1
    assert len(base64.b64decode(site.store.taken[0]["content"])) <= MAX_CONTENT_BYTES
    assert site.store.content()["texts"][-1] == {"role": "answer", "text": answer}


def test_half_a_letter_is_kept_as_it_is() -> None:
    site = Site(Store())

    site.answered("why?", "so \ud83d")
    site.samples.close()

    assert site.store.content()["texts"][-1]["text"] == "so \ud83d"


def test_what_the_store_would_refuse_for_its_length_is_counted_as_too_long() -> None:
    site = Site(Store())

    site.answered("why?", "\n" * (MAX_TEXT_BYTES - 100))
    site.samples.close()

    assert (site.count("dropped-too-long"), site.store.taken) == (1, [])
