"""What a version takes of memory, by the figures of a real header, and what a machine has."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.errors import EngineLoadError
from appliance.registry import memory
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import Need, need_of_header, room
from appliance.verify.fit import Machine
from media import canonical
from media import gguf as gguf_reader
from media.gguf import GgufHeader, Tensor
from media.llamaprofile import LlamaSettings
from tests.support.payload import gguf
from tests.support.versions import version_files

MIB = 2**20
SMOLLM2: dict[str, int | str] = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
}


def header(**changes: int | None) -> GgufHeader:
    metadata: dict[str, int | str | None] = {
        **SMOLLM2,
        **{f"llama.{name.replace('__', '.')}": value for name, value in changes.items()},
    }
    return GgufHeader(
        version=3,
        alignment=32,
        data_offset=0,
        metadata={key: value for key, value in metadata.items() if value is not None},
        arrays={"tokenizer.ggml.tokens": 49152},
        tensors=(),
    )


@pytest.mark.parametrize(
    ("n_ctx", "n_batch", "cache_mib", "buffer_mib"),
    [(4096, 512, 101.25, 98.26), (16384, 512, 371.25, 98.28), (2048, 256, 50.62, 49.13), (32768, 1024, 742.5, 196.53)],
)
def test_cache_and_buffer_are_what_llama_cpp_said_of_smollm2(
    n_ctx: int, n_batch: int, cache_mib: float, buffer_mib: float
) -> None:
    need = need_of_header(header(), length=98_362_432, n_ctx=n_ctx, n_batch=n_batch)

    assert need.cache / MIB == pytest.approx(cache_mib, abs=0.01)
    kept_scores = n_batch * 49152 * 4
    assert (need.compute - kept_scores) / MIB == pytest.approx(buffer_mib, abs=0.05)
    assert need.weights == 98_362_432
    assert need.total == need.weights + need.cache + need.compute + need.process


def test_weights_that_amx_lays_out_anew_take_their_sums_too() -> None:
    def tensor(type_name: str, length: int, name: str = "t") -> Tensor:
        return Tensor(name=name, type_name=type_name, shape=(1,), offset=0, length=length)

    kinds = (("Q8_0", 34_000), ("Q4_K", 144_000), ("Q5_K", 176_000), ("IQ4_XS", 136_000), ("Q4_1", 20_000), ("F32", 4))
    whole = replace(header(), tensors=tuple(tensor(*kind) for kind in kinds))

    without, with_amx = (
        need_of_header(whole, length=510_004, n_ctx=1000, n_batch=24, flags=flags) for flags in ((), ("amx_int8",))
    )

    assert without.weights == 510_004
    assert with_amx.weights - without.weights == 4000 + 4000 + 4000 + 2000
    assert with_amx.cache + with_amx.compute + with_amx.process == without.total - without.weights


@pytest.mark.parametrize(
    ("type_name", "flags", "twice"),
    [
        ("Q4_1", ("amx_int8",), True),
        ("Q4_1", ("avx2",), True),
        ("Q4_1", ("avx",), False),
        ("Q8_0", ("avx2",), False),
        ("Q8_0", ("avx2", "avx_vnni"), True),
        ("Q8_0", ("avx2", "avx512f", "avx512_vnni"), True),
        ("Q6_K", ("avx2", "avx512_vnni"), False),
    ],
)
def test_a_table_of_words_that_also_scores_them_is_there_twice_where_it_is_laid_out_anew(
    type_name: str, flags: tuple[str, ...], *, twice: bool
) -> None:
    table = Tensor(name="token_embd.weight", type_name=type_name, shape=(1,), offset=0, length=5_000)
    tied = replace(header(), tensors=(table,))
    apart = replace(tied, tensors=(table, replace(table, name="output.weight")))

    more, same = (
        need_of_header(one, length=1, n_ctx=1000, n_batch=24, flags=flags).weights - 1 for one in (tied, apart)
    )

    assert more - same == (5_000 if twice else 0)


def test_where_no_processor_can_be_seen_the_most_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units see no /proc/cpuinfo."""
    table = Tensor(name="token_embd.weight", type_name="Q8_0", shape=(1,), offset=0, length=34_000)
    tied = replace(header(), tensors=(table,))
    monkeypatch.setattr(memory, "_own_flags", memory._own_flags.__wrapped__)
    monkeypatch.setattr(Machine, "probe", lambda _: SimpleNamespace(cpu_flags=frozenset()))

    assert need_of_header(tied, length=1, n_ctx=1000, n_batch=24).weights == 1 + 34_000 + 4000


def test_a_version_that_embeds_takes_a_second_model_and_places_for_a_batch(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.gguf"
    sizes = {"block_count": 1, "embedding_length": 256, "attention.head_count": 4, "vocab_size": 32}
    weights.write_bytes(gguf(metadata={f"llama.{name}": size for name, size in sizes.items()}))
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    embedding = {"pooling": "mean", "n_ctx": 300, "dimensions": 256, "matryoshka": False}

    def need(more: dict[str, Any]) -> Need:
        runtime = {**fields["runtime"], **more}
        found = memory.need_of(
            ModelDescriptor.from_bytes(canonical.dumps({**fields, "runtime": runtime})), lambda _: weights
        )
        assert found is not None
        return found

    alone, both = need({}), need({"embedding": embedding})
    assert both.weights == 2 * alone.weights
    assert both.process < 2 * alone.process
    assert both.cache - alone.cache == 300 * 1 * 4 * (64 + 64) * 2, "300 places of one layer with four heads"
    assert both.compute > alone.compute


def test_a_draft_model_takes_its_weights_and_places_for_the_longest_conversation(tmp_path: Path) -> None:
    sizes = {"block_count": 1, "embedding_length": 256, "attention.head_count": 4, "vocab_size": 32}
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(gguf(metadata={f"llama.{name}": size for name, size in sizes.items()}))
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    draft = {"path": "data/models/tiny/small.gguf", "role": "draft", "sha256": "2" * 64, "length": 1000}
    settings = LlamaSettings(draft_tokens=4, kv_unified=False)
    runtime = {**fields["runtime"], "n_ctx": 1024, "n_seq_max": 4, "n_batch": 32}

    def need(**more: Any) -> Need:
        found = memory.need_of(ModelDescriptor.from_bytes(canonical.dumps({**fields, **more})), lambda _: weights)
        assert found is not None
        return found

    apart = need(runtime={**runtime, "llama_cpp": LlamaSettings(kv_unified=False).to_json()})
    both = need(files=[*fields["files"], draft], runtime={**runtime, "llama_cpp": settings.to_json()})
    assert both.weights - apart.weights == 1000
    assert both.cache - apart.cache == (1024 // 4 + 32) * 1 * 4 * (64 + 64) * 2
    assert both.process < 2 * apart.process


@pytest.mark.parametrize(("n_ctx", "kept"), [(1024, None), (1_000_000, 256 * MIB)])
def test_what_is_kept_of_answers_that_gave_way_is_counted_for_our_engine(
    tmp_path: Path, n_ctx: int, kept: int | None
) -> None:
    sizes = {"block_count": 1, "embedding_length": 256, "attention.head_count": 4, "vocab_size": 32}
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(gguf(metadata={f"llama.{name}": size for name, size in sizes.items()}))
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    runtime = {**fields["runtime"], "n_ctx": n_ctx, "n_batch": 32}
    length = next(file["length"] for file in fields["files"] if file["role"] == "weights")

    found = memory.need_of(
        ModelDescriptor.from_bytes(canonical.dumps({**fields, "context_tokens": n_ctx, "runtime": runtime})),
        lambda _: weights,
    )

    assert found is not None
    bare = need_of_header(gguf_reader.read(weights), length=length, n_ctx=n_ctx, n_batch=32)
    assert found.cache == bare.cache + (bare.cache if kept is None else kept)
    assert found.total - found.cache == bare.total - bare.cache


def test_a_wider_head_than_its_share_of_the_width_is_counted() -> None:
    usual = need_of_header(header(), length=1, n_ctx=1000, n_batch=24)
    wide = need_of_header(header(attention__key_length=128), length=1, n_ctx=1000, n_batch=24)

    assert wide.cache == 2 * usual.cache


@pytest.mark.parametrize("missing", ["block_count", "embedding_length", "attention__head_count"])
def test_weights_that_do_not_say_how_they_are_built_are_refused(missing: str) -> None:
    with pytest.raises(EngineLoadError, match="cannot be computed"):
        need_of_header(header(**{missing: None}), length=1, n_ctx=1000, n_batch=24)


MAMBA: dict[str, int | None] = {  # of 130 million parameters
    "block_count": 24, "embedding_length": 768, "feed_forward_length": 0, "attention__head_count": 0,
    "attention__head_count_kv": None, "ssm__conv_kernel": 4, "ssm__inner_size": 1536, "ssm__state_size": 16,
}  # fmt: skip


def test_a_recurrent_model_keeps_a_state_for_each_answer_and_nothing_for_each_token() -> None:
    few = need_of_header(header(**MAMBA), length=1, n_ctx=1000, n_batch=24, answers=7)
    more = need_of_header(header(**MAMBA), length=1, n_ctx=50_000, n_batch=24, answers=15)

    # llama.cpp names the same sum: of 24 layers, 3 taps and 16 numbers for each of 1,536, for 8 sequences.
    assert few.cache == 8 * 24 * (3 * 1536 + 16 * 1536) * 4
    assert more.cache == 2 * few.cache


def test_a_hybrid_model_keeps_both() -> None:
    plain = need_of_header(header(), length=1, n_ctx=1000, n_batch=24, answers=4)
    hybrid = need_of_header(header(shortconv__l_cache=3), length=1, n_ctx=1000, n_batch=24, answers=4)
    rwkv = need_of_header(header(wkv__head_size=64), length=1, n_ctx=1000, n_batch=24, answers=4)

    assert hybrid.cache - plain.cache == 5 * 30 * 2 * 576 * 4
    assert rwkv.cache - plain.cache == 5 * 30 * (64 + 2) * 576 * 4


def test_a_recorded_need_reads_as_it_was_written_and_anything_else_is_none() -> None:
    need = Need(weights=1, cache=2, compute=3, process=4)

    assert Need.from_json(need.to_json()) == need
    wrong: list[Any] = [None, [], {}, {**need.to_json(), "cache": "2"}, {**need.to_json(), "cache": -2}]
    for junk in wrong:
        assert Need.from_json(junk) is None


def meminfo(folder: Path) -> Path:
    file = folder / "meminfo"
    file.write_text("MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nHugePages_Total: 0\n")
    return file


def test_room_is_the_machines_where_no_group_allows_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n")

    found = room(meminfo(tmp_path), own=own)

    assert (found.total, found.available) == (1000 * 1024, 600 * 1024)
    assert found.engines == 870_400


@pytest.mark.parametrize(("lines", "place"), [("0::/a/b\n", "a"), ("4:memory:/a/b\n0::/\n", "memory/a")])
def test_room_is_the_smallest_limit_of_the_control_groups_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, place: str
) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    (tmp_path / place / "b").mkdir(parents=True)
    file = "memory.max" if place == "a" else "memory.limit_in_bytes"
    (tmp_path / place / "b" / file).write_text("max\n")
    (tmp_path / place / file).write_text("409600\n")
    own = tmp_path / "cgroup"
    own.write_text(lines)

    found = room(meminfo(tmp_path), own=own)

    assert (found.total, found.available) == (409_600, 409_600)


def test_a_machine_that_does_not_say_is_no_machine_with_room(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError):
        room(tmp_path / "absent")
