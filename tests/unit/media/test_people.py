"""Roots: who is named, and how signatures are counted by people."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # re-exported without __all__

from media import keys
from media.errors import BadSignatureError, MalformedError, SamePersonError, SealiftError, ThresholdError
from media.packets import Certificate
from media.people import Environment, People
from tests.support.sender import Sender


def test_a_root_names_its_people(sender: Sender) -> None:
    people = sender.people

    assert [person.id for person in people.people] == ["alice", "bob", "carol", "dora"]
    assert people.environment is Environment.DEMO
    assert people.thresholds == {"root": 2, "release": 2}
    alice = people.by_id("alice")
    assert alice.name == "Alice Example"
    assert alice.fingerprint == sender.fingerprints["alice", "release"]
    assert alice.certificate == sender.certificates["alice"]
    assert alice.keys == {use: (sender.fingerprints["alice", use].lower(),) for use in ("root", "release")}
    assert [person.id for person in people.with_role("custody")] == ["alice", "bob", "dora"]
    assert people.certificates() == tuple(sender.certificates[name] for name in ("alice", "bob", "carol"))


def test_people_are_found_by_key_and_fingerprint(sender: Sender) -> None:
    people = sender.people

    assert people.by_keyid(sender.fingerprints["bob", "root"].lower()).id == "bob"
    assert people.by_fingerprint(sender.fingerprints["carol", "release"]).id == "carol"
    with pytest.raises(BadSignatureError):
        people.by_keyid("00" * 20)
    with pytest.raises(BadSignatureError):
        people.by_id("mallory")
    for fingerprint in ("00" * 20, "", sender.fingerprints["bob", "root"]):
        with pytest.raises(BadSignatureError):
            people.by_fingerprint(fingerprint)


def _release(sender: Sender, *names: str) -> list[str]:
    return [sender.fingerprints[name, "release"] for name in names]


def test_two_people_meet_a_threshold_of_two(sender: Sender) -> None:
    found = sender.people.require_signers(_release(sender, "carol", "alice"), "release", 2)

    assert [person.id for person in found] == ["alice", "carol"]


def test_one_person_is_too_few(sender: Sender) -> None:
    for names, said in (([], "nobody"), (["alice"], "alice")):
        with pytest.raises(ThresholdError) as caught:
            sender.people.require_signers(_release(sender, *names), "release", 2)
        assert caught.value.why.endswith(f": {said}")


def test_one_person_twice_is_still_one(sender: Sender) -> None:
    with pytest.raises(SamePersonError) as caught:
        sender.people.require_signers(_release(sender, "alice", "alice"), "release", 2)

    assert caught.value.why == "expected 2 people, found 1: alice"


def test_a_threshold_below_one_is_never_met(sender: Sender) -> None:
    with pytest.raises(ThresholdError):
        sender.people.require_signers(_release(sender, "alice", "bob"), "release", 0)


def test_a_person_without_the_role_spoils_the_count(sender: Sender) -> None:
    with pytest.raises(BadSignatureError):
        sender.people.require_signers(_release(sender, "alice", "bob", "dora"), "release", 2)
    with pytest.raises(BadSignatureError):
        sender.people.require_signers([*_release(sender, "alice", "bob"), "AB" * 20], "release", 2)


def test_keys_count_only_for_their_use(sender: Sender) -> None:
    people = sender.people
    root = [sender.fingerprints[name, "root"].lower() for name in ("alice", "bob")]
    release = [sender.fingerprints[name, "release"].lower() for name in ("alice", "bob")]

    assert len(people.require_key_signers(root, "root", 2)) == 2
    assert len(people.require_key_signers(release, "release", 2)) == 2
    for keyids, role in ((root, "release"), (release, "root"), ([root[0], release[1]], "root")):
        with pytest.raises(BadSignatureError):
            people.require_key_signers(keyids, role, 2)


def _person(root: dict[str, Any], number: int) -> dict[str, Any]:
    person: dict[str, Any] = root["x-sealift-people"][number]
    return person


def _set(path: list[Any], value: Any) -> Any:
    def change(root: dict[str, Any]) -> None:
        at: Any = root
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


def _delete(path: list[Any]) -> Any:
    def change(root: dict[str, Any]) -> None:
        at: Any = root
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]

    return change


_FIRST: list[Any] = ["x-sealift-people", 0]


@pytest.mark.parametrize(
    "change",
    [
        _delete(["x-sealift-people"]),
        _delete(["x-sealift-environment"]),
        _delete(["keys"]),
        _delete(["roles"]),
        _delete(["roles", "timestamp"]),
        _set(["x-sealift-people"], []),
        _set(["x-sealift-people"], {}),
        _set(["x-sealift-environment"], "staging"),
        _set(["x-sealift-environment"], None),
        _delete([*_FIRST, "name"]),
        _set([*_FIRST, "note"], "x"),
        _set([*_FIRST, "id"], "Alice"),
        _set([*_FIRST, "id"], ""),
        _set([*_FIRST, "id"], 1),
        _set([*_FIRST, "id"], "bob"),
        _set([*_FIRST, "name"], "Bob  EXAMPLE"),
        _set([*_FIRST, "name"], "Al\u202eice"),
        _set([*_FIRST, "roles"], []),
        _set([*_FIRST, "roles"], ["root", "root", "release"]),
        _set([*_FIRST, "roles"], ["admin"]),
        _set([*_FIRST, "roles"], "root"),
        _set([*_FIRST, "keys"], {}),
        _set([*_FIRST, "keys", "release"], []),
        _set([*_FIRST, "keys", "release"], ["00" * 20]),
        _set([*_FIRST, "keys", "spare"], []),
        _set([*_FIRST, "openpgp"], None),
        _set([*_FIRST, "openpgp", "fingerprint"], "AB" * 20),
        _set([*_FIRST, "openpgp", "certificate"], ""),
        _set([*_FIRST, "openpgp", "certificate"], "!!!!"),
        _set([*_FIRST, "openpgp", "certificate"], base64.b64encode(b"junk").decode()),
        _set(["roles", "root", "threshold"], 0),
        _set(["roles", "root", "threshold"], 3),
        _set(["roles", "root", "threshold"], "2"),
        _set(["roles", "root", "threshold"], True),
        _set(["roles", "snapshot", "threshold"], 1),
        _set(["roles", "root", "keyids"], []),
        _set(["roles", "root", "keyids"], [1, 2]),
        _set(["roles", "root", "keyids"], ["x", 2]),
        _set(["x-sealift-people", 3, "roles"], []),
        _set(["x-sealift-people", 2, "roles"], ["release", "root"]),
        _set(["roles", "root", "extra"], 1),
        _set(["roles", "mirrors"], {"keyids": [], "threshold": 1}),
        _set(["keys", "XX"], {}),
        _set(["keys", "ab" * 20], {}),
    ],
)
def test_a_root_with_a_wrong_field_is_malformed(sender: Sender, change: Any) -> None:
    root = sender.changed_root()
    change(root)

    with pytest.raises(MalformedError):
        People.from_root(root)


def test_a_key_that_two_people_list_has_no_owner(sender: Sender) -> None:
    root = sender.changed_root()
    _person(root, 0)["keys"]["root"] = list(_person(root, 1)["keys"]["root"])

    with pytest.raises(MalformedError):
        People.from_root(root)


def test_one_certificate_for_two_people_is_malformed(sender: Sender) -> None:
    root = sender.changed_root()
    _person(root, 0)["openpgp"] = _person(root, 1)["openpgp"]

    with pytest.raises(MalformedError):
        People.from_root(root)


def test_one_key_under_two_ids_is_malformed(sender: Sender) -> None:
    """Scenario: python-tuf counts key ids, so one person lists one key under two ids to meet the threshold alone."""
    root = sender.changed_root()
    own = _person(root, 0)["keys"]["root"][0]
    raw = root["keys"][own]["keyval"]["public"]["q"]
    twin = "cd" * 32
    root["keys"][twin] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw}}
    _person(root, 0)["keys"]["root"].append(twin)
    root["roles"]["root"]["keyids"].append(twin)

    with pytest.raises(MalformedError, match="person alice") as caught:
        People.from_root(root)

    assert caught.value.why == "one key is listed under two ids"


def test_one_key_in_two_forms_for_two_people_is_malformed(sender: Sender) -> None:
    root = sender.changed_root()
    raw = root["keys"][_person(root, 0)["keys"]["root"][0]]["keyval"]["public"]["q"]
    twin = "cd" * 32
    root["keys"][twin] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw}}
    _person(root, 1)["keys"]["root"].append(twin)
    root["roles"]["root"]["keyids"].append(twin)

    with pytest.raises(MalformedError) as caught:
        People.from_root(root)

    assert caught.value.why == "alice and bob share a key"


def test_a_key_inside_somebody_s_certificate_is_not_another_s_key(sender: Sender) -> None:
    root = sender.changed_root()
    point = bytes.fromhex(root["keys"][_person(root, 0)["keys"]["root"][0]]["keyval"]["public"]["q"])
    certificate = sender.certificates["dora"]
    at = certificate.index(b"\x01\x07\x40") + 3
    copied = certificate[:at] + point + certificate[at + 32 :]
    _person(root, 3)["openpgp"] = {
        "certificate": base64.b64encode(copied).decode(),
        "fingerprint": Certificate.from_bytes(copied).fingerprint,
    }

    with pytest.raises(MalformedError) as caught:
        People.from_root(root)

    assert caught.value.why == "alice and dora share a key"


def test_a_key_nobody_owns_is_malformed(sender: Sender) -> None:
    root = sender.changed_root()
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    root["keys"]["cd" * 32] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw}}

    with pytest.raises(MalformedError) as caught:
        People.from_root(root)

    assert caught.value.why == "a key has no owner"


def test_a_role_of_tuf_holds_exactly_the_keys_of_the_people_with_it(sender: Sender) -> None:
    for change in (
        lambda root: root["roles"]["targets"]["keyids"].pop(),
        lambda root: root["roles"]["targets"]["keyids"].append(_person(root, 3)["keys"]["release"][0]),
        lambda root: root["roles"]["targets"]["keyids"].append(root["roles"]["targets"]["keyids"][0]),
        lambda root: _person(root, 2).update(roles=["custody"]),
    ):
        root = sender.changed_root()
        change(root)

        with pytest.raises(MalformedError):
            People.from_root(root)


def test_a_person_who_signs_no_release_may_have_no_certificate(sender: Sender) -> None:
    root = sender.changed_root()
    dora = _person(root, 3)
    del root["keys"][dora["keys"]["release"][0]]
    dora.update(openpgp=None, keys={})

    people = People.from_root(root)

    assert people.by_id("dora").certificate == b""
    with pytest.raises(BadSignatureError):
        people.by_fingerprint("")


def test_a_root_of_one_person_with_a_threshold_of_one_is_read(sender: Sender) -> None:
    root = sender.changed_root()
    alice = _person(root, 0)
    own = {use: list(alice["keys"][use]) for use in ("root", "release")}
    root["x-sealift-people"] = [alice]
    root["keys"] = {keyid: root["keys"][keyid] for listed in own.values() for keyid in listed}
    root["roles"] = {
        name: {"keyids": own["root" if name == "root" else "release"], "threshold": 1} for name in root["roles"]
    }

    assert [person.id for person in People.from_root(root).people] == ["alice"]


def test_a_certificate_has_one_spelling_in_base64(sender: Sender) -> None:
    root = sender.changed_root()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    person = next(each for each in root["x-sealift-people"] if each["openpgp"]["certificate"].endswith("="))
    encoded = person["openpgp"]["certificate"]
    at = len(encoded.rstrip("=")) - 1
    respelt = encoded[:at] + alphabet[alphabet.index(encoded[at]) + 1] + encoded[at + 1 :]
    assert base64.b64decode(respelt) == base64.b64decode(encoded)
    person["openpgp"]["certificate"] = respelt

    with pytest.raises(MalformedError):
        People.from_root(root)


def test_a_root_that_is_no_object_is_malformed() -> None:
    with pytest.raises(MalformedError):
        People.from_root({})


def _as_json(key: SSlibKey) -> dict[str, Any]:
    return dict(key.to_dict())


def test_all_kinds_of_keys_are_read_and_named_by_their_material() -> None:
    made = [
        SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key()),
        SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key()),
        SSlibKey.from_crypto(ec.generate_private_key(ec.SECP384R1()).public_key()),
        SSlibKey.from_crypto(ec.generate_private_key(ec.SECP521R1()).public_key()),
        SSlibKey.from_crypto(mldsa.MLDSA65PrivateKey.generate().public_key()),
        SSlibKey.from_crypto(mldsa.MLDSA87PrivateKey.generate().public_key()),
    ]

    materials = [keys.load_key(key.keyid, _as_json(key))[1] for key in made]

    assert [material.partition(":")[0] for material in materials] == [
        "ed25519",
        "nistp256",
        "nistp384",
        "nistp521",
        "ml-dsa",
        "ml-dsa",
    ]
    assert len(set(materials)) == len(materials)
    for key, material in zip(made, materials, strict=True):
        assert keys.load_key("ef" * 32, _as_json(key))[1] == material


def test_weak_and_disguised_keys_are_malformed() -> None:
    small = _as_json(SSlibKey.from_crypto(rsa.generate_private_key(65537, 2048).public_key()))
    curve = _as_json(SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key()))
    odd_curve = ec.generate_private_key(ec.SECP256K1()).public_key()
    point = _as_json(SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key()))
    large = _as_json(SSlibKey.from_crypto(rsa.generate_private_key(65537, 3072).public_key()))
    small_lattice = _as_json(SSlibKey.from_crypto(mldsa.MLDSA44PrivateKey.generate().public_key()))
    openpgp_rsa = {"keytype": "rsa", "scheme": "pgp+rsa-pkcsv1.5"}
    odd_numbers: list[Any] = [
        {"e": "", "n": "ab" * 512},
        {"e": 65537, "n": "ab" * 512},
        {"e": "010001", "n": "ab" * 4096},
        {"e": "010001", "n": "AB" * 512},
        {"e": "010001"},
        "ab" * 512,
    ]
    spoilt: list[Any] = [
        small,
        small_lattice,
        {**curve, "scheme": "ecdsa-sha2-nistp384"},
        {**curve, "keytype": "rsa", "scheme": "rsassa-pss-sha256"},
        {**curve, "keytype": "ml-dsa", "scheme": "ml-dsa-65/1"},
        {**curve, "keyval": {"public": _pem(odd_curve)}},
        {**curve, "keyval": {"public": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}},
        {**curve, "keyval": {"public": 1}},
        {**curve, "keyval": {}},
        {**large, "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256"},
        {**large, "keytype": "ml-dsa", "scheme": "ml-dsa-65/1"},
        {**point, "keyval": {"public": point["keyval"]["public"].upper()}},
        {**point, "keyval": {"public": "ab"}},
        {**point, "keyval": {"public": point["keyval"]["public"], "private": "00"}},
        {**point, "scheme": "pgp+dsa-fips-180-2", "keytype": "dsa"},
        {**point, "scheme": ["ed25519"]},
        {**point, "x-note": "hello"},
        {"keytype": "eddsa", "scheme": "pgp+eddsa-ed25519", "keyval": {"public": {"q": "ab"}}},
        {"keytype": "rsa", "scheme": "pgp+rsa-pkcsv1.5", "keyval": {"public": {"e": "010001", "n": "ab" * 128}}},
        *({**openpgp_rsa, "keyval": {"public": public}} for public in odd_numbers),
        None,
        [],
    ]

    for each in spoilt:
        for keyid in ("ab" * 32, "ab" * 20):
            with pytest.raises(SealiftError):
                keys.load_key(keyid, each)


def test_a_key_is_named_by_its_fingerprint_or_by_a_digest() -> None:
    point = _as_json(SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key()))
    raw = point["keyval"]["public"]
    openpgp = {"keytype": "eddsa", "scheme": "pgp+eddsa-ed25519", "keyval": {"private": "", "public": {"q": raw}}}
    keys.load_key("ab" * 32, point)
    keys.load_key("ab" * 20, openpgp)

    for keyid, key in (("ab" * 20, point), ("ab" * 32, openpgp), ("AB" * 20, openpgp), ("ab" * 31, point), ("", point)):
        with pytest.raises(MalformedError):
            keys.load_key(keyid, key)


def _pem(key: ec.EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_an_openpgp_rsa_key_and_its_pem_are_one_material() -> None:
    numbers = rsa.generate_private_key(65537, 3072).public_key()
    as_pem = keys.load_key("ab" * 32, _as_json(SSlibKey.from_crypto(numbers)))[1]
    public = {"e": "010001", "n": f"{numbers.public_numbers().n:x}"}
    as_openpgp = {"keytype": "rsa", "scheme": "pgp+rsa-pkcsv1.5", "keyval": {"private": "", "public": public}}

    assert keys.load_key("ab" * 20, as_openpgp)[1] == as_pem
