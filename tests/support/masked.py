"""What the search for identifiers leaves of a text."""

from appliance.phi.detect import PatternDetector


def left_of(text: str, sign: str = "~") -> str:
    """Return what of a text is still there, a sign for each finding."""
    left, at = "", 0
    for one in PatternDetector().find(text):
        left, at = f"{left}{text[at : one.start]}{sign}", one.end
    return left + text[at:]
