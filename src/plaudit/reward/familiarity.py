"""How far an answer lies from those that a judge has learned from: where it is far, the judge guesses.

Distance is Mahalanobis' in the judge's own states (Lee et al. 2018, 1807.03888), along the axes on which the answers
of training vary most, and what is left beside them as one more axis. It is told as a share: of the answers held out
in training, how many lie nearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_AXES = 64
ANSWERS_PER_AXIS = 10
"""Fewer answers than that would find axes of chance."""
FEWEST_HELD_OUT = 20
"""Held-out answers without which a share means nothing."""


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """What training looked like in the judge's states, and how far the held-out answers were from it."""

    mean_D: Tensor
    axes_DP: Tensor
    """Principal axes, each divided by its deviation: states less the mean come out with variance 1 along each."""
    rest_D: Tensor
    """The deviation of what is beside the axes, per direction: one number."""
    held_out_Q: Tensor
    """Distances of the held-out answers, ascending."""

    @classmethod
    def of(cls, training_ND: Tensor, held_out_QD: Tensor) -> Familiarity | None:
        """None where there is too little to say what is usual."""
        count, width = training_ND.shape
        axes = min(MOST_AXES, count // ANSWERS_PER_AXIS, width - 1)
        if axes < 1 or len(held_out_QD) < FEWEST_HELD_OUT:
            return None
        mean_D = training_ND.double().mean(dim=0)
        centred_ND = training_ND.double() - mean_D
        values_D, vectors_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / count)
        spread_P = values_D[-axes:].clamp(min=1e-12).sqrt()
        rest = values_D[:-axes].clamp(min=0).mean().clamp(min=1e-12).sqrt()
        made = cls(
            mean_D=mean_D.float(),
            axes_DP=(vectors_DD[:, -axes:] / spread_P).float(),
            rest_D=rest.float().reshape(1),
            held_out_Q=torch.zeros(0),
        )
        held_out_Q = made.distance(held_out_QD).sort().values
        return cls(mean_D=made.mean_D, axes_DP=made.axes_DP, rest_D=made.rest_D, held_out_Q=held_out_Q)

    def distance(self, states_BD: Tensor) -> Tensor:
        """Mahalanobis' distance [B], per axis: about 1 for an answer like those of training."""
        centred_BD = states_BD.float().cpu() - self.mean_D
        along_BP = centred_BD @ self.axes_DP
        lengths_P = self.axes_DP.norm(dim=0)
        beside_B = centred_BD.square().sum(dim=1) - (along_BP / lengths_P).square().sum(dim=1)
        left = len(self.mean_D) - len(lengths_P)
        squares_B = along_BP.square().sum(dim=1) + beside_B.clamp(min=0) / left / self.rest_D.square()
        return (squares_B / (len(lengths_P) + 1)).sqrt()

    def strangeness(self, states_BD: Tensor) -> Tensor:
        """Share [B] of the held-out answers that lie nearer, 0 to 1."""
        nearer_B = torch.searchsorted(self.held_out_Q, self.distance(states_BD).contiguous())
        return nearer_B.float() / len(self.held_out_Q)

    def tensors(self) -> dict[str, Tensor]:
        return {f"familiar.{name}": value for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Familiarity | None:
        """None where a judge was saved without."""
        found = {k.removeprefix("familiar."): v for k, v in tensors.items() if k.startswith("familiar.")}
        return cls(**found) if found else None
