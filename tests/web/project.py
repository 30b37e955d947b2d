"""A small project to label, of our own making: chats, code, a long text, and what a hostile model would say."""

from __future__ import annotations

from pathlib import Path

from plaudit.data.formats import prompt_of
from plaudit.feedback.desk import Desk
from plaudit.feedback.store import Store
from plaudit.types import Message, Prompt, Response

GUIDELINES = """# How to rank

1. **Helpful first.** Does the answer do what was asked?
2. *Honest.* "I don't know" is better than a wrong answer, and worse than a right one.
3. Length alone is no merit.

Give two answers the same rank where you cannot say which is better.
"""
QUESTIONS = [
    ("How do I keep basil alive on a windowsill?", [
        "Basil likes **six hours of sun**, a pot with holes, and water when the top of the soil is dry.\n\n"
        "- Turn it every few days.\n- Pinch the tips, so that it grows bushy.\n- Keep it above 10 °C.",
        "Just water it every day.",
        "Basil (*Ocimum basilicum*) is a herb of the mint family. It has been grown for over four thousand years, in "
        "India first and around the Mediterranean later, and there are more than sixty sorts of it.",
        "Give it light and warmth, and water it from below. If leaves turn yellow, it stands too wet; if they hang, it "
        "is thirsty. Harvest from the top, never more than a third at once.",
    ]),
    ("Write a Python function that says whether a word is a palindrome.", [
        "```python\ndef is_palindrome(word: str) -> bool:\n    letters = [c for c in word.lower() if c.isalnum()]\n"
        "    # the same from both ends\n    return letters == letters[::-1]\n```\n\nIt leaves punctuation aside.",
        "```python\ndef is_palindrome(word):\n    return word == word[::-1]\n```",
        "You can compare the word with its reverse: `word == word[::-1]`.",
        "A palindrome is a word like *level* that reads the same backwards. In Python you might use a loop, "
        "two pointers, or recursion; each has its merits.",
    ]),
    ("What causes the tides?", [
        "The Moon's pull, and to a lesser part the Sun's: it is stronger on the near side of the Earth than on the far "
        "side, which raises two bulges of water. The Earth turns below them, so most coasts see two high tides a day.",
        "Wind.",
        "The Moon.",
        "Tides come from the Earth breathing in and out.",
    ]),
]  # fmt: skip


def asked(*turns: str) -> Prompt:
    roles = ("user", "assistant")
    return prompt_of([Message(role=roles[i % 2], content=text) for i, text in enumerate(turns)])


def questions(count: int) -> list[tuple[Prompt, list[Response]]]:
    """Different prompts with four responses each."""
    tasks: list[tuple[Prompt, list[Response]]] = []
    for i in range(count):
        prompt, responses = QUESTIONS[i % len(QUESTIONS)]
        again = f" ({i // len(QUESTIONS) + 1})" if i >= len(QUESTIONS) else ""
        tasks.append((asked(prompt + again), [Response(text=text, checkpoint="sft") for text in responses]))
    return tasks


def desk_of(folder: Path, *, tasks: int = 12, guidelines: str = GUIDELINES, **settings: object) -> Desk:
    desk = Desk(Store.open(folder / "feedback.db"))
    desk.publish_guideline(guidelines)
    if settings:
        desk.change_settings(settings)
    desk.add_tasks("ranking", questions(tasks))
    return desk
