"""The first tables, and what keeps judgements as they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = ("judgements", "reviews", "audit")
SAID = ("prompt_id", "text", "source", "handle", "task_id", "judgement_id", "created", "supersedes")
"""Of a demonstration: what it is. Its standing may change."""


def upgrade() -> None:
    _make_tables()
    if op.get_context().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _guard_sqlite() -> None:
    rules = [(table, act) for table in APPEND_ONLY for act in ("UPDATE", "DELETE")]
    rules += [("demonstrations", f"UPDATE OF {', '.join(SAID)}"), ("demonstrations", "DELETE")]
    for table, act in rules:
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{act.split()[0].lower()} BEFORE {act} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; "
        "END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        f"CREATE TRIGGER demonstrations_refuse BEFORE UPDATE OF {', '.join(SAID)} OR DELETE ON demonstrations "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )


def _make_tables() -> None:
    op.create_table(
        "annotators",
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("handle", name=op.f("pk_annotators")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "guidelines",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("recalls", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_guidelines")),
    )
    op.create_table(
        "invites",
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_invites")),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("queued", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("qualified", sa.Boolean(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("drawn", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["handle"], ["annotators.handle"], name=op.f("fk_accounts_handle")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("handle", name=op.f("uq_accounts_handle")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
    )
    op.create_table(
        "exclusions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("ended", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["handle"], ["annotators.handle"], name=op.f("fk_exclusions_handle")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exclusions")),
    )
    op.create_index(op.f("ix_exclusions_handle"), "exclusions", ["handle"], unique=False)
    op.create_table(
        "responses",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("checkpoint", sa.String(), nullable=False),
        sa.Column("sampling", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_responses_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
    )
    op.create_index(op.f("ix_responses_prompt_id"), "responses", ["prompt_id"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("responses", sa.JSON(), nullable=False),
        sa.Column("draft", sa.String(), nullable=False),
        sa.Column("demonstration_id", sa.Integer(), nullable=True),
        sa.Column("author", sa.String(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("is_gold", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sensitive", sa.Boolean(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("since", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_tasks_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("key", name=op.f("uq_tasks_key")),
    )
    op.create_index(
        "ix_tasks_disputed",
        "tasks",
        ["place"],
        unique=False,
        sqlite_where=sa.text("state = 'disputed' AND taken < wanted"),
        postgresql_where=sa.text("state = 'disputed' AND taken < wanted"),
    )
    op.create_index(
        "ix_tasks_gold",
        "tasks",
        ["id"],
        unique=False,
        sqlite_where=sa.text("is_gold"),
        postgresql_where=sa.text("is_gold"),
    )
    op.create_index(
        "ix_tasks_open_place",
        "tasks",
        ["kind", "place"],
        unique=False,
        sqlite_where=sa.text("state = 'open' AND taken < wanted"),
        postgresql_where=sa.text("state = 'open' AND taken < wanted"),
    )
    op.create_index(
        "ix_tasks_open_score",
        "tasks",
        ["kind", "score", "place"],
        unique=False,
        sqlite_where=sa.text("state = 'open' AND taken < wanted"),
        postgresql_where=sa.text("state = 'open' AND taken < wanted"),
    )
    op.create_index("ix_tasks_tally", "tasks", ["round", "kind", "state", "wanted", "taken", "done"], unique=False)
    op.create_table(
        "api_tokens",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_tokens_account_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_api_tokens")),
    )
    op.create_index(op.f("ix_api_tokens_account_id"), "api_tokens", ["account_id"], unique=False)
    op.create_table(
        "demonstrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("judgement_id", sa.String(), nullable=True),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("supersedes", sa.Integer(), nullable=True),
        sa.Column("standing", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["handle"], ["annotators.handle"], name=op.f("fk_demonstrations_handle")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_demonstrations_prompt_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_demonstrations_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_demonstrations")),
    )
    op.create_index(op.f("ix_demonstrations_handle"), "demonstrations", ["handle"], unique=False)
    op.create_index(op.f("ix_demonstrations_standing"), "demonstrations", ["standing"], unique=False)
    op.create_index(op.f("ix_demonstrations_supersedes"), "demonstrations", ["supersedes"], unique=False)
    op.create_table(
        "hand_outs",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("takes_place", sa.Boolean(), nullable=False),
        sa.Column("display_order", sa.JSON(), nullable=False),
        sa.Column("guideline_version", sa.Integer(), nullable=False),
        sa.Column("issued", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("submitted", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("corrects", sa.String(), nullable=True),
        sa.Column("result", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_hand_outs_account_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_hand_outs_task_id")),
        sa.PrimaryKeyConstraint("ordinal", name=op.f("pk_hand_outs")),
        sa.UniqueConstraint("token", name=op.f("uq_hand_outs_token")),
    )
    op.create_index("ix_hand_outs_account_state", "hand_outs", ["account_id", "state", "ordinal"], unique=False)
    op.create_index("ix_hand_outs_account_task", "hand_outs", ["account_id", "task_id"], unique=False)
    op.create_index(op.f("ix_hand_outs_corrects"), "hand_outs", ["corrects"], unique=False)
    op.create_index(
        "ix_hand_outs_live",
        "hand_outs",
        ["expires"],
        unique=False,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index(op.f("ix_hand_outs_task_id"), "hand_outs", ["task_id"], unique=False)
    op.create_table(
        "judgements",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=True),
        sa.Column("prompt_id", sa.String(), nullable=False),
        sa.Column("responses", sa.JSON(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("objective", sa.String(), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("guideline_version", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("supersedes", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["handle"], ["annotators.handle"], name=op.f("fk_judgements_handle")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_judgements_prompt_id")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_judgements_task_id")),
        sa.PrimaryKeyConstraint("ordinal", name=op.f("pk_judgements")),
        sa.UniqueConstraint("id", name=op.f("uq_judgements_id")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_judgements_supersedes")),
    )
    op.create_index(op.f("ix_judgements_handle"), "judgements", ["handle"], unique=False)
    op.create_index("ix_judgements_purpose_round", "judgements", ["purpose", "round"], unique=False)
    op.create_index(op.f("ix_judgements_task_id"), "judgements", ["task_id"], unique=False)
    op.create_table(
        "rationales",
        sa.Column("judgement_id", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["judgement_id"], ["judgements.id"], name=op.f("fk_rationales_judgement_id")),
        sa.PrimaryKeyConstraint("judgement_id", name=op.f("pk_rationales")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("demonstration_id", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["demonstration_id"], ["demonstrations.id"], name=op.f("fk_reviews_demonstration_id")),
        sa.ForeignKeyConstraint(["handle"], ["annotators.handle"], name=op.f("fk_reviews_handle")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_demonstration_id"), "reviews", ["demonstration_id"], unique=False)
