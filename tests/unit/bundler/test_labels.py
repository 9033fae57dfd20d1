import io
import json
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import segno
import zxingcpp
from PIL import Image
from pypdf import PdfReader

from bundler.cli.main import main
from bundler.custodyform import form_sheet, paper_form, printable_form
from bundler.errors import NotEmptyError, SigningError
from bundler.labels import label_page, label_sheet, labels
from bundler.printable import code, save
from media.digest import file_sha256
from media.errors import UnreadableError
from tests.support.candidate import new_candidate
from tests.support.medium import SimulatedMedium, make_medium


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("m") / "m")


class Page(HTMLParser):
    """Collects what a browser would run, load, show and leave open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.shown = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in {"meta", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.shown += data


def require_self_contained(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "a", "form", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "xlink:href"}]
    assert "url(" not in text
    assert "@import" not in text
    assert text.count("://") == text.count("http://www.w3.org/2000/svg")
    assert "default-src 'none'" in text
    return page


def test_each_volume_has_a_label(medium: SimulatedMedium) -> None:
    found = labels(medium.work)
    page = require_self_contained(label_page(found))

    assert [each.number for each in found] == [1, 2]
    for each in found:
        assert f"Volume {each.number} of 2" in page.shown
        assert each.id in page.shown.replace(" ", "")
    assert "DEMO, not for production" in page.shown
    assert label_page(found).count("<svg") == 2


def test_seals_are_printed_or_left_to_write(medium: SimulatedMedium) -> None:
    first, second = labels(medium.work)
    text = label_page((replace(first, seals=("A-100", "A-101")), replace(second, seals=())))

    assert "A-100, A-101" in text
    assert text.count('class="blank"') == 3 + 4


def test_a_production_label_has_no_warning(medium: SimulatedMedium) -> None:
    first = labels(medium.work)[0]

    assert "not for production" not in label_page((replace(first, environment="production"),))


def test_a_label_bears_nothing_of_the_trust_sheet(medium: SimulatedMedium) -> None:
    text = label_page(labels(medium.work))

    for secret in (medium.code, file_sha256(medium.work.metadata / "1.root.json"), medium.fingerprint("alice")):
        assert secret[:8] not in text
        assert secret[:8].upper() not in text


def test_what_somebody_typed_is_no_markup(medium: SimulatedMedium) -> None:
    text = label_page((replace(labels(medium.work)[0], seals=("<script>alert(1)</script>",)),))

    require_self_contained(text)
    assert "&lt;script&gt;" in text


def test_the_qr_code_is_the_one_of_the_text(medium: SimulatedMedium) -> None:
    label = labels(medium.work)[0]
    drawing = code(label.scanned)

    assert label.scanned == f"SEALIFT:1:{label.release}:{label.serial}:1/2:{label.id}"
    width = segno.make(label.scanned, error="m", micro=False, boost_error=False).symbol_size(border=4)[0]
    assert f'viewBox="0 0 {width} {width}"' in drawing
    assert drawing == code(label.scanned) != code(label.scanned + "x")


def test_a_release_that_is_not_frozen_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="not ready"):
        labels(new_candidate(tmp_path / "w"))


def test_the_custody_form_is_printable_and_says_what_the_text_says(medium: SimulatedMedium) -> None:
    page = require_self_contained(printable_form(medium.volumes[0]))
    label = labels(medium.work)[0]

    assert f"1 of 2, id {label.id}" in page.shown
    assert f"1 of 2, id {label.id}" in paper_form(medium.volumes[0])
    assert page.shown.count("Signature") == 8
    assert label.scanned in page.shown
    assert medium.code[:8] not in page.shown


def test_a_page_is_not_written_over_another_file(tmp_path: Path) -> None:
    (tmp_path / "page.html").touch()

    with pytest.raises(NotEmptyError):
        save(tmp_path / "page.html", "x")
    with pytest.raises(UnreadableError, match="cannot be written"):
        save(tmp_path / "none" / "page.html", "x")


def test_the_commands_write_pages(medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["labels", medium.work.root], ["custody", "form", medium.volumes[1]]):
        with pytest.raises(SystemExit) as ended:
            main(["--json", *map(str, arguments), "--out", str(tmp_path / f"{arguments[0]}.html")])
        assert ended.value.code == 0

    assert json.loads(capsys.readouterr().out.partition("\n}\n")[0] + "}")["labels"][1]["number"] == 2
    for name in ("labels", "custody"):
        require_self_contained((tmp_path / f"{name}.html").read_text("utf-8"))


def scan(pdf: bytes, folder: Path) -> list[list[str]]:
    """Render each page as a printer would and return what a scanner reads on it."""
    if shutil.which("pdftoppm") is None:
        pytest.skip("poppler-utils is not installed")
    (folder / "sheet.pdf").write_bytes(pdf)
    subprocess.run(["pdftoppm", "-r", "150", "-gray", "-png", "sheet.pdf", "page"], cwd=folder, check=True)
    pages = sorted(folder.glob("page-*.png"))
    return [
        [
            each.text
            for each in zxingcpp.read_barcodes(Image.open(page), formats=zxingcpp.barcode_formats_from_str("QRCode"))
        ]
        for page in pages
    ]


def test_a_scanner_reads_each_label_of_the_printed_sheet(medium: SimulatedMedium, tmp_path: Path) -> None:
    found = labels(medium.work)

    assert scan(label_sheet(found), tmp_path) == [[each.scanned] for each in found]


def test_the_label_sheet_says_what_the_page_says_and_nothing_of_the_trust_sheet(medium: SimulatedMedium) -> None:
    data = label_sheet(labels(medium.work))
    shown = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)

    assert data == label_sheet(labels(medium.work))
    for each in labels(medium.work):
        assert f"Volume {each.number} of 2" in shown
        assert each.id in shown.replace(" ", "")
    for blank in ("Seals put on", "Return to", "seal numbers", "DEMO, not for production"):
        assert blank in shown
    assert medium.code[:8] not in shown
    assert medium.fingerprint("alice")[:8] not in shown


def test_the_custody_form_fits_one_sheet_and_scans_as_the_label(medium: SimulatedMedium, tmp_path: Path) -> None:
    assert scan(form_sheet(medium.volumes[1]), tmp_path) == [[labels(medium.work)[1].scanned]]


def test_the_commands_write_pdf_by_the_files_name(medium: SimulatedMedium, tmp_path: Path) -> None:
    for arguments in (["labels", medium.work.root], ["custody", "form", medium.volumes[1]]):
        with pytest.raises(SystemExit) as ended:
            main(["--json", *map(str, arguments), "--out", str(tmp_path / f"{arguments[0]}.pdf")])
        assert ended.value.code == 0
        assert (tmp_path / f"{arguments[0]}.pdf").read_bytes().startswith(b"%PDF-")
