"""A statement that waits for approvals, as one file of the promoter: what changes of the host and of the clock share.

The file is named by the statement's digest (HOST-2). What does not read, or has another name, approves nothing.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from appliance.promote.accepting import Acceptance
from appliance.promote.approvals import NOW, Approval, require_approved, still_counting
from appliance.promote.classes import CLASSES
from appliance.promote.people import SitePeople
from appliance.promote.presented import Presented
from media import canonical, durable
from media.errors import SealiftError

FORMAT: Final = 1
ASKER_KNOWN_FORMAT: Final = 2
"""Of a request whose asker the promoter knew by a password, and of no other."""
_MAX_BYTES: Final = 256 * 1024
_MOST_STATEMENT: Final = 16 * 1024
_MOST_APPROVALS: Final = 16


class Signable(Protocol):
    """What people sign."""

    @property
    def sha256(self) -> str:
        """The statement's own digest."""
        ...

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        ...


StatementT = TypeVar("StatementT", bound=Signable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvable(Generic[StatementT]):
    """A statement with the approvals it has.

    Attributes:
        asker_known: Whether the promoter knew by a password who asked; else that is a name that was typed.
    """

    NAME: ClassVar[str]

    statement: StatementT
    approvals: tuple[Approval, ...] = ()
    asker_known: bool = False

    @classmethod
    @abstractmethod
    def parse(cls, untrusted: bytes) -> StatementT:
        """Parse the statement's bytes.

        Raises:
            MalformedError, ApprovalRefusedError: It is no such statement.
        """

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers and the request's file."""
        return {
            "statement": self.statement.to_bytes().decode(),
            "statement_sha256": self.statement.sha256,
            "approvals": [approval.to_json() for approval in self.approvals],
            **({"asker_known": True} if self.asker_known else {}),
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave; no approval is verified by that.

        Raises:
            MalformedError: A field is missing or of another shape.
            ApprovalRefusedError: It is no such statement.
        """
        required = ("statement", "statement_sha256", "approvals")
        fields = canonical.exact_keys(untrusted, required, ("format", "asker_known"), what=cls.NAME)
        text = canonical.text(fields["statement"], "request.statement", most=_MOST_STATEMENT)
        approvals = canonical.array(fields["approvals"], "request.approvals", most=_MOST_APPROVALS)
        return cls(
            statement=cls.parse(text.encode()),
            approvals=tuple(Approval.from_json(one) for one in approvals),
            asker_known=canonical.boolean(fields.get("asker_known", False), "request.asker_known"),
        )

    @classmethod
    def stored(cls, folder: Path) -> Iterator[Self]:
        """Yield the requests in a folder; what does not read is left out."""
        for path in sorted(folder.glob("*.json")):
            try:
                with path.open("rb") as file:
                    content = file.read(_MAX_BYTES + 1)
                request = cls.from_json(canonical.loads_canonical(content, max_bytes=_MAX_BYTES))
            except (OSError, SealiftError):
                continue
            if request.statement.sha256 == path.stem:
                yield request

    def save(self, folder: Path) -> None:
        """Write the request's file durably."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        written = ASKER_KNOWN_FORMAT if self.asker_known else FORMAT
        content = canonical.dumps({"format": written, **self.to_json()})
        durable.replace(folder / f"{self.statement.sha256}.json", content, mode=0o644)

    def with_approval(self, presented: Presented, people: SitePeople, acceptance: Acceptance) -> tuple[Self, Approval]:
        """Return the request with one more person's approval, and that approval; who left does not count any more.

        Raises:
            ApprovalRefusedError: It is refused, or the person, key or fingerprint counts already.
            UnknownPersonError: The password or the one-time code is wrong.
        """
        approval, approvals = acceptance.take(self.statement.to_bytes(), presented, people, self.approvals)
        return replace(self, approvals=approvals), approval

    def require_approved(self, people: SitePeople, *, threshold: int, counting: Collection[str] = CLASSES) -> Self:
        """Return it when enough different people approved it, every signature verified again.

        Who left meanwhile, or approves no more, is left out of what is returned, and keeps nobody else's approval from
        counting.

        Raises:
            NotEnoughApprovalsError, ApprovalRefusedError: They did not.
        """
        kept = replace(self, approvals=still_counting(self.approvals, people))
        require_approved(
            self.statement.to_bytes(),
            kept.approvals,
            people,
            sequence=NOW,
            threshold=threshold,
            counting=counting,
        )
        return kept
