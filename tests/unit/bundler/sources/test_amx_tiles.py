"""This machine's compiler writes all of a tile configuration before it is loaded, with what is included first."""

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

# As llama.cpp has it: a local configuration that nothing else looks at. What `rows` is comes in %esi or %rsi.
PROGRAM = """
#include <immintrin.h>
struct alignas(64) Config {
    unsigned char palette, start, rest[14];
    unsigned short columns[16];
    unsigned char rows[16];
};
void load(unsigned char palette, unsigned char rows) {
    Config config = {};
    config.palette = palette;
    config.rows[7] = rows;
    _tile_loadconfig(&config);
}
"""


def compiled(folder: Path, *before: str) -> str:
    source, made = folder / "load.cpp", folder / "load.s"
    source.write_text(PROGRAM)
    command = ["g++", "-O3", "-mamx-tile", "-mavx512bw", *before, "-S", str(source), "-o", str(made)]
    subprocess.run(command, check=True)
    return made.read_text()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_what_llama_cpp_writes_into_a_tile_configuration_is_not_left_out(tmp_path: Path) -> None:
    text = compiled(tmp_path, "-include", str(resources.files("bundler.sources") / "amx_tiles.h"))

    assert "ldtilecfg" in text
    assert re.search(r"%(?:sil|si|esi|rsi)\b", text), text


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_other_files_are_compiled_as_they_are(tmp_path: Path) -> None:
    source, made = tmp_path / "plain.cpp", tmp_path / "plain.s"
    source.write_text("int one() { return 1; }\n")
    header = str(resources.files("bundler.sources") / "amx_tiles.h")
    texts = []
    for before in ([], ["-include", header]):
        subprocess.run(["g++", "-O2", *before, "-S", str(source), "-o", str(made)], check=True)
        texts.append(made.read_text())

    assert texts[0] == texts[1]
