"""Errors of the connected side. Fields, ranges and rules: `media.errors`."""

from media.errors import SealiftError


class BundlerError(SealiftError):
    """Root of the connected side's own errors."""


class RecipeError(BundlerError):
    """The recipe is wrong; `what` names the dotted key."""

    exit_code = 60
    code = "recipe"


class SourceError(BundlerError):
    """A source could not be had, or is not what the recipe pinned."""

    exit_code = 61
    code = "source"


class BuildError(BundlerError):
    """A wheel or a derived file could not be built."""

    exit_code = 62
    code = "build"


class ScanError(BundlerError):
    """The scan before sealing found what may not travel."""

    exit_code = 63
    code = "scan"


class RehearsalError(BundlerError):
    """The release candidate did not install or did not answer without a network."""

    exit_code = 110
    code = "rehearsal"


class SigningError(BundlerError):
    """A key could not sign, or may not."""

    exit_code = 111
    code = "signing"


class ReadBackError(BundlerError):
    """What was read back from the medium is not what was written."""

    exit_code = 112
    code = "read-back"


class NotEmptyError(BundlerError):
    """The target holds other data; nothing was written."""

    exit_code = 113
    code = "not-empty"


class CeremonyError(BundlerError):
    """The key ceremony was refused: weak key, duplicate person, missing witness."""

    exit_code = 114
    code = "ceremony"


class CapacityError(BundlerError):
    """The volumes cannot hold the release; `why` gives both numbers."""

    exit_code = 115
    code = "capacity"


class ProbeError(BundlerError):
    """A probe file is not one, or what a machine says of itself cannot be."""

    exit_code = 119
    code = "probe"
