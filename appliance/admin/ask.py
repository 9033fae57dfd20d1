"""Asking a version on the page: a logged-in person's question goes to a gateway with a key of theirs, and no other way.

The page decides nothing about it: the gateway knows the key, limits, classifies, protects and records as for anyone,
with the person named as whom the request is for. Key, question and answer are in the one form and its answer; nothing
of them is kept, logged or recorded here. Any person who is logged in may ask, because what may be asked is the key's.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, abort, render_template, request

from appliance.admin import collaborators
from appliance.admin.people import caller_address
from appliance.client.answers import Answer
from appliance.client.asking import Asking
from appliance.client.inference import whole_answer
from appliance.errors import ServiceError
from appliance.stages import Stage

DOORS: Final[Mapping[Stage, str]] = {Stage.PRODUCTION: "gateway-admin", Stage.TEST: "gateway-test-admin"}
"""The sockets on which the gateways listen for the page."""
MOST_AT_ONCE: Final = 3
"""How many threads of the page may wait for answers; it has eight, and stays there for who wants to stop a model."""
LONGEST_SECONDS: Final = 120.0
LENGTHS: Final = (256, 512, 1024)
_LONGEST_NAME: Final = 200
# Question and instruction of so many characters of four bytes are what the page and the web server take, as multipart.
_LONGEST_TEXT: Final = 32_000
_KEY: Final = re.compile(r"[!-~]{1,256}")
_FIXES: Final[Mapping[str, str]] = {
    "invalid_api_key": "paste a key that is in force; `sealift keys create` makes one",
    "wrong_stage": "choose the other stage, or paste a key of this one",
    "certificate_mismatch": "ask from the machine that holds the key's certificate",
    "model_not_found": "choose a name that is served here",
    "pinned_version_gone": "use another key, or have this one pinned anew",
    "phi_blocked": "take the identifiers out, or use a key that replaces them",
    "context_length_exceeded": "ask something shorter",
    "messages_refused": "leave the instruction out; this model's template may know none",
    "insufficient_quota": "wait for the next day or month, or use another key",
    "stopped": "ask whoever stopped this key or its department; `sealift stop --lift` lets it go on",
    "no_model": "promote a version, or load one in the test stage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person asks, as the form has it; the key is not part of it, so that it is never shown again."""

    text: str = ""
    instruction: str = ""
    model: str = "production"
    stage: Stage = Stage.PRODUCTION
    max_tokens: int = LENGTHS[0]


def make_blueprint() -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("ask", __name__)
    places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def asked() -> str | tuple[str, int]:
        _require_no_certificates()
        if request.method == "GET":
            return _shown(Question())
        question = _question()
        if not places.acquire(blocking=False):
            return _shown(question, problem=_all_taken()), 429
        try:
            answer = _answer(question, request.form.get("key", "").strip())
        except ServiceError as error:
            return _shown(question, problem=error), error.http_status if error.http_status >= 400 else 503
        finally:
            places.release()
        return _shown(question, answer=answer)

    blueprint.add_url_rule("/ask", "form", asked, methods=["GET", "POST"])
    return blueprint


def _require_no_certificates() -> None:
    """Refuse where callers need a certificate as well: the page has none of theirs, and may not be a way around."""
    config = collaborators.page().config
    if config.tls.clients == "required":
        abort(403, "Whoever asks a version here shows a client certificate (tls.clients). The page has none to show.")


def _question() -> Question:
    form = request.form
    stage, length = form.get("stage", ""), form.get("max_tokens", "")
    text, model = _lines(form.get("question", "")), form.get("model", "").strip()
    if not text.strip() or not model or len(model) > _LONGEST_NAME:
        abort(400, "Give a question, and the name of a version.")
    if stage not in set(Stage) or length not in {str(one) for one in LENGTHS}:
        abort(400, "Choose one of the stages and one of the lengths.")
    return Question(
        text=text,
        instruction=_lines(form.get("instruction", "")),
        model=model,
        stage=Stage(stage),
        max_tokens=int(length),
    )


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _answer(question: Question, untrusted_key: str) -> Answer:
    here = collaborators.page()
    asking = Asking(
        "/v1",
        # What cannot stand in a header is no key; the gateway is to refuse it, and to record that it did.
        untrusted_key if _KEY.fullmatch(untrusted_key) else "none",
        door=here.config.at.socket(DOORS[question.stage]),
        # As the web server says it: the gateway counts wrong keys by it, and knows a caller that is not the machine.
        headers={"x-forwarded-for": caller_address() or "unknown"},
        timeout_seconds=LONGEST_SECONDS,
        attempts=1,
    )
    messages = [{"role": "system", "content": question.instruction}] if question.instruction.strip() else []
    messages.append({"role": "user", "content": question.text})
    body = {"model": question.model, "messages": messages, "max_tokens": question.max_tokens}
    try:
        return whole_answer(asking, body, user=collaborators.session().person)
    finally:
        asking.close()


def _all_taken() -> ServiceError:
    return ServiceError(
        what="the page asks for others already",
        why=f"it waits for {MOST_AT_ONCE} answers at most",
        fix="wait and ask again, or use `sealift chat`",
    )


def _shown(question: Question, *, answer: Answer | None = None, problem: ServiceError | None = None) -> str:
    here = collaborators.page()
    versions = here.facts.versions()
    known = dict.fromkeys(name for one in versions for name in (one.name, f"{one.name}:{one.version}"))
    return render_template(
        "ask.html",
        question=question,
        answer=answer,
        problem=problem,
        fix=_fix(problem) if problem else "",
        names=("production", "test", *known),
        stages=tuple(Stage),
        lengths=LENGTHS,
        longest=min(here.config.limits.message_characters, _LONGEST_TEXT),
        is_known=answer is not None and any(one.digest == answer.model_version for one in versions),
    )


def _fix(problem: ServiceError) -> str:
    if not problem.http_status and problem.may_be_asked_again:
        return "see `sealift status` whether the gateway runs; ask for a shorter answer if it does"
    return _FIXES.get(problem.service_code, problem.fix)
