"""Run by Alembic with the connection that the store gives it."""

from alembic import context

from plaudit.feedback.schema import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
