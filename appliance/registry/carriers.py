"""Which stored release brings a version. Apart from the catalog, because engines ask it without a database."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.errors import StoreDamagedError, UnknownVersionError
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore, StoredRelease
from media import canonical, limits
from media.errors import MalformedError, SealiftError

SIMILARITY: Final = "similarity"
"""What a model of a release may be declared to judge."""


def models(stored: StoredRelease) -> Iterator[Mapping[str, Any]]:
    """Yield what a release says of each model that it brings (FMT-69).

    Raises:
        MalformedError: It says it in another shape, or of more models than a release may bring.
        StoreDamagedError, UnknownReleaseError: It does not read, or is not there.
    """
    untrusted = stored.contents().get("models")
    for model in canonical.array(untrusted, "release.json.models", most=limits.MODELS):
        yield canonical.mapping(model, "release.json.models")


def carrier(
    store: ContentStore, digest_prefix: str, *, serial: int | None = None
) -> tuple[StoredRelease, ModelDescriptor, tuple[str, ...]]:
    """Return the newest stored release that brings a version, its descriptor, and the task sets that came with it.

    What does not read hides nothing else: whoever signed a release must not keep what serves from starting again.

    Args:
        store: Where to look.
        digest_prefix: The version's digest, or its beginning.
        serial: Look at this release only.

    Raises:
        UnknownVersionError: The store holds none.
        StoreDamagedError, MalformedError, UnknownReleaseError: No release that reads brings it, and one does not read.
    """
    unreadable: SealiftError | None = None
    for stored in reversed(store.releases()):
        if serial not in {None, stored.serial}:
            continue
        for brought in described(stored):
            if isinstance(brought, SealiftError):
                unreadable = unreadable or brought
            elif brought.descriptor.model_digest.startswith(digest_prefix):
                return stored, brought.descriptor, brought.tasks
    if unreadable is not None:
        raise unreadable
    raise UnknownVersionError(
        what=f"no stored release brings version {digest_prefix[:12]}",
        why="the store was searched",
        fix="receive the release again from its medium; after a newer one, the sender brings it anew",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A version as a release brings it: all of its files are in that release.

    Attributes:
        path: Of the descriptor.
        tasks: Paths of the task sets that came with it.
    """

    path: str
    descriptor: ModelDescriptor
    tasks: tuple[str, ...]


def described(stored: StoredRelease) -> Iterator[Brought | SealiftError]:
    """Yield each version that a release brings whole, or why one, or all that is said, does not read."""
    try:
        for fields in models(stored):
            try:
                yield _brought(stored, fields)
            except SealiftError as error:
                yield error
    except SealiftError as error:
        yield error


def _brought(stored: StoredRelease, fields: Mapping[str, Any]) -> Brought:
    path = canonical.text(fields.get("descriptor"), "descriptor")
    descriptor = ModelDescriptor.from_bytes(stored.read(path))
    require_files(descriptor, stored)
    _texts(fields, "judges")  # of no use here; but what is said of a version has to read
    return Brought(path=path, descriptor=descriptor, tasks=_texts(fields, "evals"))


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    said = canonical.array(fields.get(name, []), f"release.json.models.{name}")
    return tuple(canonical.text(one, name) for one in said)


def require_files(descriptor: ModelDescriptor, stored: StoredRelease) -> None:
    """Return where a release holds every file that a descriptor names.

    Raises:
        StoreDamagedError: One is not there, or another.
    """
    named = [(file.path, file.sha256) for file in descriptor.files]
    for path, sha256 in (*named, (descriptor.template_path, descriptor.template_sha256)):
        file = stored.files.get(path)
        if file is None or file.sha256 != sha256:
            raise StoreDamagedError(
                what=f"release {stored.release} does not bring {descriptor.name} whole",
                why=f"its descriptor names {path}, which the release does not hold with that digest",
                fix="ask the sender for a release whose descriptors fit its files",
            )


def similarity_judge(store: ContentStore, *, but: str) -> ModelDescriptor | None:
    """Return the version that the newest release with one declares to judge how alike texts are, if any.

    Args:
        store: Where to look.
        but: The version under test, which never judges itself.

    Raises:
        MalformedError: What is declared makes no embeddings, or what is declared does not read.
        StoreDamagedError, UnknownReleaseError: What is declared is not here whole: another judge would judge otherwise.
    """
    for stored in reversed(store.releases()):
        for fields in _said(stored):
            judges = fields.get("judges", [])
            if not isinstance(judges, list) or SIMILARITY not in judges:
                continue
            descriptor = _brought(stored, fields).descriptor
            if descriptor.runtime.embedding is None:
                raise MalformedError(
                    what=f"{descriptor.name} is declared to judge similarity and makes no embeddings",
                    why="its profile has no runtime.embedding",
                    fix="ask the sender for the release again",
                )
            if descriptor.model_digest != but:
                return descriptor
    return None


def _said(stored: StoredRelease) -> Iterator[Mapping[str, Any]]:
    """Yield what a release says of each model; one whose word does not read declares nothing."""
    try:
        yield from models(stored)
    except SealiftError:
        return


def by_digest(stored: StoredRelease) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the digest of each model's descriptor, which is not read, with what is said of it; absent ones are none.

    Raises:
        MalformedError: It is said in another shape.
        StoreDamagedError, UnknownReleaseError: It does not read, or is not there.
    """
    for fields in models(stored):
        file = stored.files.get(canonical.text(fields.get("descriptor"), "descriptor"))
        if file is not None:
            yield file.sha256, fields


def pins(stored: StoredRelease, model_digest: str) -> Mapping[str, str]:
    """Return the digests that a release pins of a version's rendering and tokenizer (docs/format.md, PIN), if any.

    Raises:
        MalformedError: A pin is not a digest.
        StoreDamagedError: A descriptor is not what was signed.
    """
    for digest, fields in by_digest(stored):
        if digest == model_digest:
            found = canonical.mapping(fields.get("pins", {}), "release.json.models.pins")
            return {name: canonical.sha256_hex(value, f"pins.{name}") for name, value in found.items()}
    return {}
