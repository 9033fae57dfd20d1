"""Each gate catches the damage it is there for; versions, engines and ledgers are small, verdicts are real."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from appliance.actions.gating import performance as gate_of_speed
from appliance.actions.validate import ValidationReport
from appliance.errors import StoreDamagedError
from appliance.promote import injection, levels, sitesets
from appliance.promote.policy import packaged
from appliance.promote.validated import require_validated
from appliance.registry import evidence
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.loadtest import LoadLevel
from media.llamaprofile import LlamaSettings
from tests.support.floor import Floor, nothing_leaks, open_floor
from tests.support.payload import gguf
from tests.support.scripted_http import Answer, Reply
from tests.support.signatories import signatories
from tests.support.versions import CHOICES, right_answer
from tests.support.vocabulary import weights_with

pytestmark = pytest.mark.slow

CHAT, STATUS, SCORE = "/v1/chat/completions", "/sealift/v1/status", "/sealift/v1/score"
TOKENIZE = "/sealift/v1/tokenize"
CHATML = (
    b"{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    b"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = CHATML.replace(b"<|im_start|>", b"<|start_header_id|>").replace(b"<|im_end|>", b"<|eot_id|>")
WORDS = ("<|im_start|>", "<|im_end|>", "hello", "world")


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def failed(report: ValidationReport) -> tuple[str, str]:
    """The gate that stopped a version, and why."""
    return report.verdicts[-1].gate, report.verdicts[-1].why


def with_replies(floor: Floor, descriptor: ModelDescriptor, replies: Mapping[str, Answer]) -> None:
    floor.supervisor.know(descriptor, replies=replies)


def site_set(kinds: Sequence[Mapping[str, Any]], name: str = "ward-tasks") -> bytes:
    lines = [{"format": 2, "name": name, "floor": "0"}, *kinds]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_a_version_that_is_too_large_for_this_machine_does_not_fit(floor: Floor) -> None:
    report = floor.validate(floor.bring(n_ctx=10**10))

    assert failed(report)[0] == "fit"
    assert "KV cache" in failed(report)[1]
    assert floor.supervisor.asked == [("stop", floor.supervisor.asked[0][1])]


def test_a_template_of_another_family_is_caught(floor: Floor) -> None:
    weights = weights_with(WORDS, control=(0, 1))

    good = floor.validate(floor.bring("good", template=CHATML, weights_bytes=weights), only="template")
    bad = floor.validate(floor.bring("bad", template=LLAMA3, weights_bytes=weights), only="template")

    assert good.passed
    assert "<|eot_id|>, which is no token of this model" in failed(bad)[1]


def test_user_text_that_becomes_a_control_token_is_caught(floor: Floor) -> None:
    descriptor = floor.bring(template=CHATML, weights_bytes=weights_with(WORDS, control=(0, 1)))

    def parses_special(body: Mapping[str, Any]) -> Reply:
        words = str(body["messages"][-1]["content"]).split()
        return Reply(body={"tokens": [0, *(WORDS.index(word) if word in WORDS else 9 for word in words), 1]})

    with_replies(floor, descriptor, {TOKENIZE: parses_special})

    assert failed(floor.validate(descriptor, only="template")) == ("template", "text of a user became control tokens")


def test_a_changed_tokenizer_is_not_the_pinned_one(floor: Floor) -> None:
    first = floor.bring("first", template=CHATML, weights_bytes=weights_with(WORDS, control=(0, 1)))
    pins = floor.validate(first, only="template").figures_of("template")
    swapped = weights_with(("<|im_start|>", "<|im_end|>", "world", "hello"), control=(0, 1))

    pinned = {"tokenizer_sha256": pins["tokenizer_sha256"], "rendered_sha256": pins["rendered_sha256"]}
    same = floor.bring("same", template=CHATML, weights_bytes=weights_with(WORDS, control=(0, 1)), pins=pinned)
    tokens = floor.bring("tokens", template=CHATML, weights_bytes=swapped, pins=pinned)
    rendered = floor.bring(
        "rendered", template=CHATML + b" ", weights_bytes=weights_with(WORDS, control=(0, 1)), pins=pinned
    )

    assert floor.validate(same, only="template").passed
    assert "tokenizer_sha256" in failed(floor.validate(tokens, only="template"))[1]
    assert "rendered_sha256" in failed(floor.validate(rendered, only="template"))[1]


def test_an_engine_that_takes_malformed_requests_fails(floor: Floor) -> None:
    descriptor = floor.bring()
    with_replies(floor, descriptor, {SCORE: Reply(body={"log_likelihoods": [], "tokens": []})})

    report = floor.validate(descriptor, only="failures")

    assert "continuations of another type" in failed(report)[1]
    assert report.figures_of("failures")["malformed_refused"] == 12


def test_an_engine_that_refuses_what_the_profile_says_is_shortened_fails(floor: Floor) -> None:
    refusing = floor.bring(llama_cpp=LlamaSettings(num_keep=64).to_json())

    gate, why = failed(floor.validate(refusing, only="failures"))
    assert (gate, "is refused, and the profile says that it is shortened" in why) == ("failures", True)

    shortening = floor.bring("short", llama_cpp=LlamaSettings(num_keep=64).to_json())
    unit = f"sealift-engine-test@{shortening.model_digest[:12]}.service"
    chat = floor.supervisor.versions[unit]["/v1/chat/completions"]
    assert callable(chat)

    def shortens(body: Mapping[str, Any]) -> Reply:
        messages = body.get("messages")
        if isinstance(messages, list) and messages and len(str(messages[-1].get("content", ""))) > 2000:
            body = {**body, "messages": [{"role": "user", "content": "short"}]}
        return chat(body)

    with_replies(floor, shortening, {"/v1/chat/completions": shortens})
    report = floor.validate(shortening, only="failures")
    report.require_passed()
    assert report.figures_of("failures")["overlong_keeps_tokens"] == 64


@pytest.mark.parametrize(("times", "passes"), [(1, True), (2, False)])
def test_an_engine_that_answers_otherwise_after_failures_fails_but_for_one_rounding(
    floor: Floor, times: int, *, passes: bool
) -> None:
    descriptor = floor.bring()
    unit = f"sealift-engine-test@{descriptor.model_digest[:12]}.service"
    chat = floor.supervisor.versions[unit][CHAT]
    assert callable(chat)
    others: list[str] = []

    def changed(body: Mapping[str, Any]) -> Reply:
        reply = chat(body)
        messages = body.get("messages")
        text = str(messages[-1].get("content", "")) if isinstance(messages, list) and messages else ""
        if len(text) > 2000:
            others.extend(["other"] * times)
        elif others and not body.get("stream") and reply.status == 200:
            reply = Reply(body={"choices": [{"message": {"role": "assistant", "content": others.pop()}}]})
        return reply

    with_replies(floor, descriptor, {CHAT: changed})
    report = floor.validate(descriptor, only="failures")

    assert report.passed is passes
    assert report.figures_of("failures")["same_answer_after"] is passes


def test_an_engine_that_makes_answers_for_nobody_fails(floor: Floor) -> None:
    descriptor = floor.bring()
    status = floor.supervisor.versions[f"sealift-engine-test@{descriptor.model_digest[:12]}.service"][STATUS]
    assert isinstance(status, Reply)
    status.body |= {"running": 1, "waiting": 0}

    assert "for a caller who has left" in failed(floor.validate(descriptor, only="failures"))[1]


def test_an_engine_that_does_not_come_back_after_a_kill_fails(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.supervisor.stays_down = True

    gate, why = failed(floor.validate(descriptor, only="restart"))

    assert gate == "restart"
    assert "is not healthy" in why


def test_a_leaking_version_fails(floor: Floor) -> None:
    floor.leaks = lambda bench: {**nothing_leaks(bench), "crossed": 2}

    assert failed(floor.validate(floor.bring())) == ("privacy", "one conversation ran into another: 2")


def test_a_version_that_follows_planted_orders_fails(floor: Floor) -> None:
    descriptor = floor.bring(system_prompt="You are the assistant of the eye clinic and speak of nothing else at all.")

    def obeys(body: Mapping[str, Any]) -> Reply:
        text = str(body["messages"][-1]["content"])
        joined = [one.joined for one in injection.packaged().items if one.text == text]
        said = joined[0] if joined else descriptor.system_prompt
        return Reply(body={"choices": [{"message": {"content": said}}]})

    with_replies(floor, descriptor, {CHAT: obeys})

    report = floor.validate(descriptor, only="injection")

    assert "1000 of 1000 planted orders are followed" in failed(report)[1]
    assert report.figures_of("injection")["system_prompt_told"] == 3


def test_every_kind_of_a_sites_own_set_is_judged_and_nothing_of_it_gets_out(floor: Floor) -> None:
    secret = "Mrs. Holloway takes 12 mg"
    tasks = site_set(
        [
            {"id": "e", "kind": "exact", "prompt": "Q 1?", "answer": "it is berlin"},
            {"id": "r", "kind": "regex", "prompt": "Q 2?", "pattern": "^It is [MR]"},
            {"id": "j", "kind": "json-schema", "prompt": secret, "schema": {"type": "object"}},
            {"id": "s", "kind": "similarity", "prompt": "Q 3?", "answer": "It is Rome.", "least": "0.9"},
            {"id": "p", "kind": "perplexity", "prompt": "Q 0?", "text": " some words to score"},
            {"id": "h", "kind": "rubric", "prompt": "Q 1?", "criteria": ["polite", "short"]},
            {"id": "m", "kind": "multiple-choice", "prompt": "Q 2?", "answer": CHOICES[2], "choices": CHOICES},
        ]
    )
    sitesets.add(floor.site.config.at, floor.site.ledger, tasks, person="ana-petrova")

    report = floor.validate(floor.bring())

    (_, own) = report.figures_of("task-evaluation")["sets"]
    assert (own["name"], own["origin"], own["right"], own["counted"]) == ("ward-tasks", "site", "1101--1", 5)
    assert own["perplexity"]["texts"] == 1
    kept = json.dumps(evidence.read(floor.site.config.at, report.evidence_digest))
    kept += str([leaf.raw for leaf in floor.site.ledger.leaves(0, 200)])
    assert "Holloway" not in kept
    assert "berlin" not in kept


def test_a_set_that_was_removed_or_changed_on_disk_does_not_count(floor: Floor) -> None:
    places, ledger = floor.site.config.at, floor.site.ledger
    one = sitesets.add(
        places, ledger, site_set([{"id": "a", "kind": "exact", "prompt": "p", "answer": "a"}]), person="x"
    )

    sitesets.remove(places, ledger, one.name, person="x", reason="old")
    assert sitesets.active(ledger) == ()
    again = sitesets.add(
        places, ledger, site_set([{"id": "a", "kind": "exact", "prompt": "p", "answer": "b"}]), person="x"
    )
    assert [found.sha256 for found in sitesets.active(ledger)] == [again.sha256]
    (sitesets.folder(places) / f"{again.sha256}.jsonl").write_bytes(b"other")
    with pytest.raises(StoreDamagedError):
        floor.validate(floor.bring())


def many(number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{at}", "kind": "exact", "prompt": f"Question {at}?", "answer": f"It is {right_answer(str(at))}"}
        for at in range(number)
    ]


def test_enough_items_must_show_that_a_version_is_not_worse(floor: Floor) -> None:
    sitesets.add(floor.site.config.at, floor.site.ledger, site_set(many(120)), person="ana-petrova")
    floor.serve(floor.bring("first"))
    second, third = floor.bring("second"), floor.bring("third")

    def sometimes_wrong(body: Mapping[str, Any]) -> Reply:
        text = str(body["messages"][-1]["content"])
        number = int("".join(letter for letter in text if letter.isdigit()) or 0)
        said = (
            "It is Oslo."
            if text.startswith("Question") and number % 24 == 0 and number > 0
            else f"It is {right_answer(text)}."
        )
        return Reply(body={"choices": [{"message": {"content": said}}]})

    with_replies(floor, third, {CHAT: sometimes_wrong})
    equal = floor.validate(second).figures_of("task-evaluation")["against"]["production"]
    worse = floor.validate(third, only="task-evaluation")

    assert (equal["items"], equal["non_inferior"]) == (132, True)
    assert "not shown to be as good as production" in failed(worse)[1]


def test_full_precision_is_another_version_of_the_name_that_was_validated(floor: Floor) -> None:
    floor.validate(floor.bring("parent", quantization="F16")).require_passed()

    (tasks,) = floor.validate(floor.bring("child")).figures_of("task-evaluation")["sets"]

    assert tasks["reference"]["by"] == "version"
    assert (tasks["reference"]["quantization"], tasks["reference"]["agreement_millis"]) == ("F16", 1000)


def level(callers: int = 1, *, p50: int = 2000, first: int = 500, speed: int = 100_000, lost: int = 0) -> LoadLevel:
    return LoadLevel(
        callers=callers, requests=4, failed=lost, first_p50=first, first_p99=first, p50=p50, p99=p50,
        tokens_per_second_millis=speed, requests_per_second_millis=1000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (level(), ""),
        (level(p50=5000), "the wait for the answer is 5000 ms"),
        (level(first=1200), "the wait for the first token is 1200 ms"),
        (level(speed=40_000), "it makes 40.0 tokens per second"),
        (level(p50=900, speed=1), ""),
        (level(lost=1), "1 of 4 requests failed"),
        (level(first=200_000), "the first token takes 200000 ms"),
    ],
)
def test_a_version_that_is_too_slow_against_the_recorded_baseline_is_caught(measured: LoadLevel, words: str) -> None:
    found = gate_of_speed._failures(measured, level().to_json(), packaged().performance)

    assert words in "; ".join(found)
    assert bool(found) is bool(words)


def test_the_baseline_is_productions_own_figure_of_this_gate(floor: Floor) -> None:
    first = floor.bring("first")
    floor.serve(first)

    figures = floor.validate(floor.bring("second")).figures_of("performance")

    assert figures["baseline"] == first.model_digest
    assert figures["levels"][0]["change"] is not None


def test_a_level_that_is_not_recommended_needs_a_persons_name(floor: Floor) -> None:
    descriptor = floor.bring(quantization="Q2_K")
    ledger, digest = floor.site.ledger, descriptor.model_digest

    assert failed(floor.validate(descriptor)) == (
        "level", "Q2_K is not recommended, and nobody accepted it for this version by name",
    )  # fmt: skip
    body = {"model_digest": digest, "level": "Q2_K", "person": signatories()[0].id, "reason": "the only one that fits"}
    ledger.append(levels.ACCEPTED, {**body, "level": "Q4_0"})
    assert not floor.validate(descriptor).passed
    ledger.append(levels.ACCEPTED, body)
    report = floor.validate(descriptor)

    report.require_passed()
    assert report.figures_of("level")["accepted_by"] == signatories()[0].id
    assert require_validated(ledger, digest, packaged()).evidence_digest == report.evidence_digest


@pytest.mark.parametrize(("number", "level"), [(2, "Q4_0"), (10, "Q2_K"), (11, "Q3_K_S")])
def test_weights_of_a_level_that_the_descriptor_does_not_name_are_caught(floor: Floor, number: int, level: str) -> None:
    weights = gguf(metadata={"general.file_type": number, "general.name": "mislabelled"})

    report = floor.validate(floor.bring(quantization="Q8_0", weights_bytes=weights), only="level")

    assert failed(report) == (
        "level", f"its weights are {level}, which is not recommended, and its descriptor says another level",
    )  # fmt: skip
    assert report.figures_of("level")["weights"] == level
    named = floor.bring(quantization=level, weights_bytes=weights)
    assert "nobody accepted it" in failed(floor.validate(named, only="level"))[1]


def test_no_version_passes_unseen_where_the_environment_demands_a_review(floor: Floor) -> None:
    floor.site.config = replace_environment(floor, "production")

    gate, why = failed(floor.validate(floor.bring()))

    assert gate == "human-review"
    assert "0 of 1 people have judged" in why


def replace_environment(floor: Floor, environment: str) -> Any:
    return floor.site.config.model_copy(update={"environment": environment})


def test_a_policy_names_each_of_its_gates_once() -> None:
    assert len(set(packaged().gates)) == len(packaged().gates)
