"""Sampling: the distribution, its log-probs, its ends, and independence of the company in the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import tiny
from plaudit.models import fused
from plaudit.models import generate as room
from plaudit.models.decoding import ModuleDecoder
from plaudit.models.drawing import draw
from plaudit.models.fused import FusedDecoder, decoder_of
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.tensors import nucleus
from plaudit.types import Sampling

KINDS = sorted(tiny.SHAPES)
EOS = (tiny.END, tiny.STOP)
PROMPTS = [one.tolist() for one in tiny.sequences([3, 3, 7, 1, 5, 7], seed=4)]
# Each prompt thrice, and not side by side: samples 0, 1, 2 of prompts 0..5.
MANY = [PROMPTS[i % 6] for i in range(18)]
KEYS = [sample_key(0, 1, f"prompt {i % 6}", i // 6) for i in range(18)]


def drawn(
    kind: str = "llama",
    *,
    batch_size: int = 64,
    order: list[int] | None = None,
    temperature: float = 0.8,
    top_p: float = 0.9,
    **more: Any,
) -> list[Generated]:
    order = list(range(len(MANY))) if order is None else order
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=12)
    made = generate(
        tiny.model(kind),
        [MANY[i] for i in order],
        [KEYS[i] for i in order],
        sampling,
        eos_ids=EOS,
        batch_size=batch_size,
        **more,
    )
    return [made[order.index(i)] for i in range(len(MANY))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9)])
def test_the_samplers_logprobs_equal_recomputed_ones(kind: str, temperature: float, top_p: float) -> None:
    """Left-padded, prefix-shared and cached on one side; each sequence alone, in float64, on the other."""
    made = tiny.model(kind)
    responses = drawn(kind, temperature=temperature, top_p=top_p)
    assert len({len(r.tokens) for r in responses}) > 2
    for prompt, response in zip(MANY, responses, strict=True):
        tokens = torch.tensor(prompt + response.tokens)
        with torch.no_grad():
            logits = made(input_ids=tokens[None]).logits[0] / temperature
        logprobs = nucleus(logits, top_p).double().log_softmax(-1)
        for t, (token, logprob) in enumerate(zip(response.tokens, response.logprobs, strict=True)):
            assert logprob == pytest.approx(logprobs[len(prompt) + t - 1, token].item(), abs=1e-5)


@pytest.mark.parametrize("budget", [1, 8, 14])
def test_prompts_read_in_groups_are_the_same_prompts(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits, caches and boundary states of ragged prompts find their rows again, each prompt thrice in the batch."""
    made = tiny.trunk("llama", 1)
    distinct: dict[tuple[int, ...], int] = {}
    copies = [distinct.setdefault(tuple(p), len(distinct)) for p in MANY]
    tokens = torch.arange(len(MANY)) % 5 + 4

    def read() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        decoder = made.decoder(None)
        assert isinstance(decoder, FusedDecoder)
        start = decoder.start(list(distinct), copies, 3)
        after, boundary = start.running.step(tokens), start.running.boundary()
        assert boundary is not None
        assert start.prompt_states is not None
        return start.logits_BV, after, boundary, list(start.prompt_states)

    whole = read()
    monkeypatch.setattr(fused, "tokens_at_a_time", lambda _: budget)
    grouped = read()
    for one, other in zip([*whole[:3], *whole[3]], [*grouped[:3], *grouped[3]], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_company_in_the_batch_changes_nothing(kind: str) -> None:
    together = drawn(kind)
    for other in (
        drawn(kind, batch_size=1),
        drawn(kind, batch_size=5),
        drawn(kind, order=list(reversed(range(len(MANY))))),
    ):
        assert [r.tokens for r in other] == [r.tokens for r in together]
        for one, two in zip(other, together, strict=True):
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
            assert one.finished == two.finished


def test_samples_of_one_prompt_differ_and_keys_repeat_them() -> None:
    first = drawn()
    assert len({tuple(first[i].tokens) for i in (0, 6, 12)}) == 3
    assert [r.tokens for r in drawn()] == [r.tokens for r in first]
    assert len({sample_key(a, b, c, d) for a in (0, 1) for b in (0, 1) for c in "xy" for d in (0, 1)}) == 16


def test_leaving_the_batch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are finished leave at once, or never."""
    at_once, never = [], []
    for share, kept in ((1.0, at_once), (0.0, never)):
        monkeypatch.setattr(room, "COMPACT_AT", share)
        kept += drawn("gpt2")
    assert len({len(r.tokens) for r in at_once}) > 2
    assert [r.tokens for r in at_once] == [r.tokens for r in never]
    assert [r.finished for r in at_once] == [r.finished for r in never]


def with_states(batch_size: int = 64, count: int = 8) -> list[Generated]:
    prompts = [one.tolist() for one in tiny.sequences([3, 7, 1, 5, 2, 4, 6, 3, 7, 2, 5, 1, 6, 4][:count])]
    keys = [sample_key(0, 0, str(i), 0) for i in range(len(prompts))]
    decoder, sampling = tiny.trunk("llama", 1).decoder(None), Sampling(max_new_tokens=9, temperature=1.5)
    return generate(decoder, prompts, keys, sampling, eos_ids=(tiny.END, 7), closing=tiny.END, batch_size=batch_size)


def assert_alike(these: list[Generated], others: list[Generated]) -> None:
    """Tokens, log-probs, ends, and the boundary states up to the id that closes."""
    for one, other in zip(these, others, strict=True):
        assert (one.tokens, one.finished) == (other.tokens, other.finished)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        for mine, theirs in ((one.states, other.states), (one.prompt_states, other.prompt_states)):
            assert mine is not None
            assert theirs is not None
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_asking_for_the_next_step_before_reading_the_last_changes_nothing(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""
    monkeypatch.setattr(room, "COMPACT_AT", share)
    both: list[list[Generated]] = []
    for ahead in (False, True):
        monkeypatch.setattr(room, "_runs_ahead", lambda _, ahead=ahead: ahead)
        both.append(with_states())
    assert len({(len(one.tokens), one.finished) for one in both[0]}) > 3
    assert_alike(*both)


@pytest.mark.parametrize("batch_size", [2, 64])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_likeliest_text_is_that_without_cache_or_company(kind: str, batch_size: int) -> None:
    """Prompts that are shared, rows that leave and others that take their places; against every token from scratch."""
    made = tiny.model(kind, seed=3)
    found = generate(made, MANY, None, Sampling(max_new_tokens=12), eos_ids=EOS, batch_size=batch_size)
    expected: list[list[int]] = []
    for prompt in PROMPTS:
        said: list[int] = []
        while len(said) < 12 and not (said and said[-1] in EOS):
            said.append(int(made(input_ids=torch.tensor([prompt + said])).logits[0, -1].argmax()))
        expected.append(said)
    assert len({tuple(one) for one in expected}) > 2
    assert [one.tokens for one in found] == [expected[i % 6] for i in range(18)]


@pytest.mark.parametrize("batch_size", [3, 64])
def test_asking_ahead_ends_where_all_end_at_once(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No states are kept, and the last rows that speak end by themselves, before the limit."""
    expected = drawn(batch_size=batch_size)
    assert any(one.finished for one in expected)
    monkeypatch.setattr(room, "_runs_ahead", lambda _: True)
    assert [(one.tokens, one.finished) for one in drawn(batch_size=batch_size)] == [
        (one.tokens, one.finished) for one in expected
    ]
    made = constant({tiny.END: 9.0})
    said = generate(made, [[tiny.USER]] * 3, None, Sampling(max_new_tokens=5), eos_ids=EOS)
    assert [one.tokens for one in said] == [[tiny.END]] * 3


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.7, 1.0])
def test_who_takes_anothers_place_says_what_he_would_have_said(
    share: float, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows for fourteen sequences, filled again at once, when two or all of them are free, or in between: rows
    that are done wait beside others that go on for as long as they may."""
    alone = with_states(batch_size=1, count=14)
    assert {one.finished for one in alone} == {False, True}
    monkeypatch.setattr(room, "REFILL_AT", share)
    monkeypatch.setattr(room, "_runs_ahead", lambda _: ahead)
    assert_alike(with_states(batch_size=3, count=14), alone)


def test_rows_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged answers to many prompts take about as many steps as they have tokens for each row."""
    prompts = [one.tolist() for one in tiny.sequences([4] * 64, seed=2)]
    keys = [sample_key(3, 0, str(i), 0) for i in range(len(prompts))]
    steps: list[int] = []
    own = fused._RunningFused.step  # pyright: ignore[reportPrivateUsage]

    def counted(running: Any, tokens: torch.Tensor) -> torch.Tensor:
        steps.append(len(tokens))
        return own(running, tokens)

    monkeypatch.setattr(fused._RunningFused, "step", counted)  # pyright: ignore[reportPrivateUsage]
    done: list[int] = []
    made = generate(
        tiny.model("llama"),
        prompts,
        keys,
        Sampling(max_new_tokens=40),
        eos_ids=EOS,
        batch_size=8,
        on_progress=done.append,
    )
    tokens = sum(len(one.tokens) for one in made)
    longest = [max(len(one.tokens) for one in made[i : i + 8]) for i in range(0, 64, 8)]
    assert sum(done) == 64
    assert tokens / 8 < len(steps) < tokens / 8 / 0.8 + max(longest)
    assert len(steps) < 0.7 * sum(longest)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_prompt_is_computed_once_for_all_of_its_samples(kind: str) -> None:
    made = tiny.model(kind)
    decoder = decoder_of(made)
    assert isinstance(decoder, FusedDecoder if kind == "llama" else ModuleDecoder)
    rows: list[int] = []
    embedding = made.get_input_embeddings()
    embedding.register_forward_pre_hook(lambda _module, inputs: rows.append(inputs[0].shape[0]))  # pyright: ignore
    generate(decoder, [PROMPTS[0]] * 5, KEYS[:5], Sampling(max_new_tokens=3), eos_ids=EOS)
    assert rows[0] == 1
    assert max(rows[1:]) == 5


# -- stop strings, and tokens as they come --------------------------------------------------------------------------


def cut_short(responses: list[Generated], stop: tuple[str, ...]) -> list[tuple[list[int], bool]]:
    """What stops would leave of responses drawn without them: up to the first token after which one is there."""
    left: list[tuple[list[int], bool]] = []
    for one in responses:
        texts = [tiny.chat().decode(one.tokens[:n]) for n in range(1, len(one.tokens) + 1)]
        count = next((n for n, text in enumerate(texts, 1) if any(s in text for s in stop)), None)
        left.append((one.tokens[:count], one.finished or count is not None))
    return left


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_stop_string_ends_a_response_whatever_the_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = drawn(kind, top_p=1.0)
    others = {*range(len(tiny.SPECIAL)), tiny.ID["dog"]}
    first, second = next(r.tokens[2:4] for r in free if len(r.tokens) > 5 and not others & {*r.tokens[:4]})
    stop = (f"{tiny.VOCABULARY[first]} {tiny.VOCABULARY[second]}", "dog")  # two tokens, and one
    expected = cut_short(free, stop)
    cut = [a[0] for a, b in zip(expected, free, strict=True) if a[0] != b.tokens]
    assert {second, tiny.ID["dog"]} <= {tokens[-1] for tokens in cut}
    assert len(cut) < len(free)
    stopped = tiny.chat().stopper(stop)
    backwards = list(reversed(range(len(MANY))))
    for share in (room.COMPACT_AT, 1.0, 0.0):
        monkeypatch.setattr(room, "COMPACT_AT", share)
        options: list[dict[str, Any]] = [{}, {"batch_size": 1}, {"batch_size": 5}, {"order": backwards}]
        for more in options:
            made = drawn(kind, top_p=1.0, stopped=stopped, **more)
            assert [(r.tokens, r.finished) for r in made] == expected
            for one, whole in zip(made, free, strict=True):
                assert one.logprobs == pytest.approx(whole.logprobs[: len(one.tokens)], abs=1e-5)


def test_a_stop_string_at_the_limit_has_ended_the_response() -> None:
    made = constant({tiny.ID["yes"]: 2.0})
    for limit, finished in ((1, False), (2, True), (3, True)):
        (said,) = generate(
            made,
            [[tiny.USER]],
            None,
            Sampling(max_new_tokens=limit),
            eos_ids=EOS,
            stopped=tiny.chat().stopper(["yes yes"]),
        )
        assert (said.tokens, said.finished) == ([tiny.ID["yes"]] * min(limit, 2), finished)


def test_tokens_are_heard_as_they_come() -> None:
    """Each response's own tokens, all of them and in order, side by side with those of its batch."""
    heard: list[tuple[int, int]] = []
    made = drawn(
        batch_size=7,
        stopped=tiny.chat().stopper(["dog", "red"]),
        on_token=lambda row, token: heard.append((row, token)),
    )
    assert [[token for row, token in heard if row == i] for i in range(len(MANY))] == [r.tokens for r in made]
    assert [row for row, _ in heard[:7]] != [heard[0][0]] * 7
    assert sum(len(r.tokens) for r in made) == len(heard)


def test_who_hears_may_end_it() -> None:
    heard: list[int] = []

    def enough(_row: int, token: int) -> None:
        heard.append(token)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(
            constant({tiny.ID["yes"]: 2.0}),
            [[tiny.USER]],
            None,
            Sampling(max_new_tokens=50),
            eos_ids=EOS,
            on_token=enough,
        )
    assert heard == [tiny.ID["yes"]] * 3


def constant(logits: dict[int, float]) -> PreTrainedModel:
    """A model that always says the same: its last norm is a constant, so that the head alone speaks."""
    made = tiny.model("gpt2", spread=0.0)
    with torch.no_grad():
        decoder: Any = made.base_model
        decoder.ln_f.weight.fill_(0.0)
        decoder.ln_f.bias[0] = 1.0
        decoder.wte.weight.fill_(0.0)
        decoder.wte.weight[:, 0] = -50.0
        for token, logit in logits.items():
            decoder.wte.weight[token, 0] = logit
    return made


def test_tokens_come_as_often_as_they_should() -> None:
    made = constant({tiny.ID["yes"]: math.log(5), tiny.ID["no"]: math.log(3), tiny.ID["one"]: math.log(2)})

    def shares(temperature: float, top_p: float, draws: int = 2000) -> list[float]:
        keys = [sample_key(7, 0, "p", k) for k in range(draws)]
        sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=1)
        said = generate(made, [[tiny.USER]] * draws, keys, sampling, eos_ids=EOS, batch_size=draws)
        assert not any(s.finished for s in said)
        return [sum(s.tokens == [tiny.ID[word]] for s in said) / draws for word in ("yes", "no", "one")]

    # Four standard deviations of a share of 2000 draws are at most .045.
    assert shares(1.0, 1.0) == pytest.approx([0.5, 0.3, 0.2], abs=0.045)
    assert shares(0.5, 1.0) == pytest.approx([25 / 38, 9 / 38, 4 / 38], abs=0.045)
    assert shares(1.0, 0.6) == pytest.approx([5 / 8, 3 / 8, 0.0], abs=0.045)


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    """A vocabulary of three blocks and a piece, much of it out of the nucleus, against a plain float64 loop."""
    rng = np.random.default_rng(0)
    chances = rng.exponential(size=(40, 777)) * (rng.random((40, 777)) < 0.2)
    chances = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
    uniforms = np.concatenate([[0.0, 1 - 2**-40], rng.random(38)])
    expected: list[int] = []
    for row, uniform in zip(chances.astype(np.float64), uniforms, strict=True):
        left = uniform * row.sum()
        token = 0
        while left >= row[token]:
            left -= row[token]
            token += 1
        expected.append(token)
    found = draw(torch.from_numpy(chances), torch.from_numpy(uniforms))
    assert found.tolist() == expected
    assert all(chances[b, token] > 0 for b, token in enumerate(expected))


def test_greedy_takes_the_largest_and_stops_at_the_limit() -> None:
    made = constant({tiny.ID["yes"]: 2.0, tiny.ID["no"]: 1.0})
    (said,) = generate(made, [[tiny.USER]], None, Sampling(max_new_tokens=4), eos_ids=EOS)
    assert said.tokens == [tiny.ID["yes"]] * 4
    assert not said.finished


@pytest.mark.parametrize("end", EOS)
def test_any_of_several_eos_tokens_ends_a_response(end: int) -> None:
    made = constant({end: 9.0, tiny.ID["yes"]: 1.0})
    (said,) = generate(made, [[tiny.USER]], None, Sampling(max_new_tokens=4), eos_ids=EOS)
    assert (said.tokens, said.finished) == ([end], True)  # the EOS is a token of the response, the last
    (other,) = generate(made, [[tiny.USER]], None, Sampling(max_new_tokens=4), eos_ids=[tiny.PAD])
    assert (other.tokens, other.finished) == ([end] * 4, False)
