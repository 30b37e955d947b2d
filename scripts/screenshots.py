"""Takes the pictures of the label page that docs/labelling.md shows: every page, on a laptop and on a phone.

    python scripts/screenshots.py [--out docs/screenshots] [--only rank]

Needs Chromium, and Pillow (which matplotlib brings). The project is the one of the tests; nothing of it is kept.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from plaudit.feedback.desk import Desk  # noqa: E402
from plaudit.feedback.records import Answer  # noqa: E402
from plaudit.feedback.web import Speaker  # noqa: E402
from plaudit.feedback.web.sessions import Signer  # noqa: E402
from web import project  # noqa: E402
from web.conftest import CHROMIUM, FLAGS  # noqa: E402
from web.staging import SECRET, Site, join, start  # noqa: E402

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
COLOURS = 200
ANSWERS = {
    "Explain to a child why the sky is blue.": "Sunlight holds every colour, and air scatters **blue** most of all.",
    "Name a river in Europe, and where it rises.": "The **Danube**: it rises in the Black Forest, in Germany.",
    "How long should rice stand after cooking?": "Ten minutes, off the heat and **covered**; then loosen it.",
}
Act = Callable[[Page], None]


def populate(desk: Desk) -> None:
    """Three people who mostly agree, some demonstrations, a contest."""
    rng = random.Random(7)
    desk.add_demonstration_tasks([(project.asked(prompt), "") for prompt in ANSWERS])
    (prompt, responses), *_ = project.questions(1)
    pair = [type(r)(text=r.text, checkpoint=name) for r, name in zip(responses, ("rlhf", "sft"), strict=False)]
    desk.add_tasks("contest", [(prompt, pair)])
    people = [join(desk, name) for name in ("Amina Diallo", "Jonas Berg", "Mei Tanaka")]
    for id in people:
        for _ in range(9):
            work = desk.next_task(id, ("ranking",))
            assert work is not None
            worth = {i: len(r.text) + rng.gauss(0, 60) for i, r in enumerate(work.responses)}
            order = sorted(worth, key=lambda i: -worth[i])
            ranking = (
                ((order[0],), (order[1], order[2]), (order[3],)) if rng.random() < 0.3 else tuple((i,) for i in order)
            )
            desk.submit(id, work.token, Answer(ranking=ranking, seconds=rng.uniform(14, 55)))
    work = desk.next_task(people[0], ("demonstration",))
    assert work is not None
    text = ANSWERS[work.prompt.messages[0].content]
    desk.submit(people[0], work.token, Answer(text=text, seconds=95.0))
    work = desk.next_task(people[1], ("contest",))
    assert work is not None
    desk.submit(people[1], work.token, Answer(ranking=((0,), (1,)), seconds=20.0))


def ranked(page: Page) -> None:
    for digit in "212":
        page.keyboard.press(digit)


def helped(page: Page) -> None:
    page.keyboard.press("?")


def nothing(page: Page) -> None:
    pass


OPEN: dict[str, tuple[str, Act]] = {
    "rank": ("/rank", ranked),
    "help": ("/rank", helped),
    "compare": ("/compare", nothing),
    "write": ("/write", nothing),
    "review": ("/review", nothing),
    "live": ("/live", nothing),
    "guidelines": ("/guidelines", nothing),
    "account": ("/account", nothing),
    "admin-overview": ("/admin", nothing),
    "admin-people": ("/admin/people", nothing),
    "admin-tasks": ("/admin/tasks", nothing),
    "admin-guidelines": ("/admin/guidelines", nothing),
    "admin-settings": ("/admin/settings", nothing),
    "admin-export": ("/admin/export", nothing),
    "admin-audit": ("/admin/audit", nothing),
}


def picture(browser: Browser, site: Site, path: str, act: Act, file: Path, *, phone: bool, scheme: str) -> None:
    context = browser.new_context(
        viewport=PHONE if phone else LAPTOP,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(site.url + path)
    act(page)
    page.wait_for_load_state("networkidle")
    # a picture taller than the screen would show what is stuck to its edge in the middle
    whole = path.startswith(("/admin", "/account", "/guidelines"))
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    shot.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        file, optimize=True
    )
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        desk = project.desk_of(Path(folder), tasks=12, overlap=3)
        populate(desk)
        site = start(desk, open=True, speaker=Speaker("nothing"))
        for name, (path, act) in OPEN.items():
            for size in ("laptop", "phone"):
                for scheme in ("light", "dark") if name == "rank" else ("light",):
                    file = given.out / f"{name}-{size}{'-dark' if scheme == 'dark' else ''}.png"
                    if given.only in name:
                        picture(browser, site, path, act, file, phone=size == "phone", scheme=scheme)
        site.stop()
        closed = start(desk, open=False)
        for name, path in (("sign-in", "/sign-in"), ("join", f"/join/{Signer(SECRET).invite('shown')}")):
            for size in ("laptop", "phone"):
                if given.only in name:
                    file = given.out / f"{name}-{size}.png"
                    picture(browser, closed, path, nothing, file, phone=size == "phone", scheme="light")
        closed.stop()
        browser.close()
    print(f"{sum(f.stat().st_size for f in given.out.glob('*.png')) // 1024} KiB in {given.out}")


if __name__ == "__main__":
    main()
