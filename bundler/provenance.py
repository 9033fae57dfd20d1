"""The provenance statement: what went into the build, each input by digest, in SLSA's provenance v1 shape.

No host name, no user name and no path of the build machine is in it; who stands behind it is who signs it. The same
recipe, locks and cache give the same statement but for the time of the build; where SOURCE_DATE_EPOCH is set (as
reproducible-builds.org has it), that too. What another machine would make with other bytes is named.
"""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from bundler.artifact import Material
from bundler.recipe import Recipe
from media.clock import to_text

BUILD_TYPE: Final = "urn:sealift:build:1"
BUILDER: Final = "urn:sealift:bundler"
BUILT_HERE: Final = "built here"
"""How the note of a material begins whose result another machine would make with other bytes."""


def predicate(
    recipe: Recipe, materials: Sequence[Material], *, started: datetime, finished: datetime
) -> dict[str, Any]:
    """Return what the provenance statement says."""
    started, finished = _invoked(started, finished, os.environ)
    differing = sorted({material.uri for material in materials if material.note.startswith(BUILT_HERE)})
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "recipe_sha256": recipe.sha256,
                "release": recipe.release.name,
                "serial": recipe.release.serial,
                "sites": list(recipe.release.sites),
            },
            "internalParameters": {
                "source_date_epoch": recipe.source_date_epoch,
                "python": platform.python_version(),
                "machine": platform.machine(),
                "libc": " ".join(platform.libc_ver()),
                "reproducible": not differing,
                "not_reproducible": differing,
            },
            "resolvedDependencies": [_dependency(material) for material in _distinct(materials)],
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"sealift": own_version()}},
            "metadata": {"startedOn": to_text(started), "finishedOn": to_text(finished)},
        },
    }


def _dependency(material: Material) -> dict[str, Any]:
    digest = {"sha256": material.sha256, "gitCommit": material.git_commit}
    described: dict[str, Any] = {"uri": material.uri, "digest": {key: value for key, value in digest.items() if value}}
    if material.note:
        described["annotations"] = {"note": material.note}
    return described


def _distinct(materials: Sequence[Material]) -> list[Material]:
    return sorted(set(materials), key=lambda material: (material.uri, material.sha256, material.note))


def _invoked(started: datetime, finished: datetime, environment: Mapping[str, str]) -> tuple[datetime, datetime]:
    given = environment.get("SOURCE_DATE_EPOCH", "")
    if not re.fullmatch(r"[0-9]{1,11}", given):
        return started, finished
    moment = datetime.fromtimestamp(int(given), tz=UTC)
    return moment, moment


def own_version() -> str:
    """Return the version of Sealift that builds."""
    try:
        return version("sealift")
    except PackageNotFoundError:
        return "checkout"
