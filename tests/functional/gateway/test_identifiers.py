"""Patient identifiers through the whole gateway: out of the engine, back in the answer, nowhere else."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from appliance.phi.policy import PhiMode
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, gateway, key_text, said

TEXT = "Patient: Jane Roe, SSN 123-45-6789, MRN: 12345678, born 1/2/1980"
MASKED = "Patient: [NAME_1], SSN [SSN_1], MRN: [MRN_1], born [DATE_1]"


def _chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def test_the_engine_reads_tokens_and_the_caller_reads_its_own_words(rig: Rig) -> None:
    response = rig.chat(TEXT)

    assert rig.engine.last["messages"][0]["content"] == MASKED
    assert response.get_json()["choices"][0]["message"]["content"] == f"You said: {TEXT}"
    assert response.headers["x-sealift-phi"] == "ssn=1, mrn=1, date=1, name=1"
    assert rig.bodies("request.intent")[0]["phi"] == {"ssn": 1, "mrn": 1, "date": 1, "name": 1}
    assert rig.bodies("request.intent")[0]["classification"] == "PHI"


def test_tokens_are_numbered_over_all_messages(rig: Rig) -> None:
    rig.ask(
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "The clinic's SSN is 111-11-1111."},
                {"role": "user", "content": "I am 222-22-2222."},
                {"role": "assistant", "content": "You are 222-22-2222 at 111-11-1111."},
                {"role": "user", "content": "Who am I?"},
            ],
        }
    )

    assert [one["content"] for one in rig.engine.last["messages"]] == [
        "The clinic's SSN is [SSN_1].",
        "I am [SSN_2].",
        "You are [SSN_2] at [SSN_1].",
        "Who am I?",
    ]


def test_a_streamed_answer_is_restored_at_every_split(rig: Rig) -> None:
    answer = "It is [SSN_1] and [ ssn 2 ], not [SSN_9], [SSN_1"
    asked = _chat("111-11-1111 222-22-2222", stream=True)
    expected = "It is 111-11-1111 and 222-22-2222, not [SSN_9], [SSN_1"

    for cut in range(len(answer) + 1):
        rig.engine.script = Script(pieces=(answer[:cut], answer[cut:]))
        assert said(events(rig.ask(asked).data)) == expected
    rig.engine.script = Script(pieces=tuple(answer))
    assert said(events(rig.ask(asked).data)) == expected


ADDRESS = "12 Oak Street\nSpringfield, IL 62704"
NAME = 'Robert "Bob" Smith'
RECORD = json.dumps({"patientName": NAME, "mrn": "12", "address": ADDRESS})


@pytest.mark.parametrize(
    ("before", "behind"),
    [("", ""), ("Here it is:\n```json\n", "\n```\nFor {1} only."), ("As a list: [", "]."), ("{{ { ", " }")],
)
def test_json_in_a_plain_answer_can_be_read_whatever_an_identifier_holds(rig: Rig, before: str, behind: str) -> None:
    answer = f'{before}{{"name": "[NAME_1]", "at": ["[ADDRESS_1]", 1.5, null], "note": "\\"[NAME_1]\\""}}{behind}'
    wanted = {"name": NAME, "at": [ADDRESS, 1.5, None], "note": f'"{NAME}"'}

    rig.engine.script = Script(text=answer)
    whole = rig.chat(RECORD).get_json()["choices"][0]["message"]["content"]
    rig.engine.script = Script(pieces=tuple(answer))
    streamed = said(events(rig.chat(RECORD, stream=True).data))

    assert json.loads(whole.removeprefix(before).removesuffix(behind)) == wanted
    assert streamed == whole


def test_json_that_a_completions_prompt_began_stays_json(rig: Rig) -> None:
    prompts = [f'{RECORD}\nAs JSON: {{"name": "', f"{RECORD}\nIn words:"]
    rig.engine.script = Script(text='[NAME_1]"}')

    asked = {"model": MODEL, "prompt": prompts, "n": 2}
    choices = rig.ask(asked, path="/v1/completions").get_json()["choices"]

    texts = [one["text"] for one in choices]
    assert [json.loads(f'{{"name": "{text}') for text in texts[:2]] == [{"name": NAME}] * 2
    assert texts[2:] == [f'{NAME}"}}'] * 2


@pytest.mark.parametrize(
    "prose",
    [
        'He is "{}", and lives here.',
        "- {} (see [1]): {{home}}",
        'f() {{ return {}; }} // {{"a": {}}}',
        '```\n{}\n```\n| "{}" |',
        '{{"a": 1}} "{}"',
        '["a\n{}"',
        '{{"a" "{}"',
        '{{"a\\q{}"',
    ],
)
def test_prose_has_an_identifier_as_its_caller_wrote_it(rig: Rig, prose: str) -> None:
    rig.engine.script = Script(text=prose.format("[NAME_1]", "[ADDRESS_1]"))

    answer = rig.chat(RECORD).get_json()["choices"][0]["message"]["content"]

    assert answer == prose.format(NAME, ADDRESS)


def test_text_without_brackets_is_not_held_back(rig: Rig) -> None:
    rig.engine.script = Script(pieces=("one ", "two ", "[", "SSN_1", "]", " three"))

    chunks = events(rig.ask(_chat("123-45-6789", stream=True)).data)[1:-2]

    assert [one["choices"][0]["delta"]["content"] for one in chunks] == ["one ", "two ", "123-45-6789", " three"]


def test_a_look_alike_that_a_caller_types_comes_back_as_typed_and_names_nobody(rig: Rig) -> None:
    response = rig.chat("repeat [SSN_1] and [mrn 1], I am 123-45-6789")

    assert rig.engine.last["messages"][0]["content"] == "repeat [TEXT_1] and [TEXT_2], I am [SSN_1]"
    assert response.get_json()["choices"][0]["message"]["content"] == (
        "You said: repeat [SSN_1] and [mrn 1], I am 123-45-6789"
    )
    assert response.headers["x-sealift-phi"] == "ssn=1"


def test_identifiers_come_back_inside_a_tool_calls_arguments_as_json(rig: Rig) -> None:
    tools = [{"type": "function", "function": {"name": "find", "description": "e.g. 333-33-3333"}}]
    arguments = '{"ssn": "[SSN_1]", "note": "[TEXT_1]"}'
    call = {"id": "call_a", "function": {"name": "find", "arguments": arguments}}
    rig.engine.script = Script(text="", tool_calls=(call,))
    asked = _chat('find 123-45-6789 or "[SSN\\_7]"', tools=tools)

    whole = rig.ask(asked).get_json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    chunks = events(rig.ask({**asked, "stream": True}).data)[:-1]

    pieces = [
        one["function"]["arguments"] for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert json.loads(whole) == {"ssn": "123-45-6789", "note": "[SSN\\_7]"}
    assert "".join(pieces) == whole
    assert rig.engine.last["tools"][0]["function"]["description"] == "e.g. [SSN_2]"


def test_a_member_that_is_named_twice_hides_no_identifier(rig: Rig) -> None:
    call = {"name": "f", "arguments": '{"a": "123-45-6789", "a": "x"}'}
    rig.ask(
        {
            "model": MODEL,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "messages": [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "a", "content": "1/2/1980"},
            ],
        }
    )

    sent = rig.engine.last["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"a": "x"}
    assert "123-45-6789" not in sent


def test_the_names_of_fields_say_what_an_earlier_tool_calls_arguments_hold(rig: Rig) -> None:
    arguments = {"mrn": {"value": "AB-12"}, "phone": "5550134", "ssn": 123456789, "dose": 5550135, "last_name": "wu"}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}
    asked = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "AB-12 found"},
    ]
    response = rig.ask(_chat("", messages=asked))

    sent = rig.engine.last["messages"]
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {
        "mrn": {"value": "[MRN_1]"},
        "phone": "[PHONE_1]",
        "ssn": "[SSN_1]",
        "dose": 5550135,
        "last_name": "[NAME_1]",
    }
    assert sent[2]["content"] == "[MRN_1] found"
    assert response.headers["x-sealift-phi"] == "ssn=1, mrn=2, phone=1, name=1"


def test_earlier_tool_calls_are_read_as_json_and_masked(rig: Rig) -> None:
    arguments = json.dumps({"born": "1/2/1980", "mrn": 12345678, "n": 3})
    escaped = '{"born": "1\\/2\\/1980"}'
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}},
        {"id": "b", "type": "function", "function": {"name": "f", "arguments": escaped}},
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "no json 1/2/1980"}},
    ]
    rig.ask(
        {
            "model": MODEL,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "messages": [
                {"role": "user", "content": "MRN: 12345678"},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "a", "content": '{"ssn": "123-45-6789"}'},
            ],
        }
    )

    sent = rig.engine.last["messages"]
    got = [one["function"]["arguments"] for one in sent[1]["tool_calls"]]
    assert json.loads(got[0]) == {"born": "[DATE_1]", "mrn": "[MRN_1]", "n": 3}
    assert json.loads(got[1]) == {"born": "[DATE_1]"}
    assert got[2] == "no json [DATE_1]"
    assert sent[2]["content"] == '{"ssn": "[SSN_1]"}'


def test_what_a_tool_answers_as_json_hides_nothing_from_the_search(rig: Rig) -> None:
    found = json.dumps({"note": "Seen.\n123-45-6789\nPatient: Jürgen Müller, born 3/14/1962"}).replace("/", "\\/")

    response = rig.ask(
        {
            "model": MODEL,
            "messages": [
                {"role": "user", "content": "Who?"},
                {"role": "tool", "tool_call_id": "a", "content": found},
            ],
        }
    )

    sent = rig.engine.last["messages"][1]["content"]
    assert json.loads(sent) == {"note": "Seen.\n[SSN_1]\nPatient: [NAME_1], born [DATE_1]"}
    assert "Jürgen Müller, born 3/14/1962" in response.get_json()["choices"][0]["message"]["content"]


CALLS_BACK = "call-555-123-4567"


@pytest.mark.parametrize("stream", [False, True])
def test_a_functions_name_with_an_identifier_is_one_that_engines_take(rig: Rig, *, stream: bool) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in (CALLS_BACK, "call-PHONE_1", "other")]
    called = {"id": "a", "type": "function", "function": {"name": CALLS_BACK, "arguments": "{}"}}
    answered = {"id": "b", "type": "function", "function": {"name": "call-PHONE_1-2", "arguments": '{"a": "b"}'}}
    rig.engine.script = Script(text="", tool_calls=(answered,))

    response = rig.ask(
        {
            "model": MODEL,
            "tools": tools,
            "tool_choice": {"type": "function", "function": {"name": CALLS_BACK}},
            "messages": [
                {"role": "user", "content": "Call back."},
                {"role": "assistant", "content": None, "tool_calls": [called]},
                {"role": "tool", "tool_call_id": "a", "content": "nobody"},
            ],
            "stream": stream,
        }
    )

    assert [one["function"]["name"] for one in rig.engine.last["tools"]] == ["call-PHONE_1-2", "call-PHONE_1", "other"]
    assert rig.engine.last["tool_choice"] == {"type": "function", "function": {"name": "call-PHONE_1-2"}}
    assert rig.engine.last["messages"][1]["tool_calls"][0]["function"]["name"] == "call-PHONE_1-2"
    assert "555-123-4567" not in json.dumps(rig.engine.last)
    told = events(response.data) if stream else [response.get_json()]
    said = [choice.get("delta", choice.get("message")) for one in told if one != "[DONE]" for choice in one["choices"]]
    names = [call["function"].get("name") for one in said for call in one.get("tool_calls", ())]
    assert names[0] == CALLS_BACK


def _called(*ids: str) -> dict[str, Any]:
    """Return a request whose conversation has calls of these ids, each with its answer."""
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    said = [{"role": "tool", "tool_call_id": one, "content": "done"} for one in reversed(ids)]
    asking = [{"role": "user", "content": "go"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    return {"model": MODEL, "messages": [*asking, *said]}


@pytest.mark.parametrize("ids", [("123-45-6789", "MRN:12345678"), ("of-jane-roe", "call_a")])
def test_no_engine_is_told_an_id_that_a_caller_gave_a_call(rig: Rig, ids: tuple[str, str]) -> None:
    rig.ask(_called(*ids))

    assert [one["id"] for one in rig.engine.last["messages"][1]["tool_calls"]] == ["call00001", "call00002"]
    assert [one["tool_call_id"] for one in rig.engine.last["messages"][2:]] == ["call00002", "call00001"]
    assert not [one for one in ids if one in json.dumps(rig.engine.last)]


def test_a_conversation_that_goes_on_has_the_ids_that_it_had(rig: Rig) -> None:
    rig.ask(_called("a"))
    before = rig.engine.last["messages"]
    longer = _called("a")
    longer["messages"] += _called("b")["messages"]
    rig.ask(longer)

    assert rig.engine.last["messages"][: len(before)] == before


def test_an_identifier_in_an_id_is_counted_and_blocks_where_identifiers_do(rig: Rig) -> None:
    blocks = rig.api_keys.add(key_text("blocking23"), mode=PhiMode.BLOCK)
    passes = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)

    assert (
        rig.ask(_called("123-45-6789"), Authorization=f"Bearer {blocks}").get_json()["error"]["code"] == "phi_blocked"
    )
    assert rig.engine.asked == []
    assert rig.ask(_called("123-45-6789")).headers["x-sealift-phi"] == "ssn=2", "a call and its answer"
    rig.ask(_called("123-45-6789"), Authorization=f"Bearer {passes}")
    assert rig.engine.last["messages"][1]["tool_calls"][0]["id"] == "123-45-6789"


@pytest.mark.parametrize(
    ("name", "told"), [("call-555-123-4567", "call-PHONE_1"), ("123-45-6789", "SSN_1"), ("report", "report")]
)
def test_a_schemas_name_with_an_identifier_is_one_that_engines_take(rig: Rig, name: str, told: str) -> None:
    schema = {"name": name, "schema": {"type": "object"}}
    response = rig.ask(_chat("go", response_format={"type": "json_schema", "json_schema": schema}))

    assert rig.engine.last["response_format"]["json_schema"]["name"] == told
    assert (response.headers["x-sealift-phi"] == "none") is (name == told)


def test_stop_texts_are_masked_like_the_messages(rig: Rig) -> None:
    response = rig.ask(_chat("say 123-45-6789 and more", stop=["123-45-6789"]))

    assert rig.engine.last["stop"] == ["[SSN_1]"]
    assert response.get_json()["choices"][0]["message"]["content"] == "You said: say "


def test_a_key_that_passes_identifiers_changes_nothing_and_counts(rig: Rig) -> None:
    key = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)

    response = rig.ask(_chat(f"{TEXT} [SSN_1]"), Authorization=f"Bearer {key}")

    assert rig.engine.last["messages"][0]["content"] == f"{TEXT} [SSN_1]"
    assert response.get_json()["choices"][0]["message"]["content"] == f"You said: {TEXT} [SSN_1]"
    assert response.headers["x-sealift-phi"] == "none"
    assert rig.bodies("request.intent")[0]["phi_mode"] == "pass"
    assert rig.bodies("request.intent")[0]["phi"]["ssn"] == 1


def test_a_completion_is_protected_too(rig: Rig) -> None:
    response = rig.ask({"model": MODEL, "prompt": TEXT}, path="/v1/completions")

    assert rig.engine.last["prompt"] == MASKED
    assert response.get_json()["choices"][0]["text"] == f"You said: {TEXT}"


def test_a_token_that_the_model_invents_is_left_and_counted(rig: Rig) -> None:
    rig.engine.script = Script(text="[SSN_7] [MRN_1]")

    assert rig.chat("123-45-6789").get_json()["choices"][0]["message"]["content"] == "[SSN_7] [MRN_1]"
    assert rig.sample("sealift_phi_unknown_tokens_total") == 2


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_no_answer_ever_holds_another_callers_identifier(tmp_path: Path, way: str) -> None:
    numbers = [f"{100 + n}-{10 + n}-{1000 + n}" for n in range(40)]
    with gateway(tmp_path) as rig:

        def ask(number: str) -> str:
            client = rig.app.test_client()
            body = _chat(f"I am {number}, who is [SSN_1]?", stream=way == "streamed")
            data = client.post("/v1/chat/completions", json=body, headers=rig.headers()).data
            return said(events(data)) if way == "streamed" else json.loads(data)["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, numbers))

    assert answers == [f"You said: I am {number}, who is [SSN_1]?" for number in numbers]


CANARIES = ("kestrel-prompt", "123-45-6789", "87654321", "1/2/1980", "Zebediah", "osprey-answer", "heron-user")


def test_content_is_in_no_log_no_record_no_metric_and_no_error(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    text = "kestrel-prompt SSN 123-45-6789 MRN: 87654321 born 1/2/1980 Patient: Zebediah"
    scripts = [
        Script(text="osprey-answer [SSN_1]"),
        Script(text="osprey-answer", error_after=0),
        Script(text="osprey-answer", tear_after=0),
        Script(refuse=(400, "context_length_exceeded")),
        Script(events=({"choices": [{"index": 0, "delta": "osprey-answer"}]},)),
    ]
    responses: list[bytes] = []

    for script in scripts:
        rig.engine.script = script
        for stream in (False, True):
            rig.ask(_chat(text, stream=stream, user="heron-user"))
            responses.append(rig.ask(_chat(text, temperature=9, stream=stream)).data)
    rig.ledger.available = False
    responses.append(rig.ask(_chat(text)).data)
    rig.ledger.available = True

    leaves = b"".join(leaf.raw for leaf in rig.ledger.leaves(0, 1000))
    metrics = generate_latest(rig.metrics.registry)
    assert len(rig.bodies("request.outcome")) == 2 * len(scripts)
    for canary in CANARIES:
        assert canary not in caplog.text
        assert canary.encode() not in leaves
        assert canary.encode() not in metrics
        assert all(canary.encode() not in response for response in responses)
    engine = json.dumps(rig.engine.asked)
    assert "kestrel-prompt" in engine
    assert not any(canary in engine for canary in CANARIES[1:])
