"""The cells of the ablation of Ho et al. 2020 (Table 2): what to predict, what to train on, which variance to use.

predict   mean (mu-tilde), eps, x0, v
train on  bound    the true bound, its variance fixed at beta, or a learned diagonal one, as in the paper
          simple   the unweighted squared error of what is predicted, its variance fixed at beta
          hybrid   simple, and a learned variance between beta_tilde and beta (Nichol & Dhariwal 2021)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from unsteep.distill import AnyObjective
from unsteep.objectives import Bound, Hybrid, Simple, Uniform
from unsteep.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One choice of each of the three."""

    prediction: Literal["mean", "eps", "x0", "v"]
    objective: Literal["bound", "simple", "hybrid"]
    variance: Literal["fixed", "learned", "diagonal"]

    @property
    def name(self) -> str:
        """As in eps-simple-fixed."""
        return f"{self.prediction}-{self.objective}-{self.variance}"

    @property
    def says(self) -> str:
        """In words."""
        return f"predicts {self.prediction}, trained on the {self.objective} loss, its variance {self.variance}"

    def of(self, run: Run) -> Run:
        """`run` with this cell's choices; the rest, the times that its objective draws too, as it is."""
        times = getattr(run.objective, "times", Uniform())
        objective: AnyObjective = Simple(times=times)
        if self.objective == "bound":
            objective = Bound(variance="beta" if self.variance == "fixed" else "learned", times=times)
        elif self.objective == "hybrid":
            objective = Hybrid(times=times)
        model = replace(run.model, prediction=self.prediction, variance=self.variance)
        return replace(run, model=model, objective=objective)


_SENSIBLE = (("bound", "diagonal"), ("bound", "fixed"), ("simple", "fixed"), ("hybrid", "learned"))
GRID = tuple(
    Combination(prediction=prediction, objective=objective, variance=variance)  # type: ignore[arg-type]
    for prediction in ("mean", "eps", "x0", "v")
    for objective, variance in _SENSIBLE
)
