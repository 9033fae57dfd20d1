"""The step of a proof about what answered, where that is another's program: an attached engine (ADR 50).

Proven is what people approved by the version's digest: the environment, wheel by wheel, and in it the program with its
digest, or the module. The wheels are hashed in the store; a program is hashed again where it is installed, too.
"""

import re
from typing import Final

from appliance.actions.proof import Found
from appliance.config import Places
from appliance.errors import EngineLoadError, NotInstalledError, ProofError
from appliance.install.engines import environment_of
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.weights import HashedFile
from appliance.store.content import StoredRelease

_SHA256: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_WHEELS: Final = "data/wheels/"
_NAME: Final = "the engine's program"


def engine_of(places: Places, stored: StoredRelease, descriptor: ModelDescriptor) -> Found[None]:
    """Return what answered, after every wheel of its environment and its program were hashed again.

    Raises:
        ProofError: The release brings no program, a wheel or the environment's list is another or names none, or the
            program is another.
        SealiftError: A file of the store is not what the release lists.
    """
    settings = descriptor.runtime.attached
    if settings is None or not settings.is_content_addressed:
        raise ProofError(
            what="nobody can say what answered",
            why="the version is answered by a socket of the test stage that no release brought",
            fix="",
        )
    listed = next((path for path, file in stored.files.items() if file.sha256 == descriptor.environment), None)
    if listed is None:
        raise ProofError(what="the release has another engine environment", why=descriptor.environment[:12], fix="")
    stored.verify(listed)
    wheels = {file.sha256: path for path, file in stored.files.items() if path.startswith(_WHEELS)}
    wanted = _SHA256.findall(stored.read(listed).decode(errors="replace"))
    if not wanted:
        raise ProofError(what="the engine's environment names no wheel", why=descriptor.environment[:12], fix="")
    for sha256 in wanted:
        if sha256 not in wheels:
            raise ProofError(what="a wheel of the engine is not in the store", why=sha256[:12], fix="")
        stored.verify(wheels[sha256])
    shown = f"module {settings.module}"
    if settings.program:
        where = _hashed_where_installed(places, descriptor, settings.program, settings.program_sha256)
        shown = f"{settings.program} {settings.program_sha256}, {where}"
    detail = f"{shown}; environment {descriptor.environment[:12]}, {len(wanted)} wheels hashed again"
    data = {
        "program": settings.program,
        "program_sha256": settings.program_sha256,
        "module": settings.module,
        "environment": descriptor.environment,
        "wheels": {wheels[sha256].removeprefix(_WHEELS): sha256 for sha256 in wanted},
    }
    return Found(value=None, detail=detail, data=data)


def _hashed_where_installed(places: Places, descriptor: ModelDescriptor, program: str, sha256: str) -> str:
    try:
        folder = environment_of(places, descriptor)
    except NotInstalledError:
        return "not installed any more"
    try:
        file = HashedFile(folder / program, name=_NAME)
        try:
            file.require(sha256, name=_NAME)
        finally:
            file.close()
    except EngineLoadError as error:
        raise ProofError(what=error.what, why=error.why, fix="install the release again: `sealift install`") from error
    return "hashed again where it is installed"
