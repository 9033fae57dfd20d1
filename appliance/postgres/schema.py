"""A schema of the site's database that is on servers only: how it is made, told by its version, and dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from appliance.errors import DatabaseError
from appliance.postgres.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One schema with a version of its own, in its table `format`; it belongs to the role `sealift_owner`.

    Attributes:
        name: In the database.
        version: That this release makes and reads.
        package: Where the statements lie that make it.
        file: Their file.
        lacks: What a database without it has not, for the error that says so.
        absent: Why, where there is nothing of it.
        require_removable: Returns while the schema may be dropped.
    """

    name: str
    version: int
    package: str
    file: str
    lacks: str
    absent: str
    require_removable: Callable[[Session], None] = lambda _: None

    @property
    def up(self) -> str:
        """The statements that make it."""
        return files(self.package).joinpath(self.file).read_text("utf-8")

    @property
    def down(self) -> str:
        """The statement that drops it."""
        return f"DROP SCHEMA {self.name} CASCADE"

    def present(self, session: Session) -> int | None:
        """Return the version that is there, None where there is no schema.

        Raises:
            DatabaseError: It cannot be read.
        """
        if session.all(f"SELECT to_regclass('{self.name}.format')")[0][0] is None:
            return None
        return int(session.all(f"SELECT version FROM {self.name}.format")[0][0])  # noqa: S608 - a name of ours

    def require_present(self, session: Session) -> None:
        """Return when it is there and of this release.

        Raises:
            DatabaseError: It is absent, or another release's.
        """
        found = self.present(session)
        if found != self.version:
            raise DatabaseError(
                what=f"the database has no {self.lacks}",
                why=self.absent if found is None else f"they are of version {found}, this release's {self.version}",
                fix="`sealift db migrate up`"
                if found is None or found < self.version
                else "use the release that made them",
            )

    def install(self, session: Session) -> None:
        """Make it, as the owner.

        Raises:
            DatabaseError: It is there already, or a role it names is absent.
        """
        with session.transaction():
            session.all(self.up)

    def remove(self, session: Session) -> None:
        """Drop it with what it holds, as the owner.

        Raises:
            DatabaseError: The server is away or refuses, or it may not be dropped.
        """
        with session.transaction():
            self.require_removable(session)
            session.all(self.down)
