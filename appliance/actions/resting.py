"""What rests in a maintenance window, for who looks at engines and for who would start one again.

The job service starts none of these until the window ends (`appliance.install.windowjobs`); whoever asks systemd itself
has to look here first.
"""

from dataclasses import dataclass

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install.windowlines import is_spared
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.registry import windows
from appliance.registry.windows import Window
from media.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """A window that is open on this box, and where production stands meanwhile."""

    window: Window
    production: Production

    def keeps_down(self, digest12: str) -> bool:
        """Whether an engine of production rests, by the first twelve digits of its version's digest."""
        return not is_spared(self.production, self.window.line, digest12)

    def is_over(self, clock: Clock) -> bool:
        """Whether production should have come back by now."""
        return self.window.seconds_left(clock.now()) == 0

    @property
    def text(self) -> str:
        """Until when it rests, for what, and who said so."""
        window = self.window
        return f"until {window.until} at the latest: {window.purpose} of {window.model_digest[:12]}, by {window.person}"


def resting(config: Config, ledger: Ledger, production: Production | None = None) -> Resting | None:
    """Return what rests now; nothing where no window is open on this box.

    Args:
        config: The site file.
        ledger: Where windows are recorded.
        production: Where production stands; looked up where nobody says it.

    Raises:
        LedgerUnavailableError: It cannot be told whether one is open.
        NotPromotedError: The chain of promotions is broken.
    """
    window = windows.opened(ledger, node=config.database.node)
    if window is None:
        return None
    return Resting(window=window, production=production or PromoterFolder(config.at.promoter).production())
