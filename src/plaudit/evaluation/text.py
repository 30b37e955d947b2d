"""What can be counted in a checkpoint's answers without judging them: the first signs of collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plaudit.types import InputError


def text_statistics(texts: Sequence[str], finished: Sequence[bool] | None = None) -> dict[str, float]:
    """Figures over all `texts` of one checkpoint, words being what white space separates, in lower case.

    `words`: mean length. `distinct_2`: different word pairs as a share of all (1: no pair twice).
    `repeated_3`: share of word triples that occurred before in the SAME text. `finished`, where given: share that
    ended by themselves. Where no text is long enough for a pair or triple, 1 and 0. Raises InputError without texts.
    """
    if not texts or (finished is not None and len(finished) != len(texts)):
        raise InputError(f"text statistics need at least one text and one `finished` per text, got {len(texts)} texts")
    words = [text.lower().split() for text in texts]
    pairs = [pair for row in words for pair in _ngrams(row, 2)]
    triples = [_ngrams(row, 3) for row in words]
    all_triples = sum(len(row) for row in triples)
    repeats = sum(len(row) - len(set(row)) for row in triples)
    statistics = {
        "words": sum(len(row) for row in words) / len(words),
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 1.0,
        "repeated_3": repeats / all_triples if all_triples else 0.0,
    }
    if finished is not None:
        statistics["finished"] = sum(finished) / len(finished)
    return statistics


def text_table(
    texts_by_checkpoint: Mapping[str, Sequence[str]], finished: Mapping[str, Sequence[bool]] | None = None
) -> dict[str, dict[str, float]]:
    """Checkpoint -> its `text_statistics`."""
    ends = finished or {}
    return {name: text_statistics(texts, ends.get(name)) for name, texts in texts_by_checkpoint.items()}


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
