"""A version that vLLM's own published server answers as an attached engine: what it is given, what a release brings."""

from pathlib import Path
from typing import Final

from media import canonical
from tests.support import attached
from tests.support.vllm_engine import version_files

SERVER: Final = (
    *("--model", "{model}", "--uds", "{socket}", "--max-model-len", "{n_ctx}", "--max-num-seqs", "{n_seq_max}"),
    *("--enforce-eager", "--generation-config", "vllm", "--disable-log-stats", "--enable-prompt-tokens-details"),
    *("--gpu-memory-utilization", "0.2"),
)
NO_PROMPTS_KEPT: Final = "--no-enable-prefix-caching"


def files_of(folder: Path, *arguments: str) -> dict[str, bytes]:
    """Return a release with the model for a server of these arguments."""
    files = version_files(folder)
    name = "data/models/small/descriptor.json"
    fields = canonical.mapping(canonical.loads(files[name]), "descriptor")
    settings = {
        **attached.SUPERVISED,
        "module": "vllm.entrypoints.openai.api_server",
        "arguments": list(arguments),
        "dialect": "openai",
    }
    fields["runtime"] = {**fields["runtime"], "n_ctx": 1024, "n_seq_max": 4, "attached": settings}
    files[name] = canonical.dumps({**fields, "engine": "attached"})
    return files
