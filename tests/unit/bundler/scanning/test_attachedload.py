"""An attached engine's model is opened once by what travels: in the real sandbox, by a stand-in told what to do."""

import sys
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.errors import ScanError
from bundler.scanning import sandbox
from bundler.scanning.engineload import load_models
from bundler.scanning.loads import Load
from media.attachedprofile import AttachedSettings
from media.canonical import dumps
from media.clock import FixedClock
from tests.support.payload import artifact, gguf, wheel
from tests.support.workshop import NOON

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PEER = b"""
import http.server, json, os, socket, sys
socket_path, model = sys.argv[1:3]
order = open(model, "rb").read().partition(b"DO:")[2].partition(b";")[0].decode()
if order == "refuse": sys.exit("no such architecture")
if order == "crash": os.abort()
answers = {"/tokenize": {"tokens": [1, 2]}, "/v1/completions": {"choices": [{"text": "a", "logprobs": {"content": [
    {"token": "a", "logprob": None if order == "silent" else -0.5}]}}]}, "/generate": {"meta_info": {
    "prompt_tokens": 2, "completion_tokens": 1, "input_token_logprobs": [
    [None, 1, None], [None if order == "silent" else -0.5, 2, None]]}}}
if order == "sglang": del answers["/tokenize"], answers["/v1/completions"]
if order == "openai":
    answers = {"/v1/completions": {"usage": {"prompt_tokens": 4}, "choices": [{"text": "a", "logprobs": {
        "tokens": ["a"], "token_logprobs": [-0.5]}}]}}
class Door(http.server.BaseHTTPRequestHandler):
    def address_string(self): return ""
    def do_GET(self): self.say({"data": [{"id": "m"}] if order == "openai" else []})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if order == "late-crash": os.abort()
        self.say(answers[self.path])
    def say(self, value):
        data = json.dumps(value).encode()
        self.send_response(200); self.send_header("content-length", str(len(data))); self.end_headers()
        self.wfile.write(data)
    def log_message(self, *said): pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_UNIX
    def server_bind(self): self.socket.bind(self.server_address)
Server(socket_path, Door).serve_forever()
"""
SETTINGS = AttachedSettings(module="peer_of_tests", arguments=("{socket}", "{model}"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "env"
    venv.create(folder, with_pip=False)
    return folder / "bin/python"


def loaded(folder: Path, python: Path, order: str, settings: AttachedSettings = SETTINGS) -> Load:
    folder.mkdir(exist_ok=True)
    (folder / "m.gguf").write_bytes(gguf(metadata={"general.order": f"DO:{order};"}, template=""))
    weights = artifact(folder / "m.gguf", target="data/models/m/m.gguf", kind="weights")
    ours = artifact(wheel(folder, "sealift", files={"peer_of_tests.py": PEER}))
    listed = Artifact.of_bytes(b"sealift==1.0\n", target="data/server/requirements-e.txt", kind="server")
    descriptor: dict[str, Any] = {
        "name": "m",
        "engine": "attached",
        "environment": listed.sha256,
        "files": [{"path": weights.target, "role": "weights", "sha256": weights.sha256, "length": weights.length}],
        "runtime": {"attached": settings.to_json()},
    }
    said = Artifact.of_bytes(dumps(descriptor), target="data/models/m/descriptor.json", kind="model")
    (found,) = load_models(
        [weights, ours, listed, said],
        python=HERE,
        cache=Cache(root=folder / "cache"),
        clock=FixedClock(NOON),
        python_of=lambda *_: python,
    )
    return found


def test_it_is_loaded_once_by_the_module_that_travels_and_remembered(tmp_path: Path, python: Path) -> None:
    found = loaded(tmp_path, python, "load")
    again = loaded(tmp_path, Path("/nowhere"), "load")

    assert (found.loaded, found.engine, found.sandbox) == (True, "attached: peer_of_tests", sandbox.level())
    assert again == found


@pytest.mark.parametrize(
    ("order", "what"),
    [
        ("refuse", "refused to load it"),
        ("crash", "crashed on it with SIGABRT"),
        ("late-crash", "crashed on it with SIGABRT"),
        ("silent", "could not decode a token"),
    ],
)
def test_a_model_that_its_engine_does_not_survive_may_not_travel(
    tmp_path: Path, python: Path, order: str, what: str
) -> None:
    with pytest.raises(ScanError, match=what):
        loaded(tmp_path, python, order)


def test_sglang_is_asked_for_the_likelihoods_of_a_prompt(tmp_path: Path, python: Path) -> None:
    sglang = replace(SETTINGS, dialect="sglang")

    assert loaded(tmp_path / "1", python, "sglang", sglang).loaded
    with pytest.raises(ScanError, match="could not decode a token"):
        loaded(tmp_path / "2", python, "silent", sglang)


def test_a_server_of_openais_completions_is_asked_under_the_name_that_it_has_for_the_model(
    tmp_path: Path, python: Path
) -> None:
    openai = replace(SETTINGS, dialect="openai")

    assert loaded(tmp_path / "1", python, "openai", openai).loaded
    for order in ("load", "silent"):
        with pytest.raises(ScanError, match="could not decode a token"):
            loaded(tmp_path / order, python, order, openai)


def test_one_that_takes_texts_is_asked_by_a_text(tmp_path: Path, python: Path) -> None:
    texts = replace(SETTINGS, dialect="openai-text")

    assert loaded(tmp_path / "1", python, "openai", texts).loaded
    with pytest.raises(ScanError, match="could not decode a token"):
        loaded(tmp_path / "load", python, "load", texts)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (AttachedSettings(), "no release brings what answers"),
        (AttachedSettings(module="m", arguments=SETTINGS.arguments, needs_gpu=True), "own accelerator"),
    ],
)
def test_what_cannot_be_tried_here_is_listed_with_the_reason(
    tmp_path: Path, python: Path, settings: AttachedSettings, why: str
) -> None:
    found = loaded(tmp_path, python, "load", settings)

    assert not found.loaded
    assert why in found.reason
