"""A file is put in place only where its trying unit accepts exactly its bytes; everything else lets none pass."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from appliance.errors import InstallError, UnitError
from appliance.install import tried, tryunit
from appliance.install.tried import Verdict
from media import canonical
from media.digest import sha256_hex
from tests.support.probes import program
from tests.support.supervisor import FakeSupervisor

FILE = b"user www-data;\n"
DIGEST = sha256_hex(FILE)
UNIT = f"sealift-try-nginx@{DIGEST}.service"
# Refuses what has the word in it, and says so as nginx does.
NGINX = '#!/bin/sh\nif grep -q nonsense "$4"; then echo "nginx: [emerg] unknown directive" >&2; exit 1; fi\n'
NFT = "#!/bin/sh\nif grep -q nonsense; then echo 'Error: syntax error' >&2; exit 1; fi\n"


class Runs(FakeSupervisor):
    """A supervisor that does, when a unit is started, what a test says, and then fails where the test says so."""

    def __init__(self, does: Callable[[str, str], object], *, fails: bool = False) -> None:
        super().__init__()
        self.does, self.fails = does, fails

    def start(self, unit: str) -> None:
        super().start(unit)
        kind, _, digest = unit.removeprefix("sealift-try-").removesuffix(".service").partition("@")
        self.does(kind, digest)
        if self.fails:
            raise UnitError(what=f"{unit} did not start", why="systemctl answered 1", fix="none")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name, text in (("nginx", NGINX), ("nft", NFT)):
        program(tmp_path / "bin", name, text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    made = Config(site="demo", places=PlacesSection(root=str(tmp_path)))
    for kind in tried.KINDS:
        (tried.folder(made.at) / kind).mkdir(parents=True)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(FILE)
    return path


def really(config: Config) -> Runs:
    """Return a supervisor whose units do what they do on a box: one that refuses ends badly."""
    runs = Runs(lambda kind, digest: setattr(runs, "fails", not tryunit.judge(config.at, kind, digest).accepted))
    return runs


def leaving(config: Config, *verdicts: Verdict | bytes, at: str = DIGEST, fails: bool = False) -> Runs:
    """Return a supervisor whose unit leaves something for a verdict."""

    def leave(kind: str, _: str) -> None:
        for verdict in verdicts:
            content = verdict if isinstance(verdict, bytes) else verdict.to_bytes()
            tried.left_at(config.at, kind, at).write_bytes(content)

    return Runs(leave, fails=fails)


@pytest.mark.parametrize("kind", tried.KINDS)
def test_what_its_unit_accepts_passes_and_nothing_is_left_of_it(config: Config, file: Path, kind: str) -> None:
    runs = really(config)

    tried.require(config.at, runs, kind, file)

    assert runs.asked == [("start", f"sealift-try-{kind}@{DIGEST}.service")]
    assert [path for path in tried.folder(config.at).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("kind", "why"), [("nginx", "unknown directive"), ("nftables", "syntax error")])
def test_what_it_refuses_does_not_pass_and_its_reason_is_told(config: Config, file: Path, kind: str, why: str) -> None:
    file.write_bytes(b"nonsense\n")

    with pytest.raises(InstallError) as caught:
        tried.require(config.at, really(config), kind, file)

    assert why in caught.value.why
    assert [path for path in tried.folder(config.at).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b"{",
        b"{" * 20_000,
        canonical.dumps({"format": 1, "kind": "nginx", "digest": DIGEST, "accepted": True}),
        canonical.dumps({"format": 2, "kind": "nginx", "digest": DIGEST, "accepted": True, "why": ""}),
        canonical.dumps({"format": 1, "kind": "nginx", "digest": DIGEST, "accepted": 1, "why": ""}),
        Verdict(kind="nginx", digest="a" * 64, accepted=True),
        Verdict(kind="nftables", digest=DIGEST, accepted=True),
    ],
)
def test_a_verdict_on_anything_but_these_bytes_lets_nothing_pass(
    config: Config, file: Path, left: Verdict | bytes
) -> None:
    with pytest.raises(InstallError, match="not put in place"):
        tried.require(config.at, leaving(config, left), "nginx", file)


def test_a_verdict_at_another_place_lets_nothing_pass(config: Config, file: Path) -> None:
    elsewhere = leaving(config, Verdict(kind="nginx", digest=DIGEST, accepted=True), at="b" * 64)

    with pytest.raises(InstallError):
        tried.require(config.at, elsewhere, "nginx", file)


def test_what_an_earlier_run_said_is_not_taken_for_what_this_one_says(config: Config, file: Path) -> None:
    """Scenario: systemctl answers 0 without starting anything, as in a chroot, and an old verdict lies there."""
    tried.left_at(config.at, "nginx", DIGEST).write_bytes(
        Verdict(kind="nginx", digest=DIGEST, accepted=True).to_bytes()
    )

    with pytest.raises(InstallError, match="not put in place"):
        tried.require(config.at, Runs(lambda *_: None), "nginx", file)


def test_a_unit_that_ends_badly_has_accepted_nothing_whatever_it_left(config: Config, file: Path) -> None:
    accepting = leaving(config, Verdict(kind="nginx", digest=DIGEST, accepted=True), fails=True)

    with pytest.raises(UnitError):
        tried.require(config.at, accepting, "nginx", file)
    with pytest.raises(UnitError):
        tried.require(config.at, FakeSupervisor(broken=frozenset({UNIT})), "nginx", file)


def test_a_file_that_changes_while_it_is_tried_does_not_pass(config: Config, file: Path) -> None:
    def change(kind: str, digest: str) -> None:
        tryunit.judge(config.at, kind, digest)
        file.write_bytes(FILE + b"include /tmp/more;\n")

    with pytest.raises(InstallError) as caught:
        tried.require(config.at, Runs(change), "nginx", file)

    assert caught.value.why == "the file changed while it was tried"


@pytest.mark.parametrize("kind", tried.KINDS)
def test_a_file_that_is_absent_empty_too_long_or_no_plain_one_is_not_handed_over(
    config: Config, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "bin/nginx")
    (tmp_path / "long").write_bytes(b"#" * (tried.LONGEST + 1))
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    runs = really(config)

    for name in ("absent", "link", "long", "empty", "pipe"):
        with pytest.raises(InstallError):
            tried.require(config.at, runs, kind, tmp_path / name)
    assert runs.asked == []


def test_without_the_folders_nothing_passes(config: Config, file: Path) -> None:
    (tried.folder(config.at) / "nginx").rmdir()

    with pytest.raises(InstallError, match="nginx was not tried"):
        tried.require(config.at, really(config), "nginx", file)


def test_the_unit_tries_no_other_bytes_than_those_of_its_digest(config: Config) -> None:
    place = tried.handed_over(config.at, "nginx", DIGEST)
    place.write_bytes(FILE + b" ")

    with pytest.raises(InstallError) as caught:
        tryunit.judge(config.at, "nginx", DIGEST)

    assert caught.value.why == "the bytes handed over are not those of the digest"
    assert not tried.left_at(config.at, "nginx", DIGEST).exists()


@pytest.mark.parametrize(("kind", "digest"), [("nginx", "../../etc/shadow"), ("nginx", ""), ("sshd", DIGEST)])
def test_the_unit_looks_at_nothing_but_what_is_handed_over(config: Config, kind: str, digest: str) -> None:
    with pytest.raises(InstallError, match="cannot be tried"):
        tryunit.judge(config.at, kind, digest)


def test_both_commands_end_with_0_only_where_the_file_may_be_put_in_place(
    config: Config, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'format = 1\nsite = "demo"\n[places]\nroot = "{tmp_path}"\n')
    words = ["--config", str(site), "nginx"]
    runs = really(config)

    assert tried.main([*words, str(file)], supervisor=runs) == 0
    tried.handed_over(config.at, "nginx", DIGEST).write_bytes(FILE)
    assert tryunit.main([*words, DIGEST]) == 0
    assert f"accepted {DIGEST}" in capsys.readouterr().err

    file.write_bytes(b"nonsense\n")
    other = sha256_hex(b"nonsense\n")
    assert tried.main([*words, str(file)], supervisor=runs) != 0
    assert "unknown directive" in capsys.readouterr().err
    assert tryunit.main([*words, other]) != 0
    assert "No such file" in capsys.readouterr().err
    tried.handed_over(config.at, "nginx", other).write_bytes(b"nonsense\n")
    assert tryunit.main([*words, other]) == 1
