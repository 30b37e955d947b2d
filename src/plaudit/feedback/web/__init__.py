"""The page on which people rank, write and review. It knows HTTP, and talks to the desk alone."""

from plaudit.feedback.web.app import create_app
from plaudit.feedback.web.sessions import Auth
from plaudit.feedback.web.speaking import Speaker

__all__ = ["Auth", "Speaker", "create_app"]
