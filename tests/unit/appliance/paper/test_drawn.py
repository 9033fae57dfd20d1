import subprocess
import sys

import pytest


@pytest.mark.slow  # processes of their own, a second and more each
def test_no_command_loads_what_draws_when_it_starts() -> None:
    script = (
        "import sys\nfrom appliance.cli.main import build\nbuild()\n"
        "print([name for name in ('fpdf', 'appliance.paper.page', 'appliance.paper.sheet') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
