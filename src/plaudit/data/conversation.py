"""Prompts from whatever holds a conversation, their ids, and text fit for a tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any, cast, get_args

from plaudit.types import InputError, Message, Prompt, Role

_ROLES: tuple[str, ...] = get_args(Role)

# C0 control characters but tab and newline (some have no token in common vocabularies), and lone surrogates,
# which JSON can spell and UTF-8 cannot.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text without control characters (tab and newline stay) and without lone surrogates."""
    return _UNFIT.sub("", text)


def messages_of(value: object, where: str) -> tuple[Message, ...]:
    """A conversation from a text (one user message) or a list of {role, content}; InputError, naming `where`."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    items = tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else ()
    if not items:
        raise InputError(f"{where}: expected a text or a list of messages, found {_shown(cast('object', value))}")
    return tuple(_message(item, f"{where}, message {number}") for number, item in enumerate(items, 1))


def _message(value: object, where: str) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f'{where}: expected {{"role": ..., "content": ...}}, found {_shown(value)}')
    fields = cast("Mapping[str, object]", value)
    role, content = fields.get("role"), fields.get("content")
    if role not in _ROLES:
        raise InputError(f"{where}: the role is {_shown(role)}, expected one of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"{where}: the content is {_shown(content)}, expected a text")
    return Message(role=cast("Role", role), content=content)


def prompt_of(
    messages: str | Sequence[Message] | Sequence[Mapping[str, str]],
    tags: Sequence[str] = (),
    *,
    where: str = "prompt",
) -> Prompt:
    """The prompt that these messages (or this one user's text) make, with an id drawn from their content alone.

    Raises InputError where the conversation does not end with a user's turn.
    """
    turns = messages_of(messages, where)
    if turns[-1].role != "user":
        raise InputError(f"{where}: a prompt ends with a user's turn, this one with {turns[-1].role}'s")
    spelled = spelled_list([turn.role, turn.content] for turn in turns)
    return Prompt(id=hashlib.sha256(spelled.encode()).hexdigest()[:16], messages=turns, tags=tuple(tags))


def spelled_list(items: Iterable[str | Iterable[Any]]) -> str:
    """JSON of a list of texts and of lists of them, as json.dumps writes it, in a third of the time.

    Ids are drawn from it: a million rows have two million of them.
    """
    return f"[{', '.join([_quoted(one) if isinstance(one, str) else spelled_list(one) for one in items])}]"


def content_hash(source: object) -> str:
    """SHA-256 (hex) of a file's or folder's bytes where `source` is a Path, else of the object as JSON."""
    if isinstance(source, Path):
        return _folder_hash(source) if source.is_dir() else _file_hash(source)
    return hashlib.sha256(_CANONICAL.encode(source).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _folder_hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_hash([[path.relative_to(folder).as_posix(), _file_hash(path)] for path in files])


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, (set, frozenset)):
        return sorted(cast("set[str]", value))
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=True, default=_plain)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
