"""Asks the appliance with the official client, unmodified: only `base_url` and `api_key` are set."""

import re
from dataclasses import dataclass

import openai

PLAIN = "What is the capital of France? Answer in one sentence."
TEXTS = ("The patient slept well.", "He had a quiet night.", "The invoice is overdue.")
WITH_IDENTIFIERS = "Copy this text word for word: The patient has SSN 123-45-6789 and MRN: 00451234."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer with what the response headers say about it."""

    request_id: str
    text: str
    model_digest: str
    phi: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors of three texts: how many, how long, and what the response headers say."""

    request_id: str
    count: int
    dimensions: int
    tokens: int
    model_digest: str


def embed(base_url: str, key: str) -> Embedded:
    """Have vectors made, as the client asks by itself: base64 on the wire."""
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        raw = client.embeddings.with_raw_response.create(model="production", input=list(TEXTS))
    answer = raw.parse()
    return Embedded(
        request_id=raw.headers["x-request-id"],
        count=len({tuple(one.embedding) for one in answer.data}),
        dimensions=len(answer.data[0].embedding),
        tokens=answer.usage.prompt_tokens,
        model_digest=raw.headers["x-model-version"],
    )


def ask(
    base_url: str, key: str, text: str = PLAIN, *, model: str = "production", max_tokens: int = 48, user: str = ""
) -> Answered:
    """Ask a question, not streamed; `user` is whom an application asks for."""
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            temperature=0,
            max_tokens=max_tokens,
            user=user or openai.omit,
        )
    answer = raw.parse()
    return Answered(
        request_id=raw.headers["x-request-id"],
        text=answer.choices[0].message.content or "",
        model_digest=raw.headers["x-model-version"],
        phi=raw.headers.get("x-sealift-phi", ""),
    )


def ask_streamed(base_url: str, key: str) -> Answered:
    """Ask with identifiers in the question, streamed; print the pieces as they come."""
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="production",
            messages=[{"role": "user", "content": WITH_IDENTIFIERS}],
            temperature=0,
            max_tokens=64,
            stream=True,
            stream_options={"include_usage": True},
        )
        parts = []
        print("   ", end="")
        for event in raw.parse():
            if event.choices and event.choices[0].delta.content:
                parts.append(event.choices[0].delta.content)
                print(parts[-1].replace("\n", "\n   "), end="", flush=True)
    print(flush=True)
    return Answered(
        request_id=raw.headers["x-request-id"],
        text="".join(parts),
        model_digest=raw.headers["x-model-version"],
        phi=raw.headers.get("x-sealift-phi", ""),
    )


def left_over(text: str) -> list[str]:
    """Return stand-ins that were not restored; there should be none that we made."""
    return re.findall(r"\[(?:SSN|MRN|DATE)_\d+\]", text)
