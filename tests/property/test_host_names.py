"""Names that reach a supervisor, an installer or a packet filter: whatever text comes in, what goes on is harmless."""

import re

from hypothesis import given
from hypothesis import strategies as st

from appliance.config import parse
from appliance.errors import ConfigError, InstallError, UnitError
from appliance.install.environment_check import pins
from appliance.install.supervisor import require_unit_name


@given(st.text() | st.from_regex(r"sealift-[a-z@./ -]{0,40}\.service", fullmatch=True))
def test_a_unit_name_is_never_an_option_a_path_or_two_words(untrusted: str) -> None:
    try:
        name = require_unit_name(untrusted)
    except UnitError:
        return

    assert name.startswith("sealift")
    assert not re.search(r"[\s/\\;]|\.\.", name)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_a_requirements_file_pins_or_is_refused(untrusted: str) -> None:
    try:
        found = pins(untrusted.encode("utf-8", "surrogatepass"))
    except InstallError:
        return

    assert all(re.fullmatch(r"[a-z0-9-]+", name) and not version.startswith("-") for name, version in found.items())


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_reaches_the_packet_filter_is_an_address_and_a_port(untrusted: str) -> None:
    quoted = untrusted.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    for key in ("clients", "management", "egress", "addresses"):
        try:
            config = parse(f'site = "s"\n[network]\n{key} = ["{quoted}"]\n'.encode())
        except ConfigError:
            continue
        [value] = getattr(config.network, key)
        assert re.fullmatch(r"(?:(?:tcp|udp) )?[0-9a-f.:/]+(?: [0-9]+)?", value)
