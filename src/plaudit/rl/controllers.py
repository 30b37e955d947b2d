"""How strong the leash is: the coefficient of the KL in the reward."""

from __future__ import annotations

from plaudit.recipe import KL


class KLController:
    """Fixed, or adaptive (Ziegler et al. 2019): the coefficient grows by up to 20 % per `horizon` episodes, and
    no more in one step, while the KL per response is above its target, and shrinks while it is below."""

    def __init__(self, config: KL) -> None:
        self.config = config
        self.coefficient = config.coefficient

    def update(self, kl: float, episodes: int) -> None:
        """`kl`: mean KL of a response to the reference (nats), over `episodes` responses."""
        if self.config.controller == "adaptive":
            error = min(max(kl / self.config.target - 1, -0.2), 0.2)
            self.coefficient *= 1 + error * min(episodes / self.config.horizon, 1.0)
