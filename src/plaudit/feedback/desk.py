"""The one door to the people's room. It never sees HTTP; its callers never see SQL."""

from __future__ import annotations

from plaudit.feedback.accounts import Accounts
from plaudit.feedback.office import Office
from plaudit.feedback.planning import Planning
from plaudit.feedback.room import now
from plaudit.feedback.submissions import Submissions

__all__ = ["Desk", "now"]


class Desk(Accounts, Planning, Submissions, Office):
    """A project at work: who is there (accounts), what is to be done (planning), the work itself (submissions, with the
    queue and demonstrations), and what has come of it (office). Threads may share one.

    `account` is always an account's id, `by` the one who acts (None: the command line); `annotator` is a handle.
    """
