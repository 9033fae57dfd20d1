"""What was hashed is what is mapped."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from appliance.errors import EngineLoadError
from appliance.serve.weights import HashedFile


def test_the_hashed_inode_is_opened_even_when_its_name_points_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"good")
    held = HashedFile(path, name="weights")
    held.require(sha256(b"good").hexdigest(), name="weights")

    (tmp_path / "evil").write_bytes(b"evil")
    (tmp_path / "evil").replace(path)

    assert held.path.read_bytes() == b"good"
    held.close()


def test_another_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"evil")
    held = HashedFile(path, name="weights")

    with pytest.raises(EngineLoadError):
        held.require(sha256(b"good").hexdigest(), name="weights")
    held.close()


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"good")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with pytest.raises(EngineLoadError):
        HashedFile(tmp_path / "link", name="weights")


def test_a_fifo_is_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(EngineLoadError):
        HashedFile(tmp_path / "pipe", name="weights")


def test_a_text_is_the_whole_file_that_was_hashed_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "template"
    path.write_bytes(b"good" + b"evil")
    held = HashedFile(path, name="template")
    whole = sha256(b"goodevil").hexdigest()

    assert held.read_text(whole, max_bytes=8, name="template") == "goodevil"
    for digest, most in ((whole, 4), (sha256(b"good").hexdigest(), 8)):
        with pytest.raises(EngineLoadError):
            held.read_text(digest, max_bytes=most, name="template")
    path.write_bytes(b"\xff")
    with pytest.raises(EngineLoadError, match="UTF-8"):
        held.read_text(sha256(b"\xff").hexdigest(), max_bytes=8, name="template")
    held.close()
