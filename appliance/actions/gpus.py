"""What the GPUs of this machine do now, as `sealift gpus` tells it; what metrics show is a few seconds older."""

import shutil
from typing import Final

from appliance.errors import PreflightError
from appliance.registry.gpus import Gpu, open_reader

_TOOL: Final = "nvidia-smi"
_FIX: Final = (
    "see `sealift doctor`; engines without a GPU run on the processor. AMD's cards are not read here: rocm-smi"
)


def gpus() -> tuple[Gpu, ...]:
    """Return every GPU that tells what it does.

    Raises:
        PreflightError: None is seen, with the reason as far as it is known.
    """
    if shutil.which(_TOOL) is None:
        raise PreflightError(what="no GPU is seen", why=f"{_TOOL}, the driver's own tool, is not here", fix=_FIX)
    found = tuple(open_reader()())
    if not found:
        raise PreflightError(what="no GPU is seen", why=f"{_TOOL} names none, or gives no figures of any", fix=_FIX)
    return found
