"""By what the promoter knows who asks people for their approval.

Where who requests does not approve (`policy.request`), that rule is worth what is known of who requested. A name alone
is what somebody typed, so there the person's own password is needed, at every door; an automation key says who answers
for it by itself. The record of the request names which it was, as `class`; one without it holds a name that was typed.
"""

from typing import Final

from appliance.errors import UnknownPersonError

BY_PASSWORD: Final = "password"  # noqa: S105 - a class of authentication


def said(asker_class: str) -> dict[str, str]:
    """Return what a record says of it; nothing where the name was typed."""
    return {"class": asker_class} if asker_class else {}


def unknown(person: str) -> UnknownPersonError:
    """Return the refusal of a request in a name that nobody proved to be their own."""
    return UnknownPersonError(
        what=f"that {person[:64]} requests it is not proven",
        why="at this site who requests does not approve, so a name alone is not enough",
        fix="let that person give the password: --password-file PATH, or at the prompt",
    )
