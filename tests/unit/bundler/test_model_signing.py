import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.artifact import Artifact
from bundler.cache import Cache
from bundler.errors import RecipeError, SigningError, SourceError
from bundler.modelsigning import folder, signer
from bundler.modelsigning.envelope import Bundle
from bundler.modelsigning.manifest import Manifest
from bundler.recipe import Recipe
from bundler.sources import modelfiles, weights
from media.digest import file_sha256
from tests.support.model_signing import certified, key_pair, model_folder
from tests.support.payload import recipe_folder


def signed(model: Path, key: Path, *, shard_bytes: int = 0, chain: Path | None = None) -> Path:
    manifest = Manifest.of(model.name, folder.files_of(model), shard_bytes=shard_bytes)
    place = model.with_suffix(".sig")
    place.write_bytes(signer.sign(manifest.to_statement(), key, chain_file=chain).to_bytes())
    return place


def changed_statement(signature: Path, key: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Sign the statement again with one thing changed: the signature holds, the statement is wrong."""
    statement = json.loads(Bundle.from_bytes(signature.read_bytes()).payload)
    change(statement)
    signature.write_bytes(signer.sign(json.dumps(statement).encode(), key).to_bytes())
    return signature


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("shard_bytes", [0, 1, 4, 1000])
def test_what_a_key_signed_verifies_by_files_and_by_pieces(
    tmp_path: Path, curve: ec.EllipticCurve, shard_bytes: int
) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path, curve=curve)

    found = folder.verify(signed(model, private, shard_bytes=shard_bytes), folder.files_of(model), key=public)

    assert found.files == ("a-b.txt", "a.json", "empty.txt", "sub/w.bin")
    assert (found.method, found.left) == ("shards" if shard_bytes else "files", 0)


def test_the_same_model_and_key_give_the_same_signature(tmp_path: Path) -> None:
    model, (private, _) = model_folder(tmp_path / "m"), key_pair(tmp_path)

    assert signed(model, private).read_bytes() == signed(model, private).read_bytes()


@pytest.mark.parametrize("shard_bytes", [0, 4])
@pytest.mark.parametrize("content", [b"012345678X", b"X123456789", b"012345678", b"01234567890", b""])
def test_any_other_byte_or_length_is_refused_by_name(tmp_path: Path, shard_bytes: int, content: bytes) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)
    signature = signed(model, private, shard_bytes=shard_bytes)
    (model / "sub/w.bin").write_bytes(content)

    with pytest.raises(SourceError, match=r"sub/w\.bin is not what its publisher signed"):
        folder.verify(signature, folder.files_of(model), key=public)


def test_a_file_that_nobody_signed_is_refused_and_one_that_is_not_taken_is_counted(tmp_path: Path) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)
    signature, files = signed(model, private), folder.files_of(model)

    assert folder.verify(signature, {"a.json": files["a.json"]}, key=public).left == 3
    with pytest.raises(SourceError, match=r"new\.json is not what its publisher signed") as caught:
        folder.verify(signature, {"new.json": files["a.json"]}, key=public)
    assert caught.value.why == "the signature does not name it"


def test_another_key_is_refused_with_and_without_its_hint(tmp_path: Path) -> None:
    model, (private, _), (_, other) = model_folder(tmp_path / "m"), key_pair(tmp_path), key_pair(tmp_path, name="other")
    signature = signed(model, private)

    for hint in (True, False):
        bundle = json.loads(signature.read_text())
        if not hint:
            bundle["verificationMaterial"]["publicKey"]["hint"] = ""
        signature.write_text(json.dumps(bundle))
        with pytest.raises(SourceError, match="does not hold"):
            folder.verify(signature, folder.files_of(model), key=other)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda s: s.update(subject=[]),
        lambda s: s.update(subject=[*s["subject"], *s["subject"]]),
        lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
        lambda s: s["predicate"].update(resources=[]),
        lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
        lambda s: s["predicate"]["resources"].reverse(),
        lambda s: s["predicate"]["resources"][0].update(algorithm="blake2b"),
        lambda s: s["predicate"]["resources"][0].update(name="../a.json"),
        lambda s: s["predicate"]["resources"][0].update(name="/a.json"),
        lambda s: s["predicate"]["resources"][0].update(name="sub/./a.json"),
        lambda s: s["predicate"]["resources"][0].update(digest="00"),
        lambda s: s["predicate"]["serialization"].update(method="lines"),
        lambda s: s["predicate"]["serialization"].update(hash_type="blake3"),
        lambda s: s["predicate"]["serialization"].update(method="shards", shard_size=4),
        lambda s: s["predicate"]["serialization"].update(method="shards", shard_size=0.5),
        lambda s: s.pop("predicate"),
    ],
)
def test_a_statement_that_breaks_a_rule_is_refused_though_its_signature_holds(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)
    signature = changed_statement(signed(model, private), private, change)

    with pytest.raises(SourceError, match="malformed"):
        folder.verify(signature, folder.files_of(model), key=public)


@pytest.mark.parametrize("name", ["sub/w.bin:0:5", "sub/w.bin:1:4", "sub/w.bin:4:4", "sub/w.bin", "sub/w.bin:00:4"])
def test_pieces_that_overlap_or_leave_a_gap_are_refused(tmp_path: Path, name: str) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)

    def change(statement: dict[str, Any]) -> None:
        next(each for each in statement["predicate"]["resources"] if each["name"] == "sub/w.bin:0:4")["name"] = name

    signature = changed_statement(signed(model, private, shard_bytes=4), private, change)

    with pytest.raises(SourceError, match="malformed"):
        folder.verify(signature, folder.files_of(model), key=public)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(mediaType="application/json"),
        lambda b: b.pop("verificationMaterial"),
        lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
        lambda b: b["dsseEnvelope"].update(payload="a_b-"),
        lambda b: b["dsseEnvelope"].update(signatures=[]),
        lambda b: b["dsseEnvelope"].update(signatures=b["dsseEnvelope"]["signatures"] * 2),
        lambda b: b["dsseEnvelope"]["signatures"][0].update(sig=base64.b64encode(b"no signature").decode()),
        lambda b: b["verificationMaterial"].update(certificate={"rawBytes": "AAAA"}),
        lambda b: b["verificationMaterial"].update(tlogEntries=[{}]),
    ],
)
def test_a_bundle_that_is_not_one_signature_by_key_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    model, (private, public) = model_folder(tmp_path / "m"), key_pair(tmp_path)
    signature = signed(model, private)
    bundle = json.loads(signature.read_text())
    change(bundle)
    signature.write_text(json.dumps(bundle))

    with pytest.raises(SourceError, match="model signature"):
        folder.verify(signature, folder.files_of(model), key=public)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_give_our_error_or_a_bundle(untrusted: bytes) -> None:
    for read in (Bundle.from_bytes, Manifest.from_statement):
        with pytest.raises(SourceError):
            read(untrusted)


@settings(max_examples=60 if settings.get_current_profile_name() == "dev" else 600, deadline=None)
@given(data=st.data())
def test_no_change_of_one_bit_changes_what_was_verified(data: st.DataObject, tmp_path_factory: Any) -> None:
    """A flip is refused, or lies in a field that says nothing (an empty key id, a name that no rule reads)."""
    base = tmp_path_factory.getbasetemp() / "flips"
    if not base.exists():
        private, _ = key_pair(base)
        signed(model_folder(base / "m"), private)
    files, public = folder.files_of(base / "m"), base / "key.pub"
    raw = bytearray((base / "m.sig").read_bytes())
    right = folder.verify(base / "m.sig", files, key=public)

    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (base / "flipped.sig").write_bytes(raw)

    try:
        found = folder.verify(base / "flipped.sig", files, key=public)
    except SourceError:
        return
    assert replace(found, signature_sha256=right.signature_sha256) == right


def test_a_certificate_is_taken_that_leads_to_a_named_one_or_is_named(tmp_path: Path) -> None:
    model, (private, chain, authority) = model_folder(tmp_path / "m"), certified(tmp_path / "c")
    signature = signed(model, private, chain=chain)

    for trusted in (authority, chain):
        found = folder.verify(signature, folder.files_of(model), certificate=trusted)
        assert found.signatory.subject == "CN=Publisher"
        assert len(found.signatory.certificate_sha256) == 64


@pytest.mark.parametrize("path_length", [None, 1])
def test_a_certificate_may_lead_to_a_named_one_over_another(tmp_path: Path, path_length: int | None) -> None:
    model = model_folder(tmp_path / "m")
    private, chain, authority = certified(tmp_path / "c", between=True, path_length=path_length)

    found = folder.verify(signed(model, private, chain=chain), folder.files_of(model), certificate=authority)

    assert found.signatory.subject == "CN=Publisher"


@pytest.mark.parametrize(
    "trouble",
    [
        {"may_sign": False},
        {"is_authority": False},
        {"days": 0},
        {"between": True, "path_length": 0},
        {"stranger": True},
        {"key": True},
    ],
    ids=str,
)
def test_a_certificate_that_may_not_or_leads_nowhere_is_refused(tmp_path: Path, trouble: dict[str, Any]) -> None:
    model, odd = model_folder(tmp_path / "m"), {"key", "stranger"}
    private, chain, authority = certified(
        tmp_path / "c", **{name: value for name, value in trouble.items() if name not in odd}
    )
    signature = signed(model, private, chain=chain)
    if "stranger" in trouble:
        authority = certified(tmp_path / "d")[2]
    named = {"key": key_pair(tmp_path)[1]} if "key" in trouble else {"certificate": authority}

    with pytest.raises(SourceError, match="does not hold"):
        folder.verify(signature, folder.files_of(model), **named)


def test_a_signature_by_key_is_none_by_certificate(tmp_path: Path) -> None:
    model, (private, _) = model_folder(tmp_path / "m"), key_pair(tmp_path)

    with pytest.raises(SourceError, match="does not hold"):
        folder.verify(signed(model, private), folder.files_of(model), certificate=certified(tmp_path / "c")[2])


def test_a_private_key_that_others_read_or_that_is_no_curve_of_upstreams_signs_nothing(tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path)
    private.chmod(0o644)
    with pytest.raises(SigningError, match="open to others"):
        signer.sign(b"{}", private)

    odd, _ = key_pair(tmp_path, curve=ec.SECP256K1(), name="odd")
    with pytest.raises(SigningError, match="cannot sign models"):
        signer.sign(b"{}", odd)


def test_a_link_in_a_model_folder_is_refused_and_what_git_adds_is_left_out(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m")
    (model / ".gitattributes").write_text("*.bin filter=lfs\n")
    assert ".gitattributes" not in folder.files_of(model)

    (model / "link").symlink_to("a.json")
    with pytest.raises(SourceError, match="no regular file"):
        folder.files_of(model)


def signing_recipe(folder_: Path, more: str = 'key = "up.pub"') -> Recipe:
    path = recipe_folder(folder_)
    signing = f'model_signing = {{ signature = "up.sig", {more} }}, sha256'
    return Recipe.parse(path.read_text().replace("sha256", signing, 1).encode(), folder=folder_)


def gathered(recipe: Recipe, cache: Path) -> tuple[Artifact, ...]:
    def no_fetch(*_: object) -> None:
        raise AssertionError

    pinned = weights.obtain(recipe, recipe.models[0], cache=Cache(root=cache), fetch=no_fetch)
    return modelfiles.gather(recipe, recipe.models[0], pinned, environment="e" * 64).artifacts


def test_a_publishers_signature_is_verified_on_import_and_told_in_the_provenance_record(tmp_path: Path) -> None:
    recipe = signing_recipe(tmp_path)
    private, _ = key_pair(tmp_path, name="up")
    manifest = Manifest.of("upstream", {"tiny.gguf": tmp_path / "tiny.gguf", "README.md": tmp_path / "LICENSE"})
    (tmp_path / "up.sig").write_bytes(signer.sign(manifest.to_statement(), private).to_bytes())

    made = gathered(recipe, tmp_path / "cache")

    record = json.loads(next(each for each in made if each.target.endswith("provenance.json")).read())
    assert record["model_signing"]["files"] == ["tiny.gguf"]
    assert record["model_signing"]["signed_files_left"] == 1
    assert record["model_signing"]["signature_sha256"] == file_sha256(tmp_path / "up.sig")

    (tmp_path / "LICENSE").write_text("other")
    wrong = Manifest.of("upstream", {"tiny.gguf": tmp_path / "LICENSE"})
    (tmp_path / "up.sig").write_bytes(signer.sign(wrong.to_statement(), private).to_bytes())
    with pytest.raises(SourceError, match="not what its publisher signed"):
        gathered(recipe, tmp_path / "cache")


@pytest.mark.parametrize("more", ['key = "a", certificate = "b"', 'hint = "x"', 'key = "../up.pub"'])
def test_a_recipe_says_who_may_have_signed_in_one_way(tmp_path: Path, more: str) -> None:
    with pytest.raises(RecipeError, match="model_signing"):
        signing_recipe(tmp_path, more)
