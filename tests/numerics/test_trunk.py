"""One trunk for all parts: padding, splitting, adapters, merging, and what is written for others to open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.data.batching import pad_right
from plaudit.models.checkpoints import load_tensors, save_peft, save_tensors
from plaudit.models.memory import keys_of
from plaudit.models.sequences import bundle, last_states, lay_out, predicting_states, run_lower
from plaudit.models.trunk import FullCopy, Trunk
from plaudit.tensors import token_logprobs
from plaudit.types import InputError

KINDS = sorted(tiny.SHAPES)
LENGTHS, PROMPTS = (9, 4, 14, 6), (4, 2, 5, 5)


def alone(model: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Logits [S, V] of one sequence by itself, as transformers computes them: no mask, no positions, no padding."""
    with torch.no_grad():
        return model(input_ids=tokens[None]).logits[0]


# -- padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(kind: str, side: str) -> None:
    """GPT-2 has absolute positions: without explicit position ids it fails on the left."""
    made = tiny.trunk(kind)
    tokens = tiny.sequences(LENGTHS)
    padded = torch.full((len(tokens), 16), tiny.PAD)
    mask = torch.zeros(len(tokens), 16, dtype=torch.bool)
    for b, one in enumerate(tokens):
        place = slice(16 - len(one), 16) if side == "left" else slice(0, len(one))
        padded[b, place], mask[b, place] = one, True
    states = made(padded, mask, part=None)
    for b, one in enumerate(tokens):
        found = made.logits(states[b][mask[b]], part=None)
        torch.testing.assert_close(found, alone(made.model, one), atol=1e-5, rtol=1e-5)
        # Nor does it matter what stands in the padding.
    junk = torch.where(mask, padded, torch.full_like(padded, tiny.ID["yes"]))
    torch.testing.assert_close(made(junk, mask, part=None)[mask], states[mask], atol=0, rtol=0)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logprobs_of_a_ragged_batch_equal_those_of_each_response_alone(kind: str, depth: int) -> None:
    """At a temperature, adapter on, against log-softmaxes of the merged model in a loop. In float64:
    float32 rounds by more than the bound on some processors."""
    made = Trunk(tiny.model(kind).double(), depth)
    made.add_part("policy", "lora", rank=4, seed=1)
    made.part("policy").double()
    tiny.move(made, "policy")
    merged = made.decoding_copy("policy")
    tokens = tiny.sequences(LENGTHS)
    states = predicting_states(made, run_lower(made, tiny.bundles(tokens, PROMPTS, last=False)), part="policy")
    responses = torch.cat([one[n:] for one, n in zip(tokens, PROMPTS, strict=True)])
    found, _ = token_logprobs(states, responses, made.head("policy"), temperature=0.7)
    expected: list[float] = []
    for one, n in zip(tokens, PROMPTS, strict=True):
        logprobs = (alone(merged, one).double() / 0.7).log_softmax(-1)
        # The token at place s is predicted at s - 1.
        expected += [logprobs[s - 1, one[s]].item() for s in range(n, len(one))]
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), atol=5e-6, rtol=0)


@pytest.mark.parametrize("depth", [0, 1])
@torch.no_grad()
def test_a_window_holds_beside_a_shared_prompt(depth: int) -> None:
    """Three lines of one micro-batch: one longer than the window, two answers to one prompt, one that is short."""
    made = tiny.trunk("gemma3_text", depth)
    prompt, one, other, long, short = tiny.sequences([4, 5, 5, 30, 9])
    bundles = [bundle(long[:20], [long[20:]]), bundle(prompt, [one, other]), bundle(short[:3], [short[3:]])]
    found = last_states(made, bundles, part=None)
    rows = [long, torch.cat([prompt, one]), torch.cat([prompt, other]), short]
    for state, tokens in zip(found, rows, strict=True):
        single = made.model.base_model(input_ids=tokens[None]).last_hidden_state[0, -1]  # pyright: ignore
        torch.testing.assert_close(state, single, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_last_state_is_that_of_the_last_real_token() -> None:
    made = tiny.trunk("gpt2")
    tokens = tiny.sequences(LENGTHS)
    states = last_states(made, run_lower(made, tiny.bundles(tokens)), part=None)
    for b, one in enumerate(tokens):
        single = made.model.base_model(input_ids=one[None]).last_hidden_state[0, -1]  # pyright: ignore
        torch.testing.assert_close(states[b], single, atol=1e-5, rtol=1e-5)


# -- the split ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
@pytest.mark.parametrize("depth", [1, 2])
@torch.no_grad()
def test_the_lower_trunk_and_the_top_are_the_whole(kind: str, depth: int) -> None:
    made = tiny.trunk(kind, depth, layers=3)
    assert (made.split_depth, made.notes) == (depth, [])
    tokens = tiny.sequences(LENGTHS)
    made.reading.count = 20
    boundary = [b.inputs for b in run_lower(made, tiny.bundles(tokens))]
    assert [tuple(b.shape) for b in boundary] == [(n, 32) for n in LENGTHS]
    padded, mask = pad_right(boundary, 0)
    states = made(padded, mask, part=None)
    for b, one in enumerate(tokens):
        found = made.logits(states[b, : len(one)], part=None)
        torch.testing.assert_close(found, alone(made.model, one), atol=1e-5, rtol=1e-5)
    made.add_part("policy", "lora", rank=2)
    adapted = {int(path.split(".layers.")[1].split(".")[0]) for path in made.part("policy").paths}  # pyright: ignore
    assert adapted == set(range(depth, 3))  # nothing below the split is adapted


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_on_disk_are_the_same_to_the_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some in memory (the first bundle's), the others in a file that is gone with the act; a full disk costs passes
    and nothing else."""
    made = Trunk(tiny.model().to(dtype), 1, boundary_gigabytes=9 * 32 * dtype.itemsize / 1e9)  # pyright: ignore
    made.memory.gigabytes_on_disk = 1.0
    bundles = tiny.bundles(tiny.sequences(LENGTHS), PROMPTS)
    made.reading.count = 1
    passes: list[int] = []
    made.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    expected = [one.inputs for one in run_lower(made, bundles)]
    assert len(passes) == 4
    with made.memory.kept():
        for _ in range(3):
            for one, other in zip(run_lower(made, bundles), expected, strict=True):
                assert torch.equal(one.inputs, other)
        assert len(passes) == 8
        file = made.memory._file  # pyright: ignore[reportPrivateUsage]
        assert file is not None
        assert file.seek(0, 2) == (sum(LENGTHS) - 9) * 32 * dtype.itemsize
    assert file.closed
    made.memory.gigabytes_on_disk = 6 * 32 * dtype.itemsize / 1e9  # room for one more bundle
    passes.clear()
    with made.memory.kept():
        for _ in range(2):
            run_lower(made, bundles)
    assert len(passes) == 4 + 2

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            self.size = 0

        def seek(self, *_: int) -> int:
            return self.size

        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

        def truncate(self, size: int) -> None:
            self.size = size

        def close(self) -> None: ...

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    made.memory.gigabytes_on_disk = 1.0
    passes.clear()
    with made.memory.kept():
        for _ in range(2):
            for one, other in zip(run_lower(made, bundles), expected, strict=True):
                assert torch.equal(one.inputs, other)
    assert len(passes) == 4 + 3


@torch.no_grad()
def test_remembered_states_change_nothing() -> None:
    """All of them, those that fit into the budget (the first two, of 9 and 4 tokens), or none: the same states, from
    fewer or more passes."""
    made = tiny.trunk("llama", 1)
    bundles = tiny.bundles(tiny.sequences(LENGTHS), PROMPTS)
    expected = [one.inputs for one in run_lower(made, bundles)]
    rows: list[int] = []
    made.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    one_row = 14 * 32 * 4 / 1e9
    made.reading.count = 1
    for gigabytes, passes in ((1.0, 4), (1.1 * one_row, 4 + 2), (0.0, 8)):
        rows.clear()
        made.memory.gigabytes = gigabytes
        with made.memory.kept():
            for _ in range(2):
                found = run_lower(made, bundles)
                for one, other in zip(found, expected, strict=True):
                    torch.testing.assert_close(one.inputs, other, atol=1e-6, rtol=1e-5)
        assert sum(rows) == passes
    assert made.memory.get(keys_of(bundles[0])[0]) is None
    # Equal tokens, but parted otherwise, are no equal states.
    tokens = tiny.sequences([9])[0]
    made.memory.gigabytes = 1.0
    with made.memory.kept():
        together = run_lower(made, [bundle(tokens[:3], [tokens[3:]])])
        apart = run_lower(made, [bundle(tokens[:3], [tokens[3:6], tokens[6:]])])
    assert not torch.allclose(together[0].inputs, apart[0].inputs)


def test_a_network_that_cannot_be_split_says_so_and_runs_whole() -> None:
    made = tiny.trunk("gpt2", 1)
    assert made.split_depth == 0
    assert len(made.notes) == 1
    assert "split_depth" in made.notes[0]
    tokens = tiny.sequences([5])
    assert torch.equal(run_lower(made, tiny.bundles(tokens))[0].inputs, tokens[0])


def test_a_split_deeper_than_the_model_is_an_error() -> None:
    with pytest.raises(InputError, match=r"split_depth is 2, but the model has 2 layers: use 0..1"):
        tiny.trunk(split_depth=2)
    with pytest.raises(InputError, match="full trains every layer"):
        tiny.trunk(split_depth=1).add_part("policy", "full")


# -- adapters -------------------------------------------------------------------------------------------------------


def states_of(made: Trunk, part: str | None) -> Tensor:
    padded, mask = pad_right([b.inputs for b in run_lower(made, tiny.bundles(tiny.sequences(LENGTHS)))], 0)
    return made(padded, mask, part=part)[mask]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_adapter_is_the_frozen_model_to_the_bit(kind: str) -> None:
    plain, made = tiny.trunk(kind), tiny.trunk(kind)
    plain.fused = made.fused = None
    before, weights = states_of(plain, None), made.hash()
    for name, way in (("policy", "lora"), ("judge", "lora"), ("copy", "full")):
        made.add_part(name, way, rank=4, seed=1)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(states_of(made, name), before, atol=0, rtol=0)  # a part starts as the model itself
        tiny.move(made, name)
    assert torch.equal(states_of(made, None), before)
    moved = [states_of(made, name) for name in ("policy", "judge", "copy")]
    assert all((one - before).abs().max() > 1e-2 for one in moved)
    # Nor is an adapter left on for those who call the model itself.
    states_of(made, "policy")
    one = tiny.sequences([9])[0]
    assert torch.equal(alone(made.model, one), alone(plain.model, one))
    made._hash = None  # pyright: ignore[reportPrivateUsage]
    assert made.hash() == weights


@pytest.mark.parametrize("way", ["lora", "full"])
def test_an_update_moves_its_own_part_and_nothing_else(way: str) -> None:
    made = tiny.trunk()
    for name in ("policy", "value"):
        made.add_part(name, way, rank=4, seed=2)  # pyright: ignore[reportArgumentType]
        tiny.move(made, name, by=0.02)
    with torch.no_grad():
        before = {name: states_of(made, name) for name in (None, "policy", "value")}
    made.part("policy").train()
    loss = states_of(made, "policy").square().sum()
    parameters = list(made.part("policy").parameters())
    loss.backward()
    assert [p.grad for p in made.part("value").parameters() if p.grad is not None] == []
    assert [p for p in made.model.parameters() if p.requires_grad or p.grad is not None] == []
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad.sign()
        assert torch.equal(states_of(made, None), before[None])
        assert torch.equal(states_of(made, "value"), before["value"])
        assert not torch.allclose(states_of(made, "policy"), before["policy"])


@pytest.mark.parametrize(
    ("kind", "depth", "way"),
    [(kind, 0, way) for kind in KINDS for way in ("lora", "full")] + [("llama", 1, "lora"), ("gpt_neox", 1, "lora")],
)
def test_layers_that_are_computed_twice_give_the_same_gradients(kind: str, depth: int, way: str) -> None:
    """Both parts have run forward before either runs backward, when the switch is off: each has its own adapter on."""
    found: list[list[Tensor]] = []
    calls: list[int] = []
    for checkpointing in (False, True):
        made = Trunk(tiny.model(kind), depth, activation_checkpointing=checkpointing)
        made.fused = None  # tests/numerics/test_fused_layers.py looks at these
        assert made.activation_checkpointing == checkpointing
        for name in ("policy", "value"):
            made.add_part(name, way, rank=4, seed=2)  # pyright: ignore[reportArgumentType]
            tiny.move(made, name, seed=len(name), by=0.05)
        passes: list[int] = []
        layer = next(m for n, m in made.named_modules() if n.endswith(".1") and "policy" not in n and "value" not in n)
        layer.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        losses = [(states_of(made, name) * scale).square().mean() for name, scale in (("policy", 1.0), ("value", 2.0))]
        for loss in losses:
            loss.backward()
        found.append([p.grad for n in ("policy", "value") for p in made.part(n).parameters() if p.grad is not None])
        calls.append(len(passes))
        with torch.no_grad():
            assert made.switch.active is None
            states_of(made, "policy")  # nothing is computed twice where nothing is trained
        assert len(passes) == calls[-1] + (way == "lora")
    if way == "lora":
        assert calls == [2, 4]
    assert len(found[0]) == len(found[1]) > 0
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= 1e-6 * other.norm()


@pytest.mark.parametrize("way", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_merged_equals_unmerged(kind: str, way: str) -> None:
    made = tiny.trunk(kind)
    made.add_part("policy", way, rank=4, seed=1)  # pyright: ignore[reportArgumentType]
    tiny.move(made, "policy", by=0.05)
    padded, mask = pad_right(tiny.sequences(LENGTHS), 0)
    unmerged = made.logits(made(padded, mask, part="policy")[mask], part="policy")
    merged = made.decoding_copy("policy")
    assert not any(module._forward_hooks for module in merged.modules())  # pyright: ignore[reportPrivateUsage]
    one_by_one = torch.cat([alone(merged, one) for one in tiny.sequences(LENGTHS)])
    torch.testing.assert_close(one_by_one, unmerged, atol=1e-5, rtol=1e-5)
    # Merging anew from the frozen weights leaves nothing of an earlier state behind.
    tiny.move(made, "policy", seed=9, by=0.05)
    made.merge_into(merged, "policy")
    fresh = made.decoding_copy("policy")
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), fresh.parameters(), strict=True))


def test_a_tied_embedding_stays_tied_in_a_full_copy() -> None:
    made = tiny.trunk("qwen2")
    copied = made.add_part("policy", "full")
    assert isinstance(copied, FullCopy)
    assert copied.head.weight is copied.decoder.get_input_embeddings().weight  # pyright: ignore


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
@torch.no_grad()
def test_dropout_is_off_in_every_part(kind: str) -> None:
    """The configurations ask for a dropout of one half, and the model comes in training mode."""
    made = Trunk(tiny.model(kind).train())
    made.add_part("lora", "lora", rank=4)
    made.add_part("full", "full")
    for part in (None, "lora", "full"):
        assert torch.equal(states_of(made, part), states_of(made, part))
    decoder = made.decoding_copy("full")
    tokens = tiny.sequences([8])[0]
    assert torch.equal(alone(decoder, tokens), alone(decoder, tokens))


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_adapter_opens_with_peft(kind: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    depth = 0 if kind == "gpt2" else 1
    made = tiny.trunk(kind, depth)
    made.add_part("policy", "lora", rank=4, alpha=8.0, seed=1)
    tiny.move(made, "policy")
    save_peft(made, "policy", tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny.model(kind), str(tmp_path))
    for one in tiny.sequences(LENGTHS):
        ours = alone(made.decoding_copy("policy"), one)
        assert (ours - alone(made.model, one)).abs().max() > 1e-2
        torch.testing.assert_close(alone(theirs, one), ours, atol=1e-5, rtol=1e-5)


def test_an_adapter_belongs_to_its_trunk(tmp_path: Path) -> None:
    one, other = tiny.trunk(seed=0), tiny.trunk(seed=1)
    one.add_part("policy", "lora", rank=2)
    save_tensors(tmp_path / "part.safetensors", one.part("policy").state_dict(), {"trunk": one.hash()})
    assert load_tensors(tmp_path / "part.safetensors", trunk_hash=one.hash())
    with pytest.raises(InputError, match="belongs to another trunk"):
        load_tensors(tmp_path / "part.safetensors", trunk_hash=other.hash())
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_tensors(tmp_path / "missing.safetensors")


# -- layouts --------------------------------------------------------------------------------------------------------


def test_a_layout_by_hand() -> None:
    """One response each: places count up to the end, and nothing behind it is real. Several: each goes on from the
    prompt, and sees it and itself."""
    device = torch.device("cpu")
    several = lay_out([bundle(torch.tensor([7, 8]), [torch.tensor([9]), torch.tensor([5, 6])])], device)
    assert several.mask_BS.all()
    assert several.positions_BS.tolist() == [[0, 1, 2, 2, 3]]
    assert several.allowed_BSS is not None
    assert several.allowed_BSS[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    unlike = [bundle(torch.tensor([7, 8]), [torch.tensor([9])]), bundle(torch.tensor([7]), [torch.tensor([9])])]
    ragged = lay_out(unlike, device)
    assert ragged.mask_BS.tolist() == [[True, True, True], [True, True, False]]
    assert ragged.positions_BS.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert ragged.allowed_BSS is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_whose_answers_see_each_other_shares_no_prompts(dtype: torch.dtype) -> None:
    """It looks back whatever it is told; the same network as it is shares them, in half precision too."""
    honest, deaf = (tiny.model("llama").to(dtype=dtype) for _ in range(2))  # pyright: ignore
    forward = deaf.base_model.forward

    def looks_back(*args: Any, **given: Any) -> Any:
        mask = given.get("attention_mask")
        return forward(*args, **(given if mask is None or mask.dim() == 2 else given | {"attention_mask": None}))

    deaf.base_model.forward = looks_back
    assert Trunk(honest).shares_prompts
    assert not Trunk(deaf).shares_prompts
