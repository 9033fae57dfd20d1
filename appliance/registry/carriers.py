"""Which stored release brings a version. Apart from the catalog, because engines ask it without a database."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from appliance.errors import UnknownVersionError
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
        for fields, found in described(stored):
            if isinstance(found, SealiftError):
                unreadable = unreadable or found
            elif found.model_digest.startswith(digest_prefix):
                tasks = canonical.array(fields.get("evals", []), "release.json.models.evals")
                return stored, found, tuple(canonical.text(path, "evals") for path in tasks)
    if unreadable is not None:
        raise unreadable
    raise UnknownVersionError(
        what=f"no stored release brings version {digest_prefix[:12]}",
        why="the store was searched",
        fix="receive the release again from its medium; after a newer one, the sender brings it anew",
    )


def described(stored: StoredRelease) -> Iterator[tuple[Mapping[str, Any], ModelDescriptor | SealiftError]]:
    """Yield what is said of each model with its descriptor, or with why that, or all that is said, does not read."""
    try:
        for fields in models(stored):
            try:
                yield fields, ModelDescriptor.from_bytes(stored.read(canonical.text(fields.get("descriptor"), "path")))
            except SealiftError as error:
                yield fields, error
    except SealiftError as error:
        yield {}, error


def similarity_judge(store: ContentStore, *, but: str) -> ModelDescriptor | None:
    """Return the version that the newest release with one declares to judge how alike texts are, if any.

    Args:
        store: Where to look.
        but: The version under test, which never judges itself.

    Raises:
        MalformedError: What is declared makes no embeddings.
        StoreDamagedError: A descriptor is not what was signed.
    """
    for stored in reversed(store.releases()):
        for fields in models(stored):
            if SIMILARITY not in canonical.array(fields.get("judges", []), "release.json.models.judges"):
                continue
            descriptor = ModelDescriptor.from_bytes(stored.read(canonical.text(fields.get("descriptor"), "descriptor")))
            if descriptor.runtime.embedding is None:
                raise MalformedError(
                    what=f"{descriptor.name} is declared to judge similarity and makes no embeddings",
                    why="its profile has no runtime.embedding",
                    fix="ask the sender for the release again",
                )
            if descriptor.model_digest != but:
                return descriptor
    return None


def pins(stored: StoredRelease, model_digest: str) -> Mapping[str, str]:
    """Return the digests that a release pins of a version's rendering and tokenizer (docs/format.md, PIN), if any.

    Raises:
        MalformedError: A pin is not a digest.
        StoreDamagedError: A descriptor is not what was signed.
    """
    for fields in models(stored):
        if stored.files[canonical.text(fields.get("descriptor"), "descriptor")].sha256 == model_digest:
            found = canonical.mapping(fields.get("pins", {}), "release.json.models.pins")
            return {name: canonical.sha256_hex(value, f"pins.{name}") for name, value in found.items()}
    return {}
