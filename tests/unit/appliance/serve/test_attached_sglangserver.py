"""SGLang's server on a socket: what uvicorn is told in place of a port, and what SGLang's own arguments are."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance.serve import attached_sglangserver


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What SGLang and uvicorn were told, by libraries that call each other as theirs do."""
    found: dict[str, Any] = {}
    uvicorn, args, launch = (ModuleType(name) for name in ("uvicorn", "sglang.srt.server_args", "sglang.launch_server"))

    def run(app: object, **settings: object) -> None:
        found.update(app=app, settings=settings)

    def run_server(server_args: list[str]) -> None:
        found["arguments"] = server_args
        # As SGLang's http_server, which looks the name up in the module.
        uvicorn.run("app", host="127.0.0.1", port=30000, log_level="error", loop="uvloop")

    uvicorn.run = run  # type: ignore[attr-defined]
    args.prepare_server_args = list  # type: ignore[attr-defined]
    launch.run_server = run_server  # type: ignore[attr-defined]
    for module in (ModuleType("sglang"), ModuleType("sglang.srt"), uvicorn, args, launch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def test_it_listens_on_the_socket_and_on_no_port(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["--model-path", "m", "--disable-radix-cache"]
    monkeypatch.setattr(sys, "argv", ["x", "--socket", str(tmp_path / "s"), *words])
    attached_sglangserver.main()

    assert told["settings"] == {"uds": str(tmp_path / "s"), "log_level": "error", "loop": "uvloop"}
    assert told["app"] == "app"
    # Its first question to itself would go to the port.
    assert told["arguments"] == [*words, "--skip-server-warmup"]


def test_without_a_socket_it_starts_nothing(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--model-path", "m"])
    with pytest.raises(SystemExit):
        attached_sglangserver.main()

    assert not told
