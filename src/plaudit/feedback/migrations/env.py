"""Run by Alembic with the connection that the store gives it."""

from alembic import context

from plaudit.feedback.schema import Base

# The store has begun the transaction, and commits it: all of the migrations or none, in SQLite too.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
