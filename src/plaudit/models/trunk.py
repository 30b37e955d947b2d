"""One trunk instead of four models.

The frozen weights of a causal language model, held once. Below the split depth all parts are the same network:
`lower` runs once per token. Above it each named part (policy, value, reward, ...) is either a LoRA adapter on the
shared weights or, at split depth 0, a full copy; the part `None` is the frozen model itself, which is the reference.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit.models.costs import tokens_at_a_time
from plaudit.models.decoding import Decoder, ModuleDecoder
from plaudit.models.family import ROUNDED
from plaudit.models.fitting import tokens_read
from plaudit.models.fused import FusedDecoder, fused_decoder
from plaudit.models.fused_layers import fused_layers
from plaudit.models.lora import LoRA, Switch, hook_into, linears_in, merged_weight
from plaudit.models.memory import StateMemory
from plaudit.models.packed import pack_linears
from plaudit.models.quantised import is_quantised, make_plain
from plaudit.models.recompute import recomputing
from plaudit.models.structure import find_layers, name_of_layers, split_decoder
from plaudit.tensors import Head, logits_chunk
from plaudit.types import InputError


class FullCopy(nn.Module):
    """A part with a decoder and head of its own: full fine-tuning behind the same calls."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        # One deepcopy for both, so that a tied embedding stays tied.
        self.decoder, self.head = copy.deepcopy((model.base_model, model.get_output_embeddings()))
        for parameter in self.parameters():
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()


Part = LoRA | FullCopy


class Trunk(nn.Module):
    """A frozen causal LM, its layers above `split_depth` adapted by named parts.

    With `activation_checkpointing` these layers keep their inputs alone for the backward pass, which computes the rest
    once more. `notes` says what had to be done otherwise than asked (a network that cannot be split runs whole). Up to
    `boundary_gigabytes` of what leaves the layers below the split are kept while they are needed again, and up to
    `boundary_disk_gigabytes` more on disk. `decoding_dtype`: that of the products of decoding, where it is not the
    network's own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        split_depth: int = 0,
        *,
        activation_checkpointing: bool = False,
        boundary_gigabytes: float = 2.0,
        boundary_disk_gigabytes: float = 0.0,
        decoding_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.notes: list[str] = []
        self.switch = Switch()
        self.parts = nn.ModuleDict()
        self.memory = StateMemory(boundary_gigabytes, on_disk=boundary_disk_gigabytes)
        self._read = {"lower": torch.zeros((), dtype=torch.long), "top": torch.zeros((), dtype=torch.long)}
        self.reading = tokens_read(tokens_at_a_time(model.device))
        """Tokens at a time where nothing is trained."""
        self.decoding_dtype = None if decoding_dtype == model.dtype else decoding_dtype
        path, layers = find_layers(model)
        if not 0 <= split_depth < len(layers):
            raise InputError(
                f"model.split_depth is {split_depth}, but the model has {len(layers)} layers: use 0..{len(layers) - 1}"
            )
        decoder = model.base_model
        # Tuples hide the views from nn.Module: they own no weights.
        self._views: tuple[nn.Module | None, nn.Module] = (None, decoder)
        if split_depth:
            views = split_decoder(model, decoder, layers, split_depth)
            if views is None or not self._reproduces(views):
                self.notes.append("this architecture cannot be split exactly: split_depth is taken as 0")
                split_depth = 0
            else:
                self._views = views
        self.split_depth = split_depth
        self._layers_name = name_of_layers(decoder, layers)
        if activation_checkpointing and self._layers_name is None:
            self.notes.append("the layers of this architecture cannot be computed twice: activations are kept")
        self.activation_checkpointing = activation_checkpointing and self._layers_name is not None
        self.linears = linears_in([(f"{path}.{i}", layers[i]) for i in range(split_depth, len(layers))])
        hook_into(self.linears, self.switch)
        pack_linears(self.model)
        self.fused = fused_layers(model, self.linears)
        self._softcap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self._hash: str | None = None
        self._check_head()
        self.shares_prompts = self._shares()

    # -- parts --------------------------------------------------------------------------------------------------

    def add_part(
        self, name: str, kind: Literal["lora", "full"], *, rank: int = 16, alpha: float = 32.0, seed: int = 0
    ) -> Part:
        """A new part that starts as the frozen model itself (a LoRA's B is 0; a copy is equal)."""
        if kind == "full" and is_quantised(self.model):
            raise InputError("adapter.kind: full trains every weight: it needs model.quantise: none")
        part: Part
        if kind == "lora":
            key = f"{seed}/{name}".encode()
            part = LoRA(self.linears, rank=rank, alpha=alpha, seed=int.from_bytes(hashlib.sha256(key).digest()[:7]))
        elif self.split_depth == 0:
            part = FullCopy(self.model)
        else:
            raise InputError("adapter.kind: full trains every layer: it needs model.split_depth: 0")
        self.parts[name] = part
        return part

    def part(self, name: str) -> Part:
        return cast(Part, self.parts[name])

    @property
    def _has_copies(self) -> bool:
        """A copy runs through transformers' modules. So does then all else: before it moves it gives the trunk's very
        numbers."""
        return any(isinstance(part, FullCopy) for part in self.parts.values())

    def remove_part(self, name: str) -> None:
        del self.parts[name]

    @contextmanager
    def _using(self, name: str | None) -> Generator[nn.Module]:
        part = None if name is None else self.part(name)
        top = part.decoder if isinstance(part, FullCopy) else self._views[1]
        if self.activation_checkpointing and self._layers_name is not None:
            top = recomputing(top, self._layers_name, self.switch)
        with self.switch.on(part if isinstance(part, LoRA) else None):
            yield top

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(
        self,
        inputs: Tensor,
        mask_BS: Tensor,
        *,
        part: str | None,
        mode: Literal["top", "lower"] = "top",
        positions_BS: Tensor | None = None,
        allowed_BSS: Tensor | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """States [B, S, D]: after the final norm ("top"), or at the boundary ("lower"). With `read` those [n, D] at
        these places of the flattened batch, ascending, each once: the last layer need not compute the others.

        `inputs` are token ids [B, S] for "lower", and for "top" at split depth 0; boundary states [B, S, D] else.
        `mask_BS` is True on real tokens; positions count them unless given, so that padding on either side changes
        nothing. `allowed_BSS`, where given, says all that a token may look at (itself among it), padding as well.
        """
        # Added up where they are: a GPU need not be waited for.
        self._read[mode] = self._read[mode].to(mask_BS.device) + mask_BS.sum()
        if positions_BS is None:
            positions_BS = (mask_BS.long().cumsum(dim=1) - 1).clamp(min=0)
        if (fused := self.fused) is not None and not self._has_copies:
            return fused(
                inputs,
                mask_BS,
                positions_BS,
                layers=range(self.split_depth) if mode == "lower" else range(self.split_depth, len(fused.layers)),
                lora=None if part is None else cast(LoRA, self.part(part)),
                allowed_BSS=allowed_BSS,
                read=read,
                checkpointing=self.activation_checkpointing,
            )
        seen = mask_BS.long() if allowed_BSS is None else allowed_BSS.unsqueeze(1)
        ids = {"input_ids": inputs} if inputs.dim() == 2 else {"inputs_embeds": inputs}
        mask = {"attention_mask": seen, "position_ids": positions_BS, "use_cache": False}
        if mode == "lower":
            lower = self._views[0]
            assert lower is not None, "lower is empty at split depth 0"
            states_BSD = lower(**ids, **mask).last_hidden_state
        else:
            with self._using(part) as top:
                states_BSD = top(**ids, **mask).last_hidden_state
        return states_BSD if read is None else states_BSD.flatten(0, 1).index_select(0, read)

    def logits(self, states: Tensor, *, part: str | None) -> Tensor:
        """states [..., D] -> logits [..., V] by the part's own head (a LoRA's head is the trunk's)."""
        owner = None if part is None else self.part(part)
        head = owner.head if isinstance(owner, FullCopy) else self.model.get_output_embeddings()
        logits = cast(nn.Module, head)(states)
        return torch.tanh(logits / self._softcap) * self._softcap if self._softcap else logits

    def head(self, part: str | None) -> Head:
        """The head that a part speaks by."""
        frozen = part is None or not isinstance(self.part(part), FullCopy)
        return Head(
            unembed=lambda states: self.logits(states, part=part),
            frozen=frozen,
            chunk=logits_chunk(self.vocabulary, frozen=frozen, cpu=self.device.type == "cpu"),
        )

    # -- merging ------------------------------------------------------------------------------------------------

    def decoder(self, part: str | None) -> Decoder:
        """What generates as the part does now: fused where the network allows it, else a copy of the modules.

        It keeps the boundary states of what it reads, where it is fused, the trunk is split, and nothing is rounded.
        """
        owner, dtype = None if part is None else self.part(part), self.decoding_dtype
        copied = isinstance(owner, FullCopy)
        base, head = (owner.decoder, cast(nn.Module, owner.head)) if copied else (None, None)
        boundary_at = self.split_depth if dtype is None else 0
        fused = fused_decoder(self.model, base=base, head=head, boundary_at=boundary_at, shared=self.fused, dtype=dtype)
        decoder = fused
        if decoder is None:
            decoder = ModuleDecoder(self.decoding_copy(part).to(dtype or self.model.dtype))  # pyright: ignore
        self.refresh(decoder, part)
        return decoder

    @torch.no_grad()
    def refresh(self, decoder: Decoder, part: str | None) -> None:
        """Set the weights of a decoder to those of the part as it is now."""
        owner = None if part is None else self.part(part)
        if isinstance(decoder, ModuleDecoder):
            self.merge_into(decoder.model, part)
        elif isinstance(owner, FullCopy):
            cast(FusedDecoder, decoder).reload()
        elif isinstance(owner, LoRA):
            fused = cast(FusedDecoder, decoder)
            for path in owner.paths:
                fused.load(path, merged_weight(self.linears[path], owner.at(path)))

    def decoding_copy(self, part: str | None) -> PreTrainedModel:
        """A separate plain model with the part merged in. The trunk itself is never merged in place: taking a
        low-rank term off again does not give back the same bits."""
        merged = copy.deepcopy(self.model)
        for module in merged.modules():
            module._forward_hooks.clear()  # pyright: ignore[reportPrivateUsage]
        make_plain(merged)
        self.merge_into(merged, part)
        return merged

    @torch.no_grad()
    def merge_into(self, model: PreTrainedModel, part: str | None) -> None:
        """Set the weights of a decoding copy to those of the part as it is now."""
        owner = None if part is None else self.part(part)
        if isinstance(owner, LoRA):
            for path in owner.paths:
                weight = cast(nn.Linear, model.get_submodule(path)).weight
                weight.data.copy_(merged_weight(self.linears[path], owner.at(path)))
        elif isinstance(owner, FullCopy):
            model.base_model.load_state_dict(owner.decoder.state_dict())
            cast(nn.Module, model.get_output_embeddings()).load_state_dict(cast(nn.Module, owner.head).state_dict())

    def tokens_read(self) -> tuple[int, int]:
        """How many real tokens have gone through the layers below the split, and through those above it."""
        return int(self._read["lower"]), int(self._read["top"])

    # -- facts --------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def vocabulary(self) -> int:
        return cast(int, self.model.config.get_text_config().vocab_size)

    @property
    def width(self) -> int:
        return cast(int, self.model.config.get_text_config().hidden_size)

    def remembers(self, num_tokens: int) -> bool:
        """Whether the boundary states of so many tokens have room in memory."""
        return num_tokens * self.width * self.model.dtype.itemsize <= self.memory.left

    @property
    def context(self) -> int:
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 1 << 30))

    @property
    def is_exact(self) -> bool:
        """In float32 sampling and training compute the same numbers, but for the last digits."""
        return self.model.dtype == torch.float32 and self.decoding_dtype is None

    @property
    def window(self) -> int:
        """The longest line on which no layer looks through a narrower window than all of it."""
        return int(getattr(self.model.config.get_text_config(), "sliding_window", None) or self.context)

    def hash(self) -> str:
        """sha256 (16 hex digits) of the frozen weights: adapters are valid on this trunk alone."""
        if self._hash is None:
            digest = hashlib.sha256()
            for name, weight in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(weight.detach().float().contiguous().cpu().numpy().tobytes())
            self._hash = digest.hexdigest()[:16]
        return self._hash

    # -- proofs at load time ------------------------------------------------------------------------------------

    def _probe(self) -> tuple[Tensor, Tensor]:
        vocabulary = self.model.config.get_text_config().vocab_size
        ids = torch.arange(24, device=self.device).reshape(2, 12) * 7 % vocabulary
        mask = torch.ones_like(ids, dtype=torch.bool)
        mask[1, 9:] = False
        return ids, mask

    @torch.no_grad()
    def _reproduces(self, views: tuple[nn.Module, nn.Module]) -> bool:
        """Lower then top equals the whole network, to the last bit, on a padded probe."""
        ids, mask = self._probe()
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        arguments = {"attention_mask": mask.long(), "position_ids": positions, "use_cache": False}
        whole = self.model.base_model(input_ids=ids, **arguments).last_hidden_state
        boundary = views[0](input_ids=ids, **arguments).last_hidden_state
        return torch.equal(views[1](inputs_embeds=boundary, **arguments).last_hidden_state[mask], whole[mask])

    @torch.no_grad()
    def _shares(self) -> bool:
        """A prompt with two answers behind it, hidden from each other, gives the states of both by themselves."""
        ids, _ = self._probe()
        line, prompt, one, other = ids[0], [0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10, 11]
        places = torch.tensor([*prompt, *range(4, 7), *range(4, 9)], device=self.device)
        allowed = torch.ones(12, 12, dtype=torch.bool, device=self.device).tril()
        allowed[7:, 4:7] = False
        base = self.model.base_model
        together = base(
            input_ids=line[None], attention_mask=allowed[None, None], position_ids=places[None], use_cache=False
        ).last_hidden_state[0]
        for answer in (one, other):
            alone = base(input_ids=line[None, [*prompt, *answer]], use_cache=False).last_hidden_state[0]
            # One answer that saw the other would be far off; half precision is a little.
            difference = float((together[[*prompt, *answer]].float() - alone.float()).norm() / alone.float().norm())
            if difference > (1e-3 if self.model.dtype == torch.float32 else ROUNDED):
                return False
        return True

    @torch.no_grad()
    def _check_head(self) -> None:
        """Our logits are the model's own: some families scale or cap them outside their head."""
        ids, mask = self._probe()
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        theirs = self.model(input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False).logits
        base = self.model.base_model
        states = base(
            input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False
        ).last_hidden_state
        if not torch.allclose(self.logits(states, part=None)[mask].float(), theirs[mask].float(), atol=1e-3, rtol=1e-3):
            raise InputError(
                f"{type(self.model).__name__} changes its logits in a way that is not known here: choose another model"
            )
