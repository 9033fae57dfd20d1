"""What a gateway asks the tables of the state for, whichever release left them there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect, null, select

from appliance.stages import FIRST_LINE
from appliance.state.lines import homes
from appliance.state.rollouts import OPEN
from appliance.state.tables import CallerStop, KeyRule, ModelVersion, Promotion, Release, Rollout
from media.embedding import EmbeddingProfile
from media.llamaprofile import ON_PROCESSOR, LlamaSettings

# The documents' defaults (E16), where the promoted descriptor names none.
TEMPERATURE: Final = 0.7
TOP_P: Final = 1.0
_ROLLOUT: Final = (
    Rollout.sequence,
    Rollout.model_digest,
    Rollout.control,
    Rollout.percent,
    Rollout.state,
    Rollout.at,
    Rollout.ends_at,
)


def has_lines(connection: Connection) -> bool:
    """Tell whether the schema knows lines; that of a release of before has no column for them."""
    return any(column["name"] == "line" for column in inspect(connection).get_columns(Promotion.__tablename__))


def has_rollouts(connection: Connection) -> bool:
    """Tell whether the schema knows canaries, rules of keys and stopped callers."""
    return inspect(connection).has_table(Rollout.__tablename__)


def rollouts(connection: Connection, *, has_lines: bool, held: Collection[int] = frozenset()) -> dict[int, Any]:
    """Return the row of the rollout that is open and not held back, for each line that has one."""
    line = (Rollout.line if has_lines else null()).label("line")
    rows = connection.execute(select(*_ROLLOUT, line).where(Rollout.state.in_(OPEN)))
    return {row.line or FIRST_LINE: row for row in rows if row.sequence not in held}


def rules(connection: Connection) -> dict[str, str]:
    """Return the version that each key is pinned to, by the key's id; nothing for one that is kept out of canaries."""
    rows = connection.execute(select(KeyRule.key_id, KeyRule.model_digest))
    return {row.key_id: row.model_digest or "" for row in rows}


def rules_by_line(connection: Connection, lines: Collection[int]) -> dict[int, dict[str, str]]:
    """Return `rules` for each of these lines: a pin is of the line that its version was in last."""
    found = rules(connection)
    if not found or all(number == FIRST_LINE for number in lines):
        return dict.fromkeys(lines, found)
    known = homes(connection)
    return {
        number: {key_id: pin for key_id, pin in found.items() if not pin or known.get(pin, FIRST_LINE) == number}
        for number in lines
    }


def stops(connection: Connection) -> frozenset[tuple[str, str]]:
    """Return which keys and departments one person stopped."""
    return frozenset((row.what, row.name) for row in connection.execute(select(CallerStop.what, CallerStop.name)))


def version(connection: Connection, model_digest: str) -> Any:
    """Return the row of a version, with its release's name; None where it is not known."""
    columns = (ModelVersion.name, ModelVersion.version, ModelVersion.serial, ModelVersion.descriptor)
    query = (
        select(*columns, Release.name.label("release"))
        .outerjoin(Release, Release.serial == ModelVersion.serial)
        .where(ModelVersion.model_digest == model_digest)
    )
    return connection.execute(query).first()


def profile(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version's profile says of its answers and vectors, by `Route`'s names."""
    named, embedding = runtime.get("defaults", {}), runtime.get("embedding")
    return {
        "temperature": float(named.get("temperature", TEMPERATURE)),
        "top_p": float(named.get("top_p", TOP_P)),
        "max_tokens": int(named.get("max_tokens", 0)),
        "context": _request_tokens(runtime),
        "places": int(runtime.get("n_seq_max", 0)),
        "embedding": None if embedding is None else EmbeddingProfile.from_json(embedding, "runtime.embedding"),
    }


def _request_tokens(runtime: Mapping[str, Any]) -> int:
    llama = LlamaSettings.from_json(runtime["llama"], "runtime.llama") if "llama" in runtime else ON_PROCESSOR
    n_ctx, places = int(runtime.get("n_ctx", 0)), int(runtime.get("n_seq_max", 0))
    return llama.request_tokens(n_ctx=n_ctx, n_seq_max=max(places, 1))


def has_tools(descriptor: Mapping[str, Any], runtime: Mapping[str, Any]) -> bool:
    """Tell whether a version calls functions: vLLM reads calls only by a parser that fits the model's own form."""
    if descriptor.get("engine") == "vllm":
        return bool(runtime.get("vllm", {}).get("tool_call_parser"))
    return descriptor.get("engine") == "llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is told of a version's weights: how much they are, in which form, and how they are quantized."""

    bytes: int = 0
    format: str = ""
    quantization: str = ""


UNTOLD: Final = Weights()


def weights(descriptor: Mapping[str, Any]) -> Weights:
    """Return what a descriptor says of a version's weights; what it does not say is empty."""
    files = [one for one in descriptor.get("files", ()) if one.get("role") == "weights"]
    forms = {Path(str(one.get("path", ""))).suffix.removeprefix(".") for one in files}
    return Weights(
        bytes=sum(int(one.get("length", 0)) for one in files),
        format=next((form for form in ("gguf", "safetensors") if form in forms), ""),
        quantization=str(descriptor.get("quantization") or ""),
    )
