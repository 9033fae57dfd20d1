"""What an image is told besides its files, all of it from the signed index, so that equal volumes give equal images."""

import uuid
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is written into an image's own fields.

    Args:
        serial: Of the release.
        number: Of the volume.
        volume_id: Of the volume, from the index.
        at: The release's date, in seconds since 1970.
    """

    serial: int
    number: int
    volume_id: str
    at: int

    def label(self, most: int) -> str:
        """Return the label, shortened where the file system has only so many characters."""
        wanted = (f"SEALIFT_{self.serial}_{self.number}", f"SL{self.serial}_{self.number}", f"SEALIFT_{self.number}")
        return next(each for each in wanted if len(each) <= most)

    @property
    def uuid(self) -> uuid.UUID:
        """A UUID that follows from the volume's id."""
        return uuid.UUID(bytes=self._bytes[:16], version=5)

    @property
    def number32(self) -> int:
        """A 32-bit number that follows from the volume's id; never 0."""
        return int.from_bytes(self._bytes[16:20], "little") or 1

    @property
    def _bytes(self) -> bytes:
        return sha256(f"{self.volume_id} {self.serial}".encode()).digest()
