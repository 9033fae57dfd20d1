"""Which certificate a caller showed: judged by the web server, told by it alone, recorded, and bound to its key.

nginx sets the header X-Sealift-Client on every request, so a caller cannot say it for itself; as with the caller's
address, it counts only on our Unix socket, and not on the page's. A certificate that names an API key opens the door
for that key alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.gateway.access import is_pages
from appliance.gateway.problems import Problem

_ENVIRON: Final = "HTTP_X_SEALIFT_CLIENT"
# nginx's $ssl_client_serial and $ssl_client_s_dn (RFC 2253) of what `sealift tls clients issue` makes.
_FORM: Final = re.compile(r"([0-9A-F]{1,40}) (?:UID=([A-Za-z2-7]{10}),)?CN=([a-z0-9][a-z0-9-]{0,62})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A caller's certificate: `serial` in lower-case hex as the ledger and the CRL have it; empty for none."""

    serial: str = ""
    name: str = ""
    key_id: str = ""

    def require_for(self, key_id: str) -> None:
        """Return when an API key may be used with this certificate.

        Raises:
            Problem: It names another key.
        """
        if self.key_id and self.key_id != key_id:
            raise Problem(403, "certificate_mismatch", "This certificate does not go with this API key.")


def presented(environ: Mapping[str, Any], *, is_needed: bool = False) -> Presented:
    """Return the certificate that the web server judged; one without a serial where there is none.

    Args:
        environ: The request.
        is_needed: Whether callers have to show one: the web server sees to that, and the page's socket lets nobody in.

    Raises:
        Problem: What the web server says is not of a certificate that this box issues, or one is needed and could not
            be shown.
    """
    if environ.get("REMOTE_ADDR"):
        return Presented()
    if is_pages(environ):
        if is_needed:
            raise Problem(
                403, "certificate_refused", "Callers need a certificate here; none can be shown on this socket."
            )
        return Presented()
    untrusted = str(environ.get(_ENVIRON) or "")
    if not untrusted:
        return Presented()
    found = _FORM.fullmatch(untrusted)
    if found is None:
        raise Problem(403, "certificate_refused", "This certificate is not one of this box.")
    serial = found[1].lower().lstrip("0")
    return Presented(serial=serial, name=found[3], key_id=found[2] or "")
