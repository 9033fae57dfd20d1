"""Computes reference outputs where a release is built: the engine that is shipped, asked as the task gate asks it.

`python -m appliance.serve.reference JOB` reads a job (JSON) and prints one JSON document. It opens no socket:
the engine's own HTTP application is called in this process, so that template, tokens and scoring are those of a box.
"""

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from appliance.errors import EngineProtocolError
from appliance.promote import evaluation
from appliance.promote.comparison import Recorder, Said
from appliance.promote.taskset import CONTAINS, Item, TaskSet
from appliance.serve.application import create_engine_app
from appliance.serve.asking import Serving
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.engine import Decoder
from appliance.serve.scheduler import Scheduler
from media import canonical
from media.clock import SystemClock


class _InProcess:
    """The engine's application as an examinee."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        answer = self._ask("/sealift/v1/score", {"prompt": prompt, "continuations": list(continuations)})
        pairs = zip(answer["log_likelihoods"], continuations, strict=True)
        return [float(value) / len(text) for value, text in pairs]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        return str(self._ask("/v1/chat/completions", body)["choices"][0]["message"]["content"])

    def _ask(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(route, json=body)
        found: dict[str, Any] = answer.get_json()
        if answer.status_code != 200:
            why = str(found.get("error", {}).get("message", ""))
            raise EngineProtocolError(what="the engine did not answer a task", why=why[:200], fix="shorten the task")
        return found


def examine(job: dict[str, Any], decoder: Decoder, task_sets: Sequence[bytes]) -> dict[str, Any]:
    """Return what a loaded model says to each task set.

    Raises:
        MalformedError: A task set is not one.
        EngineProtocolError: The engine failed, or an item does not fit it.
    """
    scheduler = Scheduler(decoder)
    serving = Serving(
        model_digest="0" * 64,
        weights_digest="0" * 64,
        stage="reference",
        name="reference",
        system_prompt=job["system_prompt"],
        n_ctx=job["n_ctx"],
        temperature=0,
        top_p=1,
        **_defaults(job.get("defaults", {})),
    )
    clock = SystemClock()
    template = ChatTemplate(job["template"], bos=decoder.start, eos=decoder.end, clock=clock)
    app = create_engine_app(serving, decoder=decoder, scheduler=scheduler, template=template, clock=clock)
    made = []
    try:
        for content in task_sets:
            tasks = TaskSet.from_bytes(content)
            recorder = Recorder(examinee=_InProcess(app.test_client()))
            right = evaluation.examine(tasks, recorder)
            items = [_item(item, said) for item, said in zip(tasks.items, recorder.said, strict=True)]
            made.append({"sha256": tasks.sha256, "right": right, "items": items})
    finally:
        scheduler.stop()
    return {"format": 1, "sets": made}


def _defaults(said: dict[str, Any]) -> dict[str, Any]:
    """Return what a box's engine adds to the gate's questions, since they say nothing of it."""
    return {
        "top_k": said.get("top_k", 0),
        "repeat_penalty": float(said.get("repeat_penalty", "1")),
        "stop": tuple(said.get("stop", ())),
    }


def _item(item: Item, said: Said) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": item.id,
        "kind": item.kind,
        "prompt_sha256": sha256(item.prompt.encode()).hexdigest(),
    }
    if item.kind == CONTAINS:
        return {**told, "text": said.text, "text_sha256": sha256(said.text.encode()).hexdigest()}
    return {**told, "millinats": [round(value * 1000) for value in said.nats]}


def main(arguments: Sequence[str]) -> int:
    """Load the job's weights, examine them, and print the result."""
    from appliance.serve.llama_cpp import LlamaCppDecoder

    job = canonical.loads(Path(arguments[0]).read_bytes())
    decoder = LlamaCppDecoder(
        Path(job["weights"]),
        n_ctx=job["n_ctx"],
        n_batch=job["n_batch"],
        n_seq_max=job["n_seq_max"],
        threads=job["threads"],
    )
    result = examine(job, decoder, [Path(path).read_bytes() for path in job["evals"]])
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
