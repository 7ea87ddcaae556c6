"""Data whose diffusion is known exactly: Gaussians, mixtures of Gaussians, and finite sets of points.

For data p(x0) = sum_k w_k N(m_k, C_k) every noised marginal is a mixture again, and the best possible denoiser, the
posterior mean E[x0 | x_t], has a closed form:

    q(x_t)       = sum_k w_k N(alpha m_k, S_k),           S_k = alpha^2 C_k + sigma^2 I
    r_k(x_t)     = w_k N(x_t; alpha m_k, S_k) / q(x_t)    the responsibilities
    E[x0 | x_t]  = sum_k r_k (m_k + alpha C_k S_k^-1 (x_t - alpha m_k))

One Gaussian is a mixture of one; a point set has C_k = 0, its denoiser a softmax over the points. A `Mixture` is
called as any denoiser is, `mixture(x_t, level)`, so solvers, likelihoods and guidance can be checked against the
truth. All is computed in float64, in the eigenbasis of each C_k, whatever the dtype of x_t, and where the means are:
on the CPU, where their device has no float64.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, integers, rows_of, shown, whole
from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, float64_device, level_of, wide
from unsteep.core.noise import NoiseSource

_DATA_STREAM = -(1 << 62)  # far from the streams of noise: data of seed s must not repeat the noise of seed s


class Mixture:
    """A mixture of k Gaussians over data of any shape, with its exact denoiser, marginals, classifier and samples.

    `means` (k, *shape). `covariances`: (k,) variances of isotropic components, (k, *shape) diagonals, or (k, d, d)
    matrices over the flattened data; 0 is a point. `weights` (k,), default equal. `labels` (k,) int64: the class of
    each component, for class-conditional answers.
    """

    def __init__(
        self, means: Tensor, covariances: Tensor, weights: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        for name, value in (("means", means), ("covariances", covariances), ("weights", weights)):
            if value is not None or name != "weights":
                rows = rows_of(value, "numbers (k, ...)", name)
                if not bool(rows.isfinite().all()):
                    raise ValueError(f"{name}: expected finite numbers, got NaN or infinite ones; leave such out")
        if means.ndim < 2 or means.numel() == 0:
            raise ValueError(f"means: expected (k, *shape), got {tuple(means.shape)}; give a mean for each component")
        if labels is not None and tuple(integers("labels", labels).shape) != (len(means),):
            raise ValueError(f"labels: expected a class for each of {len(means)} components, got {shown(labels)}")
        if weights is not None and (
            weights.shape != (len(means),) or not bool((weights >= 0).all()) or not bool(weights.sum() > 0)
        ):
            raise ValueError(
                f"weights: expected {len(means)} numbers of at least 0, and not all 0, got {shown(weights)}; give those"
            )
        self.shape = means.shape[1:]
        self.means = wide(means).flatten(1)
        k, d = self.means.shape
        covariances = self._here(covariances)
        self.basis: Tensor | None = None
        if covariances.shape == (k,):
            self.variances = covariances.reshape(k, 1)
        elif covariances.shape == means.shape:
            self.variances = covariances.flatten(1)
        elif covariances.shape == (k, d, d):
            if not torch.allclose(covariances, covariances.mT, rtol=1e-5, atol=1e-8):
                raise ValueError("covariances: expected symmetric ones, got C_ij that differs from C_ji; mend them")
            self.variances, self.basis = torch.linalg.eigh(covariances)
        else:
            raise ValueError(
                f"covariances: expected shape {(k,)}, {tuple(means.shape)} or {(k, d, d)}, "
                f"got {tuple(covariances.shape)}"
            )
        if bool((self.variances < -1e-6 * self.variances.abs().max()).any()):  # eigenvalues of float32 data round so
            raise ValueError("covariances: a variance is negative; every C_k must be positive semi-definite")
        self.variances = self.variances.clamp(min=0)
        weights = self._here(torch.ones(k) if weights is None else weights)
        self.log_weights = (weights / weights.sum()).log()
        self.labels = None if labels is None else labels.to(self.means.device)

    @classmethod
    def gaussian(cls, mean: Tensor, covariance: Tensor) -> Self:
        """N(mean, covariance): `mean` of the data's shape, `covariance` (), of that shape, or (d, d)."""
        return cls(mean[None], covariance[None])

    @classmethod
    def points(cls, points: Tensor, labels: Tensor | None = None) -> Self:
        """The empirical distribution of `points` (k, *shape): what a network that learns its data by heart denoises
        to."""
        return cls(points, torch.zeros(len(points)), labels=labels)

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        """E[x0 | x_t, condition] for x_t (b, *shape), as an estimate of x0. Needs sigma > 0 where a variance is 0."""
        x, alpha, sigma = self._prepare(x_t, level)
        log_joint, gain = self._log_joint(x, alpha, sigma, condition)
        r = torch.softmax(log_joint, 1)
        if gain.shape[-1] == 1:  # isotropic: never forms (b, k, d)
            gain = gain.squeeze(-1)
            x0 = (r * (1 - alpha * gain)) @ self.means + (r * gain).sum(1, keepdim=True) * x
        else:
            correction = gain * self._rotate(x, alpha)
            if self.basis is not None:
                correction = torch.einsum("bke,kde->bkd", correction, self.basis)
            x0 = torch.einsum("bk,bkd->bd", r, self.means + correction)
        return Estimate("x0", x0.reshape(x_t.shape).to(x_t.dtype).to(x_t.device), x_t, level)

    def log_prob(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Tensor:
        """log q(x_t) at `level`, nats, float64 (b,); with a label, log q(x_t | label)."""
        x, alpha, sigma = self._prepare(x_t, level)
        log_joint, _ = self._log_joint(x, alpha, sigma, condition)
        return torch.logsumexp(log_joint, 1).to(float64_device(x_t.device))

    def label_log_prob(self, x_t: Tensor, level: NoiseLevel) -> Tensor:
        """log p(label | x_t) for labels 0..max, nats, float64 (b, labels): the exact classifier on noisy data."""
        if self.labels is None:
            raise ValueError("this mixture has no labels; give `labels` when it is made")
        x, alpha, sigma = self._prepare(x_t, level)
        log_joint, _ = self._log_joint(x, alpha, sigma, None)
        per_label = [
            torch.logsumexp(log_joint[:, self.labels == label], 1) for label in range(int(self.labels.max()) + 1)
        ]
        return torch.log_softmax(torch.stack(per_label, 1), 1).to(float64_device(x_t.device))

    def sample(self, n: int, seed: int = 0, condition: Condition | None = None) -> Tensor:
        """n exact samples of the data, float64 (n, *shape), of the seeds seed .. seed + n - 1."""
        n, seed = whole("n", n, 1, MOST_SAMPLES), whole("seed", seed, -(2**63), 2**62)
        noise = NoiseSource(range(seed, seed + n), _DATA_STREAM)
        z = noise.normal(self.means.new_empty(n, self.means.shape[1]), draw=0)
        u = noise.uniform(self.means.new_empty(n, 1), draw=1)
        cumulative = self._log_weights(n, condition).exp().cumsum(1)
        k = torch.searchsorted(cumulative, u * cumulative[:, -1:]).squeeze(1).clamp(max=len(self.means) - 1)
        spread = self.variances[k].sqrt() * z
        if self.basis is not None:
            spread = torch.einsum("be,bde->bd", spread, self.basis[k])
        return (self.means[k] + spread).reshape(n, *self.shape)

    def mean(self) -> Tensor:
        """The mean of the data, float64, of its shape."""
        return (self.log_weights.exp() @ self.means).reshape(self.shape)

    def covariance(self) -> Tensor:
        """The covariance of the flattened data, float64 (d, d)."""
        w, d = self.log_weights.exp(), self.means.shape[1]
        centred = self.means - w @ self.means
        between = torch.einsum("k,kd,ke->de", w, centred, centred)
        variances = self.variances.expand(-1, d)
        if self.basis is None:
            return between + torch.diag(w @ variances)
        return between + torch.einsum("k,kdf,kf,kef->de", w, self.basis, variances, self.basis)

    def entropy(self) -> Tensor:
        """The differential entropy of the data in nats, float64 (). In closed form for one Gaussian, by quadrature
        in one dimension; a larger mixture has none: use `-mixture.log_prob(mixture.sample(n), clean).mean()` there.
        -inf where a variance is 0."""
        k, d = self.means.shape
        if k == 1:
            variances = self.variances.expand(1, d)
            return 0.5 * (torch.log(variances) + math.log(2 * math.pi * math.e)).sum()
        if bool((self.variances == 0).any()):
            return self.means.new_tensor(-math.inf)
        if d > 1:
            raise ValueError(
                "the entropy of a mixture has no closed form in more than one dimension; average -log_prob"
            )
        reach = torch.linspace(-12, 12, 20_001, dtype=torch.float64, device=self.means.device)
        # each component lays its own nodes: widths differ
        x = (self.means + self.variances.sqrt() * reach).flatten().sort().values
        clean = NoiseLevel(*(torch.tensor(v, dtype=torch.float64) for v in (0.0, math.inf, 1.0, 0.0)))
        log_p = self.log_prob(x.reshape(-1, *self.shape), clean)
        return -torch.trapezoid(log_p.exp() * log_p, x)

    def _prepare(self, x_t: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor, Tensor]:
        if tuple(rows_of(x_t, "numbers (b, ...)", "x_t").shape[1:]) != tuple(self.shape):
            raise ValueError(f"x_t: expected (b, ...) of shape {tuple(self.shape)}, got {shown(x_t)}; reshape it")
        level_of("level", level)
        x = self._here(x_t).flatten(1)
        at = level.like(x)
        return x, at.alpha, at.sigma

    def _here(self, x: Tensor) -> Tensor:
        """In float64, where the means are."""
        return wide(x).to(self.means.device)

    def _log_weights(self, batch: int, condition: Condition | None) -> Tensor:
        """Log-weights (b, k) of the components, given the label of each row (-1: none)."""
        rows = self.log_weights.expand(batch, -1)
        if condition is None or "label" not in condition:
            return rows
        if self.labels is None:
            raise ValueError("this mixture has no labels; give `labels` when it is made")
        label = condition["label"].reshape(-1, 1).to(self.means.device)
        chosen = (label == self.labels) | (label < 0)
        if not bool(chosen.any(1).all()):
            raise ValueError(
                f"label: this mixture has the labels {self.labels.unique().tolist()}, got {condition['label'].tolist()}"
            )
        rows = torch.where(chosen, rows, -math.inf)
        return rows - torch.logsumexp(rows, 1, keepdim=True)

    def _rotate(self, x: Tensor, alpha: Tensor) -> Tensor:
        """x - alpha m_k in the eigenbasis of each component: (b, k, d)."""
        centred = x[:, None] - alpha[..., None] * self.means
        return centred if self.basis is None else torch.einsum("bkd,kde->bke", centred, self.basis)

    def _log_joint(self, x: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition | None) -> tuple[Tensor, Tensor]:
        """log w_k N(x; alpha m_k, S_k) as (b, k), and the gain alpha C_k / S_k as (b or 1, k, d or 1)."""
        d = x.shape[1]
        variances = alpha[..., None] ** 2 * self.variances + sigma[..., None] ** 2
        gain = alpha[..., None] * self.variances / variances
        if self.variances.shape[1] == 1 and d > 1:  # multiplied out, never (b, k, d); loses digits far from 0
            cross = 2 * alpha * (x @ self.means.T)
            squared = ((x**2).sum(1, keepdim=True) - cross + (alpha * self.means.norm(dim=1)) ** 2)[..., None]
            log_det = d * torch.log(variances).sum(-1)
        else:
            squared = self._rotate(x, alpha) ** 2
            log_det = torch.log(variances).sum(-1)
        log_normal = -0.5 * ((squared / variances).sum(-1) + log_det + d * math.log(2 * math.pi))
        return self._log_weights(len(x), condition) + log_normal, gain


class GaussianMap:
    """The exact map (see `core.maps`) of data N(mean, diag(variances)), of which the flow is known:

        x_nxt = alpha_nxt m + sqrt(V_nxt / V_now) (x - alpha_now m),    V = alpha^2 c + sigma^2

    `mean` and `variances` of the data's shape.
    """

    def __init__(self, mean: Tensor, variances: Tensor) -> None:
        self.data = Mixture.gaussian(mean, variances)
        self.mean, self.variances = wide(mean), wide(variances)

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition | None = None) -> Estimate:
        """The posterior mean, as an estimate of x0."""
        return self.data(x_t, level)

    def moved(self, x_t: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """Where the flow leads from x_t (b, *shape), float64."""
        at, to = (level.like(wide(x_t)) for level in (now, nxt))
        spread = torch.sqrt((to.alpha**2 * self.variances + to.sigma**2) / (at.alpha**2 * self.variances + at.sigma**2))
        return to.alpha * self.mean + spread * (wide(x_t) - at.alpha * self.mean)

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel, condition: Condition | None = None) -> Estimate:
        """For a step that ends at `nxt`, in a form that loses no digits where the two are close:

        x0 = m + c (sigma alpha_nxt + sigma_nxt alpha) / (sigma sqrt(V V_nxt) + sigma_nxt V) (x - alpha m)
        """
        x, at, end = wide(x_t), level.like(wide(x_t)), nxt.like(wide(x_t))
        now, then = (one.alpha**2 * self.variances + one.sigma**2 for one in (at, end))
        crossed = at.sigma * end.alpha + end.sigma * at.alpha
        gain = self.variances * crossed / (at.sigma * (now * then).sqrt() + end.sigma * now)
        return Estimate("x0", (self.mean + gain * (x - at.alpha * self.mean)).to(x_t), x_t, level)
