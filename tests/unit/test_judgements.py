"""The log of judgements: nothing is lost on the way, whatever interrupts the writing."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.formats import (
    append_judgements,
    best_and_worst,
    current_judgements,
    judgement_from_dict,
    judgement_to_dict,
    prompt_of,
    read_judgements,
    read_log,
)
from plaudit.data.judgements import judged, tied_groups
from plaudit.sources import of_rankings
from plaudit.types import InputError, Judgement, PlauditError, Response, Sampling


def judgement(id: str, **changes: Any) -> Judgement:
    fields: dict[str, Any] = {
        "prompt": prompt_of(f"Q{id[0]}"),
        "responses": (Response(text="a"), Response(text="b"), Response(text="c")),
        "ranking": ((2,), (0, 1)),
    }
    return Judgement(id=id, **{**fields, **changes})


FULL = judgement(
    "1",
    prompt=prompt_of([{"role": "system", "content": "S"}, {"role": "user", "content": "Wärum?\u2028"}], tags=("hard",)),
    responses=(
        Response(text="a", checkpoint="sft", sampling=Sampling(temperature=0.7, seed=3), finished=False),
        Response(text="b\n"),
        Response(text="c"),
    ),
    objective="helpful",
    strength=1.5,
    flags=("unsure", "harmful"),
    ratings={"kind": (1.0, None, 0.25)},
    rationale="c is right",
    edited={2: "c!"},
    display_order=(2, 0, 1),
    annotator="ann",
    guideline_version="2",
    seconds=4.5,
    created="2025-01-01T00:00:00Z",
    supersedes="0",
)


def test_a_judgement_comes_back_as_it_was() -> None:
    assert judgement_from_dict(json.loads(json.dumps(judgement_to_dict(FULL)))) == FULL
    ends = judgement("2", responses=tuple(Response(text=t) for t in "abcd"), ranking=((2,), (0, 3), (1,)))
    for one in (ends, replace(ends, unordered=(0, 3))):
        assert judgement_from_dict(json.loads(json.dumps(judgement_to_dict(one)))) == one


def test_a_judgement_from_before_there_were_open_groups() -> None:
    fields = judgement_to_dict(FULL)
    del fields["unordered"]
    assert judgement_from_dict(fields) == FULL


@pytest.mark.parametrize("unordered", [[0], [1, 0], [0, 1, 2], [2, 3], [-1]])
def test_an_open_group_is_one_of_the_ranking(unordered: list[int]) -> None:
    fields = judgement_to_dict(judgement("1")) | {"unordered": unordered}
    with pytest.raises(InputError, match=r"line 3: unordered names responses .* no group of the ranking"):
        judgement_from_dict(fields, "line 3")
    with pytest.raises(InputError, match="no group"):
        judgement_from_dict(judgement_to_dict(judgement("1", ranking=((0, 1, 2),))) | {"unordered": [0, 1, 2]})


def test_the_best_and_the_worst_of_a_ranking() -> None:
    four = tuple(Response(text=text) for text in "abcd")
    whole = judged(prompt_of("Q"), four, ((3,), (1,), (0,), (2,)), annotator="ann")
    found = best_and_worst(whole)
    assert (found.ranking, found.unordered) == (((3,), (0, 1), (2,)), (0, 1))
    assert found.id not in (whole.id, judged(prompt_of("Q"), four, found.ranking, annotator="ann").id)
    tied = judged(prompt_of("Q"), four, ((3, 1), (0, 2)), annotator="ann", display_order=(2, 1, 3, 0))
    assert best_and_worst(tied).ranking == ((1,), (0, 3), (2,))  # of equals the one that was shown first
    three = judged(prompt_of("Q"), four[:3], ((1,), (0,), (2,)))
    assert (best_and_worst(three).ranking, best_and_worst(three).unordered) == (((1,), (0,), (2,)), ())
    for as_it_is in (judged(prompt_of("Q"), four[:2], ((1,), (0,))), judged(prompt_of("Q"), four, ((0, 1, 2, 3),))):
        assert best_and_worst(as_it_is) is as_it_is


def test_an_open_group_is_no_tie_and_another_judgement() -> None:
    four = [Response(text=text) for text in "abcd"]
    groups = ((3,), (0, 1), (2,))
    tie, open_group = (judged(prompt_of("Q"), four, groups, unordered=some) for some in ((), (0, 1)))
    assert (tied_groups(tie), tied_groups(open_group)) == ([(0, 1)], [])
    assert tie.id != open_group.id
    assert of_rankings([tie]) != of_rankings([replace(tie, unordered=(0, 1))])  # another judge comes of it


def test_the_written_form_is_the_vocabulary_of_the_types() -> None:
    written = judgement_to_dict(FULL)
    assert written["ranking"] == [[2], [0, 1]]
    assert written["edited"] == {"2": "c!"}
    assert written["prompt"]["messages"][0] == {"role": "system", "content": "S"}
    assert written["responses"][0]["sampling"]["temperature"] == 0.7
    assert set(written) == set(Judgement.__dataclass_fields__)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"objektive": "x"}, "log:3: unknown field 'objektive'"),
        ({"flags": ["boring"]}, r"log:3: field 'flags\.0'"),
        ({"strength": "much"}, "log:3: field 'strength'"),
        ({"strength": math.nan}, "log:3: field 'strength': Input should be a finite number"),
        ({"seconds": math.inf}, "log:3: field 'seconds': Input should be a finite number"),
        ({"seconds": -(10**400)}, "log:3: field 'seconds': Input should be a finite number"),
        ({"ratings": {"kind": [1.0, None, math.nan]}}, r"log:3: field 'ratings\.kind\.2': .* finite"),
        (
            {"responses": [{"text": "a", "sampling": {"temperature": math.inf}}]},
            r"log:3: field 'responses\.0\.sampling\.temperature': .* finite",
        ),
        ({"responses": [{"text": 3}]}, r"log:3: field 'responses\.0\.text'"),
        ({"ranking": [[0], [1]]}, r"log:3: the ranking names responses \[0, 1\], expected each of 0\.\.2 once"),
        ({"ranking": [[0, 1, 2], []]}, "log:3: the ranking has an empty group"),
    ],
)
def test_what_is_no_judgement_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        judgement_from_dict({**judgement_to_dict(FULL), **changes}, "log:3")


def test_appending_adds_lines_and_touches_none(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "judgements.jsonl"
    append_judgements(log, [judgement("1")])
    before = log.read_bytes()
    append_judgements(log, [judgement("2"), FULL])
    append_judgements(log, [])
    assert log.read_bytes().startswith(before)
    assert log.read_bytes().count(b"\n") == 3
    assert read_log(log) == ([judgement("1"), judgement("2"), FULL], False)


def test_a_last_line_cut_short_is_passed_over_and_removed_by_the_next_writing(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1"), judgement("2")])
    log.write_bytes(log.read_bytes()[:-30])
    assert read_log(log) == ([judgement("1")], True)
    loaded = read_judgements(log)
    assert (loaded.items, loaded.repaired) == ((judgement("1"),), {"last line cut short, dropped": 1})
    append_judgements(log, [judgement("3")])
    assert read_log(log) == ([judgement("1"), judgement("3")], False)


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1")])
    log.write_bytes(log.read_bytes()[:-1])
    assert read_log(log) == ([judgement("1")], False)
    append_judgements(log, [judgement("2")])
    assert read_log(log) == ([judgement("1"), judgement("2")], False)


def test_any_other_malformed_line_is_fatal(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1"), judgement("2")])
    first, second = log.read_text().splitlines()
    for text in (f"{first}\n{second[:-9]}\n", f"{first}\n{second[:-9]}\n{second}\n"):
        log.write_text(text)
        with pytest.raises(InputError, match=r"judgements\.jsonl:2: malformed line"):
            read_log(log)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1")])
    before = log.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PlauditError, match=r"could not be written \(No space left on device\)"):
            append_judgements(log, [judgement("2")])
    assert log.read_bytes() == before


def test_corrections_replace_what_they_supersede() -> None:
    first, other = judgement("1"), judgement("2")
    second = judgement("1b", supersedes="1")
    third = judgement("1c", supersedes="1b")
    assert current_judgements([first, other, second]) == [other, second]
    assert current_judgements([third, first, second, other]) == [third, other]


def test_training_reads_what_stands(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    turned = judgement("1b", supersedes="1", ranking=((0,), (1,), (2,)))
    taken_back = judgement("2b", supersedes="2", flags=("skip",), ranking=())
    append_judgements(log, [judgement("1"), judgement("2"), judgement("3"), turned, taken_back, judgement("3")])
    loaded = read_judgements(log, objective="helpful")
    assert [one.id for one in loaded.items] == ["3", "1b"]
    assert {one.objective for one in loaded.items} == {"helpful"}
    assert loaded.left_out == {"duplicate ranking": 1, "skipped by the annotator": 1}
    assert loaded.repaired == {"superseded by a correction": 2}


def test_an_objective_of_its_own_stays(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1", objective="kind")])
    assert read_judgements(log, objective="helpful").items[0].objective == "kind"


def test_two_judgements_of_one_id_are_refused(tmp_path: Path) -> None:
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [judgement("1"), judgement("1", ranking=((0,), (1, 2)))])
    with pytest.raises(InputError, match=r"judgements\.jsonl:2: another judgement has the id '1'"):
        read_judgements(log)
