"""What root does before the nightly run makes a key: a token's folder of a release of before hands its group on.

Entry point: ``python -I -m appliance.keys.handingon``. The run itself may change no groups, and no unit but by such a
line may set the bit by which a folder gives what is made in it to its own group; see `tokenfolder.hand_on`. Without a
token that is kept as files it does nothing, and what it cannot do the run says by the key that it does not make.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance import config as configuration
from appliance.config import Config
from appliance.keys.opening import shared_of
from appliance.keys.tokenfolder import hand_on
from media.errors import SealiftError


def prepare(config: Config) -> int:
    """Return how many folders hand their group on that did not before.

    Raises:
        OSError: The folder cannot be looked at, or changed.
        KeyError: There is no such group.
    """
    if config.keys.provider != "token" or (shared := shared_of(config)) is None:
        return 0
    return hand_on(*shared, config.keys.token)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="sealift-key-folder")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    try:
        prepare(configuration.load(options.config))
    except SealiftError as error:
        sys.stderr.write(f"{error.what} ({error.why}) {error.fix}\n")
        return error.exit_code
    except (OSError, KeyError) as error:
        said = error.strerror if isinstance(error, OSError) else "there is no such group"
        sys.stderr.write(f"the token's folder does not hand its group on: {said}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
