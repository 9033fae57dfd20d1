"""Joining, proposing, signing apart and merging: first roots and rotations, under both policies."""

import base64
import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.verify.metadata import TrustChain
from bundler.ceremony import rotate
from bundler.errors import CeremonyError, NotEmptyError, SigningError
from bundler.joining import Brought, Joining, join
from bundler.keyfile import KeyKind, make_key_file
from bundler.privatekeys import PrivateKeys
from bundler.proposal import Proposal, changes, propose
from bundler.rootsign import RootSignature, merge, sign_root, standing
from bundler.signatory import Ceremony
from media.canonical import dumps
from media.errors import MalformedError, SealiftError
from media.people import SignaturePolicy
from tests.support.gpg import GnuPG
from tests.support.members import WORDS, Known, Member, make_member

pytestmark = pytest.mark.slow

Members = dict[str, Member]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, gnupg: GnuPG) -> Members:
    folder = tmp_path_factory.mktemp("members")
    return {name: make_member(folder / name, gnupg, name) for name in ("alice", "bob", "carol", "dan")}


@pytest.fixture(scope="module")
def first(members: Members) -> Proposal:
    joinings = [members[name].joining for name in ("alice", "bob", "carol")]
    return propose(None, add=joinings, environment="production", policy=SignaturePolicy.HYBRID)


@pytest.fixture(scope="module")
def held(members: Members, first: Proposal, tmp_path_factory: pytest.TempPathFactory) -> Ceremony:
    return merged(first, members, ("alice", "carol"), tmp_path_factory.mktemp("held") / "c")


def signed(proposal: Proposal, member: Member, held: Ceremony | None = None, **which: Any) -> RootSignature:
    made = sign_root(proposal, member.id, held=held, home=member.keys("root", **which))
    return RootSignature.from_bytes(made.to_bytes())


def merged(
    proposal: Proposal, members: Members, names: Sequence[str], folder: Path, held: Ceremony | None = None
) -> Ceremony:
    return merge(proposal, [signed(proposal, members[name], held) for name in names], folder=folder, held=held)


def believed(ceremony: Ceremony) -> TrustChain:
    """Let a receiver judge the chain with its own code."""
    return TrustChain(tuple(raw.decode() for raw in ceremony.chain), ceremony.environment)


def test_a_first_root_is_signed_apart_and_believed_by_a_receiver(held: Ceremony) -> None:
    assert held.people.policy == "hybrid"
    assert [person.id for person in believed(held).people.people] == ["alice", "bob", "carol"]


def test_a_proposal_is_read_back_as_it_was_written(first: Proposal) -> None:
    read = Proposal.from_bytes(first.to_bytes())

    assert read.digest == first.digest
    assert changes(None, read.people)[-1] == "the signature policy is hybrid"
    assert "2 of 3 people sign a root" in changes(None, read.people)


def test_a_merge_names_who_misses(members: Members, first: Proposal, tmp_path: Path) -> None:
    with pytest.raises(SigningError) as refused:
        merged(first, members, ("bob",), tmp_path / "c")

    assert refused.value.why == "1 of 2 people of the new root signed; missing: alice, carol"
    assert not (tmp_path / "c").exists()


def test_one_person_twice_is_one_person(members: Members, first: Proposal, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="not signed by enough"):
        merged(first, members, ("bob", "bob"), tmp_path / "c")


def test_a_half_is_not_signed_and_does_not_count(members: Members, first: Proposal) -> None:
    for half in ((0,), (1,)):
        with pytest.raises(SigningError, match="root keys of Alice Example are not at hand"):
            signed(first, members["alice"], only=half)
    whole = signed(first, members["alice"])
    halves = [
        RootSignature(person="alice", version=1, signs=first.digest, signatures=(each,)) for each in whole.signatures
    ]
    for half_signature in halves:
        assert standing(first, [half_signature], None).signed["after"] == ()
    assert standing(first, halves, None).signed["after"] == ("alice",)


def test_what_is_about_another_proposal_or_another_person_is_refused(members: Members, first: Proposal) -> None:
    good = signed(first, members["alice"])
    other = propose(None, add=[members[name].joining for name in ("alice", "bob")], environment="demo")
    as_bob = RootSignature(person="bob", version=1, signs=first.digest, signatures=good.signatures)
    with pytest.raises(SigningError, match="alice"):
        standing(other, [good], None)
    with pytest.raises(SigningError, match="bob"):
        standing(first, [as_bob], None)


def test_a_changed_signature_is_refused_by_name(members: Members, first: Proposal) -> None:
    value = json.loads(signed(first, members["carol"]).to_bytes())
    last = value["signatures"][0]["sig"][-1]
    value["signatures"][0]["sig"] = value["signatures"][0]["sig"][:-1] + f"{int(last, 16) ^ 1:x}"

    with pytest.raises(SigningError, match="carol handed in"):
        standing(first, [RootSignature.from_bytes(dumps(value))], None)


def test_a_first_root_is_not_written_over_a_ceremony(members: Members, first: Proposal, held: Ceremony) -> None:
    with pytest.raises(NotEmptyError):
        merged(first, members, ("alice", "bob"), held.folder)
    with pytest.raises(CeremonyError, match="root 1"):
        merge(first, [], folder=held.folder, held=held)


def test_a_rotation_needs_people_of_the_old_root_and_of_the_new(
    members: Members, held: Ceremony, tmp_path: Path
) -> None:
    """Alice and Bob go, Dan comes: Carol alone is in both roots."""
    proposal = propose(held, add=[members["dan"].joining], remove=["bob", "alice"])
    said = changes(held.people, proposal.people)
    folder = copied(held, tmp_path)

    with pytest.raises(SigningError) as new_only:
        merged(proposal, members, ("carol", "dan"), folder, held)
    with pytest.raises(SigningError) as old_only:
        merged(proposal, members, ("alice", "carol"), folder, held)
    after = merged(proposal, members, ("alice", "carol", "dan"), folder, held)

    assert said == [
        "Alice Example (alice) may sign no longer",
        "Bob Example (bob) may sign no longer",
        "Dan Example (dan) may sign: root, release, custody, rehearsal",
    ]
    assert new_only.value.why == "1 of 2 people of the root before signed; missing: alice, bob"
    assert old_only.value.why == "1 of 2 people of the new root signed; missing: dan"
    assert [person.id for person in believed(after).people.people] == ["carol", "dan"]


def copied(held: Ceremony, folder: Path) -> Path:
    place = folder / "c"
    (place / "root").mkdir(parents=True)
    for version, raw in enumerate(held.chain, start=1):
        (place / "root" / f"{version}.root.json").write_bytes(raw)
    return place


def test_a_person_comes_back_with_other_keys_and_signs_with_both(
    members: Members, held: Ceremony, gnupg: GnuPG, tmp_path: Path
) -> None:
    again = make_member(tmp_path / "k", gnupg, "alice")
    proposal = propose(held, add=[again.joining], remove=["alice"])
    both = PrivateKeys(
        home=gnupg.home,
        places=(*members["alice"].keys("root").places, *again.keys("root").places),
        secrets=Known(),
    )

    own = sign_root(proposal, "alice", held=held, home=both)
    new_only = sign_root(proposal, "alice", held=held, home=again.keys("root"))

    assert changes(held.people, proposal.people) == [
        "Alice Example (alice) has other keys; the old ones count no longer"
    ]
    assert len(own.signatures) == 4
    found = standing(proposal, [own], held)
    assert (found.signed["before"], found.signed["after"]) == (("alice",), ("alice",))
    assert standing(proposal, [new_only], held).signed["before"] == ()
    after = merge(proposal, [own, signed(proposal, members["bob"], held)], folder=copied(held, tmp_path), held=held)
    assert believed(after).version == 2


def test_the_policy_is_lowered_by_whole_people_only(members: Members, held: Ceremony, tmp_path: Path) -> None:
    proposal = propose(held, policy=SignaturePolicy.SINGLE)
    whole = [signed(proposal, members[name], held) for name in ("alice", "bob")]
    classic = [
        RootSignature(
            person=each.person,
            version=each.version,
            signs=each.signs,
            signatures=tuple(one for one in each.signatures if not held.people.is_post_quantum(one.keyid)),
        )
        for each in whole
    ]

    with pytest.raises(SigningError) as refused:
        merge(proposal, classic, folder=copied(held, tmp_path), held=held)
    assert refused.value.why == "0 of 2 people of the root before signed; missing: alice, bob, carol"
    after = merge(proposal, whole, folder=tmp_path / "c", held=held)

    assert changes(held.people, proposal.people) == ["the signature policy is single, hybrid until now"]
    assert believed(after).people.policy == "single"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "a root that changes nothing"),
        ({"remove": ["zoe"]}, "names no person 'zoe'"),
        ({"remove": ["alice", "bob"]}, "a threshold of 2 of 1"),
        ({"thresholds": {"root": 1}}, "a threshold of 1 of 3"),
        ({"thresholds": {"release": 4}}, "a threshold of 4 of 3"),
    ],
)
def test_a_proposal_that_breaks_a_rule_is_refused(held: Ceremony, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(CeremonyError, match=said):
        propose(held, **facts)


def test_a_first_root_without_an_environment_or_with_a_person_twice_is_refused(members: Members) -> None:
    with pytest.raises(CeremonyError, match="environment"):
        propose(None, add=[members["alice"].joining, members["bob"].joining])
    with pytest.raises(CeremonyError, match="two people with the id"):
        propose(None, add=[members["alice"].joining] * 2, environment="demo")


def test_a_hybrid_root_without_a_second_half_is_refused(members: Members, gnupg: GnuPG, tmp_path: Path) -> None:
    classic = make_member(tmp_path, gnupg, "eve", kinds=(KeyKind.P384,))

    with pytest.raises(CeremonyError, match="eve"):
        propose(
            None,
            add=[members["alice"].joining, classic.joining],
            environment="demo",
            policy=SignaturePolicy.HYBRID,
        )


def test_two_people_with_one_key_are_refused(members: Members, gnupg: GnuPG, tmp_path: Path) -> None:
    """Mallory joins with Alice's key file, which somebody copied: each key has one owner."""
    files = members["alice"].files
    brought = Brought(
        home=gnupg.home,
        root=tuple(f"file:{file}" for file in files["root"]),
        release=tuple(f"file:{file}" for file in files["release"]),
        seal=gnupg.key("mallory <m@sender.example>"),
        keys=PrivateKeys(secrets=Known()),
    )
    mallory = Joining.from_bytes(join("mallory", "Mallory Moss", ("root", "release"), brought))

    with pytest.raises(CeremonyError, match="another person has"):
        propose(None, add=[members["alice"].joining, mallory], environment="demo")


def test_a_seal_key_that_another_has_is_refused(members: Members, gnupg: GnuPG, tmp_path: Path) -> None:
    make_key_file(tmp_path / "k.pem", KeyKind.ED25519, WORDS)
    brought = Brought(
        home=gnupg.home,
        release=(f"file:{tmp_path / 'k.pem'}",),
        seal=members["alice"].joining.fingerprint,
        keys=PrivateKeys(secrets=Known()),
    )
    mallory = Joining.from_bytes(join("mallory", "Mallory Moss", ("release",), brought))

    with pytest.raises(CeremonyError) as refused:
        propose(None, add=[members["alice"].joining, members["bob"].joining, mallory], environment="demo")
    assert "share a" in f"{refused.value.what} {refused.value.why}"


def test_a_joining_file_that_was_changed_is_refused(members: Members) -> None:
    whole = json.loads(members["bob"].joined)
    payload = json.loads(base64.b64decode(whole["payload"]))
    changed = []
    edits: list[Callable[[Any], object]] = [
        lambda value: value.update(id="alice"),
        lambda value: value.update(roles=["root"]),
        lambda value: value["keys"]["root"].pop(),
        lambda value: value["keys"]["root"].append(json.loads(json.dumps(value["keys"]["release"][0]))),
        lambda value: value.update(openpgp=None),
    ]
    for edit in edits:
        bent = copy.deepcopy(payload)
        edit(bent)
        changed.append(dumps({**whole, "payload": base64.b64encode(dumps(bent)).decode()}))
    changed.append(dumps({**whole, "signatures": whole["signatures"][:-1]}))
    changed.append(dumps({**whole, "payloadType": "application/vnd.in-toto+json"}))

    for data in changed:
        with pytest.raises((CeremonyError, MalformedError)):
            Joining.from_bytes(data)
    assert Joining.from_bytes(members["bob"].joined).name == "Bob Example"


def test_a_rotation_at_one_machine_is_for_openpgp_keys(held: Ceremony) -> None:
    with pytest.raises(CeremonyError, match="a rotation at one machine"):
        rotate(held.folder, remove=["bob"])


@pytest.mark.parametrize("size", [0, 1, 600_000])
def test_any_bytes_are_no_joining_file_no_proposal_and_no_signature(size: int) -> None:
    for read in (Joining.from_bytes, Proposal.from_bytes, RootSignature.from_bytes):
        with pytest.raises(SealiftError):
            read(b"{" * size)


def test_an_openpgp_key_joins_for_releases_and_seals_with_it(gnupg: GnuPG) -> None:
    root, release = (gnupg.key(f"olga {use} <o@sender.example>") for use in ("root", "release"))
    brought = Brought(home=gnupg.home, root=(f"gpg:{root}",), release=(f"gpg:{release}",), keys=PrivateKeys())

    olga = Joining.from_bytes(join("olga", "Olga Owl", ("root", "release"), brought))

    assert olga.fingerprint == release
    assert [key.keyid for key in olga.keys["root"]] == [root.lower()]


@pytest.mark.parametrize(
    ("roles", "root", "release", "said"),
    [
        (("root", "release"), ["gpg"], ["gpg"], "twice|one key"),
        (("root", "release"), [], ["gpg"], "the root keys of olga"),
        (("root",), ["gpg"], [], ""),
        (("release",), ["gpg"], ["gpg"], "twice|one key"),
        (("boss",), ["gpg"], [], "the roles"),
    ],
)
def test_keys_fit_the_roles_and_have_one_use(
    gnupg: GnuPG, roles: tuple[str, ...], root: list[str], release: list[str], said: str
) -> None:
    fingerprint = gnupg.key("one key <o@sender.example>")
    brought = Brought(
        home=gnupg.home,
        root=tuple(f"{each}:{fingerprint}" for each in root),
        release=tuple(f"{each}:{fingerprint}" for each in release),
        keys=PrivateKeys(),
    )
    if not said:
        assert Joining.from_bytes(join("olga", "Olga Owl", roles, brought)).certificate == b""
        return
    with pytest.raises((CeremonyError, MalformedError), match=said):
        join("olga", "Olga Owl", roles, brought)


def test_a_weak_openpgp_key_does_not_join(gnupg: GnuPG) -> None:
    ending = gnupg.key("ends <e@sender.example>", expires="10y")
    brought = Brought(home=gnupg.home, release=(f"gpg:{ending}",), keys=PrivateKeys())

    with pytest.raises(CeremonyError, match="may not be used"):
        join("olga", "Olga Owl", ("release",), brought)
