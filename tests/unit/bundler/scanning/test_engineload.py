import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bundler.artifact import Artifact, Component
from bundler.cache import Cache
from bundler.errors import ScanError
from bundler.process import quiet
from bundler.scan import Loading, judge, scan
from bundler.scanning import loads, sandbox
from bundler.scanning.engineload import load_models
from bundler.scanning.loads import Load
from bundler.sources.wheels import ChosenWheel
from bundler.target import WheelTarget
from bundler.toolchain import interpreter
from media.canonical import dumps
from media.canonical import loads as read_json
from media.clock import FixedClock
from media.digest import sha256_hex
from tests.support.hostile_engine import HostileEngine
from tests.support.payload import artifact, gguf, wheel
from tests.support.workshop import NOON

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> HostileEngine:
    return HostileEngine(folder=tmp_path_factory.mktemp("engine") / "env")


PACKAGE = "llama-cpp-python"


def payload(folder: Path, order: str = "load", *, engine: str = "llama.cpp", package: str = PACKAGE) -> list[Artifact]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.gguf").write_bytes(gguf(metadata={"general.order": f"DO:{order};"}, template=""))
    weights = artifact(folder / "m.gguf", target="data/models/m/m.gguf", kind="weights")
    shipped = artifact(wheel(folder, package))
    line = f"{package}==1.0 --hash=sha256:{shipped.sha256}\n".encode()
    listed = Artifact.of_bytes(line, target="data/server/requirements-e.txt", kind="server")
    descriptor = {
        "name": "m",
        "engine": engine,
        "environment": listed.sha256,
        "files": [{"path": weights.target, "role": "weights", "sha256": weights.sha256}],
    }
    beside = {"descriptor.json": dumps(descriptor), "LICENSE": b"Terms."}
    return [
        weights,
        shipped,
        listed,
        *(
            Artifact.of_bytes(
                content,
                target=f"data/models/m/{name}",
                kind="model",
                component=Component(name="m", license="MIT"),
            )
            for name, content in beside.items()
        ),
    ]


def loaded(folder: Path, engine: HostileEngine, order: str = "load") -> Load:
    def made(wheels: Sequence[ChosenWheel], target: WheelTarget, cache: Cache) -> HostileEngine:
        assert [each.name for each in wheels] == ["llama-cpp-python"]
        assert target.python == HERE
        assert cache.root == folder / "cache"
        return engine

    found = load_models(
        payload(folder, order),
        python=HERE,
        cache=Cache(root=folder / "cache"),
        clock=FixedClock(NOON),
        engine_of=made,
    )
    return found[0]


def refused(folder: Path, engine: HostileEngine, order: str) -> ScanError:
    with pytest.raises(ScanError) as caught:
        loaded(folder, engine, order)
    return caught.value


def test_a_model_is_loaded_by_the_engine_that_travels_and_the_statement_says_where(
    tmp_path: Path, engine: HostileEngine
) -> None:
    found = loaded(tmp_path, engine)

    assert found.loaded
    assert (found.engine, found.engine_wheel_sha256) == ("llama-cpp-python 0.0.9", "e" * 64)
    assert (found.sandbox, found.vocabulary) == (sandbox.level(), 3)


@pytest.mark.parametrize(
    ("order", "what"),
    [
        ("refuse", "refused to load it"),
        ("no-context", "could not make a context"),
        ("no-decode", "could not decode"),
        ("nan", "could not decode"),
        ("crash", "crashed on it with SIGSEGV"),
        ("eat", "ended with code 1"),
        ("flood", "refused to load it"),
        ("vanish", "ended with code 0"),
    ],
)
def test_a_model_that_hurts_its_engine_may_not_travel(
    tmp_path: Path, engine: HostileEngine, order: str, what: str
) -> None:
    error = refused(tmp_path, engine, order)

    assert error.what.startswith("m.gguf may not travel: the engine that would serve it ")
    assert what in error.what
    assert str(tmp_path) not in error.why


def with_vectors(folder: Path, order: str, *, role: str = "embedding") -> list[Artifact]:
    """Return the payload with further weights beside the model."""
    artifacts = payload(folder)
    (folder / "v.gguf").write_bytes(gguf(metadata={"general.order": f"DO:{order};"}, template=""))
    vectors = artifact(folder / "v.gguf", target="data/models/m/v.gguf", kind="weights")
    at = next(number for number, one in enumerate(artifacts) if one.target.endswith("descriptor.json"))
    said = read_json(artifacts[at].read())
    said["files"].append({"path": vectors.target, "role": role, "sha256": vectors.sha256})
    artifacts[at] = Artifact.of_bytes(dumps(said), target=artifacts[at].target, kind="model")
    return [*artifacts, vectors]


def test_weights_for_embeddings_are_loaded_too_and_make_a_vector(tmp_path: Path, engine: HostileEngine) -> None:
    def both(order: str) -> list[tuple[str, bool]]:
        artifacts, cache = with_vectors(tmp_path, order), Cache(root=tmp_path / order)
        found = load_models(artifacts, python=HERE, cache=cache, clock=FixedClock(NOON), engine_of=lambda *_: engine)
        return [(one.model, one.loaded) for one in found]

    assert both("vectors") == [("m", True), ("m.embedding", True)]
    with pytest.raises(ScanError, match="could not decode a token"):
        both("vectors-nan")


def test_a_draft_model_is_loaded_too_and_decodes_a_token(tmp_path: Path, engine: HostileEngine) -> None:
    def both(order: str) -> list[tuple[str, bool]]:
        artifacts, cache = with_vectors(tmp_path, order, role="draft"), Cache(root=tmp_path / order)
        found = load_models(artifacts, python=HERE, cache=cache, clock=FixedClock(NOON), engine_of=lambda *_: engine)
        return [(one.model, one.loaded) for one in found]

    assert both("well") == [("m", True), ("m.draft", True)]
    with pytest.raises(ScanError, match="could not decode a token"):
        both("nan")


def test_weights_that_two_versions_share_are_loaded_for_both(tmp_path: Path, engine: HostileEngine) -> None:
    artifacts = with_vectors(tmp_path, "vectors")
    for one in tuple(artifacts):
        if one.target.startswith("data/models/m/"):
            target = one.target.replace("/m/", "/n/", 1)
            if one.file is not None:
                artifacts.append(artifact(one.file, target=target, kind="weights"))
                continue
            content = one.read().replace(b"models/m/", b"models/n/").replace(b'"name":"m"', b'"name":"n"')
            artifacts.append(Artifact.of_bytes(content, target=target, kind="model"))

    found = load_models(
        artifacts, python=HERE, cache=Cache(root=tmp_path), clock=FixedClock(NOON), engine_of=lambda *_: engine
    )

    assert sorted((one.model, one.loaded) for one in found) == [
        (name, True) for name in ("m", "m.embedding", "n", "n.embedding")
    ]


def cached_engine(folder: Path, artifacts: list[Artifact]) -> Cache:
    """Return a cache that holds the stand-in where the environment of these artifacts' wheels belongs."""
    cache = Cache(root=folder / "cache")
    shipped = next(item for item in artifacts if item.kind == "wheel")
    listed = f"{PACKAGE}==1.0 --hash=sha256:{shipped.sha256}\n".encode()
    place = cache.folder("tools", f"engine-{sha256_hex(listed)[:16]}-{interpreter()}")
    HostileEngine(folder=place).python(progress=quiet)
    (place / ".complete").touch()
    return cache


def test_the_scan_loads_models_with_the_wheels_of_the_payload(tmp_path: Path) -> None:
    artifacts = payload(tmp_path)
    loading = Loading(python=HERE, cache=cached_engine(tmp_path, artifacts), clock=FixedClock(NOON))

    said = scan(artifacts, loading=loading).predicate()

    assert [(load["loaded"], load["engine_wheel_sha256"]) for load in said["loads"]] == [(True, artifacts[1].sha256)]
    assert {"check": "load", "version": 1, "files": 1} in said["checks"]


def test_the_scan_refuses_a_model_that_its_engine_does_not_survive(tmp_path: Path) -> None:
    artifacts = payload(tmp_path, "crash")
    loading = Loading(python=HERE, cache=cached_engine(tmp_path, artifacts), clock=FixedClock(NOON))

    with pytest.raises(ScanError, match="crashed on it with SIGSEGV"):
        scan(artifacts, loading=loading)
    refused_too = judge(artifacts, loading=loading).refused
    assert [found.rule for found in refused_too] == ["malformed"]


def test_the_level_without_mounts_is_said_and_still_has_no_network(
    tmp_path: Path, engine: HostileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "level", lambda: sandbox.NETWORK_ONLY)

    assert loaded(tmp_path, engine).sandbox == sandbox.NETWORK_ONLY
    assert "SIGSEGV" in refused(tmp_path / "2", engine, "crash").what


def test_a_model_that_keeps_its_engine_busy_may_not_travel(
    tmp_path: Path, engine: HostileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "_LEAST_SECONDS", 1)

    assert "still busy with it after 1 seconds" in refused(tmp_path, engine, "hang").what


def test_what_the_engine_said_is_in_the_error_without_control_characters(tmp_path: Path, engine: HostileEngine) -> None:
    why = refused(tmp_path, engine, "refuse").why

    assert why == "llama-cpp-python 0.0.9: told to refuse"
    assert refused(tmp_path / "2", engine, "refuse\x1b[2J").why.endswith("told to refuse?[2J")


def test_a_model_is_loaded_once_for_each_engine(tmp_path: Path, engine: HostileEngine) -> None:
    first = loaded(tmp_path, engine)
    absent = HostileEngine(folder=Path("/nonexistent"), wheel_sha256=engine.wheel_sha256)

    assert loaded(tmp_path, absent) == first
    with pytest.raises(OSError, match="nonexistent"):
        loaded(tmp_path, HostileEngine(folder=Path("/proc/nonexistent"), wheel_sha256="f" * 64))


def test_a_failure_is_not_remembered(tmp_path: Path, engine: HostileEngine) -> None:
    refused(tmp_path, engine, "refuse")
    refused(tmp_path, engine, "refuse")

    assert not (tmp_path / "cache/loaded").exists()


@pytest.mark.parametrize("memo", [b'{"loaded":true,"model":"m","x":1}', b'{"loaded":false,"model":"m"}', b"[", b"[]"])
def test_a_memo_that_does_not_say_that_a_model_was_loaded_is_passed_over(
    tmp_path: Path, engine: HostileEngine, memo: bytes
) -> None:
    loaded(tmp_path, engine)
    for path in (tmp_path / "cache/loaded").iterdir():
        path.write_bytes(memo)

    assert loaded(tmp_path, engine).vocabulary == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"engine": "vllm"}, "its engine, vllm, needs the target's own accelerator"),
        ({"package": "other"}, "its engine's environment has no llama-cpp-python"),
    ],
)
def test_where_a_model_cannot_be_loaded_here_the_statement_says_why(
    tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    found = load_models(
        payload(tmp_path, **changed), python=HERE, cache=Cache(root=tmp_path / "cache"), clock=FixedClock(NOON)
    )

    assert [(load.loaded, load.reason) for load in found] == [(False, reason)]


def test_an_engine_for_another_python_is_not_tried(tmp_path: Path) -> None:
    found = load_models(payload(tmp_path), python="3.99", cache=Cache(root=tmp_path / "cache"), clock=FixedClock(NOON))

    assert found[0].reason == f"its engine is for Python 3.99, this is {HERE}"
