"""Start an attached engine and let it answer one token. Stand-alone: run in a sandbox, where the engine's wheels are.

Arguments: program or module, its name, our own wheel, a folder for the socket, the model, values and arguments as JSON,
the dialect.
Prints one JSON line with what it can see around it, before anything is started, and one with what it did.
Exits 3 where the engine does not become well, 5 where it does not answer; where a signal ended it, 128 and its number.
"""

import ctypes
import http.client
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

_TEXT = "Sealift 1"
_TOKENS = [3, 5, 7, 9]
_NO_NEW_PRIVILEGES = 39
_MODULE = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
_PAUSE = 0.1
_MOST = 2**20


class _Line(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=600)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _surroundings() -> dict[str, object]:
    """Return what this process can see: the parent compares it with what it took away."""
    status = ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 0, 0, 0, 0)
    return {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "can_gain_rights": status != 1,
        "sees_machine": any(Path(name).exists() for name in ("/etc", "/proc", "/var", "/sys")),
        "can_write": os.access("/", os.W_OK),
    }


def _tell(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _ask(path: str, route: str, body: object = None) -> tuple[int, bytes]:
    line = _Line(path)
    try:
        data = None if body is None else json.dumps(body).encode()
        line.request("GET" if body is None else "POST", route, body=data, headers={"content-type": "application/json"})
        answer = line.getresponse()
        return answer.status, answer.read(_MOST)
    finally:
        line.close()


def _is_well(path: str) -> bool:
    try:
        found = _ask(path, "/health")[0]
        return (_ask(path, "/v1/models")[0] if found == 404 else found) == 200
    except (OSError, http.client.HTTPException):
        return False


def _told(path: str, route: str, body: object = None) -> dict[str, object]:
    status, said = _ask(path, route, body)
    value = json.loads(said) if status == 200 else None
    return value if isinstance(value, dict) else {}


def _answers_sglang(path: str) -> int:
    """Return the number of tokens of a text after which one more was answered, each but the first with a likelihood."""
    asked = {
        "text": _TEXT,
        "sampling_params": {"max_new_tokens": 1, "temperature": 0},
        "return_logprob": True,
        "logprob_start_len": 0,
    }
    meta = _told(path, "/generate", asked).get("meta_info")
    told = meta.get("input_token_logprobs") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(told, list) or meta.get("completion_tokens") != 1:
        return 0
    numbers = [one[0] for one in told[1:] if isinstance(one, list) and one and isinstance(one[0], int | float)]
    is_whole = len(told) == meta.get("prompt_tokens") == len(numbers) + 1
    return len(told) if numbers and is_whole and all(math.isfinite(number) for number in numbers) else 0


def _answers_openai(path: str, *, by_text: bool) -> int:
    """Return the number of tokens after which one more was answered, and how likely it was; 0 for none."""
    named = _told(path, "/v1/models").get("data")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], dict):
        return 0
    # By their numbers, as the launcher will ask: the first ones of any vocabulary. How one that takes texts tells
    # likelihoods, the launcher finds out.
    prompt = {"prompt": _TEXT} if by_text else {"prompt": _TOKENS, "logprobs": 1}
    asked = {"model": named[0].get("id"), "max_tokens": 1, "temperature": 0, **prompt}
    answer = _told(path, "/v1/completions", asked)
    usage = answer.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if by_text:
        return count if type(count) is int and count > 0 and answer.get("choices") else 0
    return count if count == len(_TOKENS) and type(count) is int and _has_likelihoods(answer) else 0


def _has_likelihoods(answer: dict[str, object]) -> bool:
    numbers = re.findall(r'"(?:logprob|token_logprobs)": \[?(-?[0-9.e+-]+)', json.dumps(answer.get("choices")))
    return bool(numbers) and all(math.isfinite(float(number)) for number in numbers)


def _answers(path: str, dialect: str) -> int:
    """Return the number of tokens of a text after which one more was answered with a finite likelihood; 0 for none."""
    if dialect == "sglang":
        return _answers_sglang(path)
    if dialect in {"openai", "openai-text"}:
        return _answers_openai(path, by_text=dialect == "openai-text")
    tokens = _told(path, "/tokenize", {"content": _TEXT, "prompt": _TEXT, "add_special": False}).get("tokens")
    if not isinstance(tokens, list) or not tokens:
        return 0
    asked = {"prompt": tokens, "max_tokens": 1, "temperature": 0, "seed": 0, "logprobs": 1}
    return len(tokens) if _has_likelihoods(_told(path, "/v1/completions", asked)) else 0


def _code(peer: "subprocess.Popen[bytes]", *, otherwise: int) -> int:
    """Return the code for an engine that a signal ended, as the kernel may say a moment later; else another."""
    try:
        peer.wait(1)
    except subprocess.TimeoutExpired:
        peer.kill()
        return otherwise
    return 128 - peer.returncode if peer.returncode < 0 else otherwise


def main(arguments: list[str]) -> int:
    """Try the model; return 0 where a token was answered."""
    kind, what, code, folder, model, values, said, dialect = arguments
    _tell(_surroundings())
    place = f"{folder}/peer.sock"
    filled = {**json.loads(values), "{socket}": place, "{model}": model}
    words = [re.sub(r"\{[^{}]*\}", lambda found: filled[found[0]], word) for word in json.loads(said)]
    if kind == "program":
        start = [f"{sys.prefix}/{what}", *words]
    else:
        start = [sys.executable, "-I", "-B", "-c", _MODULE, code, what, *words]
    with subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder) as peer:
        try:
            while not _is_well(place):
                if peer.poll() is not None:
                    return _code(peer, otherwise=3)
                time.sleep(_PAUSE)
            count = _answers(place, dialect)
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            count = 0
        if not count:
            return _code(peer, otherwise=5)
        peer.kill()
    _tell({"tokens": count})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
