"""Who signs a production release without having built it builds it again first, or says why not.

Whoever signed the provenance says: I built this. Everyone else's signature would say no more than that the bytes have
not changed since. So their tool builds the release again from the recipe and shows every difference; to sign without,
they give a reason, which stands in the result.
"""

from bundler.attest import envelope_of
from bundler.errors import SigningError
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder
from media import dsse
from media.people import Environment, Role


def builders_of(work: WorkFolder, *, ceremony: Ceremony) -> tuple[str, ...]:
    """Return the ids of the people who signed the provenance: who say that they built it; nobody if there is none.

    Raises:
        MediaError, TrustError: The envelope does not verify under this root.
    """
    envelope = envelope_of(work.attest / "provenance.json")
    if not envelope.is_file():
        return ()
    statement = dsse.verify(envelope.read_bytes(), ceremony.people, Role.RELEASE)
    return tuple(person.id for person in statement.signers)


def require_second_look(
    work: WorkFolder, person_id: str, *, ceremony: Ceremony, is_rebuilt: bool, reason: str = ""
) -> str:
    """Pass when this person built the release, has just built it again, or says why not; return a hint or nothing.

    Args:
        work: The release, its statements signed.
        person_id: Who is about to sign.
        ceremony: Its root says whether this is production; elsewhere there is only a hint.
        is_rebuilt: It was built again on this machine a moment ago, and every difference is accepted.
        reason: Why it was not.

    Raises:
        SigningError: In production, none of these.
        MediaError, TrustError: The provenance does not verify.
    """
    builders = builders_of(work, ceremony=ceremony)
    if is_rebuilt or reason.strip() or person_id in builders:
        return ""
    names = " and ".join(person.name for person in ceremony.people.people if person.id in builders) or "someone"
    if ceremony.environment != Environment.PRODUCTION:
        return f"{names} built this: --rebuild RECIPE builds it again here and shows any difference"
    raise SigningError(
        what=f"{names} built this release, and it was not built again here",
        why="in production, whoever did not build a release signs after building it again from the recipe",
        fix="give --rebuild RECIPE; to sign without, say why: --not-rebuilt REASON",
    )
