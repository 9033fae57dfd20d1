"""Gates that look at files alone: integrity, level, fit. They run before anything is loaded."""

from typing import Any

from appliance.actions.gating import cards
from appliance.actions.gating.bench import Bench, Verdict
from appliance.promote.levels import NOT_FOR_PRODUCTION, level_of, level_of_weights
from appliance.registry.contexts import Kept
from appliance.registry.memory import need_of
from appliance.serve.anatomy import CONFIG
from media import gguf, vllmprofile

_MILLIS = 1000


def integrity(bench: Bench) -> Verdict:
    """Hash every file of the version in the store again, and its descriptor."""
    descriptor = bench.descriptor
    files = [(file.path, file.sha256, file.length) for file in descriptor.files]
    if descriptor.template_path not in {path for path, _, _ in files}:
        length = bench.stored.files[descriptor.template_path].length
        files.append((descriptor.template_path, descriptor.template_sha256, length))
    done, total = 0, sum(length for _, _, length in files)
    for path, sha256, length in files:
        bench.progress("integrity", done, total)
        bench.stored.verify(path)
        if bench.stored.files[path].sha256 != sha256:
            return Verdict(gate="integrity", passed=False, why=f"{path} is not the file the descriptor names")
        done += length
    bench.progress("integrity", total, total)
    return Verdict(gate="integrity", passed=True, figures={"files": len(files), "bytes": total})


def level(bench: Bench) -> Verdict:
    """Look whether the level, as the descriptor and the weights' own header say, may serve, or a person accepted it."""
    named = level_of(bench.descriptor.quantization)
    figures: dict[str, Any] = {"quantization": bench.descriptor.quantization}
    weights = bench.descriptor.gguf
    if weights is not None:
        found = level_of_weights(gguf.read(bench.stored.path_of(weights.path)))
        if found is not None and found != named:
            figures["weights"] = found
            why = f"its weights are {found}, which is not recommended, and its descriptor says another level"
            return Verdict(gate="level", passed=False, figures=figures, why=why)
    if named is None:
        return Verdict(gate="level", passed=True, figures=figures)
    figures |= {"level": named, "loss": NOT_FOR_PRODUCTION[named]}
    accepted = bench.accepted
    if accepted is None or accepted.level != named:
        why = f"{named} is not recommended, and nobody accepted it for this version by name"
        return Verdict(gate="level", passed=False, figures=figures, why=why)
    figures |= {"accepted_by": accepted.person, "reason": accepted.reason}
    return Verdict(gate="level", passed=True, figures=figures)


def fit(bench: Bench) -> Verdict:
    """Compute what weights, KV cache and working memory take together, against this machine's memory."""
    need = need_of(bench.descriptor, bench.stored.path_of)
    limit = bench.memory_bytes * bench.policy.fit.memory_share_millis // _MILLIS
    figures: dict[str, Any] = {
        **({} if need is None else {f"{part}_bytes": size for part, size in need.to_json().items()}),
        "memory_bytes": bench.memory_bytes,
        "limit_bytes": limit,
        "n_ctx": bench.descriptor.runtime.n_ctx,
        "n_seq_max": bench.descriptor.runtime.n_seq_max,
    }
    if need is None:
        if why := _vllm_fault(bench, limit):
            return Verdict(gate="fit", passed=False, figures={**figures, "gpus": len(bench.gpus)}, why=why)
        if bench.descriptor.engine == "vllm" and (few := vllmprofile.advice(bench.descriptor.runtime.n_seq_max)):
            figures["few_answers"] = few  # whoever approves reads it, with the other figures
        # Its weights and cache lie where the engine puts them, on a GPU or not; without room it does not start.
        return Verdict(gate="fit", passed=True, figures={**figures, "judged": "by the engine as it loads"})
    if need.total > limit:
        cache = f"{need.cache >> 20} MiB of it KV cache"
        why = f"it needs {need.total >> 20} MiB, {cache}, and {limit >> 20} MiB may be used"
        return Verdict(gate="fit", passed=False, figures=figures, why=why)
    return Verdict(gate="fit", passed=True, figures=figures)


def _vllm_fault(bench: Bench, limit_bytes: int) -> str:
    """Return why there is no room for a version that vLLM opens; "" where there may be, or another engine does."""
    if bench.descriptor.engine != "vllm":
        return ""
    if not bench.is_for_gpus:
        return cards.memory_fault(bench.descriptor, bench.memory_bytes, limit_bytes, _kept(bench))
    return cards.fault(bench.descriptor, bench.gpus, _kept(bench)) if bench.gpus else ""


def _kept(bench: Bench) -> Kept | None:
    named = bench.descriptor.file_named(CONFIG)
    return None if named is None else Kept.of_config(bench.stored.read(named.path).decode(errors="replace"))
