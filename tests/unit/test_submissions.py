"""What comes back from people: once, checked, correctable, erasable; the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import desks
from desks import Clock, answer, take
from plaudit.feedback.desk import Desk
from plaudit.feedback.records import Answer, BadAnswer, LeaseLost, NotYours
from plaudit.feedback.store import Store
from plaudit.types import Demonstration, Judgement, Response


@pytest.fixture
def desk(place: tuple[str, str]) -> Iterator[Desk]:
    made = Desk(Store.open(place[0], project=place[1]), clock=Clock())
    yield made
    made.store.close()


@pytest.fixture
def ada(desk: Desk) -> int:
    return desk.add_account("Ada", "annotator").id


@pytest.fixture
def ben(desk: Desk) -> int:
    return desk.add_account("Ben", "annotator").id


def say(desk: Desk, person: int, said: Answer) -> Judgement | Demonstration | None:
    return desk.submit(person, take(desk, person).token, said)


def standings(desk: Desk) -> dict[str, int]:
    return dict(desk.progress_all().demonstrations)


# -- judgements -----------------------------------------------------------------------------------------------------


def test_a_judgement_is_written_whole(desk: Desk, ada: int) -> None:
    desk.change_settings({"aspects": ["helpful"], "objective": "helpful"})
    desk.add_tasks("ranking", desks.tasks(1))
    hand = take(desk, ada)
    said = Answer(
        ranking=((1,), (0, 2)),
        flags=("harmful",),
        strength=1.5,
        ratings={"helpful": (1.0, None, 3.0)},
        rationale=" because\x00 \ud800 ",
        edited={2: "a better answer"},
        seconds=12.5,
    )
    made = desk.submit(ada, hand.token, said)
    assert isinstance(made, Judgement)
    assert made == desk.judgements()[0]
    assert made.ranking == ((1,), (0, 2))
    assert made.flags == ("harmful",)
    assert (made.strength, made.seconds, made.objective) == (1.5, 12.5, "helpful")
    assert made.ratings == {"helpful": (1.0, None, 3.0)}
    assert made.rationale == "because"
    assert made.edited == {2: "a better answer"}
    assert made.annotator == desk.account(ada).handle  # pyright: ignore
    assert made.created == "2030-05-06T12:00:00.000+00:00"
    (line,) = desk.export("judgements")
    assert line["id"] == made.id


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Answer(), "needs a rank"),
        (Answer(ranking=((0,), (1,))), "expected each of 0..2"),
        (Answer(ranking=((0,), (1,), (1,))), "expected each of 0..2"),
        (Answer(ranking=((0,), (1,), (2,)), flags=("skip",)), "one or the other"),
        (Answer(ranking=((0, 1, 2),), ratings={"kind": (1, 1, 1)}), "'kind' is not asked"),
        (Answer(ranking=((0, 1, 2),), ratings={"helpful": (1, 1)}), "2 ratings for 3"),
        (Answer(ranking=((0, 1, 2),), ratings={"helpful": (1, 1, float("nan"))}), "no number"),
        (Answer(ranking=((0, 1, 2),), strength=float("inf")), "strength"),
        (Answer(ranking=((0, 1, 2),), edited={3: "x"}), "no response 3"),
        (Answer(ranking=((0, 1, 2),), edited={0: " "}), "empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_may_be_sent_again(desk: Desk, ada: int, said: Answer, words: str) -> None:
    desk.change_settings({"aspects": ["helpful"]})
    desk.add_tasks("ranking", desks.tasks(1))
    hand = take(desk, ada)
    with pytest.raises(BadAnswer, match=words):
        desk.submit(ada, hand.token, said)
    assert desk.judgements() == []
    desk.submit(ada, hand.token, answer(0, 1, 2))
    assert len(desk.judgements()) == 1


def test_the_best_and_the_worst_may_be_all_that_is_asked(desk: Desk, ada: int) -> None:
    desk.add_tasks("ranking", desks.tasks(3, responses=4))
    ends = Answer(ranking=((3,), (0, 2), (1,)), unordered=(0, 2))
    hand = take(desk, ada)
    with pytest.raises(BadAnswer, match="asks for whole rankings"):
        desk.submit(ada, hand.token, ends)
    desk.change_settings({"ask": "best_and_worst"})
    with pytest.raises(BadAnswer, match="no group of the ranking"):
        desk.submit(ada, hand.token, Answer(ranking=((3,), (0, 2), (1,)), unordered=(0, 1)))
    made = desk.submit(ada, hand.token, ends)
    assert isinstance(made, Judgement)
    assert (made.ranking, made.unordered) == (((3,), (0, 2), (1,)), (0, 2))
    say(desk, ada, answer(0, 1, 2, 3))  # whoever says more is heard
    (first, second) = desk.judgements()
    assert (first.unordered, second.unordered) == ((0, 2), ())
    assert [line["unordered"] for line in desk.export("judgements")] == [[0, 2], []]
    figures = desk.figures()
    assert (figures.pairs, figures.tie_share) == (5 + 6, 0.0)


def test_people_agree_on_what_both_were_asked(desk: Desk, ada: int, ben: int) -> None:
    """The best and the worst of both are the same; what lies between them is no tie of anybody's."""
    desk.change_settings({"ask": "best_and_worst", "overlap": 2, "adjudicate_below": 0.9})
    desk.add_tasks("ranking", desks.tasks(1, responses=4))
    for person in (ada, ben):
        at = take(desk, person)
        desk.submit(person, at.token, Answer(ranking=((3,), (0, 2), (1,)), unordered=(0, 2)))
    assert desk.progress_all().disputed == 0
    agreement = desk.figures().agreement
    assert agreement is not None
    assert agreement.value == 1.0


def test_skip_and_all_bad_are_sittings(desk: Desk, ada: int) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    say(desk, ada, Answer(flags=("skip",)))
    say(desk, ada, Answer(flags=("all_bad",)))
    assert [(one.ranking, one.flags) for one in desk.judgements()] == [((), ("skip",)), ((), ("all_bad",))]
    assert desk.progress_all().finished
    (his,) = desk.people()
    assert (his.judgements, his.skipped) == (2, 1)


def test_the_second_submit_gives_the_first_result(desk: Desk, ada: int) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    hand = take(desk, ada)
    first = desk.submit(ada, hand.token, answer(0, 1, 2))
    assert desk.submit(ada, hand.token, answer(2, 1, 0)) == first
    assert desk.submit(ada, hand.token, Answer()) == first
    assert len(desk.judgements()) == 1


def test_undo_supersedes_and_fills_no_second_place(desk: Desk, ada: int) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    assert desk.undo(ada) is None
    first = say(desk, ada, answer(0, 1, 2))
    second = say(desk, ada, answer(0, 2, 1))
    assert isinstance(first, Judgement)
    assert isinstance(second, Judgement)
    again = desk.undo(ada)
    assert again is not None
    assert again.corrects == second
    assert again.display_order == second.display_order
    before = desk.undo(ada)  # twice: the one before it
    assert before is not None
    assert before.corrects == first
    assert desk.undo(ada) is None
    corrected = desk.submit(ada, again.token, answer((0, 1, 2)))
    assert isinstance(corrected, Judgement)
    assert corrected.supersedes == second.id
    assert {one.id for one in desk.judgements()} == {first.id, corrected.id}
    assert desk.progress(ada).done == 2
    assert desk.progress_all().done == 2
    # The correction itself can be corrected.
    third = desk.undo(ada)
    assert third is not None
    assert third.corrects == corrected


def test_one_answer_is_corrected_once(desk: Desk, ada: int) -> None:
    """Two corrections of the same, in two tabs, the first of which ran out: whichever comes first counts."""
    clock = desk.clock
    assert isinstance(clock, Clock)
    desk.change_settings({"lease_seconds": 60})
    desk.add_tasks("ranking", desks.tasks(1))
    say(desk, ada, answer(0, 1, 2))
    for earlier_first, ranking in ((True, (2, 1, 0)), (False, (0, 1, 2))):
        earlier = desk.undo(ada)
        clock.forward(61)
        assert desk.next_task(ada) is None
        later = desk.undo(ada)
        assert earlier is not None
        assert later is not None
        sent, left = (earlier, later) if earlier_first else (later, earlier)
        corrected = desk.submit(ada, sent.token, answer(*ranking))
        with pytest.raises(LeaseLost, match="corrected this answer already"):
            desk.submit(ada, left.token, answer(1, 0, 2))
        assert desk.judgements() == [corrected]
        desk.release(ada, left.token)
        assert desk.next_task(ada) is None


def test_what_he_took_back_comes_before_what_lies_ready(desk: Desk, ada: int) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    say(desk, ada, answer(0, 1, 2))
    ready = take(desk, ada)
    taken_back = desk.undo(ada)
    assert taken_back is not None
    assert take(desk, ada) == taken_back
    desk.submit(ada, taken_back.token, answer(2, 1, 0))
    assert take(desk, ada) == ready


def test_live_mode(desk: Desk, ada: int, ben: int) -> None:
    prompt, responses = desks.task(1)
    with pytest.raises(BadAnswer, match="all the same"):
        desk.propose(ada, prompt, [Response(text="a"), Response(text="a")])
    hand = desk.propose(ada, prompt, responses)
    assert hand.kind == "live"
    assert desk.next_task(ben) is None
    assert take(desk, ada) == hand
    desk.submit(ada, hand.token, answer(2, 1, 0))
    assert desk.propose(ada, prompt, responses).task_id != hand.task_id  # asked again, judged again
    assert len(desk.judgements()) == 1


def test_a_contest_teaches_no_judge(desk: Desk, ada: int) -> None:
    desk.add_tasks("contest", desks.tasks(1, responses=2))
    hand = take(desk, ada)
    assert hand.kind == "contest"
    desk.submit(ada, hand.token, answer(1, 0))
    assert desk.judgements() == []


def test_progress_of_a_person(desk: Desk, ada: int, ben: int) -> None:
    clock = desk.clock
    assert isinstance(clock, Clock)
    desk.add_tasks("ranking", desks.tasks(5))
    for seconds in (4.0, 10.0):
        say(desk, ada, replace(answer(0, 1, 2), seconds=seconds))
    clock.forward(86_400)
    say(desk, ada, replace(answer(0, 1, 2), seconds=6.0))
    say(desk, ben, answer(0, 1, 2))
    progress = desk.progress(ada)
    assert (progress.done, progress.mine_today, progress.median_seconds) == (3, 1, 6.0)
    assert (progress.left, progress.quota, progress.finished) == (1, None, False)


# -- demonstrations -------------------------------------------------------------------------------------------------


def test_a_demonstration_is_accepted_by_a_second_person(desk: Desk, ada: int, ben: int) -> None:
    prompt = desks.task(1)[0]
    desk.add_demonstration_tasks([(prompt, "")])
    hand = take(desk, ada)
    assert (hand.kind, hand.responses, hand.draft) == ("demonstration", (), "")
    with pytest.raises(BadAnswer, match="empty"):
        desk.submit(ada, hand.token, Answer(text="  "))
    written = desk.submit(ada, hand.token, Answer(text="An answer.", seconds=60))
    assert written == Demonstration(prompt=prompt, response="An answer.", source="people: from scratch")
    assert standings(desk) == {"proposed": 1}
    assert desk.demonstrations() == {}
    assert desk.next_task(ada) is None  # nobody reviews his own
    review = take(desk, ben)
    assert (review.kind, review.draft) == ("review", "An answer.")
    with pytest.raises(BadAnswer, match="accept it"):
        desk.submit(ben, review.token, Answer())
    assert desk.submit(ben, review.token, Answer(verdict="accept")) == written
    assert list(desk.demonstrations().values()) == [written]
    assert list(desk.demonstration_authors().values()) == [desk.account(ada).handle]  # pyright: ignore
    (row,) = desk.export("demonstrations")
    assert row["messages"][-1] == {"role": "assistant", "content": "An answer."}


def test_rejected_and_amended(desk: Desk, ada: int, ben: int) -> None:
    desk.add_demonstration_tasks([(desks.task(1)[0], ""), (desks.task(2)[0], "a model's draft")])
    drafts = []
    for _ in range(2):
        hand = take(desk, ada)
        drafts.append(hand.draft)
        desk.submit(ada, hand.token, Answer(text=f"bettered {hand.draft}"))
    assert sorted(drafts) == ["", "a model's draft"]
    rejected = take(desk, ben)
    assert desk.submit(ben, rejected.token, Answer(verdict="reject")) is None
    assert desk.submit(ben, rejected.token, Answer(verdict="accept")) is None  # the first one counts
    made = say(desk, ben, Answer(verdict="amend", text="amended"))
    assert isinstance(made, Demonstration)
    assert made.response == "amended"
    assert made.source.endswith(", amended")
    assert list(desk.demonstrations().values()) == [made]
    assert standings(desk) == {"rejected": 1, "superseded": 1, "accepted": 1}
    # On second thoughts the last one is good as it was.
    again = desk.undo(ben)
    assert again is not None
    desk.submit(ben, again.token, Answer(verdict="accept"))
    assert [one.response.startswith("bettered") for one in desk.demonstrations().values()] == [True]


def test_written_anew_before_the_review(desk: Desk, ada: int, ben: int) -> None:
    desk.add_demonstration_tasks([(desks.task(1)[0], "")])
    say(desk, ada, Answer(text="first"))
    review = take(desk, ben)
    again = desk.undo(ada)
    assert again is not None
    assert again.draft == "first"
    desk.submit(ada, again.token, Answer(text="second"))
    with pytest.raises(LeaseLost, match="written it anew"):
        desk.submit(ben, review.token, Answer(verdict="accept"))
    assert take(desk, ben).draft == "second"


def test_a_demonstration_that_is_skipped_goes_to_somebody_else(desk: Desk, ada: int, ben: int) -> None:
    desk.add_demonstration_tasks([(desks.task(1)[0], "")])
    assert say(desk, ada, Answer(flags=("skip",))) is None
    assert desk.next_task(ada) is None
    assert take(desk, ben).kind == "demonstration"


def test_a_review_that_is_skipped_goes_to_somebody_else(desk: Desk, ada: int, ben: int) -> None:
    cem = desk.add_account("Cem", "annotator").id
    desk.add_demonstration_tasks([(desks.task(1)[0], "")])
    say(desk, ada, Answer(text="An answer."))
    assert say(desk, ben, Answer(flags=("skip",))) is None
    assert standings(desk) == {"proposed": 1}
    assert desk.next_task(ben) is None
    assert take(desk, cem).draft == "An answer."
    say(desk, cem, Answer(verdict="accept"))
    assert standings(desk) == {"accepted": 1}


def test_edited_responses_are_demonstrations(desk: Desk, ada: int, ben: int) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    say(desk, ada, replace(answer(0, 1, 2), edited={0: "kept", 1: "dropped"}))
    assert standings(desk) == {"proposed": 2}
    again = desk.undo(ada)
    assert again is not None
    desk.submit(ada, again.token, replace(answer(0, 1, 2), edited={0: "kept", 2: "new"}))
    assert standings(desk) == {"proposed": 2, "superseded": 1}
    drafts = []
    while (hand := desk.next_task(ben)) is not None:
        drafts.append(hand.draft)
        desk.submit(ben, hand.token, Answer(verdict="accept"))
    assert sorted(drafts) == ["kept", "new"]
    assert {one.source for one in desk.demonstrations().values()} == {"people: a response edited"}


def test_an_edit_that_stays_through_corrections_is_one_demonstration(desk: Desk, ada: int, ben: int) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    kept = replace(answer(0, 1, 2), edited={0: "kept"})
    say(desk, ada, kept)

    def correct(said: Answer) -> None:
        again = desk.undo(ada)
        assert again is not None
        desk.submit(ada, again.token, said)

    correct(kept)
    correct(replace(kept, strength=1.0))
    assert standings(desk) == {"proposed": 1}
    correct(answer(0, 1, 2))
    assert standings(desk) == {"superseded": 1}
    assert desk.next_task(ben) is None
    correct(kept)  # edited once more: once more to be reviewed
    assert standings(desk) == {"proposed": 1, "superseded": 1}
    assert take(desk, ben).draft == "kept"


def test_a_review_is_not_corrected_once_its_author_has_written_anew(desk: Desk, ada: int, ben: int) -> None:
    desk.add_demonstration_tasks([(desks.task(1)[0], "")])
    say(desk, ada, Answer(text="one"))
    say(desk, ben, Answer(verdict="accept"))
    again = desk.undo(ben)
    assert again is not None
    anew = desk.undo(ada)
    assert anew is not None
    desk.submit(ada, anew.token, Answer(text="two"))
    with pytest.raises(LeaseLost, match="written it anew"):
        desk.submit(ben, again.token, Answer(verdict="accept"))
    assert desk.undo(ben) is None
    say(desk, ben, Answer(verdict="accept"))
    assert [one.response for one in desk.demonstrations().values()] == ["two"]
    assert desk.undo(ben) is not None


def test_a_review_is_not_corrected_once_the_edit_is_gone(desk: Desk, ada: int, ben: int) -> None:
    desk.add_tasks("ranking", desks.tasks(1))
    say(desk, ada, replace(answer(0, 1, 2), edited={0: "edited"}))
    hand = desk.next_task(ben, ["review"])
    assert hand is not None
    desk.submit(ben, hand.token, Answer(verdict="amend", text="amended"))
    anew = desk.undo(ada)
    assert anew is not None
    desk.submit(ada, anew.token, answer(0, 1, 2))
    assert desk.demonstrations() == {}
    assert desk.undo(ben) is None


def test_without_reviews_what_is_written_is_accepted(desk: Desk, ada: int) -> None:
    desk.change_settings({"review_demonstrations": False})
    desk.add_demonstration_tasks([(desks.task(1)[0], "")])
    say(desk, ada, Answer(text="An answer."))
    assert [one.response for one in desk.demonstrations().values()] == ["An answer."]


# -- who counts, and who is forgotten -------------------------------------------------------------------------------


def test_excluding_is_recorded_and_can_be_taken_back(desk: Desk, ada: int, ben: int) -> None:
    desk.change_settings({"overlap": 2, "review_demonstrations": False})
    desk.add_tasks("ranking", desks.tasks(1))
    say(desk, ada, replace(answer(0, 1, 2), edited={0: "edited"}))
    say(desk, ben, answer(2, 1, 0))
    handle = desk.account(ada).handle  # pyright: ignore
    with pytest.raises(BadAnswer, match="say why"):
        desk.exclude(handle, " ")
    with pytest.raises(BadAnswer, match="no annotator"):
        desk.exclude("person-x", "why")
    desk.exclude(handle, "answers within a second", by=ben)
    desk.exclude(handle, "again")
    assert desk.excluded() == {handle: "answers within a second"}
    assert [one.annotator for one in desk.judgements()] == [desk.account(ben).handle]  # pyright: ignore
    assert desk.demonstrations() == {}
    assert [row.action for row in desk.audit()][:2] == ["excluded", "excluded"]
    assert desk.audit()[1].account == ben
    figures = desk.figures()
    assert figures.judgements == 1
    assert {one.annotator: one.excluded for one in figures.people} == {
        handle: True, desk.account(ben).handle: False,  # pyright: ignore
    }  # fmt: skip
    desk.include(handle)
    assert len(desk.judgements()) == 2
    assert len(desk.demonstrations()) == 1


def test_a_person_is_forgotten_and_his_judgements_stay(desk: Desk, ada: int, ben: int) -> None:
    desk.add_tasks("ranking", desks.tasks(2))
    desk.set_password_hash(ada, "hash")
    desk.add_api_token(ada, "digest", "laptop")
    say(desk, ada, replace(answer(0, 1, 2), rationale="my uncle says so"))
    say(desk, ben, replace(answer(0, 1, 2), rationale="stays"))
    gone: list[str] = []
    desk.when_erased = gone.append
    handle = desk.account(ada).handle  # pyright: ignore
    desk.erase_person(ada, by=ben)
    assert gone == [handle]
    assert [one.name for one in desk.accounts()] == ["Ben"]
    assert desk.account_named("Ada") is None
    assert desk.password_hash(ada) is None
    assert desk.account_of_token("digest") is None
    assert [(one.annotator == handle, one.rationale) for one in desk.judgements()] == [(True, ""), (False, "stays")]
    with pytest.raises(NotYours):
        desk.next_task(ada)
    # Nothing of the name is left anywhere in the store.
    with desk.store.read() as session:
        from plaudit.feedback.schema import Base

        for table in Base.metadata.sorted_tables:
            rows = str(session.execute(table.select()).all())
            assert "Ada" not in rows, table.name
            assert "uncle" not in rows, table.name
    desk.add_account("Ada", "annotator")  # the name is free again


def test_an_invitation_is_good_once(desk: Desk) -> None:
    from datetime import timedelta

    clock = desk.clock
    assert isinstance(clock, Clock)
    desk.record_invite("n1", "adjudicator", clock.now + timedelta(hours=1))
    desk.record_invite("n2", "annotator", clock.now + timedelta(hours=1))
    assert desk.use_invite("n1") == "adjudicator"
    with pytest.raises(NotYours, match="used already"):
        desk.use_invite("n1")
    clock.forward(3601)
    with pytest.raises(NotYours, match="too old"):
        desk.use_invite("n2")
    with pytest.raises(NotYours, match="not known"):
        desk.use_invite("n3")


def test_tokens_of_the_interface(desk: Desk, ada: int) -> None:
    desk.add_api_token(ada, "digest", "laptop")
    assert desk.account_of_token("digest") == desk.account(ada)
    assert [(digest, label) for digest, label, _ in desk.api_tokens(ada)] == [("digest", "laptop")]
    desk.set_active(ada, False)
    assert desk.account_of_token("digest") is None
    desk.set_active(ada, True)
    desk.revoke_api_token("digest")
    assert desk.account_of_token("digest") is None


def test_an_earlier_log_is_taken_over_once(desk: Desk) -> None:
    prompt, responses = desks.task(1)
    made = Judgement(
        id="abc", prompt=prompt, responses=tuple(responses), ranking=((1,), (0, 2)), annotator="Elif", rationale="why"
    )
    assert desk.take_over([made], kind="simulated") == 1
    assert desk.take_over([made], kind="simulated") == 0
    assert desk.judgements() == []  # simulated people's are not people's
    assert desk.figures().judgements == 1
    mine = replace(made, id="def", annotator="person-00000000")
    assert desk.take_over([mine], kind="person") == 1
    assert desk.judgements() == [mine]
