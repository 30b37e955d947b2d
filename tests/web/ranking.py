"""What tests of the ranking page look at, and wait for."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from plaudit.types import Judgement
from web.staging import Site


def token(page: Page) -> str:
    return page.locator("#task").get_attribute("data-token") or ""


def wait_for_next(page: Page, before: str) -> None:
    expect(page.locator("#task")).not_to_have_attribute("data-token", before)


def shown(page: Page) -> list[int]:
    """Stored indices in the order of the cards."""
    return [int(card.get_attribute("data-index") or "") for card in page.locator(".card").all()]


def judged(site: Site) -> list[Judgement]:
    return site.desk.judgements()


def wait_until_judged(page: Page, site: Site, count: int) -> list[Judgement]:
    for _ in range(200):
        if len(found := judged(site)) >= count:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(judged(site))} judgements, not {count}")


UNSENT = "Object.entries(localStorage).filter(([k, v]) => k.startsWith('plaudit.unsent') && v !== '[]').length"


def settle(page: Page) -> None:
    """Until nothing is on its way."""
    for _ in range(200):
        if not page.evaluate(UNSENT):
            return
        page.wait_for_timeout(50)
    raise AssertionError("an answer has not arrived")
