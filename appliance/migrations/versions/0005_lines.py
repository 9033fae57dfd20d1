"""The line of production that a promotion or a rollout is of; null, as in every row from before, is the first."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
_WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.add_column("promotion", sa.Column("line", _WHOLE, nullable=True))
    op.add_column("rollout", sa.Column("line", _WHOLE, nullable=True))


def downgrade() -> None:
    op.drop_column("rollout", "line")
    op.drop_column("promotion", "line")
