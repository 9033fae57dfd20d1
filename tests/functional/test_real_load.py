"""The engine that `make demo` shipped loads models in the scan's sandbox, or dies there without hurting anyone."""

import struct
from pathlib import Path

import pytest

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.errors import ScanError
from bundler.scanning import sandbox
from bundler.scanning.candidate import of_candidate
from bundler.scanning.engineload import load_models
from bundler.scanning.loads import Load
from bundler.workfolder import WorkFolder
from media import gguf
from media.canonical import dumps, loads
from media.clock import SystemClock

pytestmark = pytest.mark.demo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped() -> tuple[Artifact, ...]:
    work = WorkFolder(root=ROOT / "build/demo/work")
    if not work.plan.is_file():
        pytest.skip("there is no candidate of the demo; run make demo")
    # One of its two models; the other is made of it.
    return tuple(one for one in of_candidate(work) if "/smollm2-135m-instruct-q8_0/" not in one.target)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(root=tmp_path_factory.mktemp("cache"))


def weights_of(shipped: tuple[Artifact, ...]) -> Path:
    found = next(artifact.file for artifact in shipped if artifact.target.endswith(".gguf"))
    assert found is not None
    return found


def loaded(shipped: tuple[Artifact, ...], cache: Cache, weights: Path | None = None) -> tuple[Load, ...]:
    """Load the shipped model, or other weights in its place."""
    artifacts = list(shipped)
    if weights is not None:
        at = next(number for number, item in enumerate(artifacts) if item.target.endswith(".gguf"))
        swapped = Artifact.of_file(
            weights, target=artifacts[at].target, kind="weights", component=artifacts[at].component
        )
        about = next(number for number, item in enumerate(artifacts) if item.target.endswith("descriptor.json"))
        descriptor = loads(artifacts[about].read())
        descriptor["files"][0]["sha256"] = swapped.sha256
        artifacts[at] = swapped
        artifacts[about] = Artifact.of_bytes(dumps(descriptor), target=artifacts[about].target, kind="model")
    return load_models(artifacts, python="3.11", cache=cache, clock=SystemClock())


def test_the_shipped_model_loads_and_is_not_loaded_again(shipped: tuple[Artifact, ...], cache: Cache) -> None:
    first = loaded(shipped, cache)

    assert [load.loaded for load in first] == [True]
    assert first[0].sandbox == sandbox.level()
    assert first[0].vocabulary > 1000
    assert loaded(shipped, cache) == first


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("llama.block_count", "<I", 2**31),
        ("llama.block_count", "<I", 511),
        ("llama.embedding_length", "<I", 2**31 - 1),
        ("llama.attention.head_count", "<I", 0),
        ("llama.attention.head_count_kv", "<I", 7),
        ("llama.rope.dimension_count", "<I", 2**31 - 1),
    ],
)
def test_a_model_whose_header_is_well_formed_and_whose_numbers_are_not_is_refused(
    tmp_path: Path, shipped: tuple[Artifact, ...], cache: Cache, key: str, kind: str, value: int
) -> None:
    data = bytearray(weights_of(shipped).read_bytes())
    at = data.index(key.encode()) + len(key) + 4
    data[at : at + 4] = struct.pack(kind, value)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert gguf.read(path).metadata[key] == value  # our own reader has nothing to say against it

    with pytest.raises(ScanError, match="the engine that would serve it"):
        loaded(shipped, cache, path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, shipped: tuple[Artifact, ...], cache: Cache) -> None:
    source = weights_of(shipped)
    header = gguf.read(source)
    norm = next(tensor for tensor in header.tensors if tensor.type_name == "F32")
    data = bytearray(source.read_bytes())
    start = header.data_offset + norm.offset
    data[start : start + norm.length] = struct.pack("<f", float("nan")) * (norm.length // 4)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)

    with pytest.raises(ScanError, match=r"refused to load|could not decode"):
        loaded(shipped, cache, path)
