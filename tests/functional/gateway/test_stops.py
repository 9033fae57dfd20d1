"""Stop texts where identifiers were replaced: met in what callers get, and not in what stands for it at the engine."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.assembly import Assembly
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.reading import Finish, Text
from appliance.gateway.stops import for_engine
from appliance.phi.tokens import TokenMap
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, said

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "SSN 123-45-6789"}]}
PIECES = ("Of [SS", "N_1] the", " list] and more")


def _answered(rig: Rig, *, stream: bool, **asked: Any) -> tuple[str, str]:
    response = rig.ask({**ASK, **asked, "stream": stream})
    assert response.status_code == 200
    if stream:
        told = events(response.data)
        reasons = [choice["finish_reason"] for event in told[:-1] for choice in event["choices"]]
        return said(told), next(reason for reason in reasons if reason)
    choice = response.get_json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("stop", "text", "told"),
    [
        ("]", "Of 123-45-6789 the list", None),
        (["]", "list"], "Of 123-45-6789 the ", ["list"]),
        ("1", "Of ", None),
        ("6789", "Of 123-45-", ["6789"]),
        ("89 the", "Of 123-45-67", ["89 the"]),
        ("123-45-6789", "Of ", ["[SSN_1]"]),
        ("123-45-6789 the", "Of ", ["[SSN_1] the"]),
        ("never", "Of 123-45-6789 the list] and more", ["never"]),
    ],
)
def test_an_answer_ends_where_its_caller_would_see_the_stop_text(
    rig: Rig, stop: Any, text: str, told: list[str] | None, *, stream: bool
) -> None:
    rig.engine.script = Script(pieces=PIECES)

    assert _answered(rig, stream=stream, stop=stop) == (text, "stop")
    assert rig.engine.last.get("stop") == told
    outcome = rig.bodies("request.outcome")[-1]
    assert (outcome["outcome"], outcome["finish_reason"]) == ("ok", "stop")


def test_without_identifiers_the_engine_looks_for_all_of_them(rig: Rig) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stop": ["]", "1"]}
    rig.engine.script = Script(text="a] b")

    assert rig.ask(body).get_json()["choices"][0]["message"]["content"] == "a"
    assert rig.engine.last["stop"] == ["]", "1"]


def test_what_a_model_may_write_of_a_token_is_kept_from_the_engine() -> None:
    tokens = TokenMap()
    tokens.assign("SSN", "123-45-6789")

    assert for_engine(["N 1", "n_1", "ssn", " ", "\\", "[", "1", "end", "S.", "\n", "2"], tokens) == (
        "end",
        "S.",
        "\n",
        "2",
    )


@given(
    words=st.lists(st.sampled_from(["a", "]", "[", " ", "[SSN_1]", "[ssn 1]", "[MRN_1]", "9", "-"]), max_size=12),
    cuts=st.sets(st.integers(1, 60)),
    stops=st.lists(st.text("a]9-4 [", min_size=1, max_size=3), max_size=3),
)
def test_however_an_answer_is_cut_it_is_what_would_be_restored_up_to_the_first_stop_text(
    words: list[str], cuts: set[int], stops: list[str]
) -> None:
    tokens = TokenMap()
    tokens.assign("SSN", "123-45-6789")
    text = "".join(words)
    asked = Asked(endpoint=Endpoint.CHAT, model="m", max_tokens=9, own_stop=tuple(stops))
    assembly = Assembly(tokens)
    assembly.expect(asked)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    delivered = []
    for begin, end in pairwise(places):
        delivered += list(assembly.take(Text(text=text[begin:end])))
    assert not list(assembly.take(Finish(reason="length")))
    delivered += list(assembly.close())

    whole = tokens.restore(text)
    found = [at for at in (whole.find(stop) for stop in stops) if at >= 0]
    expected = whole[: min(found)] if found else whole
    assert assembly.text == expected
    assert "".join(piece.text for piece in delivered if isinstance(piece, Text)) == expected
    assert assembly.finish_reason == ("stop" if found else "length")
