import pytest

from bundler import leaks

# Put together here, so that no scanner of source code takes a test for a leak.
BODY = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"] * 3)
SECRETS = {
    "private key": "-----BEGIN " + "PRIVATE KEY-----\n" + BODY + "\n-----END PRIVATE KEY-----",
    "OpenPGP private key": "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----\n\n" + BODY,
    "AWS access key": "AKIA" + "Q3EGRT7VNHZ2XW4L",
    "AWS temporary key": "ASIA" + "Q3EGRT7VNHZ2XW4L",
    "Hugging Face token": "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "Slack token": "xoxb-" + "123456789012-abcdefghij",
    "PyPI token": "pypi-" + "AgE" + "Z1" * 30,
    "NVIDIA token": "nvapi-" + "Zz9_" * 12,
    "OpenAI key": "sk-" + "a1B2c3D4" * 6,
    "Sealift API key": "sl-" + "abcdefghij" + "-" + "A1b2_" * 8 + "xyz",
    "netrc password": "machine example.invalid login me password hunter22",
}


@pytest.mark.parametrize("what", SECRETS)
def test_a_credential_is_found_and_not_repeated(what: str) -> None:
    text = f"line one\nvalue: {SECRETS[what]}\n".replace("value: machine", "machine")

    found = list(leaks.secrets(text.encode()))

    assert [(leak.rule, leak.what, leak.line) for leak in found] == [("secret", what, 2)]


ONE_LINE = ["MC4CAQAwBQYDK2VwBCIEIHNd4rVv5kqGv3nJcZ8pW2yT6uQx9oLm1aBsDfEgHiJk"]
HEADERS = ["Proc-Type: 4,ENCRYPTED", "", *[BODY[:51]] * 2]


@pytest.mark.parametrize(
    ("lines", "end_of_line"),
    [*((ONE_LINE, end) for end in ("\n", "\r\n", "\\n", "\\r\\n")), (HEADERS, "\n"), (HEADERS, "\r\n")],
)
def test_a_private_key_is_found_however_its_lines_end(lines: list[str], end_of_line: str) -> None:
    text = end_of_line.join(["x = -----BEGIN " + "PRIVATE KEY-----", *lines, "-----END " + "PRIVATE KEY-----"])

    assert [(leak.what, leak.line) for leak in leaks.secrets(text.encode())] == [("private key", 1)]


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "IOSFODNN7EXAMPLE",
        '"-----BEGIN ' + 'PRIVATE KEY-----" in pem',
        "hf_token = None",
        "sk-learn and xoxo-hugs",
        "the api key of the user",
    ],
)
def test_words_about_secrets_are_no_secrets(text: str) -> None:
    assert list(leaks.secrets(text.encode())) == []


@pytest.mark.parametrize(
    "text",
    ["api_key = 'q8ZrT2nVx1LmYp4Kd7Wc3Hb6'", "https://user:" + "longpassword@host", 'Token: "Zk3pQ9vX2mT7rB4nL8wY"'],
)
def test_random_values_of_a_secrets_name_are_found_in_our_own_files(text: str) -> None:
    assert [leak.rule for leak in leaks.assigned_secrets(text.encode())] == ["secret"]


@pytest.mark.parametrize(
    "text", ["token = response.json()['token']", "password: aaaaaaaaaaaaaaaaaaaaaaaa", "api_key_id"]
)
def test_plain_code_about_secrets_is_left_alone(text: str) -> None:
    assert list(leaks.assigned_secrets(text.encode())) == []


@pytest.mark.parametrize("path", ["/home/" + "ann/x", "/Users/" + "Ann/x", "/root/" + ".cache/x"])
def test_paths_of_the_build_machine_are_found(path: str) -> None:
    assert [leak.rule for leak in leaks.build_paths(f"see {path}".encode())] == ["build-path"]


def test_paths_that_every_machine_has_are_left_alone() -> None:
    assert list(leaks.build_paths(b"/opt/sealift /root/sealift-first")) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SSN 123-45-6789", "social security number"),
        ("MRN: 00123456", "medical record number"),
        ("DOB 1970-01-02", "date of birth"),
        ("write to ann@example.org", "e-mail address"),
        ("call (212) 555-0123", "telephone number"),
    ],
)
def test_identifiers_of_people_are_found(text: str, what: str) -> None:
    assert what in [leak.what for leak in leaks.patient_data(text.encode())]


def test_ordinary_numbers_are_no_identifiers() -> None:
    assert list(leaks.patient_data(b"In 1969, 3 men; 2026-11-20; 000-00-0000; 12-345-678; sha256 0123456789")) == []
