"""Text of models and people, made safe to look at: Markdown without HTML, then sanitised; hidden signs are shown.

What a response says is what a person judges, so nothing in it may act on the page, load anything, hide, or turn the
text around it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

LONGEST_STYLED = 20_000
"""Characters. Beyond it a text is shown as plain text: no parser is given what could keep it busy."""
LONGEST_CODE = 10_000
LONGEST_KEPT = 10_000
"""What is longer is rendered anew each time, so that the memory of the cache stays bounded."""
JOINERS = "\u200c\u200d"
"""Invisible, and needed: scripts and emoji are joined by them."""
SIGNS_WITH_A_SHAPE = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")
"""Of Unicode's format class, and yet drawn: number signs of Arabic and Syriac."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")

TAGS = set(
    "p br hr strong em s code pre blockquote ul ol li table thead tbody tr th td a span div".split()  # noqa: SIM905
)
ATTRIBUTES = {
    "a": {"href", "target"},
    "ol": {"start"},
    "span": {"class"},
    "p": {"class"},
    "pre": {"class"},
    "td": {"class"},
    "th": {"class"},
}


def revealed(text: str) -> str:
    """The text with what cannot be seen made visible: control signs as pictures, the rest as ⟨U+202E⟩."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_revealed, text))


def _revealed(sign: str) -> str:
    if sign in "\n\t" or sign in JOINERS or sign in SIGNS_WITH_A_SHAPE or unicodedata.category(sign) not in HIDDEN:
        return sign
    code = ord(sign)
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def styled(text: str) -> Markup:
    """Safe HTML of Markdown."""
    return _kept(text) if len(text) <= LONGEST_KEPT else _styled(text)


@lru_cache(maxsize=1024)
def _kept(text: str) -> Markup:
    return _styled(text)


def _styled(text: str) -> Markup:
    shown = revealed(text)
    if len(shown) > LONGEST_STYLED:
        return Markup(f'<p class="plain">{escape(shown)}</p>')
    clean = nh3.clean(
        PARSER.render(shown),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)


def brief(text: str, length: int = 120) -> str:
    """The beginning on one line."""
    line = " ".join(revealed(text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


# -- the Markdown that is understood ----------------------------------------------------------------------------------

Environment = MutableMapping[str, Any]


def _heading_open(_: RendererHTML, tokens: Sequence[Token], at: int, *__: object) -> str:
    # a response cannot give the page a heading: it only looks like one
    return f'<p class="heading {tokens[at].tag}">'


def _heading_close(*_: object) -> str:
    return "</p>\n"


def _image(_: RendererHTML, tokens: Sequence[Token], at: int, *__: object) -> str:
    # loading it would tell a stranger who reads what, and when
    token = tokens[at]
    return f'<span class="image">image: {escape(token.content)} ({escape(str(token.attrs.get("src", "")))})</span>'


def _link_open(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Environment) -> str:
    tokens[at].attrs = {"href": tokens[at].attrs.get("href", ""), "target": "_blank"}
    return renderer.renderToken(tokens, at, options, env)


def _fence(_: RendererHTML, tokens: Sequence[Token], at: int, *__: object) -> str:
    token = tokens[at]
    return f'<pre class="code"><code>{_coloured(token.content, token.info.strip().split(" ")[0])}</code></pre>\n'


def _coloured(code: str, language: str) -> str:
    if language and len(code) <= LONGEST_CODE:
        try:
            return highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True, classprefix="c-"))
        except ClassNotFound:
            pass
    return escape(code)


def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 20})
    made.enable(["table", "strikethrough"])
    # nor does a link lead to a page of ours
    made.validateLink = lambda url: url.lower().startswith(("http://", "https://", "mailto:"))
    for name, rule in (
        ("heading_open", _heading_open),
        ("heading_close", _heading_close),
        ("image", _image),
        ("link_open", _link_open),
        ("fence", _fence),
        ("code_block", _fence),
    ):
        made.add_render_rule(name, rule)
    return made


PARSER = _parser()
