"""Classifier guidance: an unconditional denoiser towards what a classifier of noisy data sees (Dhariwal & Nichol 2021).

By Bayes' rule score(x_t | y) = score(x_t) + grad log p(y | x_t). With a scale on the gradient, and whatever the kind,

    score -> score + scale grad,      eps -> eps - scale sigma grad,      x0 -> x0 + scale (sigma^2 / alpha) grad

of which the second is their algorithm 2, and scale 1 is the conditional denoiser. A step of the chain moves its mean by
scale beta (alpha_nxt / alpha_now) grad, which to first order in beta is their algorithm 1, for the variance beta.

Where alpha = 0, x_t says nothing about y and the gradient of a true classifier is 0, while the shift of x0 has a limit
that 0 / 0 does not tell. That level is left unguided: an answer that is finite, whatever a trained classifier says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unsteep.core.estimate import Estimate, target
from unsteep.core.level import NoiseLevel, like
from unsteep.denoiser import Denoise

LogProb = Callable[[Tensor, NoiseLevel], Tensor]


@dataclass(frozen=True)
class ClassifierGuidance:
    """`denoise` guided by the gradient of `log_prob(x_t, level)`: log p(y | x_t), nats (b,), y of each row its own.

    One call of the network, forward only, and one of the classifier, forward and backward. Works under no_grad (not
    inference_mode). For autograd around it, the gradient is a constant.
    """

    denoise: Denoise
    log_prob: LogProb
    scale: float = 1.0

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self.pair(x_t, level)[0]

    @property
    def plain(self) -> Denoise:
        """What is guided."""
        return self.denoise

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided, plain)."""
        plain = self.denoise(x_t, level)
        if self.scale == 0:
            return plain, plain
        push, known = self.scale * self._gradient(x_t, level), level.alpha > 0
        x0 = like(torch.where(known, level.sigma**2 / torch.where(known, level.alpha, 1), 0), x_t) * push
        eps = like(torch.where(known, -level.sigma, 0), x_t) * push
        # Every kind is linear in (x0, eps), so that the shift of the value is that kind of the shifts.
        return replace(plain, value=plain.value + target(plain.kind, x0, eps, level)), plain

    def _gradient(self, x_t: Tensor, level: NoiseLevel) -> Tensor:
        with torch.enable_grad():  # samplers run under no_grad
            leaf = x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(leaf, level).sum(), leaf)
        return gradient
