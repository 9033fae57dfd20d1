"""What llama.cpp alone is told: layers on GPUs, shares, and what stays of a conversation that does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.registry.descriptor import ModelDescriptor
from bundler.recipe_runtime import LlamaSection
from media import canonical
from media.errors import MalformedError
from media.llamaprofile import LlamaSettings, faults
from tests.support.versions import version_files

TWO = {"n_gpu_layers": -1, "num_gpu": 2, "main_gpu": 1, "tensor_split": ["0.6", "0.4"], "num_keep": 0}


def descriptor(more_files: Sequence[Mapping[str, Any]] = (), **said: Any) -> ModelDescriptor:
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    runtime = {**canonical.mapping(fields["runtime"], "runtime"), **said}
    files = [*fields["files"], *more_files]
    return ModelDescriptor.from_bytes(canonical.dumps({**fields, "files": files, "runtime": runtime}))


def test_a_profile_without_the_table_is_as_it_was_and_runs_on_the_processor() -> None:
    assert descriptor().runtime.llama == LlamaSettings()
    assert (LlamaSettings().n_gpu_layers, LlamaSettings().num_keep) == (0, 0)


def test_what_the_recipe_says_is_what_the_descriptor_gives_and_another_digest() -> None:
    section = LlamaSection(n_gpu_layers=-1, num_gpu=2, main_gpu=1, tensor_split=("0.6", "0.4"))
    table = section.settings.to_json()

    found = descriptor(llama_cpp=table)

    assert table == TWO
    assert found.runtime.llama == section.settings
    digests = {descriptor(llama_cpp={**TWO, **one}).model_digest for one in ({}, {"main_gpu": 0}, {"num_keep": 8})}
    assert len({*digests, descriptor().model_digest}) == 4


def test_answers_share_the_context_unless_each_is_given_a_part_and_only_that_is_written_down() -> None:
    shared, apart = LlamaSettings(num_keep=8), LlamaSettings(num_keep=8, kv_unified=False)

    found = descriptor(llama_cpp=apart.to_json(), n_ctx=4096, n_seq_max=8)

    assert "kv_unified" not in shared.to_json()
    assert found.runtime.llama == apart
    assert found.runtime.request_tokens == 512
    assert descriptor(llama_cpp=shared.to_json(), n_ctx=4096, n_seq_max=8).runtime.request_tokens == 4096
    with pytest.raises(MalformedError) as caught:
        descriptor(llama_cpp=LlamaSettings(kv_unified=False).to_json(), n_ctx=1023, n_seq_max=8)
    assert "127 tokens" in caught.value.why


def test_a_draft_model_is_named_with_its_tokens_and_neither_without_the_other() -> None:
    settings = LlamaSettings(draft_tokens=4)
    file = {"path": "data/models/tiny/small.gguf", "role": "draft", "sha256": "2" * 64, "length": 7}

    found = descriptor(llama_cpp=settings.to_json(), more_files=[file])

    assert "draft_tokens" not in LlamaSettings().to_json()
    assert found.runtime.llama == settings
    assert found.draft_weights is not None
    assert found.draft_weights.path == file["path"]
    assert [one.path for one in found.weights] != [file["path"]]
    for table, files in (({"draft_tokens": 4}, []), ({}, [file]), ({"draft_tokens": 4}, [file, file])):
        with pytest.raises(MalformedError, match="draft_tokens"):
            descriptor(llama_cpp={**LlamaSettings().to_json(), **table}, more_files=files)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_gpu_layers": -2}, "n_gpu_layers"),
        ({"n_gpu_layers": 1001}, "n_gpu_layers"),
        ({"n_gpu_layers": 0}, "n_gpu_layers is 0 and num_gpu 2"),
        ({"num_gpu": 17}, "num_gpu"),
        ({"num_gpu": 0, "tensor_split": [], "main_gpu": 0}, "n_gpu_layers is -1 and num_gpu 0"),
        ({"main_gpu": 2}, "main_gpu"),
        ({"tensor_split": ["1"]}, "tensor_split has 1 shares for 2"),
        ({"tensor_split": ["0", "0.0"]}, "tensor_split"),
        ({"tensor_split": ["0.6", "-1"]}, "tensor_split"),
        ({"tensor_split": ["0.6", "nan"]}, "tensor_split"),
        ({"tensor_split": ["0.6", "1e9"]}, "tensor_split"),
        ({"tensor_split": [1, 1]}, "tensor_split"),
        ({"num_keep": 1_000_000}, "num_keep"),
        ({"num_keep": -1}, "num_keep"),
        ({"num_keep": True}, "num_keep"),
        ({"kv_unified": 0}, "kv_unified"),
        ({"draft_tokens": 17}, "draft_tokens"),
        ({"draft_tokens": -1}, "draft_tokens"),
        ({"draft_tokens": True}, "draft_tokens"),
        ({"other": 1}, "llama_cpp"),
    ],
)
def test_what_is_out_of_range_or_contradicts_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    table = {**TWO, **changes}
    with pytest.raises(MalformedError) as caught:
        descriptor(llama_cpp=table)
    assert named in f"{caught.value.what} {caught.value.why}"


def test_shares_are_even_where_nothing_is_said_and_none_for_further_gpus() -> None:
    assert LlamaSettings(n_gpu_layers=-1, num_gpu=2).shares(4) == [1.0, 1.0, 0.0, 0.0]
    assert LlamaSettings(n_gpu_layers=20, num_gpu=2, tensor_split=("0.6", "0.4")).shares(2) == [0.6, 0.4]


@given(st.integers(1, 600), st.integers(16, 256), st.integers(1, 400), st.integers(0, 128))
def test_a_shortened_conversation_fits_with_an_answer_and_keeps_both_ends(
    length: int, n_ctx: int, max_tokens: int, num_keep: int
) -> None:
    settings = LlamaSettings(num_keep=min(num_keep, n_ctx // 2))
    assert not list(faults(settings, n_ctx=n_ctx, n_seq_max=1))
    tokens = list(range(length))

    found = settings.shortened(tokens, n_ctx=n_ctx, max_tokens=max_tokens)

    if not settings.num_keep or length < n_ctx:
        assert found == tokens
        return
    assert len(found) < n_ctx
    assert found[: settings.num_keep] == tokens[: settings.num_keep]
    assert found[-1] == tokens[-1]
    assert len(found) == len(set(found))
