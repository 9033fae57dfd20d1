"""Small versions in a store, and an engine of a few lines that serves them through a supervisor in memory."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.errors import UnitError
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import StoredRelease
from media import canonical
from media.digest import sha256_hex
from tests.support.installable import store_release
from tests.support.payload import gguf
from tests.support.scripted_http import Answer, Reply, ScriptedServer, scripted_server
from tests.support.supervisor import FakeSupervisor

HEADER = {"format": 1, "name": "facts", "floor": "0.50"}
CHOICES = ["Paris", "Berlin", "Madrid", "Rome"]


def task_file(items: int = 12, *, floor: str = "0.50") -> bytes:
    """Return a task set: each fourth item is of kind contains."""
    lines: list[dict[str, Any]] = [{**HEADER, "floor": floor}]
    for number in range(items):
        item = {"id": f"q{number}", "prompt": f"Question {number}?", "answer": CHOICES[number % 4]}
        if number % 4 == 3:
            lines.append({**item, "kind": "contains"})
        else:
            lines.append({**item, "kind": "multiple-choice", "choices": CHOICES})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def weights_file(mark: bytes) -> bytes:
    """Return a small GGUF file whose header makes sense; files of different marks differ. A GGUF file is kept."""
    if mark.startswith(b"GGUF\x03"):
        return mark
    sizes = {"block_count": 2, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 4}
    sizes["vocab_size"] = 64
    return gguf(metadata={**{f"llama.{key}": size for key, size in sizes.items()}, "general.name": mark.decode()})


def version_files(
    name: str = "tiny",
    *,
    weights: bytes = b"GGUF weights",
    tasks: bytes | None = None,
    reference: bytes = b"",
    references: list[dict[str, str]] | None = None,
    template: bytes = b"{% for message in messages %}{{ message.content }} {% endfor %}",
    quantization: str = "Q4_1",
    pins: Mapping[str, str] | None = None,
    n_ctx: int = 512,
    n_seq_max: int = 1,
    n_batch: int = 64,
    system_prompt: str = "",
    embedding: Mapping[str, Any] | None = None,
    judges: tuple[str, ...] = (),
    llama_cpp: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Return the files of a release that brings one version, perhaps with the reference outputs of its parent."""
    folder = f"data/models/{name}"
    weights = weights_file(weights)
    descriptor = canonical.dumps(
        {
            "format": 1,
            "name": name,
            "version": "1",
            "engine": "llama.cpp",
            "environment": sha256_hex(b"environment"),
            "files": [
                {
                    "path": f"{folder}/weights.gguf",
                    "role": "weights",
                    "sha256": sha256_hex(weights),
                    "length": len(weights),
                }
            ],
            "chat_template": {"path": f"{folder}/chat_template.jinja", "sha256": sha256_hex(template)},
            "system_prompt": system_prompt,
            "rules": [],
            "runtime": {
                "n_ctx": n_ctx,
                "n_batch": n_batch,
                "n_seq_max": n_seq_max,
                "defaults": {"temperature": "0.2", "top_p": "0.9"},
                **({} if embedding is None else {"embedding": dict(embedding)}),
                **({} if llama_cpp is None else {"llama_cpp": dict(llama_cpp)}),
            },
            "quantization": quantization,
            "license": "Apache-2.0",
            "context_tokens": 512,
        }
    )
    model: dict[str, Any] = {
        "name": name,
        "descriptor": f"{folder}/descriptor.json",
        "evals": ["data/evals/facts.jsonl"],
    }
    if judges:
        model["judges"] = list(judges)
    if pins:
        model["pins"] = dict(pins)
    lies = "data/evals/facts.reference.jsonl"
    if reference or references:
        model["references"] = references or [{"eval": "data/evals/facts.jsonl", "path": lies}]
    return {
        **({lies: reference} if reference else {}),
        f"{folder}/weights.gguf": weights,
        f"{folder}/chat_template.jinja": template,
        f"{folder}/descriptor.json": descriptor,
        "data/evals/facts.jsonl": task_file() if tasks is None else tasks,
        "data/release.json": canonical.dumps({"format": 1, "environments": {}, "models": [model]}),
    }


def store_version(config: Config, *, serial: int = 1, **changes: Any) -> tuple[StoredRelease, ModelDescriptor]:
    """Lay a release with one version into the store."""
    files = version_files(**changes)
    stored = store_release(config.at, files, serial=serial)
    path = next(name for name in files if name.endswith("descriptor.json"))
    return stored, ModelDescriptor.from_bytes(files[path])


def right_answer(prompt: str) -> str:
    """Return the answer to one of `task_file`'s prompts; anything else is answered in one word."""
    number = "".join(letter for letter in prompt if letter.isdigit())
    return CHOICES[int(number) % 4] if number else "Blue"


def engine_replies(descriptor: ModelDescriptor, *, stage: str, wrong: bool = False) -> dict[str, Answer]:
    """Return what an engine of this version answers; a `wrong` one answers every task wrongly."""

    def said(body: Mapping[str, Any]) -> str:
        answer = right_answer(str(body["messages"][-1]["content"]))
        return "I do not know." if wrong else f"It is {answer}."

    def chat(body: Mapping[str, Any]) -> Reply:
        if (code := refusal(body)) is not None:
            return Reply(status=400, body={"error": {"code": code}})
        if not body.get("stream"):
            return Reply(body={"choices": [{"message": {"content": said(body)}, "finish_reason": "stop"}]})
        choices: list[dict[str, Any]] = [{"delta": {"content": word}} for word in said(body).split(" ")]
        choices[-1]["finish_reason"] = "stop"
        words = [json.dumps({"choices": [choice]}).encode() for choice in choices]
        return Reply(pieces=(*(b"data: " + word + b"\n\n" for word in words), b"data: [DONE]\n\n"))

    def refusal(body: Mapping[str, Any]) -> str | None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not isinstance(body.get("max_tokens", 1), int):
            return "invalid_value"
        is_known = all(one.get("role") in {"user", "system"} and isinstance(one["content"], str) for one in messages)
        numbers = isinstance(body.get("temperature", 0), int | float) and body.get("max_tokens", 1) > 0
        if not is_known or not numbers or not isinstance(body.get("stop", []), list):
            return "invalid_value"
        return "context_length_exceeded" if len(str(messages[-1]["content"]).split()) > n_ctx else None

    def tokenize(body: Mapping[str, Any]) -> Reply:
        # A token is a word; no word is a control token, whatever it spells.
        return Reply(body={"tokens": [1000 + len(word) for word in str(body["messages"][-1]["content"]).split()]})

    n_ctx = descriptor.runtime.n_ctx

    def score(body: Mapping[str, Any]) -> Reply:
        if not isinstance(body["continuations"], list):
            return Reply(status=400, body={"error": {"code": "invalid_value"}})
        best = right_answer(str(body["prompt"]))
        likely = [(one.strip() == best) != wrong for one in body["continuations"]]
        return Reply(body={"log_likelihoods": [-1.0 if one else -9.0 for one in likely], "tokens": [1] * len(likely)})

    status = {
        "model_digest": descriptor.model_digest,
        "weights_digest": descriptor.weights_digest,
        "stage": stage,
        "state": "ready",
        "n_ctx": n_ctx,
    }
    return {
        "/health": Reply(body={}),
        "/sealift/v1/status": Reply(body=status),
        "/sealift/v1/score": score,
        "/sealift/v1/tokenize": tokenize,
        "/v1/chat/completions": chat,
    }


class EngineSupervisor(FakeSupervisor):
    """Starts an engine of a few lines behind each engine unit, on the socket where callers look for it."""

    def __init__(self, config: Config, *, broken: frozenset[str] = frozenset()) -> None:
        super().__init__(broken=broken)
        self._config = config
        self.versions: dict[str, dict[str, Answer]] = {}
        self._running: dict[str, Any] = {}
        self.stays_down = False

    def know(
        self, descriptor: ModelDescriptor, *, wrong: bool = False, replies: Mapping[str, Answer] | None = None
    ) -> None:
        """Be able to start both stages of a version."""
        for stage, which in (("test", ""), *(("production", one) for one in ("", "-2", "-3", "-cpu", "-standby"))):
            unit = f"sealift-engine-{stage}@{descriptor.model_digest[:12]}{which}.service"
            self.versions[unit] = {**engine_replies(descriptor, stage=stage, wrong=wrong), **(replies or {})}

    def start(self, unit: str) -> None:
        super().start(unit)
        if unit in self._running:
            return
        if unit not in self.versions:
            raise UnitError(what=f"{unit} did not start", why="the test knows no such version", fix="")
        instance = unit.removeprefix("sealift-engine-").removesuffix(".service").replace("@", "-")
        path = self._config.at.socket(f"engine-{instance}")
        path.parent.mkdir(parents=True, exist_ok=True)
        context = scripted_server(path, self.versions[unit])
        self._running[unit] = context
        context.__enter__()

    def stop(self, unit: str) -> None:
        super().stop(unit)
        self._end(unit)

    def rest(self, unit: str) -> None:
        super().rest(unit)
        self._end(unit)

    def _end(self, unit: str) -> None:
        context = self._running.pop(unit, None)
        if context is not None:
            context.__exit__(None, None, None)
            instance = unit.removeprefix("sealift-engine-").removesuffix(".service").replace("@", "-")
            self._config.at.socket(f"engine-{instance}").unlink(missing_ok=True)

    def kill(self, unit: str) -> None:
        """End it as a fault would, and start it again as a supervisor does."""
        super().kill(unit)
        asked = list(self.asked)
        self.stop(unit)
        if not self.stays_down:
            self.start(unit)
        self.asked = asked

    def close(self) -> None:
        """End every engine."""
        for unit in list(self._running):
            self.stop(unit)


@contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a folder whose path leaves room for the names of sockets (108 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="slf", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, onerror=_unless_gone)


def _unless_gone(_: object, __: str, failure: tuple[object, BaseException, object]) -> None:
    """Raise what kept a file from being deleted, but not that somebody was first, as an agent of GnuPG that ends."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


__all__ = ["EngineSupervisor", "ScriptedServer", "short_folder", "store_version", "task_file", "version_files"]
