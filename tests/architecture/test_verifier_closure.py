"""What the code that judges a medium may load: a short list, seen in a fresh interpreter, not read from imports."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIRD_PARTY = {"cryptography", "_cffi_backend", "_openssl", "securesystemslib", "tuf", "rfc8785"}
OURS_IN_THE_COPIER = {"appliance", "appliance.errors", "appliance.store", "appliance.verify", "media"}

_LIST = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
sys.path.insert(0, {root!r})
for name in {names!r}:
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
        if found.name not in {left_out!r}:
            importlib.import_module(found.name)
loaded = sorted(set(sys.modules) - before)
print(json.dumps(loaded))
"""


def loaded_by(*names: str, left_out: tuple[str, ...] = ()) -> set[str]:
    """Import the modules, and everything directly below them, in a fresh isolated interpreter."""
    source = _LIST.format(root=str(ROOT), names=names, left_out=left_out)
    done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def third_party(modules: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in modules}
    return tops - set(sys.stdlib_module_names) - {"appliance", "media"}


def test_the_verifier_loads_only_the_libraries_it_was_reviewed_with() -> None:
    # media.signers is the bundler's: contract 4 of the import rules keeps the appliance off it.
    loaded = loaded_by("appliance.verify", "media", left_out=("media.signers",))

    assert third_party(loaded) <= THIRD_PARTY


def test_the_copier_loads_nothing_of_ours_but_the_format_the_verifier_and_the_store() -> None:
    loaded = loaded_by("appliance.store.copier")
    ours = {name for name in loaded if name.partition(".")[0] in {"appliance", "media", "bundler"}}

    assert {".".join(name.split(".")[:2]) if name.startswith("appliance") else "media" for name in ours} == (
        OURS_IN_THE_COPIER
    )
    assert third_party(loaded) <= THIRD_PARTY
    assert "media.signers" not in loaded


def test_verifying_opens_no_socket() -> None:
    # What python-tuf's client downloads with is not even loaded: 11 MiB, and all that speaks HTTP.
    assert not loaded_by("appliance.store.copier") & {"urllib3", "http.client", "ssl", "tuf.ngclient.updater"}
    for path in (*(ROOT / "appliance/verify").glob("*.py"), *(ROOT / "appliance/store").glob("*.py")):
        names = {alias.name for node in ast.walk(ast.parse(path.read_text())) for alias in _imported(node)}
        assert not names & {"socket", "urllib3", "urllib", "http", "ssl", "requests"}, path.name


@pytest.mark.parametrize("function", ["made_by_the_verifier"])
def test_the_verifiers_token_has_one_caller(function: str) -> None:
    callers = {
        path.relative_to(ROOT).as_posix()
        for package in ("appliance", "media", "bundler")
        for path in (ROOT / package).rglob("*.py")
        if f"{function}()" in path.read_text() and f"def {function}()" not in path.read_text()
    }

    assert callers == {"appliance/verify/verifier.py"}


def test_only_one_module_opens_files_of_a_medium() -> None:
    # The medium's own descriptors come from appliance.verify.medium; the rest of the verifier has bytes and names.
    opening = {
        path.name
        for path in (ROOT / "appliance/verify").glob("*.py")
        if {"open", "read_bytes", "read_text", "scandir"} & _called(ast.parse(path.read_text()))
    }

    assert opening == {"medium.py", "trust.py", "kept.py", "fit.py"}


def _imported(node: ast.AST) -> list[ast.alias]:
    if isinstance(node, ast.ImportFrom):
        return [ast.alias(name=(node.module or "").partition(".")[0])]
    return (
        [ast.alias(name=alias.name.partition(".")[0]) for alias in node.names] if isinstance(node, ast.Import) else []
    )


def _called(tree: ast.AST) -> set[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
