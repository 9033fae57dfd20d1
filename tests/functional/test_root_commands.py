"""Keys, joining and roots by command line: what is typed, what is said, and how each refusal ends."""

import shutil
from pathlib import Path

import pytest

from tests.support.gpg import GnuPG
from tests.support.members import make_member
from tests.support.typist import Typist

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

NOT_EMPTY = 113
WORDS = "correct horse battery"


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(capsys)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory, gnupg: GnuPG) -> Path:
    """Joining files and keys of gina, hugo and ines."""
    folder = tmp_path_factory.mktemp("joined")
    for person in ("gina", "hugo", "ines"):
        (folder / f"{person}.join.json").write_bytes(make_member(folder, gnupg, person).joined)
    return folder


def propose(typist: Typist, joined: Path, out: Path, *people: str, **options: str) -> dict[str, object]:
    joins = [part for person in people for part in ("--join", joined / f"{person}.join.json")]
    rest = [part for name, value in options.items() for part in (f"--{name}", value)]
    return typist.facts("root", "propose", out, *joins, *rest)


def sign(typist: Typist, joined: Path, proposal: Path, person: str, *options: object) -> tuple[int, str]:
    keys = [joined / f"{person}.root.{kind}.pem" for kind in ("ed25519", "ml-dsa-87")]
    places = [part for key in keys for part in ("--key", f"file:{key}")]
    out = proposal.parent / f"{person}.json"
    return typist.run(
        "root", "sign", proposal, "--person", person, "--out", out, *places, *options, secrets=(WORDS, WORDS)
    )


def test_a_proposal_and_a_signature_are_tried_and_not_written_and_nothing_is_written_over(
    typist: Typist, joined: Path, tmp_path: Path
) -> None:
    proposal = tmp_path / "p.json"
    propose(typist, joined, proposal, "gina", "hugo", environment="demo", policy="hybrid")

    code, out = sign(typist, joined, proposal, "gina", "--dry-run", "--codes", tmp_path / "codes")

    assert (code, out) == (0, "gina can sign root 1 with 2 keys; nothing was written\n"), typist.talk
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    (tmp_path / "gina.json").write_text("somebody's")
    taken = (tmp_path / "gina.json").read_bytes()
    for more in ((), ("--dry-run",)):
        assert sign(typist, joined, proposal, "gina", *more)[0] == NOT_EMPTY, typist.talk
    joins = ("--join", joined / "gina.join.json", "--join", joined / "hugo.join.json", "--environment", "demo")
    assert typist.run("root", "propose", tmp_path / "gina.json", *joins)[0] == NOT_EMPTY, typist.talk
    assert (tmp_path / "gina.json").read_bytes() == taken
    assert not (tmp_path / "codes").exists()


def test_a_root_is_proposed_signed_apart_and_merged(typist: Typist, joined: Path, tmp_path: Path) -> None:
    proposal, ceremony = tmp_path / "p.json", tmp_path / "c"
    facts = propose(typist, joined, proposal, "gina", "hugo", environment="demo", policy="hybrid")
    shown = typist.facts("root", "show", proposal)
    assert shown["digest"] == facts["digest"]
    for person in ("gina", "hugo"):
        code, out = sign(typist, joined, proposal, person, "--digest", facts["digest"])
        assert (code, out) == (0, f"{person} signed root 1 with 2 keys; hand in {person}.json\n"), typist.talk
    hands = [tmp_path / "gina.json", tmp_path / "hugo.json"]

    code, text = typist.run("root", "merge", proposal, hands[0], "--ceremony", ceremony, "--dry-run")
    assert (code, text) == (0, "new root: 1 of 2 signed (gina); missing: hugo\n")
    assert not ceremony.exists()
    typist.facts("root", "merge", proposal, *hands, "--ceremony", ceremony)

    code, text = typist.run("ceremony", "show", ceremony)
    assert "signature policy hybrid" in text
    assert text.count("ml-dsa-87/1") == 4
    follow = tmp_path / "p2.json"
    code, _ = typist.run("root", "propose", follow, "--ceremony", ceremony, "--remove", "hugo", "--dry-run")
    assert code == 114
    assert "a threshold of 2 of 1" in typist.talk
    code, text = typist.run(
        "root", "propose", follow, "--ceremony", ceremony, "--join", joined / "ines.join.json", "--dry-run"
    )
    assert (code, follow.exists()) == (0, False)
    assert "Ines Example (ines) may sign" in text


def test_what_is_read_aloud_must_be_this_proposals_digest(typist: Typist, joined: Path, tmp_path: Path) -> None:
    propose(typist, joined, tmp_path / "p.json", "gina", "hugo", environment="demo")

    code, _ = sign(typist, joined, tmp_path / "p.json", "gina", "--digest", "0" * 64)

    assert code == 2
    assert "this is another proposal" in typist.talk
    assert not (tmp_path / "gina.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("key", "make", "{t}/k.pem", "--kind", "rsa"), 2, "rsa"),
        (("key", "make", "{t}/k.pem", "--kind", "ed25519"), 111, "nobody can type"),
        (("key", "show", "file:{t}/absent.pem"), 111, "nobody can type"),
        (("key", "show", "k.pem"), 2, "names no key"),
        (("key", "show", "pkcs11:token=a;object=b?pin-value=12&module-path=/m"), 2, "a PIN does not belong"),
        (("root", "propose", "{t}/p", "--environment", "play", "--join", "{j}/gina.join.json"), 114, "environment"),
        (("root", "propose", "{t}/p", "--environment", "demo", "--join", "{j}/gina.join.json"), 114, "a threshold"),
        (("root", "propose", "{t}/p", "--environment", "demo", "--join", "{t}/absent"), 11, "cannot be read"),
        (("root", "propose", "{t}/p", "--environment", "demo", "--join", "{t}/junk"), 10, "JSON"),
        (("root", "show", "{t}/junk"), 10, "JSON"),
        (("root", "sign", "{t}/junk", "--person", "gina"), 10, "JSON"),
        (("ceremony", "join", "{t}/a", "--person", "gina"), 2, "is no person"),
        (("ceremony", "join", "{t}/a", "--person", "gina:Gina", "--root-key", "gpg:AB"), 114, "GnuPG home"),
        (("ceremony", "join", "{t}/a", "--person", "gina:Gina", "--root-key", "nowhere"), 2, "names no key"),
        (("ceremony", "join", "{t}/a", "--person", "gina:Gina", "--secret-fd", "1"), 2, "no place for secrets"),
    ],
)
def test_what_cannot_be_done_says_why_and_ends_with_its_code(
    typist: Typist, joined: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "junk").write_text("junk")

    ended, out = typist.run(*(each.format(t=tmp_path, j=joined) for each in arguments))

    assert (ended, out) == (code, ""), typist.talk
    assert said in typist.talk
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junk"]


def test_a_machine_on_a_network_makes_no_key_ceremony_where_that_was_asked(
    typist: Typist, joined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(typist, joined, tmp_path / "p.json", "gina", "hugo", environment="demo")
    # The kernel's tables stay real; only which ones are looked at is changed.
    table = tmp_path / "net"
    table.mkdir()
    (table / "route").write_text("Iface\nwlan0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    monkeypatch.setattr("bundler.offline._ROUTES", table)

    code, _ = sign(typist, joined, tmp_path / "p.json", "gina", "--offline-required")

    assert code == 114
    assert "a default route leads to wlan0" in typist.talk
    shutil.rmtree(table)
