"""Small payloads for the build side: wheels, GGUF and safetensors files, recipes, a checkout; all made in memory."""

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from bundler.artifact import Artifact, Component
from bundler.recipe import Recipe

TOOLS = "cmake==4.0 --hash=sha256:{0}\nninja==1.13 --hash=sha256:{0}\nscikit-build-core==1.1 --hash=sha256:{0}\n"


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, bytes] | None = None,
    tag: str = "py3-none-any",
    license_line: str = "License-Expression: MIT",
    record: str | None = None,
    metadata_name: str = "",
    is_compressed: bool = False,
) -> Path:
    """Write a wheel that pip would install, unless the arguments say otherwise, and return its path."""
    stem = f"{name.replace('-', '_')}-{version}"
    content = dict(files or {f"{name.replace('-', '_')}/__init__.py": b"VALUE = 1\n"})
    content[f"{stem}.dist-info/licenses/LICENSE"] = b"Do what you like.\n"
    content[f"{stem}.dist-info/METADATA"] = (
        f"Metadata-Version: 2.4\nName: {metadata_name or name}\nVersion: {version}\n{license_line}\n"
    ).encode()
    content[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    )
    listed = "".join(f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in content.items())
    content[f"{stem}.dist-info/RECORD"] = (
        f"{listed}{stem}.dist-info/RECORD,,\n" if record is None else record
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(
                zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0)),
                data,
                zipfile.ZIP_DEFLATED if is_compressed else zipfile.ZIP_STORED,
            )
    return path


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def sha256(path: Path) -> str:
    """Return a file's digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def locked(*wheels: Path) -> str:
    """Return a lock that pins these wheels."""
    lines = []
    for path in wheels:
        name, version = path.name.split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{sha256(path)}\n    # via tests\n")
    return "".join(lines)


def gguf_text(text: str | bytes) -> bytes:
    """Return a GGUF string."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def gguf(
    *,
    metadata: Mapping[str, str | int | float] | None = None,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    template: str = "{{ messages[0]['content'] }}",
    alignment: int = 32,
) -> bytes:
    """Return a small valid GGUF file with F32 tensors."""
    values: dict[str, str | int | float] = {
        "general.architecture": "llama",
        "llama.context_length": 512,
        **({"tokenizer.chat_template": template} if template else {}),
        **(metadata or {}),
    }
    shapes = {"token_embd.weight": (8, 4)} if tensors is None else tensors
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(values))
    for key, value in values.items():
        head += gguf_text(key)
        if isinstance(value, str):
            head += struct.pack("<I", 8) + gguf_text(value)
        else:
            head += struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
    offset, data = 0, b""
    for name, shape in shapes.items():
        elements = 1
        for dimension in shape:
            elements *= dimension
        head += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, offset)
        padded = -(-elements * 4 // alignment) * alignment
        data += bytes(padded)
        offset += padded
    return head + bytes(-len(head) % alignment) + data


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...], tuple[int, int]]], *, data: int) -> bytes:
    """Return a safetensors file with this header and `data` bytes behind it."""
    header = json.dumps(
        {
            name: {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}
            for name, (kind, shape, offsets) in tensors.items()
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(data)


TASKS = (
    b'{"format":1,"name":"facts","floor":"0.50"}\n'
    b'{"id":"a","kind":"multiple-choice","prompt":"1 + 1?","choices":["2","3"],"answer":"2"}\n'
    b'{"id":"b","kind":"contains","prompt":"Say yes.","answer":"yes"}\n'
)


def recipe_folder(folder: Path) -> Path:
    """Write a recipe with one small model, and return the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "tiny.gguf"
    weights.write_bytes(gguf())
    (folder / "LICENSE").write_text("Do what you like.\n")
    (folder / "tasks.jsonl").write_bytes(TASKS)
    path = folder / "recipe.toml"
    path.write_text(recipe_text(sha256(weights)))
    return path


def recipe_text(weights_sha256: str = "0" * 64, *, release: str = "", more: str = "") -> str:
    """Return the text of a small recipe; `release` and `more` are added to its first section and its end."""
    return f"""
format = 1

[release]
name = "small"
serial = 3
created = 2026-11-20T08:00:00Z
stale_after = 2027-11-20T08:00:00Z
sites = ["north", "south"]
{release}

[[targets]]
profile = "single-cpu"
cpu_flags = ["ssse3", "popcnt"]

[[models]]
name = "tiny"
version = "1"
engine = "llama.cpp"
license = "MIT"
quantization = "F32"
origin = "made by the tests"
created_by = "tests"
context_tokens = 512
evals = ["tasks.jsonl"]
source = {{ kind = "file", path = "tiny.gguf", license_path = "LICENSE", sha256 = "{weights_sha256}" }}
runtime = {{ n_ctx = 256 }}

{more}
"""


def recipe(folder: Path) -> Recipe:
    """Return the small recipe of `recipe_folder`."""
    return Recipe.load(recipe_folder(folder))


def artifact(path: Path, *, target: str = "", kind: str = "wheel", license_name: str = "MIT") -> Artifact:
    """Return an artifact of a host file."""
    return Artifact.of_file(
        path,
        target=target or f"data/wheels/{path.name}",
        kind=kind,
        component=Component(name=path.stem, version="1.0", license=license_name),
    )


def checkout(folder: Path) -> Path:
    """Write what a build needs of a checkout: a distribution called sealift, units, and empty locks."""
    for name in ("requirements", "appliance", "ansible", "systemd"):
        (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "sealift"\nversion = "0.0.1"\nlicense = "Apache-2.0"\nrequires-python = ">=3.11"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["appliance"]\n'
        "[tool.hatch.build.targets.wheel.force-include]\n"
        '"ansible" = "appliance/_host/ansible"\n"systemd" = "appliance/_host/systemd"\n'
    )
    (folder / "LICENSE").write_text("Do what you like.\n")
    (folder / "appliance" / "__init__.py").write_text('"""Small."""\n')
    (folder / "ansible" / "site.yml").write_text("---\n- hosts: all\n")
    (folder / "systemd" / "sealift.target").write_text("[Unit]\nDescription=Sealift\n")
    (folder / "requirements" / "build.txt").write_text(TOOLS.format("0" * 64))
    for name in ("server", "host", "engine-llama-cpp"):
        (folder / "requirements" / f"{name}.txt").write_text("")
    return folder
