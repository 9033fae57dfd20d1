"""Answers one request for embeddings: the same order of things as for a chat (`appliance.gateway.answering`).

Each text is protected by itself, so that its vector does not depend on what is beside it in a list. A text whose vector
is in the cache is not asked for again; where all are, no engine is asked, and it is recorded all the same. A list whose
vectors do not fit one answer of an engine is asked a slice at a time (`appliance.gateway.slices`).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flask import Response
from werkzeug.http import http_date

from appliance.gateway import problems
from appliance.gateway.admission import Wish
from appliance.gateway.answering import Answering
from appliance.gateway.arms import Chosen, caller_alone, choose_for_vectors, note
from appliance.gateway.beginning import Come, Question, replaced
from appliance.gateway.caches import HEADER, HIT, Caches, Place
from appliance.gateway.calls import EngineCall, Replayed
from appliance.gateway.disconnect import leaving
from appliance.gateway.embedding_reading import AskedVectors, Wording, read
from appliance.gateway.exchange import Exchange
from appliance.gateway.fitting import require_readable
from appliance.gateway.reading import Usage
from appliance.gateway.routing import Route, require_serving
from appliance.gateway.slices import InSlices, sliced
from appliance.gateway.vectors import Made, Vectors, cut, numbers, packed
from appliance.phi.patterns import PhiClass
from appliance.phi.policy import PhiMode
from appliance.phi.tokens import TokenMap
from media.clock import from_text
from media.embedding import EmbeddingProfile
from media.errors import SealiftError

ENDPOINT: Final = "embeddings"
_ROUTE: Final = "/v1/embeddings"
_AROUND: Final = 2  # tokens that a model puts around a text, at most
_NANOSECONDS: Final = 1_000_000_000
# More are written as their caller takes them: as text they are five times as large, and a caller may read slowly.
_FEW: Final = 16
Inputs = tuple[str | tuple[int, ...], ...]


class VectorsResponse(Response):
    """Vectors, which are written as their caller takes them; `held_bytes` is about how much they take until then."""

    held_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """What serves requests for embeddings; made once for each process."""

    answering: Answering

    def answer(self, come: Come, wording: Wording) -> Response:
        """Return the answer.

        Raises:
            Problem: The request is refused, or could not be answered.
            SealiftError: Likewise; `problems.from_error` says which.
        """
        asked = read(come.untrusted, wording=wording, limits=self.answering.limits)
        lines = self.answering.routes.lines()
        self.answering.caches.follow(lines)
        serving = require_serving(lines, asked.model)
        user = asked.user or come.user
        caller = caller_alone(key_id=come.key.key_id, user=user, keys=self.answering.keys)
        chosen = choose_for_vectors(serving, caller)
        profile = chosen.route.embedding
        if profile is None:
            raise problems.invalid("model", "This version makes no embeddings.", code="unsupported_model")
        dimensions = _require_dimensions(asked, profile)
        inputs, phi, wish = self._protected(asked, come, chosen.route, profile)
        looked = _Looked.up(self.answering.caches, inputs, come=come, chosen=chosen)
        slices = sliced(looked.missing, profile)
        question = Question(
            endpoint=ENDPOINT,
            chosen=chosen,
            caller=caller,
            user=user,
            phi=phi,
            tokens=TokenMap(),  # nothing is put back into a vector
            characters=sum(len(one) for one in asked.inputs),
            cache=looked.result if looked.known else "",
            prompts=max(len(slices), 1),
            start=partial(self._start, come, chosen, slices, profile),
            wish=wish,
        )
        try:
            vectors, headers = self._ask(come, question, looked, dimensions=dimensions, profile=profile)
        except (problems.Problem, SealiftError) as error:
            problem = problems.from_error(error)
            problem.line, problem.asked_version = serving.line, chosen.route.model_digest
            note(problem, serving, chosen)
            raise problem from error
        seconds = self.answering.witnesses.clock.monotonic() - come.began
        told = written(_body(asked, vectors, model=chosen.route.name, seconds=seconds))
        body = told if len(vectors.made) > _FEW else b"".join(told)
        response = VectorsResponse(body, mimetype="application/json")
        response.held_bytes = sum(map(len, vectors.made))
        response.headers.extend(headers)
        response.headers["x-model-version"] = chosen.route.model_digest
        response.headers["x-sealift-phi"] = replaced(phi, come.key.phi_mode)
        if looked.is_on:
            response.headers[HEADER] = looked.result
        if chosen.notice:
            response.headers["x-sealift-leaves"] = chosen.notice
            response.headers["sunset"] = http_date(from_text(chosen.notice))
        if asked.ignored:
            response.headers["x-sealift-ignored"] = ", ".join(asked.ignored)
        return response

    def _ask(
        self, come: Come, question: Question, looked: "_Looked", *, dimensions: int, profile: EmbeddingProfile
    ) -> tuple[Vectors, Mapping[str, str]]:
        beginning = self.answering.beginning
        at_most = _at_most(looked.inputs, profile)
        held = self.answering.quotas.hold(come.key.key_id, come.key.tier, prompt=at_most, answer=0)
        try:
            exchange, place = beginning.begin(come, question, held)
        except BaseException:
            with suppress(SealiftError):
                beginning.settle(held, 0, "")  # nothing was answered
            raise
        try:
            fresh, total = _fresh(exchange, looked)
            made = looked.merged(fresh)
            vectors = Vectors(made=tuple(cut(one.raw, dimensions) for one in made), usage=_usage(made, fresh, total))
            exchange.deliver(vectors)
            exchange.succeed()
        except Exception as error:  # noqa: BLE001 - whatever happens, the outcome is recorded
            problem = exchange.fail(error)
            problem.param = "input" if problem.code == "context_length_exceeded" else problem.param
            raise problem from None
        looked.keep(self.answering.caches, fresh)
        return vectors, {**(held.headers if held else {}), **place.headers()}

    def _start(
        self, come: Come, chosen: Chosen, slices: Sequence[Sequence[Any]], profile: EmbeddingProfile
    ) -> EngineCall:
        if not slices:
            return Replayed(())
        upstream = self.answering.upstreams.to(chosen.route.socket, places=chosen.route.places)
        left = leaving(come.environ)
        still = partial(self.answering.beginning.require_still, come, chosen.route)

        def start(inputs: Sequence[Any]) -> EngineCall:
            body = {"model": chosen.route.model_digest, "input": inputs, "encoding_format": "base64"}
            return upstream.start(_ROUTE, body, left=left, still=still)

        return InSlices(slices, start=start, profile=profile, still=still)

    def _protected(
        self, asked: AskedVectors, come: Come, route: Route, profile: EmbeddingProfile
    ) -> tuple[Inputs, Mapping[PhiClass, int], Wish]:
        texts = [one for one in asked.inputs if isinstance(one, str)]
        if len(texts) < len(asked.inputs) and come.key.phi_mode is not PhiMode.PASS:
            message = "Send text: tokens cannot be searched for identifiers, and this key lets none pass."
            raise problems.invalid("input", message, code="unsupported_parameter")
        for text in texts:
            require_readable(text, profile.n_ctx)
        searched = self.answering.searches.of(come, [[text] for text in texts])
        if searched.has_waited:
            self.answering.beginning.require_still(come, route)
        counts: Counter[PhiClass] = Counter()
        for masked in searched.masked:
            counts.update(masked.counts)
        self.answering.witnesses.metrics.found(come.key.department, counts)
        read_as = iter(searched.masked)
        inputs = tuple(next(read_as).texts[0] if isinstance(one, str) else one for one in asked.inputs)
        return inputs, dict(counts), searched.wish


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What the cache knows of a request's inputs."""

    inputs: Inputs
    places: tuple[Place | None, ...]
    known: Mapping[int, Made]
    is_on: bool

    @classmethod
    def up(cls, caches: Caches, inputs: Inputs, *, come: Come, chosen: Chosen) -> "_Looked":
        is_on = caches.embeddings.is_on and come.key.phi_mode is not PhiMode.PASS
        places: list[Place | None] = [None] * len(inputs)
        known: dict[int, Made] = {}
        for at, one in enumerate(inputs if is_on else ()):
            places[at] = place = caches.place(
                key_id=come.key.key_id,
                model_digest=chosen.route.model_digest,
                policy=ENDPOINT,
                mode=come.key.phi_mode,
                asked={"input": one},
            )
            found = None if place is None else caches.embeddings.find(place)
            if found is not None:
                known[at] = Made(raw=found[0], tokens=found[1])
        return cls(inputs=inputs, places=tuple(places), known=known, is_on=is_on)

    @property
    def missing(self) -> list[str | tuple[int, ...]]:
        return [one for at, one in enumerate(self.inputs) if at not in self.known]

    @property
    def result(self) -> str:
        if not self.known:
            return "miss"
        return HIT if len(self.known) == len(self.inputs) else "part"

    def merged(self, fresh: Sequence[Made]) -> tuple[Made, ...]:
        more = iter(fresh)
        return tuple(self.known[at] if at in self.known else next(more) for at in range(len(self.inputs)))

    def keep(self, caches: Caches, fresh: Sequence[Made]) -> None:
        """Keep what an engine made, where it said how many tokens it read for each."""
        places = (place for at, place in enumerate(self.places) if at not in self.known)
        for place, made in zip(places, fresh, strict=True):
            if place is not None and made.tokens is not None:
                caches.embeddings.keep(place, (made.raw, made.tokens), size=len(made.raw))


def _fresh(exchange: Exchange, looked: _Looked) -> tuple[tuple[Made, ...], int | None]:
    if not looked.missing:
        return (), 0
    told = exchange.call.answer()
    return told["made"], told["tokens"]


def _usage(made: Sequence[Made], fresh: Sequence[Made], total: int | None) -> Usage | None:
    counted = [one.tokens for one in made if one.tokens is not None]
    if len(counted) == len(made):
        return Usage(prompt_tokens=sum(counted), completion_tokens=0)
    if total is None or len(fresh) != len(made):
        return None
    return Usage(prompt_tokens=total, completion_tokens=0)


def _require_dimensions(asked: AskedVectors, profile: EmbeddingProfile) -> int:
    wanted = profile.dimensions if asked.dimensions is None else asked.dimensions
    if wanted > profile.dimensions:
        raise problems.invalid("dimensions", f"This version's vectors have {profile.dimensions}.")
    if wanted < profile.dimensions and not profile.matryoshka:
        message = f"This version's vectors cannot be cut: they have {profile.dimensions} numbers."
        raise problems.invalid("dimensions", message, code="unsupported_parameter")
    return wanted


def _at_most(inputs: Inputs, profile: EmbeddingProfile) -> int:
    """Return how many tokens are read at most; the engine refuses a text above the profile's limit."""
    lengths = (len(one.encode()) + _AROUND if isinstance(one, str) else len(one) for one in inputs)
    return sum(min(length, profile.n_ctx) for length in lengths)


def written(fields: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield an object as JSON, piece by piece: of a member that is an iterator one item at a time, of one at least."""
    for place, (name, value) in enumerate(fields.items()):
        yield f"{',' if place else '{'}{_dumps(name)}:".encode()
        if isinstance(value, Iterator):
            for at, one in enumerate(value):
                yield f"{',' if at else '['}{_dumps(one)}".encode()
            yield b"]"
        else:
            yield _dumps(value).encode()
    yield b"}"


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _body(asked: AskedVectors, vectors: Vectors, *, model: str, seconds: float) -> dict[str, Any]:
    read_tokens = vectors.usage.prompt_tokens if vectors.usage else 0
    if asked.wording == "ollama-one":
        return {"embedding": numbers(vectors.made[0])}
    if asked.wording == "ollama":
        return {
            "model": model,
            "embeddings": (numbers(one) for one in vectors.made),
            "total_duration": round(seconds * _NANOSECONDS),
            "load_duration": 0,
            "prompt_eval_count": read_tokens,
        }
    encode = packed if asked.is_base64 else numbers
    data = ({"object": "embedding", "index": at, "embedding": encode(one)} for at, one in enumerate(vectors.made))
    usage = {"prompt_tokens": read_tokens, "total_tokens": read_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
