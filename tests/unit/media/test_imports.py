"""What the verifier's half of the format pulls into a process."""

import subprocess
import sys

_ALLOWED = {
    "_cffi_backend",
    "_openssl",
    "cryptography",
    "media",
    "rfc8785",
    "securesystemslib",
    "tuf",
}
_SCRIPT = """
import sys
before = set(sys.modules)
import media.bagit, media.custody, media.dsse, media.openpgp, media.people, media.release, media.volume
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print("\\n".join(sorted(root for root in roots if root not in sys.stdlib_module_names)))
"""


def test_reading_a_medium_needs_the_standard_library_and_a_short_list() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) <= _ALLOWED


def test_importing_the_package_imports_nothing_of_it() -> None:
    script = "import sys, media; print(*[name for name in sys.modules if name.startswith('media.')])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_private_keys_are_imported_by_nothing_else() -> None:
    script = _SCRIPT.replace(
        "print(", "assert 'gnupg' not in sys.modules and 'media.signers' not in sys.modules; print("
    )

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
