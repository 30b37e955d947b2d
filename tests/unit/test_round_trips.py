"""What is written and read again is equal, in every form and container; what cannot be held is counted."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.data.conversion import convert
from plaudit.data.formats import Reading, prompt_of
from plaudit.data.judgements import judged
from plaudit.data.registry import FORMATS
from plaudit.data.targets import TARGETS, Losses, Target, target_named
from plaudit.data.writing import write_rows
from plaudit.types import Demonstration, InputError, Judgement, Message, Prompt, Response, Sampling

# The same examples every time, and no opinion of how fast the machine is.
CALM = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
CONTAINERS = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "json.zst", "csv.gz", "ndjson.zst")
BY_KIND = {kind: [one for one in TARGETS.values() if one.kind == kind] for kind in ("judgements", "demonstrations")}

# Texts that are hard on a container or a transcript; never blank at the ends, where HH keeps nothing.
hard = st.sampled_from(
    ["", "[1, 2]", '{"a": 1}', '""', '"x"', "5", "true", "null", "a\nb", 'a,"b"\t;', "[", "é\u2028ß", "R:\n\nB"]
)
texts = hard | st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x7f"), min_size=1, max_size=12
).map(str.strip).filter(bool)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    turns = [Message(role="system", content=draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [Message(role="user", content=draw(texts)), Message(role="assistant", content=draw(texts))]
    tags = draw(st.sampled_from([(), ("hard",), ("a", "b")]))
    return prompt_of([*turns, Message(role="user", content=draw(texts))], tags)


@st.composite
def rankings(draw: st.DrawFn, count: int) -> tuple[tuple[int, ...], ...]:
    ranks = draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    return tuple(tuple(i for i, rank in enumerate(ranks) if rank == level) for level in sorted(set(ranks)))


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    """Anything that a judgement may say."""
    count = draw(st.integers(1, 5))
    numbers = st.none() | st.floats(-1e6, 1e6, width=32)
    sampling = st.none() | st.just(Sampling(temperature=0.5, top_p=0.9, stop=("x",), seed=3))
    responses = [
        Response(
            text=draw(texts),
            checkpoint=draw(st.sampled_from(["", "m"])),
            sampling=draw(sampling),
            finished=draw(st.booleans()),
        )
        for _ in range(count)
    ]
    ranking = draw(st.just(()) | rankings(count))
    open_groups = [tuple(sorted(group)) for group in ranking if len(group) > 1 and len(ranking) > 1]
    return judged(
        draw(prompts()),
        responses,
        ranking,
        unordered=draw(st.sampled_from([(), *open_groups])),
        objective=draw(st.sampled_from(["overall", "helpful"])),
        annotator=draw(st.sampled_from(["", "ann"])),
        flags=draw(st.sampled_from([(), ("unsure",), ("all_bad", "harmful")])),
        strength=draw(numbers),
        ratings=draw(st.dictionaries(texts, st.tuples(*[numbers] * count), max_size=2)),
        rationale=draw(st.just("") | texts),
        edited=draw(st.dictionaries(st.integers(0, count - 1), texts, max_size=2)),
        display_order=draw(st.sampled_from([(), tuple(range(count))])),
        seconds=draw(numbers),
        created=draw(st.just("") | texts),
        supersedes=draw(st.none() | texts),
    )


def written_and_read(items: list[Any], target: Target, container: str) -> tuple[list[Any], Losses]:
    losses: Losses = Counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"rows.{container}")
        write_rows(file, (row for item in items for row in target.rows_of(item, losses)), target.columns)
        reading = Reading(file, target.kind, format=target.read_as)
        read = list(getattr(reading, target.kind)())
    assert reading.left_out.total() == 0
    return read, +losses


@given(st.lists(judgements(), max_size=4), st.sampled_from(CONTAINERS))
@settings(CALM, max_examples=120)
def test_our_own_judgements_come_back_as_they_were(items: list[Judgement], container: str) -> None:
    assert written_and_read(items, TARGETS["native"], container) == (items, {})


@given(st.lists(judgements(), max_size=4), st.sampled_from(BY_KIND["judgements"]), st.sampled_from(CONTAINERS))
@settings(CALM, max_examples=300)
def test_what_a_form_can_hold_comes_back_equal(items: list[Judgement], target: Target, container: str) -> None:
    """Written once, a file may have lost something; from then on nothing changes any more."""
    held, _ = written_and_read(items, target, container)
    if target.merges:  # rankings of one prompt that follow each other are one from then on
        held = [one for i, one in enumerate(held) if one.prompt.id not in {other.prompt.id for other in held[:i]}]
    again, losses = written_and_read(held, target, container)
    assert again == held
    assert set(losses) <= {"ties within a ranking", "scores, of which there are none: 1 and 0 stand for them"}


@given(judgements(), st.sampled_from(BY_KIND["judgements"]))
@settings(CALM, max_examples=300)
def test_where_nothing_is_said_to_be_lost_nothing_is(item: Judgement, target: Target) -> None:
    read, losses = written_and_read([item], target, "jsonl")
    if not losses:
        assert [replace(one, id="") for one in read] == [replace(item, id="")]


@given(
    st.lists(st.builds(Demonstration, prompt=prompts(), response=texts, source=st.just("") | texts), max_size=4),
    st.sampled_from(BY_KIND["demonstrations"]),
    st.sampled_from(CONTAINERS),
)
@settings(CALM, max_examples=150)
def test_demonstrations_come_back_equal(items: list[Demonstration], target: Target, container: str) -> None:
    read, losses = written_and_read(items, target, container)
    kept = [one for one in items if target.name != "alpaca" or len(one.prompt.messages) == 1]
    assert read == [replace(one, prompt=with_first_tag(one.prompt)) for one in kept]
    assert losses.total() == len(items) - len(kept) + sum(len(one.prompt.tags) > 1 for one in kept)


@given(st.lists(prompts(), max_size=4), st.sampled_from(CONTAINERS))
@settings(CALM, max_examples=50)
def test_prompts_come_back_equal(items: list[Prompt], container: str) -> None:
    read, losses = written_and_read(items, TARGETS["prompts"], container)
    assert read == [with_first_tag(one) for one in items]
    assert losses.total() == sum(len(one.tags) > 1 for one in items)


def with_first_tag(prompt: Prompt) -> Prompt:
    return replace(prompt, tags=prompt.tags[:1])


# Each form by an example


PAIR = judged(prompt_of("Q"), [Response(text="a"), Response(text="b")], ((1,), (0,)), annotator="ann", strength=2.0)
FOUR = judged(
    prompt_of("Q"), [Response(text=text) for text in "abcd"], ((2,), (0, 1), (3,)), strength=3.0, rationale="r"
)


def rows(name: str, item: Any) -> tuple[list[dict[str, Any]], Losses]:
    losses: Losses = Counter()
    return list(TARGETS[name].rows_of(item, losses)), +losses


def u(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def a(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("trl", {"prompt": [u("Q")], "chosen": [a("b")], "rejected": [a("a")], "margin": 2.0, "annotator": "ann"}),
        ("trl-implicit", {"chosen": [u("Q"), a("b")], "rejected": [u("Q"), a("a")], "margin": 2.0, "annotator": "ann"}),
        ("trl-standard", {"prompt": "Q", "chosen": "b", "rejected": "a", "margin": 2.0, "annotator": "ann"}),
        (
            "ultrafeedback-binarized",
            {
                "prompt": "Q",
                "chosen": [u("Q"), a("b")],
                "rejected": [u("Q"), a("a")],
                "score_chosen": 1.0,
                "score_rejected": 0.0,
                "margin": 2.0,
                "annotator": "ann",
            },
        ),
        ("openai", {"input": {"messages": [u("Q")]}, "preferred_output": [a("b")], "non_preferred_output": [a("a")]}),
        (
            "llama-factory",
            {
                "conversations": [{"from": "human", "value": "Q"}],
                "chosen": {"from": "gpt", "value": "b"},
                "rejected": {"from": "gpt", "value": "a"},
            },
        ),
        ("hh", {"chosen": "\n\nHuman: Q\n\nAssistant: b", "rejected": "\n\nHuman: Q\n\nAssistant: a"}),
        (
            "nemo",
            {
                "context": [u("Q")],
                "completions": [{"rank": 1, "completion": [a("a")]}, {"rank": 0, "completion": [a("b")]}],
            },
        ),
    ],
)
def test_a_pair_is_written_so(name: str, row: dict[str, Any]) -> None:
    assert rows(name, PAIR)[0] == [row]


def test_good_and_bad_are_written_so() -> None:
    found, losses = rows("trl-unpaired", FOUR)
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == [
        ("a", False),
        ("b", False),
        ("c", True),
        ("d", False),
    ]
    assert losses == {"margin": 1, "rationale": 1, "ranks between the best and the others": 1}


def test_a_ranking_becomes_its_pairs_and_the_margin_is_shared_by_rank() -> None:
    found, losses = rows("trl-standard", FOUR)
    assert [(row["chosen"], row["rejected"], row["margin"]) for row in found] == [
        ("c", "a", 1.5),
        ("c", "b", 1.5),
        ("c", "d", 3.0),
        ("a", "d", 1.5),
        ("b", "d", 1.5),
    ]
    assert losses == {"rationale": 1, "ties within a ranking": 1, "rankings of three or more, kept as pairs": 1}


def test_scores_go_with_their_responses() -> None:
    rated = replace(FOUR, ratings={"score": (5.0, 6.0, 9.0, 1.0)})
    found, _ = rows("ultrafeedback-binarized", rated)
    assert [(row["score_chosen"], row["score_rejected"]) for row in found][:3] == [(9.0, 5.0), (9.0, 6.0), (9.0, 1.0)]


def test_a_whole_ranking_stays_whole_where_it_can() -> None:
    (row,), losses = rows("nemo", FOUR)
    assert [one["rank"] for one in row["completions"]] == [1, 1, 0, 2]
    assert losses == {"margin": 1, "rationale": 1}


def test_what_a_transcript_would_garble_is_left_out() -> None:
    pair = [Response(text="a\n\nHuman: b"), Response(text="c")]
    found, losses = rows("hh", judged(prompt_of("Q"), pair, ((0,), (1,))))
    assert (found, losses) == ([], {"conversations that a transcript would garble, left out": 1})
    blank = judged(prompt_of("Q"), [Response(text=" a"), Response(text="c")], ((0,), (1,)))
    assert rows("hh", blank)[1] == {"blanks around a turn": 1}


# Files into files


def test_converting_says_what_is_lost(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data" / "arena.jsonl"
    done = convert(source, tmp_path / "out.parquet", "trl")
    assert (done.items, done.rows, +done.reading.left_out) == (3, 1, {"earlier turns differ": 1})
    assert done.losses == {
        "names of models": 3,
        "flags": 2,
        "rankings without a better and a worse response": 2,
    }
    (back,) = Reading(tmp_path / "out.parquet").judgements()
    assert (back.responses[0].text, back.annotator) == ("Honey, from nectar.", "j1")


def test_the_objective_goes_to_those_that_name_none(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data" / "native.jsonl"
    convert(source, tmp_path / "out.jsonl", "native", objective="kind")
    assert [one.objective for one in Reading(tmp_path / "out.jsonl").judgements()] == ["helpful", "kind", "kind"]


@pytest.mark.parametrize("target", BY_KIND["judgements"], ids=lambda target: target.name)
@pytest.mark.parametrize("container", ["jsonl", "csv"])
def test_only_what_annotators_stand_by_is_written_where_no_row_can_say_so(
    tmp_path: Path, target: Target, container: str
) -> None:
    """A correction turns a ranking round, another annotator skips: one ranking stands, and only our own form, which
    tells all of it, holds the other two."""
    turned = replace(PAIR, id="turned", ranking=((0,), (1,)), supersedes=PAIR.id)
    skipped = replace(PAIR, id="skipped", annotator="ben", flags=("skip",))
    source, out = tmp_path / f"in.{container}", tmp_path / f"out.{container}"
    every, own = [PAIR, turned, skipped], TARGETS["native"]
    write_rows(source, (row for one in every for row in own.rows_of(one, Counter())), own.columns)
    done = convert(source, out, target.name)
    read = list(Reading(out, "judgements", format=target.read_as).judgements())
    if target is own:
        assert (read, done.items, +done.reading.left_out) == (every, 3, {})
        return
    (one,) = read
    assert [[one.responses[index].text for index in group] for group in one.ranking] == [["a"], ["b"]]
    assert done.items == 1
    assert +done.reading.left_out == {"superseded by a correction": 1, "skipped by the annotator": 1}


def test_what_was_discarded_elsewhere_is_not_written(tmp_path: Path) -> None:
    def answer(person: str, status: str, *names: str) -> dict[str, Any]:
        value = [{"value": name, "rank": rank} for rank, name in enumerate(names, 1)]
        return {"user_id": person, "status": status, "value": value}

    answers = [answer("u1", "discarded", "a", "b"), answer("u2", "submitted", "b", "a")]
    source, out = tmp_path / "argilla.jsonl", tmp_path / "out.jsonl"
    row = {"fields": {"prompt": "Q", "a": "good", "b": "bad"}, "responses": {"rank": answers}}
    source.write_text(json.dumps(row) + "\n")
    done = convert(source, out, "trl")
    assert [one.annotator for one in Reading(out).judgements()] == ["u2"]
    assert (done.items, +done.reading.left_out) == (1, {"skipped by the annotator": 1})


def test_a_conversion_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n{"prompt": "Q", "chosen": 1}\n')
    out.write_text("before")
    with pytest.raises(InputError, match=r"in\.jsonl:2"):
        convert(source, out, "trl")
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    done = convert(source, out, "trl", skip_bad=True)
    assert (done.rows, done.reading.bad) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_a_form_is_not_made_of_is_refused(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data" / "alpaca.json"
    with pytest.raises(InputError, match="it looks like an instruction"):
        convert(source, tmp_path / "out.jsonl", "trl")
    with pytest.raises(InputError, match="nothing is written as 'mesages'; did you mean messages"):
        target_named("mesages")
    with pytest.raises(InputError, match="plain text holds no fields"):
        convert(source, tmp_path / "out.txt", "messages")
    with pytest.raises(InputError, match="there is no folder"):
        convert(source, tmp_path / "none" / "out.jsonl", "messages")
    assert list(tmp_path.iterdir()) == []


def test_every_form_names_the_format_that_reads_it() -> None:
    for one in TARGETS.values():
        assert one.kind in FORMATS[one.read_as].kinds


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "data" / "trl.jsonl"
    for container in ("jsonl.gz", "jsonl.zst"):
        first, second = (tmp_path / f"{name}.{container}" for name in "ab")
        convert(source, first, "native")
        convert(source, second, "native")
        assert first.read_bytes() == second.read_bytes()
