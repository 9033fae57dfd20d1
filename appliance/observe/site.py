"""The site file of the units that observe."""

import os
from pathlib import Path

from appliance import config as configuration
from appliance.config import Config


def load_site() -> Config:
    """Return the site file that SEALIFT_CONFIG names.

    Raises:
        ConfigError: As `appliance.config.load`.
    """
    return configuration.load(Path(os.environ.get("SEALIFT_CONFIG", str(configuration.DEFAULT_PATH))))
