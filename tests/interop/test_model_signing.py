"""Model signatures, both ways against upstream's own tool, in an environment of its own that is kept in the cache."""

import subprocess
from pathlib import Path

import pytest

from bundler.cli.main import create_app
from bundler.errors import SourceError
from bundler.modelsigning import folder
from tests.support.model_signing import certified, key_pair, model_folder
from tests.support.peers import peer_python

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

SIGN = """
import sys, model_signing
kind, size, key, chain, model, signature = sys.argv[1:]
config = model_signing.signing.Config()
if kind == "certificate":
    config.use_certificate_signer(private_key=key, signing_certificate=chain, certificate_chain=[chain])
else:
    config.use_elliptic_key_signer(private_key=key)
if size != "0":
    config.set_hashing_config(model_signing.hashing.Config().use_shard_serialization(shard_size=int(size)))
config.sign(model, signature)
"""
VERIFY = """
import pathlib, sys, model_signing
kind, trusted, model, signature = sys.argv[1:]
config = model_signing.verifying.Config()
if kind == "certificate":
    config.use_certificate_verifier(certificate_chain=[trusted])
else:
    config.use_elliptic_key_verifier(public_key=trusted)
config.verify(pathlib.Path(model), pathlib.Path(signature))
"""


@pytest.fixture(scope="module")
def upstream() -> Path:
    return peer_python("model-signing")


def ask(python: Path, script: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-c", script, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )


def ours(*words: object) -> int:
    try:
        create_app()([str(word) for word in words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_upstreams_command_takes_what_our_command_signs(tmp_path: Path, upstream: Path) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)
    assert ours("model-signing", "export", model, "--key", private) == 0
    words = ["verify", "key", str(model), "--signature", str(model / "model.sig"), "--public_key", str(public)]
    command = [str(upstream.with_name("model_signing")), *words]

    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (model / "a.json").write_text("[]")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("size", [0, 1, 4, 1_000_000_000])
@pytest.mark.parametrize("kind", ["key", "certificate"])
def test_what_we_sign_upstream_verifies_and_what_upstream_signs_we_verify(
    tmp_path: Path, upstream: Path, kind: str, size: int
) -> None:
    model = model_folder(tmp_path / "m")
    (private, trusted), chain = key_pair(tmp_path), tmp_path / "c/chain.pem"
    if kind == "certificate":
        private, chain, trusted = certified(tmp_path / "c")
    method = ["--method", "shards", "--shard-bytes", size] if size else []
    by = ["--certificate", chain] if kind == "certificate" else []

    assert ours("model-signing", "export", model, "--key", private, "--out", tmp_path / "ours.sig", *method, *by) == 0
    theirs = ask(upstream, SIGN, kind, size, private, chain, model, tmp_path / "theirs.sig")
    assert theirs.returncode == 0, theirs.stderr[-800:]

    verified = ask(upstream, VERIFY, kind, trusted, model, tmp_path / "ours.sig")
    assert verified.returncode == 0, verified.stderr[-800:]
    named = {kind: trusted}
    found = [folder.verify(tmp_path / f"{who}.sig", folder.files_of(model), **named) for who in ("ours", "theirs")]
    assert found[0].root == found[1].root
    assert found[0].signatory == found[1].signatory

    (model / "sub/w.bin").write_bytes(b"012345678X")
    assert ask(upstream, VERIFY, kind, trusted, model, tmp_path / "ours.sig").returncode != 0
    with pytest.raises(SourceError, match="not what its publisher signed"):
        folder.verify(tmp_path / "theirs.sig", folder.files_of(model), **named)
