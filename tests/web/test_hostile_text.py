"""What a model says is shown, and does nothing."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.feedback.web.text import LONGEST_STYLED, brief, revealed, styled
from plaudit.types import Response
from web import project
from web.conftest import Serve, Visit

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "[click](javascript:window.pwned=1) [data](data:text/html;base64,PHNjcmlwdD4=) <javascript:alert(1)>",
    "![eye](https://tracker.example/p.png) ![x](javascript:alert(1))",
    "</textarea><script>window.pwned = 1</script>",
    "</article></form><form action='https://evil.example'><input name=rank-0>",
    "[a]: javascript:alert(1)\n\n[a] [b](vbscript:x) [c](//evil.example 'onmouseover=alert(1)')",
    "```html\n<script>window.pwned = 1</script>\n```",
    "<style>* { display: none }</style><svg onload=alert(1)>",
    "| a | b |\n|---|---|\n| <b onclick=x()>1</b> | `<i>` |",
    "{{ 7 * 7 }} {% raw %} ${7*7} &lt;script&gt;",
]
ALLOWED = {
    "p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "table", "thead", "tbody",
    "tr", "th", "td", "a", "span", "div",
}  # fmt: skip


def tags_of(html: str) -> set[str]:
    return set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", html))


@pytest.mark.parametrize("text", HOSTILE)
def test_only_harmless_tags_come_out(text: str) -> None:
    html = styled(text)
    assert tags_of(html) <= ALLOWED
    attributes = re.findall(r"<[a-z]+((?:\s+[\w-]+=\"[^\"]*\")*)\s*/?>", html)
    names = {name for found in attributes for name in re.findall(r"([\w-]+)=", re.sub(r'"[^"]*"', '""', found))}
    assert names <= {"href", "target", "rel", "class", "start"}
    assert not re.search(r'href="(?!https?:|mailto:)', html)


def test_links_tell_nobody_where_one_came_from() -> None:
    html = styled("[a](https://example.org) <https://example.com>")
    assert html.count('rel="noopener noreferrer nofollow"') == html.count("<a ") == 2


def test_images_are_named_and_not_loaded() -> None:
    html = styled("![a cat](https://tracker.example/cat.png)")
    assert "<img" not in html
    assert "image: a cat (https://tracker.example/cat.png)" in html


def test_a_response_gives_the_page_no_heading() -> None:
    assert styled("# Big\n\nBig too\n===") == '<p class="heading h1">Big</p>\n<p class="heading h1">Big too</p>\n'


def test_what_hides_is_shown() -> None:
    assert revealed("a\u202eb\u200bc\x07d\u2066\ufeff") == "a⟨U+202E⟩b⟨U+200B⟩c␇d⟨U+2066⟩⟨U+FEFF⟩"
    family = "\U0001f468\u200d\U0001f469"
    assert revealed(f"{family}\u06dd\t\n") == f"{family}\u06dd\t\n"
    assert revealed("a\r\nb\rc") == "a\nb\nc"
    assert revealed("\x7f\x85") == "⟨U+007F⟩⟨U+0085⟩"


def test_code_is_coloured_and_stays_as_it_is() -> None:
    html = styled("```python\ndef f():\n    return '<b>'\n```")
    assert 'class="c-k"' in html
    assert re.sub(r"<[^>]+>", "", html).replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").strip() == (
        "def f():\n    return '<b>'"
    )


HUGE = [
    "x" * 1_000_000,
    "*" * 20_000,
    "[" * 20_000,
    "> " * 10_000,
    "`" * 19_999,
    "![" * 10_000,
    "- " * 10_000,
    "|" * 20_000,
    "*a_ " * 5_000,
    "<" * 20_000,
    "a\n" * 10_000,
    "[a](" * 5_000,
]


@pytest.mark.parametrize("text", HUGE, ids=lambda text: text[:4])
def test_nothing_keeps_the_server_busy(text: str) -> None:
    began = time.process_time()
    html = styled(text)
    assert tags_of(html) <= ALLOWED
    assert time.process_time() - began < 10  # a quadratic parser takes minutes


def test_a_huge_text_is_shown_whole_and_plain() -> None:
    html = styled("*a* " * LONGEST_STYLED)
    assert html.startswith('<p class="plain">*a* ')
    assert len(html) > 4 * LONGEST_STYLED


@given(st.text(max_size=300))
def test_any_text_gives_harmless_html(text: str) -> None:
    html = styled(text)
    assert tags_of(html) <= ALLOWED
    assert "\u202e" not in html
    assert "\n" not in brief(text)


def test_hostile_responses_in_a_browser(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=0)
    rtl = "\u0645\u0631\u062d\u0628\u0627 hello \u202egnp.exe"
    responses = [Response(text=text) for text in [*HOSTILE[:7], rtl, "a\x00b\x07c\rd"]]
    site.desk.add_tasks("ranking", [(project.asked("<script>window.pwned = 1</script> # Hi"), responses)])
    page = visit(site)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert page.evaluate("window.pwned") is None
    assert page.locator(".text script, .text img, .text form, .text style").count() == 0
    assert page.locator(".card").count() == 9
    assert page.locator("form").count() == 4  # the task, undo, and one in each window
    right_to_left = page.locator(".card[data-index='7'] .text")
    assert right_to_left.evaluate("one => getComputedStyle(one).direction") == "rtl"
    assert "⟨U+202E⟩" in right_to_left.inner_text()
    for digit in "123456789":
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="All done").wait_for()
    (one,) = site.desk.judgements()
    assert one.edited == {}  # what the browser made of the signs is no edit
    assert [url for url in asked if not url.startswith(site.url)] == []
