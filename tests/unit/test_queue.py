"""Who gets which task; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from sqlalchemy import select

import desks
from desks import Clock, answer, answer_to, take
from plaudit.feedback import schema
from plaudit.feedback.desk import Desk
from plaudit.feedback.queue import REPEAT_AFTER
from plaudit.feedback.records import Account, Answer, BadAnswer, LeaseLost, NotYours
from plaudit.feedback.store import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(place: tuple[str, str], clock: Clock) -> Iterator[Desk]:
    made = Desk(Store.open(place[0], project=place[1]), clock=clock)
    yield made
    made.store.close()


def people(desk: Desk, *names: str) -> list[int]:
    return [desk.add_account(name, "annotator").id for name in names]


def counters(desk: Desk) -> list[tuple[int, int, int]]:
    with desk.store.read() as session:
        return [(t.wanted, t.taken, t.done) for t in session.scalars(select(schema.Task).order_by(schema.Task.id))]


# -- places ---------------------------------------------------------------------------------------------------------


def test_every_task_goes_to_as_many_people_as_asked_and_to_none_twice(desk: Desk) -> None:
    desk.change_settings({"overlap": 2})
    desk.add_tasks("ranking", desks.tasks(3))
    ada, ben, cem = people(desk, "Ada", "Ben", "Cem")
    seen: dict[int, list[int]] = {}
    for person in (ada, ben, cem):
        seen[person] = []
        while (hand := desk.next_task(person)) is not None:
            seen[person].append(hand.task_id)
            desk.submit(person, hand.token, answer(0, 1, 2))
    assert [len(seen[p]) for p in (ada, ben, cem)] == [3, 3, 0]
    assert sorted(seen[ada]) == sorted(seen[ben]) == [1, 2, 3]
    assert counters(desk) == [(2, 2, 2)] * 3
    assert desk.progress_all().finished
    assert desk.pause_reason(cem) == "The work is done. Thank you!"


def test_a_place_in_hands_is_nobody_elses(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben = people(desk, "Ada", "Ben")
    assert take(desk, ada).task_id == 1
    assert desk.next_task(ben) is None
    assert desk.pause_reason(ben) == "Nothing is left for you at the moment."


def test_a_reload_shows_the_same_and_the_next_lies_ready(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(5))
    ada, ben = people(desk, "Ada", "Ben")
    first = take(desk, ada)
    assert take(desk, ada) == first
    second = desk.prefetch(ada, first.token)
    assert second is not None
    assert second.task_id != first.task_id
    assert desk.prefetch(ada, first.token) == second  # never more than two in one person's hands
    assert take(desk, ada) == first
    assert take(desk, ben).task_id not in {first.task_id, second.task_id}
    desk.submit(ada, first.token, answer(0, 1, 2))
    assert take(desk, ada) == second


def test_the_order_is_random_and_shown_and_kept(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(60, responses=2))
    (ada,) = people(desk, "Ada")
    orders: Counter[tuple[int, ...]] = Counter()
    handed: list[int] = []
    for _ in range(60):
        hand = take(desk, ada)
        orders[hand.display_order] += 1
        handed.append(hand.task_id)
        judgement = desk.submit(ada, hand.token, answer(0, 1))
        assert judgement.display_order == hand.display_order  # pyright: ignore
    assert handed != sorted(handed)
    # Of 60 fair draws, fewer than 15 or more than 45 of a side come once in 5,000 times; they are drawn by the seed.
    assert 15 <= orders[(0, 1)] <= 45
    assert orders[(0, 1)] + orders[(1, 0)] == 60


def test_the_quota_ends_the_work(desk: Desk) -> None:
    desk.change_settings({"quota": 3})
    desk.add_tasks("ranking", desks.tasks(10))
    ada, ben = people(desk, "Ada", "Ben")
    hands = [take(desk, ada), take(desk, ben)]
    desk.submit(ada, hands[0].token, answer(0, 1, 2))
    third = take(desk, ada)
    desk.submit(ben, hands[1].token, answer(0, 1, 2))
    assert desk.next_task(ben) is None  # two are done, and the third is in Ada's hands
    assert not desk.progress_all().finished
    assert desk.progress(ben).left == 1
    desk.submit(ada, third.token, answer(0, 1, 2))
    done = desk.progress_all()
    assert (done.done, done.wanted, done.finished) == (3, 3, True)
    desk.change_settings({"quota": 4})
    assert take(desk, ben).task_id
    assert not desk.progress_all().finished


def test_a_new_overlap_opens_what_was_done(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    ada, ben = people(desk, "Ada", "Ben")
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    desk.change_settings({"overlap": 2})
    assert sorted(counters(desk)) == [(2, 0, 0), (2, 1, 1)]
    assert {desk.submit(ben, take(desk, ben).token, answer(0, 1, 2)).prompt.id for _ in range(2)} == {  # pyright: ignore
        desks.task(n)[0].id for n in range(2)
    }
    desk.change_settings({"overlap": 1})
    assert sorted(counters(desk)) == [(1, 1, 1), (2, 2, 2)]
    assert desk.progress_all().finished


def test_the_same_task_again_is_the_same_and_a_new_round_closes_the_old(desk: Desk) -> None:
    first = desk.add_tasks("ranking", desks.tasks(3))
    assert desk.add_tasks("ranking", desks.tasks(3)) == first
    (ada,) = people(desk, "Ada")
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    later = desk.add_tasks("ranking", [desks.task(9)], round=1)
    assert take(desk, ada).task_id == later[0]
    assert sorted(row.state for row in desk.tasks()) == ["closed", "closed", "done", "open"]
    assert desk.progress_all(0).finished
    assert desk.progress_all(0).wanted == 1
    assert not desk.progress_all().finished


def test_what_was_closed_comes_back_when_it_is_sampled_again(desk: Desk) -> None:
    few, more = desks.tasks(3), desks.tasks(3, responses=5)
    ada, ben, cem = people(desk, "Ada", "Ben", "Cem")
    desk.change_settings({"overlap": 2})
    ids = desk.add_tasks("ranking", few)
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    full = desk.submit(ben, take(desk, ben).token, answer(0, 1, 2))
    begun = desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    for sampled in (more, few):
        desk.add_tasks("ranking", sampled)
        desk.close_other_rankings(0, sampled)
    state = {row.id: row.state for row in desk.tasks()}
    assert [state.pop(id) for id in ids].count("open") == 2
    assert set(state.values()) == {"closed"}
    progress = desk.progress_all()
    assert (progress.done, progress.wanted, progress.finished) == (3, 6, False)
    handed = [desk.submit(cem, take(desk, cem).token, answer(0, 1, 2)) for _ in range(2)]
    assert full.prompt.id not in {one.prompt.id for one in handed}  # pyright: ignore
    assert begun.prompt.id in {one.prompt.id for one in handed}  # pyright: ignore


def test_what_was_closed_has_the_places_of_today_and_no_earlier_round_opens(desk: Desk) -> None:
    few, more = desks.tasks(1), desks.tasks(1, responses=5)
    (ada,) = people(desk, "Ada")
    desk.change_settings({"overlap": 2})
    (task,) = desk.add_tasks("ranking", few)
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    desk.add_tasks("ranking", more)
    desk.close_other_rankings(0, more)
    desk.change_settings({"overlap": 1})
    desk.add_tasks("ranking", few)
    assert {row.id: row.state for row in desk.tasks()}[task] == "done"
    assert counters(desk)[0] == (1, 1, 1)
    desk.change_settings({"overlap": 2})
    desk.add_tasks("ranking", [desks.task(9)], round=1)
    desk.add_tasks("ranking", few)
    assert {row.id: row.state for row in desk.tasks()}[task] != "open"


def test_a_dispute_that_was_closed_is_still_an_adjudicators(desk: Desk) -> None:
    few, more = desks.tasks(1), desks.tasks(1, responses=5)
    ada, ben, cem = people(desk, "Ada", "Ben", "Cem")
    dan = desk.add_account("Dan", "adjudicator").id
    desk.change_settings({"overlap": 2, "adjudicate_below": 0.5})
    (task,) = desk.add_tasks("ranking", few)
    for person, said in ((ada, answer(0, 1, 2)), (ben, answer(2, 1, 0))):
        desk.submit(person, take(desk, person).token, said)
    for sampled in (more, few):
        desk.add_tasks("ranking", sampled)
        desk.close_other_rankings(0, sampled)
    assert desk.next_task(cem) is None
    assert take(desk, dan).task_id == task


def test_of_many_answers_nine_are_shown(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(2, responses=12))
    (ada,) = people(desk, "Ada")
    hands = [take(desk, ada)]
    desk.submit(ada, hands[0].token, answer(*range(9)))
    hands.append(take(desk, ada))
    assert [len(hand.responses) for hand in hands] == [9, 9]
    asked = {r.text.removeprefix(hand.prompt.messages[0].content[9:-1]) for hand in hands for r in hand.responses}
    assert len(asked) > 9  # drawn by prompt
    with pytest.raises(BadAnswer, match="12 responses, of which people rank at most 9"):
        desk.add_gold([(*desks.task(7, 12), tuple((i,) for i in range(12)))])


# -- leases ---------------------------------------------------------------------------------------------------------


def test_a_lease_that_ran_out_goes_to_the_next_and_the_late_one_is_told(desk: Desk, clock: Clock) -> None:
    desk.change_settings({"lease_seconds": 60})
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben = people(desk, "Ada", "Ben")
    late = take(desk, ada)
    assert (late.expires - clock.now).total_seconds() == 60
    clock.forward(59)
    assert desk.next_task(ben) is None
    clock.forward(2)
    other = take(desk, ben)
    assert other.task_id == late.task_id
    with pytest.raises(LeaseLost, match="somebody else"):
        desk.submit(ada, late.token, answer(0, 1, 2))
    desk.submit(ben, other.token, answer(2, 1, 0))
    with pytest.raises(LeaseLost):
        desk.submit(ada, late.token, answer(0, 1, 2))
    assert counters(desk) == [(1, 1, 1)]
    assert [one.ranking for one in desk.judgements()] == [((2,), (1,), (0,))]


def test_a_late_answer_is_taken_while_the_place_is_free(desk: Desk, clock: Clock) -> None:
    desk.change_settings({"lease_seconds": 60})
    desk.add_tasks("ranking", desks.tasks(2))
    ada, ben = people(desk, "Ada", "Ben")
    late = take(desk, ada)
    clock.forward(100)
    other = take(desk, ben)  # this takes the expired place back, and hands out the first task in order
    if other.task_id == late.task_id:
        desk.release(ben, other.token)
    desk.submit(ada, late.token, answer(0, 1, 2))
    assert len(desk.judgements()) == 1
    assert all(done <= taken <= wanted for wanted, taken, done in counters(desk))


def test_his_own_second_hand_out_of_a_task_does_not_count_twice(desk: Desk, clock: Clock) -> None:
    desk.change_settings({"lease_seconds": 60})
    desk.add_tasks("ranking", desks.tasks(1))
    (ada,) = people(desk, "Ada")
    first = take(desk, ada)
    clock.forward(100)
    again = take(desk, ada)
    assert again.task_id == first.task_id
    assert again.token != first.token
    desk.submit(ada, first.token, answer(0, 1, 2))
    with pytest.raises(LeaseLost, match="already"):
        desk.submit(ada, again.token, answer(2, 1, 0))
    assert counters(desk) == [(1, 1, 1)]


def test_giving_back(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben = people(desk, "Ada", "Ben")
    hand = take(desk, ada)
    desk.release(ada, hand.token)
    desk.release(ada, hand.token)
    assert counters(desk) == [(1, 0, 0)]
    with pytest.raises(LeaseLost):
        desk.hand_out(ada, hand.token)
    assert take(desk, ben).task_id == 1


def test_nobody_reaches_into_anothers_hands(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    ada, ben = people(desk, "Ada", "Ben")
    hand = take(desk, ada)
    for act in (
        lambda: desk.submit(ben, hand.token, answer(0, 1, 2)),
        lambda: desk.hand_out(ben, hand.token),
        lambda: desk.release(ben, hand.token),
        lambda: desk.submit(ada, "made up", answer(0, 1, 2)),
    ):
        with pytest.raises(NotYours):
            act()
    desk.set_active(ada, False)
    with pytest.raises(NotYours, match="not active"):
        desk.next_task(ada)


# -- gold, repeats, qualification -----------------------------------------------------------------------------------


def gold(count: int, start: int = 100):
    """Response 2 is best, then 1, then 0."""
    return [(*desks.task(start + n), ((2,), (1,), (0,))) for n in range(count)]


def test_gold_is_mixed_in_and_counts_as_no_work(desk: Desk) -> None:
    desk.change_settings({"gold_share": 0.3})
    work = set(desk.add_tasks("ranking", desks.tasks(40)))
    known = set(desk.add_gold(gold(30)))
    (ada,) = people(desk, "Ada")
    handed = []
    while (hand := desk.next_task(ada)) is not None:
        handed.append(hand.task_id)
        desk.submit(ada, hand.token, answer_to(hand, 2, 1, 0))
    asked_gold = [id for id in handed if id in known]
    # Per real task .3/.7 = .43 gold ones are drawn on the way: 17 of 40 expected, deviation 5.
    assert 7 <= len(asked_gold) <= 28
    assert len(set(handed)) == len(handed)
    assert work <= set(handed)
    assert len(desk.judgements()) == 40
    assert desk.progress_all().done == 40
    (his,) = desk.people()
    assert his.gold is not None
    assert his.gold.value == 1.0


def test_a_hand_out_does_not_tell_gold(desk: Desk) -> None:
    desk.change_settings({"gold_share": 0.9})
    desk.add_tasks("ranking", desks.tasks(2))
    desk.add_gold(gold(1))
    (ada,) = people(desk, "Ada")
    fields = set(type(take(desk, ada)).__slots__)
    assert not fields & {"gold", "is_gold", "purpose", "repeat"}


def test_what_is_left_does_not_tell_gold_and_repeats(desk: Desk) -> None:
    desk.change_settings({"gold_share": 0.3, "repeat_share": 0.2})
    desk.add_tasks("ranking", desks.tasks(40))
    desk.add_gold(gold(20))
    ada, ben = people(desk, "Ada", "Ben")
    left = [desk.progress(ada).left]
    while (hand := desk.next_task(ada)) is not None:
        desk.submit(ada, hand.token, answer(0, 1, 2))
        left.append(desk.progress(ada).left)
    steps = [before - after for before, after in pairwise(left)]
    assert len(steps) > 50
    # It counts every submission; after each ten the true number is looked at, which others' work changes too.
    assert {step for place, step in enumerate(steps[:-10], start=1) if place % 10} == {1}
    assert (left[0], left[-1]) == (40, 0)
    assert desk.progress(ben).left == 0
    assert min(left[:-1]) >= 1
    desk.add_tasks("ranking", [desks.task(50 + n) for n in range(7)], round=1)
    assert desk.progress(ada).left == desk.progress(ben).left == 7


def test_the_stored_order_tells_neither_gold_nor_checkpoint(desk: Desk) -> None:
    known = desk.add_gold(gold(30))
    contest = [(prompt, responses[:2]) for prompt, responses in desks.tasks(40)]
    desk.add_tasks("contest", contest)
    assert desk.add_gold(gold(30)) == known
    desk.add_tasks("contest", contest)  # the same tasks again
    assert len(desk.tasks(per_page=100)) == 70
    (ada,) = people(desk, "Ada")
    first: Counter[int] = Counter()
    while (hand := desk.next_task(ada)) is not None:
        first[hand.responses[0].text.count("word")] += 1
        desk.submit(ada, hand.token, answer(0, 1))
    # Of 40 fair draws, fewer than 10 of a side come once in 900 times; they are drawn by the seed.
    assert first[1] + first[2] == 40
    assert 10 <= first[1] <= 30
    with desk.store.read() as session:
        best = Counter(task.gold[0][0] for task in session.scalars(select(schema.Task)) if task.gold is not None)
    assert min(best[place] for place in range(3)) >= 4


def test_repeats_come_late_and_measure_self_consistency(desk: Desk) -> None:
    desk.change_settings({"repeat_share": 0.5})
    desk.add_tasks("ranking", desks.tasks(30, responses=2))
    (ada,) = people(desk, "Ada")
    handed: list[int] = []
    while (hand := desk.next_task(ada)) is not None:
        again = hand.task_id in handed
        if again:
            assert len(set(handed)) - list(dict.fromkeys(handed)).index(hand.task_id) >= REPEAT_AFTER
        handed.append(hand.task_id)
        desk.submit(ada, hand.token, answer(0, 1) if not again or handed.index(hand.task_id) % 2 else answer(1, 0))
    counts = Counter(handed)
    repeated = [id for id, times in counts.items() if times == 2]
    assert set(counts.values()) == {1, 2}
    assert len(desk.judgements()) == 30
    same = sum(handed.index(id) % 2 for id in repeated)
    (his,) = desk.people()
    assert his.self_consistency is not None
    assert his.self_consistency.value == pytest.approx(same / len(repeated))
    assert 0 < same < len(repeated)


def test_who_is_asked_for_the_best_and_the_worst_qualifies_by_them(desk: Desk) -> None:
    """Five pairs of six are asked, and all of them right."""
    desk.change_settings({"qualification": 1, "qualification_pass": 1.0, "ask": "best_and_worst"})
    (ada,) = people(desk, "Ada")
    prompt, responses = desks.task(0, responses=4)
    desk.add_gold([(prompt, responses, ((3,), (2,), (1,), (0,)))])
    hand = take(desk, ada)
    whole = answer_to(hand, 3, (2, 1), 0)
    desk.submit(ada, hand.token, replace(whole, unordered=tuple(sorted(whole.ranking[1]))))
    assert desk.account(ada).qualified is True  # pyright: ignore
    (his,) = desk.people()
    assert his.gold is not None
    assert his.gold.value == 1.0


@pytest.mark.parametrize(("ranking", "passes"), [((2, 1, 0), True), ((0, 1, 2), False)])
def test_the_qualification_round(desk: Desk, ranking: tuple[int, ...], passes: bool) -> None:
    desk.change_settings({"qualification": 2, "qualification_pass": 0.7})
    (work,) = desk.add_tasks("ranking", desks.tasks(1))
    (ada,) = people(desk, "Ada")
    assert desk.next_task(ada) is None
    assert "no tasks for it yet" in (desk.pause_reason(ada) or "")
    known = desk.add_gold(gold(5))
    for _ in range(2):
        hand = take(desk, ada)
        assert hand.task_id in known
        assert desk.account(ada).qualified is False  # pyright: ignore
        desk.submit(ada, hand.token, answer_to(hand, *ranking))
    assert desk.account(ada).qualified is passes  # pyright: ignore
    hand = desk.next_task(ada)
    if passes:
        assert hand is not None
        assert hand.task_id == work
    else:
        assert hand is None
        assert "not passed" in (desk.pause_reason(ada) or "")
        desk.set_qualified(ada, True)
        assert take(desk, ada).task_id == work
    # Whoever runs the project needs no exam.
    assert desk.local_account().qualified


@pytest.mark.parametrize(("ranking", "passes"), [((2, 1, 0), True), ((0, 1, 2), False)])
def test_who_has_done_all_the_gold_before_it_was_a_qualification_is_decided_on(
    desk: Desk, ranking: tuple[int, ...], passes: bool
) -> None:
    desk.change_settings({"gold_share": 0.5})
    desk.add_gold(gold(2))
    work = desk.add_tasks("ranking", desks.tasks(30))
    (ada,) = people(desk, "Ada")
    for _ in range(20):
        hand = take(desk, ada)
        desk.submit(ada, hand.token, answer_to(hand, *ranking))
    desk.change_settings({"qualification": 2})
    hand = desk.next_task(ada)
    assert desk.account(ada).qualified is passes  # pyright: ignore
    if passes:
        assert hand is not None
        assert hand.task_id in work
    else:
        assert hand is None
        assert "not passed" in (desk.pause_reason(ada) or "")


def test_one_right_of_two_gold_tasks_is_half_of_the_pairs(desk: Desk) -> None:
    desk.change_settings({"qualification": 2, "qualification_pass": 0.5})
    desk.add_tasks("ranking", desks.tasks(1))
    desk.add_gold(gold(2))
    ada, ben = people(desk, "Ada", "Ben")
    # Ada: 3 of 3 pairs and 0 of 3: .5 passes. Ben: all tied is half of each; with one pair wrong it is 2/6 + ... < .5.
    for said in ((2, 1, 0), (0, 1, 2)):
        hand = take(desk, ada)
        desk.submit(ada, hand.token, answer_to(hand, *said))
    assert desk.account(ada).qualified  # pyright: ignore
    desk.submit(ben, take(desk, ben).token, answer((0, 1, 2)))
    hand = take(desk, ben)
    desk.submit(ben, hand.token, answer_to(hand, (0, 1), 2))  # pair (0, 1): half; two wrong
    assert not desk.account(ben).qualified  # pyright: ignore


# -- disputes and recalls -------------------------------------------------------------------------------------------


def test_what_people_disagree_on_goes_to_an_adjudicator(desk: Desk) -> None:
    desk.change_settings({"overlap": 2, "adjudicate_below": 0.5})
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben, cem = people(desk, "Ada", "Ben", "Cem")
    judge = desk.add_account("Dee", "adjudicator").id
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    assert desk.progress_all().disputed == 0
    desk.submit(ben, take(desk, ben).token, answer(2, 1, 0))
    assert desk.progress_all().disputed == 1
    assert not desk.progress_all().finished
    assert desk.next_task(cem) is None
    hand = take(desk, judge)
    desk.submit(judge, hand.token, answer(1, 0, 2))
    assert desk.progress_all().finished
    # He has decided: his judgement alone counts, and the two stay in the figures.
    assert [one.ranking for one in desk.judgements()] == [((1,), (0,), (2,))]
    assert desk.figures().agreement.value == 0.0  # pyright: ignore


def test_a_late_answer_does_not_take_the_adjudicators_place(desk: Desk, clock: Clock) -> None:
    desk.change_settings({"overlap": 2, "adjudicate_below": 0.5, "lease_seconds": 60})
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben, cem = people(desk, "Ada", "Ben", "Cem")
    judge = desk.add_account("Dee", "adjudicator").id
    late = take(desk, ada)
    clock.forward(61)
    hands = [(person, take(desk, person)) for person in (ben, cem)]
    for (person, hand), said in zip(hands, (answer(0, 1, 2), answer(2, 1, 0)), strict=True):
        desk.submit(person, hand.token, said)
    assert desk.progress_all().disputed == 1
    with pytest.raises(LeaseLost, match="somebody else has it now"):
        desk.submit(ada, late.token, answer(0, 1, 2))
    assert desk.progress_all().disputed == 1
    # He who decides may be late as long as nobody else does.
    hand = take(desk, judge)
    clock.forward(61)
    assert desk.next_task(ada) is None  # which takes the place from him
    desk.submit(judge, hand.token, answer(1, 0, 2))
    assert [one.ranking for one in desk.judgements()] == [((1,), (0,), (2,))]


def test_a_dispute_that_nobody_may_decide_is_counted(desk: Desk) -> None:
    desk.change_settings({"overlap": 2, "adjudicate_below": 0.5})
    desk.add_tasks("ranking", desks.tasks(3))
    (ada,) = people(desk, "Ada")
    boss = desk.add_account("Bo", "administrator").id
    for done in range(3):
        assert desk.progress_all().undecidable == done
        desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
        desk.submit(boss, take(desk, boss).token, answer(2, 1, 0))
    assert desk.next_task(boss) is None
    assert desk.progress_all().undecidable == 3
    cem, dee = people(desk, "Cem", "Dee")
    desk.set_role(cem, "adjudicator")
    assert desk.progress_all().undecidable == 0
    desk.set_active(cem, False)
    assert desk.progress_all().undecidable == 3
    desk.set_role(dee, "adjudicator")
    for _ in range(3):
        hand = take(desk, dee)
        assert desk.progress_all().undecidable == 0
        desk.submit(dee, hand.token, answer(1, 0, 2))
        assert desk.progress_all().undecidable == 0


def test_agreement_is_no_dispute(desk: Desk) -> None:
    desk.change_settings({"overlap": 2, "adjudicate_below": 0.5})
    desk.add_tasks("ranking", desks.tasks(1))
    ada, ben = people(desk, "Ada", "Ben")
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    desk.submit(ben, take(desk, ben).token, answer(0, 2, 1))  # two of three pairs alike
    assert desk.progress_all().finished
    assert len(desk.judgements()) == 2


def test_a_changed_guideline_calls_tasks_back(desk: Desk) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    (ada,) = people(desk, "Ada")
    done = take(desk, ada)
    desk.submit(ada, done.token, answer(0, 1, 2))
    in_hands = take(desk, ada)
    second = desk.publish_guideline("Prefer the shorter.", recall=False)
    assert second.version == 2
    assert len(desk.judgements()) == 1
    third = desk.publish_guideline("Prefer the longer.", recall=True)
    assert desk.judgements() == []
    assert counters(desk) == [(1, 0, 0)] * 2
    with pytest.raises(LeaseLost, match="guideline has changed"):
        desk.submit(ada, in_hands.token, answer(0, 1, 2))
    assert desk.undo(ada) is None  # what was called back is not corrected but judged anew
    for _ in range(2):  # both, the one that she has judged before among them
        hand = take(desk, ada)
        assert hand.guideline == third
        desk.submit(ada, hand.token, answer(2, 1, 0))
    assert [one.guideline_version for one in desk.judgements()] == ["3", "3"]
    assert desk.progress_all().finished


def test_what_was_called_back_is_in_no_figure(desk: Desk) -> None:
    desk.change_settings({"overlap": 2})
    desk.add_tasks("ranking", desks.tasks(2))
    ada, ben = people(desk, "Ada", "Ben")
    for _ in range(2):
        desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
        desk.submit(ben, take(desk, ben).token, answer(2, 1, 0))
    assert desk.figures().agreement.value == 0  # pyright: ignore
    desk.publish_guideline("Prefer the shorter.", recall=True)
    assert desk.figures().judgements == 0
    for person in (ada, ada, ben, ben):
        desk.submit(person, take(desk, person).token, answer(0, 1, 2))
    figures = desk.figures()
    assert figures.judgements == len(desk.judgements()) == 4
    assert figures.agreement.value == 1  # pyright: ignore


def test_the_newest_round_alone_is_called_back(desk: Desk) -> None:
    (ada,) = people(desk, "Ada")
    desk.add_tasks("ranking", desks.tasks(1))
    desk.submit(ada, take(desk, ada).token, answer(0, 1, 2))
    (later,) = desk.add_tasks("ranking", [desks.task(7)], round=1)
    in_hands = take(desk, ada)
    desk.publish_guideline("Prefer the shorter.", recall=True)
    assert len(desk.judgements()) == 1
    assert desk.progress_all(0).finished
    with pytest.raises(LeaseLost, match="guideline has changed"):
        desk.submit(ada, in_hands.token, answer(0, 1, 2))
    hand = take(desk, ada)
    assert hand.task_id == later
    desk.submit(ada, hand.token, answer(0, 1, 2))
    assert desk.next_task(ada) is None


def test_sensitive_tasks_are_blurred_where_the_project_says_so(desk: Desk) -> None:
    (id,) = desk.add_tasks("ranking", [desks.task(1)], sensitive=True)
    (ada,) = people(desk, "Ada")
    hand = take(desk, ada)
    assert hand.sensitive
    desk.change_settings({"blur": False})
    assert not desk.hand_out(ada, hand.token).sensitive
    desk.change_settings({"blur": True})
    desk.set_sensitive(id, False)
    assert not desk.hand_out(ada, hand.token).sensitive


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlapp": 2}, "no setting 'overlapp'"),
        ({"overlap": 0}, "overlap: 0 is not within"),
        ({"overlap": "two"}, "overlap"),
        ({"gold_share": 0.6, "repeat_share": 0.6}, "together"),
        ({"adjudicate_below": 0.5}, "overlap of 2"),
        ({"order": "best"}, "order"),
        ({"shown": 10}, "shown: 10 is not within 2 to 9"),
    ],
)
def test_settings_that_cannot_be(desk: Desk, changes: dict[str, object], words: str) -> None:
    before = desk.settings()
    with pytest.raises(BadAnswer, match=words):
        desk.change_settings(changes)
    assert desk.settings() == before


def test_a_recipe_changes_what_it_says_anew_alone(desk: Desk) -> None:
    desk.apply_recipe({"overlap": 2, "quota": None, "aspects": ["helpful"]})
    desk.change_settings({"quota": 7})  # on the page
    assert desk.apply_recipe({"overlap": 2, "quota": None, "aspects": ["helpful"]}).quota == 7
    settings = desk.apply_recipe({"overlap": 3, "quota": None, "aspects": ["helpful"]})
    assert (settings.overlap, settings.quota, settings.aspects) == (3, 7, ("helpful",))
    assert desk.apply_recipe({"overlap": 3, "quota": 9, "aspects": ["helpful"]}).quota == 9


# -- fifty at once --------------------------------------------------------------------------------------------------


def test_fifty_people_at_once_lose_nothing_and_take_nothing_twice(place: tuple[str, str]) -> None:
    desk = Desk(Store.open(place[0], project=place[1]))
    desk.change_settings({"overlap": 3, "gold_share": 0.1, "repeat_share": 0.1})
    desk.add_tasks("ranking", desks.tasks(40))
    desk.add_gold(gold(5))
    everybody = people(desk, *(f"person {n}" for n in range(50)))
    given: list[tuple[int, str]] = []
    over: list[tuple[int, int, int]] = []
    errors: list[BaseException] = []
    start = threading.Barrier(50)

    def work(person: int) -> None:
        try:
            start.wait()
            while (hand := desk.next_task(person)) is not None:
                ready = desk.prefetch(person, hand.token)
                result = desk.submit(person, hand.token, answer(0, 1, 2))
                assert desk.submit(person, hand.token, answer(2, 1, 0)) == result  # a double click
                given.append((person, result.id))  # pyright: ignore
                if ready is not None and len(given) % 7 == 0:
                    desk.release(person, ready.token)
                over.extend(c for c in counters(desk)[:40] if not c[2] <= c[1] <= c[0]) if len(
                    given
                ) % 10 == 0 else None
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in everybody]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert over == []
    # A place that was given back at the very end may be left: whoever passes by takes it.
    while any(hand := desk.next_task(person) for person in everybody):
        for person in everybody:
            if (hand := desk.next_task(person)) is not None:
                given.append((person, desk.submit(person, hand.token, answer(0, 1, 2)).id))  # pyright: ignore
    assert counters(desk)[:40] == [(3, 3, 3)] * 40
    said = desk.judgements()
    assert len(said) == 120
    assert len({(one.prompt.id, one.annotator) for one in said}) == 120
    assert {one.id for one in said} <= {id for _, id in given}
    assert len({id for _, id in given}) == len(given)
    desk.store.close()


def test_accounts_are_as_records_say(desk: Desk) -> None:
    ada = desk.add_account(" Ada ", "annotator", "hash")
    assert ada == Account(id=ada.id, name="Ada", handle=ada.handle, role="annotator", active=True, qualified=True)
    assert desk.account_named("Ada") == ada
    assert ada.handle.startswith("person-")
    assert "ada" not in ada.handle
    for name in ("Ada", "", "x" * 81):
        with pytest.raises(BadAnswer):
            desk.add_account(name, "annotator")
    assert Answer().ranking == ()
