"""Where the unit's entry point takes its site file and keys from: systemd's own contract, and nothing else."""

import os
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.config import Config
from appliance.keys.files import FileKeys

_KEYS: Final = ("api-key-pepper", "identity-hmac", "content-hmac", "phi-map")


def load_config() -> Config:
    """Return the site file that SEALIFT_CONFIG names.

    Raises:
        ConfigError: It is absent or wrong.
    """
    return configuration.load(Path(os.environ.get("SEALIFT_CONFIG", str(configuration.DEFAULT_PATH))))


def open_keys(config: Config) -> FileKeys:
    """Return the unit's credentials, or the key folder where no supervisor passed any."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return FileKeys(Path(folder) if folder else config.at.key_files)


def require_keys(config: Config) -> None:
    """Return when every key the gateway uses is there.

    Raises:
        KeyMissingError: One is not.
    """
    keys = open_keys(config)
    for name in _KEYS:
        keys.newest(name)
