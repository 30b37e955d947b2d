"""Of a task's responses some may be shown, and some tasks come at random whatever the order."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("shown", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("tasks", sa.Column("reserved", sa.Boolean(), nullable=False, server_default=sa.false()))
    connection = op.get_bind()
    project = sa.table("project", sa.column("id", sa.Integer()), sa.column("settings", sa.JSON()))
    for row in connection.execute(sa.select(project)).all():
        settings = json.loads(row.settings) if isinstance(row.settings, str) else dict(row.settings)
        if settings.get("order") == "score":
            changed = settings | {"order": "active"}
            connection.execute(sa.update(project).where(project.c.id == row.id).values(settings=changed))


def downgrade() -> None:
    op.drop_column("tasks", "reserved")
    op.drop_column("tasks", "shown")
