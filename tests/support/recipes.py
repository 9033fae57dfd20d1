"""Recipes of every kind, small: two sites that share a model, a server alone, a security update, a model for vLLM."""

from pathlib import Path

from tests.support.payload import TASKS, gguf, locked, recipe_text, safetensors, sha256, wheel

HEAD = """
format = 1

[release]
name = "{name}"
serial = 7
created = 2026-11-20T08:00:00Z
stale_after = 2027-11-20T08:00:00Z
"""
MODEL = """
[[models]]
name = "{name}"
version = "1"
engine = "llama.cpp"
license = "MIT"
quantization = "F32"
origin = "made by the tests"
created_by = "tests"
context_tokens = 512
evals = ["tasks.jsonl"]
source = {{ kind = "file", path = "{name}.gguf", license_path = "LICENSE", sha256 = "{sha256}" }}
runtime = {{ n_ctx = 256 }}
"""
SITES = """
[[target]]
profile = "ward"
cpu_flags = ["ssse3"]

[[target]]
profile = "rack"
glibc = "2.35"
gpu = "NVIDIA L4"
driver = "550.54"

[[site]]
name = "north"
targets = ["ward"]
models = ["shared"]

[[site]]
name = "south"
targets = ["rack"]
policy = { rehearsal = "answered-on-cpu" }
"""
TARGET = '\n[[targets]]\nprofile = "ward"\n'


def one_site(folder: Path, *, weights_bytes: int) -> Path:
    """Write a recipe with the model `shared` for one site and return its path."""
    return _with_models(
        folder, HEAD.format(name="one").replace("[release]", '[release]\nsites = ["north"]') + TARGET, weights_bytes, ()
    )


def two_sites(folder: Path, *, weights_bytes: int = 32 * 2**20) -> Path:
    """Write a recipe whose sites share the model `shared`; south has `own` besides. Return its path."""
    return _with_models(folder, HEAD.format(name="both") + SITES, weights_bytes, ("own",))


def _with_models(folder: Path, head: str, weights_bytes: int, more: tuple[str, ...]) -> Path:
    _write(folder, "shared.gguf", gguf(tensors={"token_embd.weight": (8, weights_bytes // 32)}))
    for name in more:
        _write(folder, f"{name}.gguf", gguf())
    _write(folder, "LICENSE", b"Do what you like.\n")
    _write(folder, "tasks.jsonl", TASKS)
    models = [MODEL.format(name=name, sha256=sha256(folder / f"{name}.gguf")) for name in ("shared", *more)]
    return _write(folder, "recipe.toml", (head + "".join(models)).encode())


def server_alone(folder: Path, *, more: str = "") -> Path:
    """Write a recipe without models and return its path."""
    text = HEAD.format(name="server").replace("[release]", '[release]\nsites = ["north"]\nkind = "server"')
    return _write(folder, "recipe.toml", f"{text}{TARGET}{more}".encode())


def security_update(folder: Path, index: Path, *, release: str = "base = 5", more: str = "") -> Path:
    """Write a recipe that replaces the wheel `alpha` by version 2.0, which it puts into `index`; return its path."""
    urgent = wheel(index, "alpha", "2.0")
    _write(folder, "urgent.txt", locked(urgent).encode())
    kind = f'[release]\nsites = ["north"]\nkind = "security-update"\n{release}'
    text = HEAD.format(name="urgent").replace("[release]", kind)
    return _write(folder, "recipe.toml", f'{text}{TARGET}[update]\nwheels = "urgent.txt"\n{more}'.encode())


def for_vllm(folder: Path, index: Path) -> Path:
    """Write a recipe with a GGUF model and a folder of safetensors for vLLM; return its path."""
    _write(folder, "tiny.gguf", gguf())
    _write(folder, "LICENSE", b"Do what you like.\n")
    _write(folder, "tasks.jsonl", TASKS)
    _write(folder, "ward/model.safetensors", safetensors({"w": ("F32", (2,), (0, 8))}, data=8))
    _write(folder, "ward/config.json", b'{"architectures":["LlamaForCausalLM"],"model_type":"llama"}\n')
    _write(folder, "ward/tokenizer.json", b"{}\n")
    _write(folder, "ward/template.jinja", b"{{ messages[0]['content'] }}")
    _write(folder, "engine-vllm.txt", locked(wheel(index, "vllm", "0.20")).encode())
    files = "\n".join(
        f'"{name}" = "{sha256(folder / "ward" / name)}"'
        for name in ("model.safetensors", "config.json", "tokenizer.json")
    )
    more = f"""
[[models]]
name = "ward"
version = "1"
engine = "vllm"
license = "MIT"
quantization = "F32"
origin = "made by the tests"
created_by = "tests"
context_tokens = 4096
chat_template = "ward/template.jinja"
[models.source]
kind = "folder"
path = "ward"
license_path = "LICENSE"
[models.source.files]
{files}

[locks]
engine-vllm = "engine-vllm.txt"
"""
    return _write(folder, "recipe.toml", recipe_text(sha256(folder / "tiny.gguf"), more=more).encode())


def _write(folder: Path, name: str, content: bytes) -> Path:
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place
