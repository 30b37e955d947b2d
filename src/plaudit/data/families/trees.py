"""Conversation trees (Open-Assistant): one tree in a row, or one message in a row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace

from plaudit.data.conversation import prompt_of
from plaudit.data.families.rankings import from_ranks
from plaudit.data.format import Format
from plaudit.data.judgements import judged
from plaudit.data.row import LeaveOut, Row, number_of
from plaudit.types import Demonstration, Judgement, Message, Prompt, Response

_ROLES = {"prompter": "user", "assistant": "assistant"}


def _rankings(root: Row, objective: str) -> Iterator[Judgement]:
    """Of each question with ranked replies: what every user said, or the rank that came of it."""
    for asking, before in _nodes(root):
        replies = [one for one in _replies(asking) if one.name("role") == "assistant" and "rank" in one.fields]
        if asking.name("role") != "prompter" or len(replies) < 2:
            continue
        prompt = _asked(asking, before)
        whole = judged(
            prompt,
            [_response(one) for one in replies],
            from_ranks([one.number("rank") for one in replies]),
            objective=objective,
            ratings=_labels(replies),
        )
        people = list(_by_person(asking, prompt, objective))
        yield from people
        if not people:
            yield whole
        elif whole.ratings:  # the labels are nobody's in particular, and no ranking besides
            yield replace(judged(prompt, whole.responses, (), objective=objective), ratings=whole.ratings)


def _by_person(asking: Row, prompt: Prompt, objective: str) -> Iterator[Judgement]:
    events = asking.part("events") if "events" in asking.fields else Row(asking.where, {})
    texts = {one.text("message_id"): _response(one) for one in _replies(asking)}
    for event in events.parts("ranking") if "ranking" in events.fields else ():
        order = event.items("ranked_message_ids")
        unknown = [one for one in order if one not in texts]
        if unknown or len(set(map(str, order))) < len(order):
            event.wrong("ranked_message_ids", "different ids of the replies")
        bad = "not_rankable" in event.fields and event.truth("not_rankable")
        yield judged(
            prompt,
            [texts[str(one)] for one in order],
            () if bad else [(index,) for index in range(len(order))],
            objective=objective,
            annotator=event.name("user_id"),
            flags=["all_bad"] if bad else [],
        )


def _demonstrations(root: Row) -> Iterator[Demonstration]:
    """Every reply that is the only one, or ranked best."""
    for asking, before in _nodes(root):
        if asking.name("role") != "prompter":
            continue
        replies = [one for one in _replies(asking) if one.name("role") == "assistant"]
        best = replies if len(replies) == 1 else [one for one in replies if one.fields.get("rank") == 0]
        for one in best:
            yield Demonstration(
                prompt=_asked(asking, before), response=one.text("text"), source=_response(one).checkpoint
            )


def _prompts(root: Row) -> Iterator[Prompt]:
    return (_asked(one, before) for one, before in _nodes(root) if one.name("role") == "prompter")


def _asked(asking: Row, before: tuple[Message, ...]) -> Prompt:
    return prompt_of([*before, Message(role="user", content=asking.text("text"))], where=asking.where)


def _nodes(root: Row) -> Iterator[tuple[Row, tuple[Message, ...]]]:
    """Every message of the tree, with those before it; no recursion, since a conversation may be long."""
    start = root.part("prompt") if "replies" not in root.fields and "prompt" in root.fields else root
    waiting: list[tuple[Row, tuple[Message, ...]]] = [(start, ())]
    while waiting:
        node, before = waiting.pop()
        role = _ROLES.get(node.text("role"))
        if role is None:
            node.wrong("role", "prompter or assistant")
        yield node, before
        turn = Message(role="user" if role == "user" else "assistant", content=node.text("text"))
        waiting += [(one, (*before, turn)) for one in reversed(_replies(node))]


def _replies(node: Row) -> list[Row]:
    return [one for one in node.parts("replies") if not one.fields.get("deleted")] if "replies" in node.fields else []


def _response(node: Row) -> Response:
    return Response(text=node.text("text"), checkpoint=node.optional_text("model_name"))


def _labels(replies: list[Row]) -> dict[str, tuple[float | None, ...]]:
    """One rating per reply for each label that any of them has."""
    given = [_label_values(one) for one in replies]
    names = dict.fromkeys(name for values in given for name in values)
    return {name: tuple(values.get(name) for values in given) for name in names}


def _label_values(node: Row) -> dict[str, float]:
    """Labels as {name: {value, count}}, or as lists of names, values and counts."""
    if "labels" not in node.fields:
        return {}
    labels = node.part("labels")
    if isinstance(labels.fields.get("name"), list):
        spelled = zip(labels.items("name"), labels.items("value"), strict=False)
        return {str(name): number_of(labels.where, str(name), value) for name, value in spelled}
    return {name: labels.part(name).number("value") for name in labels.fields}


# One message in a row, as Hugging Face has them: the rows of a tree follow each other


def _planted(rows: Row) -> Row:
    """The tree that the rows make; LeaveOut where its root is not among them."""
    replies: dict[str, list[dict[str, object]]] = {}
    root: dict[str, object] | None = None
    nodes = [(row, dict(row.fields)) for row in rows.together]
    for row, node in nodes:
        node["replies"] = replies.setdefault(row.text("message_id"), [])
        if "parent_id" not in node:
            root = node
    for row, node in nodes:
        if "parent_id" in node:
            replies.setdefault(row.text("parent_id"), []).append(node)
    if root is None:
        raise LeaveOut("a tree without its first message")
    return Row(rows.where, root)


def _same_tree(row: Row) -> Hashable:
    return row.text("message_tree_id")


def _flat_rankings(rows: Row, objective: str) -> Iterable[Judgement]:
    return _rankings(_planted(rows), objective)


FORMATS = (
    Format(
        name="oasst",
        words="conversation trees with ranked replies, a tree in a row (Open-Assistant)",
        shapes=(("message_id", "text", "role", "replies"), ("message_tree_id", "prompt")),
        judgements=_rankings,
        demonstrations=_demonstrations,
        prompts=_prompts,
    ),
    Format(
        name="oasst-messages",
        words="conversation trees with ranked replies, a message in a row (Open-Assistant)",
        shapes=(("message_id", "message_tree_id", "text", "role"),),
        judgements=_flat_rankings,
        demonstrations=lambda rows: _demonstrations(_planted(rows)),
        prompts=lambda rows: _prompts(_planted(rows)),
        group=_same_tree,
        each_alone=False,
    ),
)
