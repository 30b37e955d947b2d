"""Sampled responses as rows of a file, and as people are shown them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from plaudit.data.conversation import clean_text, prompt_of
from plaudit.types import Prompt, Response, Sampling


def response_row(prompt: Prompt, response: Response) -> dict[str, Any]:
    tags = {"tags": list(prompt.tags)} if prompt.tags else {}
    return {"prompt": [asdict(m) for m in prompt.messages], **tags, "response": asdict(response)}


def by_prompt(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Prompt, list[Response]]]:
    """What `response_row` wrote, the responses to one prompt together, in the order in which prompts came first."""
    tasks: dict[str, tuple[Prompt, list[Response]]] = {}
    for row in rows:
        prompt, fields = prompt_of(row["prompt"], row.get("tags", ())), row["response"]
        sampling = fields["sampling"] | {"stop": tuple(fields["sampling"].get("stop", ()))}
        response = Response(**fields | {"sampling": Sampling(**sampling)})
        tasks.setdefault(prompt.id, (prompt, []))[1].append(response)
    return list(tasks.values())


def distinct_responses(responses: Sequence[Response]) -> list[Response]:
    """Each text once, and no empty one: people are shown what there is to tell apart."""
    return list({text: r for r in responses if (text := clean_text(r.text)).strip()}.values())
