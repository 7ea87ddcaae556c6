"""A run that trains a denoiser: its configuration, and the task that it is made into."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from unsteep.core.chains import LinearBetas
from unsteep.core.maps import Maps
from unsteep.core.protocols import DataSet, Hears
from unsteep.core.schedules import AnySchedule
from unsteep.data import AnyData
from unsteep.data.reading import shape_of
from unsteep.denoiser import Denoiser
from unsteep.distill import AnyObjective
from unsteep.hearing import Scale
from unsteep.model import Description, Model, ModelConfig
from unsteep.model.kept import read_description
from unsteep.networks.checks import check_hears
from unsteep.networks.counting import check_trained
from unsteep.networks.precision import run_in
from unsteep.networks.wrapping import load_weights, weights_of
from unsteep.objectives import Simple, fitted
from unsteep.opening import load
from unsteep.spaces import AnySpace, space_of
from unsteep.storage import config
from unsteep.training.batches import Batches
from unsteep.training.conditioning import Conditioning
from unsteep.training.loop import Parts, State
from unsteep.training.report import preview, report
from unsteep.training.settings import TrainConfig
from unsteep.training.statistics import measure, probe
from unsteep.training.tasks import parameters, seeded

HEARD_ANEW = ("nxt_embedding.", "scale_embedding.")  # what a student hears beside its teacher


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides what a training run computes."""

    data: AnyData
    """Where the examples come from."""
    space: AnySpace | None = None
    """What the data's numbers mean; none: by their shape."""
    condition: Conditioning = field(default_factory=Conditioning)
    """What the model is conditioned on."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The denoiser."""
    schedule: AnySchedule = field(default_factory=LinearBetas)
    """The noise level at every time."""
    objective: AnyObjective = field(default_factory=Simple)
    """The loss."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How it trains."""
    start_from: str = ""
    """A run, checkpoint or saved model whose weights it starts from; its model, schedule, space and conditions
    stay."""

    def describe(self, data: DataSet) -> Description:
        """The model that this run trains on `data`, with every size filled in; ValueError where the parts do not
        fit."""
        shape_of(data)  # refuses data without an example
        space = space_of(data) if self.space is None else self.space.fitted(data)
        first = data.rows(torch.tensor([0]))
        space.check(first.x)
        made = tuple(space.encode(first.x, *(() if first.known is None else (first.known,))).shape[1:])
        if made != tuple(space.shape):
            raise ValueError(
                f"space: {type(space).__name__} makes {made} of an example of these data, and says that its shape is "
                f"{tuple(space.shape)}; name a space for such data, or leave it out"
            )
        if self.train.flip and len(space.shape) != 3:
            raise ValueError(f"train.flip: these data are {space.describe()}, not pictures; set train.flip=false")
        if self.train.flip and not getattr(self.data, "mirrors", True):
            raise ValueError("train.flip: the captions say left and right, and a mirror would make them untrue")
        hears = self._hears(self.condition.hears(data, self.model.network))
        plain = Description(
            model=self.model,
            schedule=self.schedule,
            space=space,
            hears=hears,
            drop=self.condition.drop,
            maps=self._maps,
        )
        return plain.filled()

    @property
    def _maps(self) -> Maps | None:
        """Which steps it trains, where its objective makes a map."""
        return getattr(self.objective, "maps", None)

    def _hears(self, hears: tuple[Hears, ...]) -> tuple[Hears, ...]:
        """With the scale of guidance, where its objective teaches one."""
        most = getattr(self.objective, "guidance", 1.0)
        return hears if most == 1 else (*(one for one in hears if one.name != Scale.name), Scale(most=most))

    def started_from(self, model: Model) -> Run:
        """This run with all that stays as it is in a model that it starts from."""
        of = model.description
        if getattr(self.objective, "starts", False):
            of.check_plain()
        return replace(self, model=of.model, schedule=of.schedule, space=of.space, condition=Conditioning.of(of))

    def made(self, data: DataSet, device: torch.device | str, trust: Any = False) -> DenoisingTask:
        """The task, its weights a function of the seed, or those that it starts from."""
        if not self.start_from and getattr(self.objective, "starts", False):
            raise ValueError(
                f"start_from: {type(self.objective).__name__} teaches few steps to a trained model; give one, or "
                "train by Shortcut, which needs none"
            )
        first = load(self.start_from, device="cpu", trust=bool(trust)) if self.start_from else None
        description = self.describe(data) if first is None else self._continued(first, data)
        check_trained(description.filled().model.network.build, "model.network")
        with seeded(self.train.seed):
            denoiser = description.build()
        if first is not None:
            load_weights(denoiser, weights_of(first.denoiser), anew=HEARD_ANEW)
        denoiser = denoiser.to(device)
        objective = fitted(self.objective, description.space, denoiser)
        states = {"model": State(denoiser, self.train, objective, description.space.shape)}
        for name, own in getattr(objective, "beside", {}).items():
            states[name] = State(copy.deepcopy(denoiser), self.train, own, description.space.shape)
        for state in states.values():
            if hasattr(state.objective, "meets"):
                state.objective.meets({name: one.module for name, one in states.items()})
        return DenoisingTask(self, data, description, states, device)

    def _continued(self, first: Model, data: DataSet) -> Description:
        """The description of the model that it starts from, for these data. ValueError for other classes, another
        size, or a configuration that would change what stays."""
        hears, where = self._hears(first.description.hears), f"start_from: {self.start_from}"
        if hears != first.description.hears:
            _check_guided(first.description, where)
        of = replace(first.description, maps=self._maps, hears=hears).filled()
        drawn = replace(of, model=self.model)
        with contextlib.suppress(ValueError):  # where it does not fit, it is another one, too
            drawn = drawn.filled()
        for name, mine, theirs in (
            ("model", drawn.model, of.model),
            ("schedule", self.schedule, of.schedule),
            ("space", of.space if self.space is None else self.space, of.space),
        ):
            if mine != theirs:
                raise ValueError(
                    f"{name}: it stays what it is in {self.start_from}; leave it out, and set data, objective and "
                    "train alone"
                )
        asked, known = (replace(one, drop=0.0, augment=0.0) for one in (self.condition, Conditioning.of(of)))
        if asked != known:
            raise ValueError(
                f"condition: what the model hears stays what it is in {self.start_from}, "
                f"{of.heard or 'nothing'}; leave it out, all but condition.drop and condition.augment"
            )
        if of.names and tuple(data.names) != of.names:
            raise ValueError(
                f"{where} knows the classes {', '.join(of.names)}, these data have "
                f"{', '.join(data.names) or 'none'} ({data.source}); give data with the same classes"
            )
        try:
            of.space.check(data.rows(torch.arange(min(64, len(data)))).x)
        except ValueError as error:
            raise ValueError(f"{where}: {str(error).removeprefix('data: ')}") from None
        return replace(of, drop=self.condition.drop)


def _check_guided(teacher: Description, where: str) -> None:
    """ValueError where a teacher cannot be guided."""
    if not teacher.heard:
        raise ValueError(f"objective.guidance: {where} hears nothing to be guided by; leave it at 1")
    if teacher.drop == 0:
        raise ValueError(
            f"objective.guidance: {where} was trained with condition.drop=0, and never learned to go without its "
            f"{teacher.heard}, as guidance asks for; leave it at 1, or train a teacher with condition.drop=0.1"
        )


class DenoisingTask:
    """A denoiser on its way."""

    kind = "Run"

    def __init__(
        self,
        run: Run,
        data: DataSet,
        description: Description,
        states: Mapping[str, State],
        device: torch.device | str,
    ) -> None:
        self.run, self.data, self.description, self.step = run, data, description, 0
        self.trained, self.state = states, states["model"]
        self.batches = Batches(
            data, description.space, description.hears, run.train, drop=run.condition.drop, device=device
        )
        self._statistics: dict[str, Tensor] | None = None

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Measured when they are first asked for."""
        if self._statistics is None:
            self._statistics = measure(self.data, self.description, self.run.train.flip)
        return self._statistics

    @property
    def model(self) -> Model:
        """The model of the averaged weights."""
        denoiser = cast(Denoiser, self.state.ema.module)
        return Model(denoiser, self.description, self.statistics, f"after {self.step:,} steps, averaged weights")

    def turn(self, step: int) -> str:
        turn = getattr(self.state.objective, "turn", None)
        return "model" if turn is None else str(turn(step))

    def parts(self, step: int) -> Parts:
        return self.batches(step)

    def texts(self) -> Mapping[str, str]:
        return {"model.toml": config.dumps(self.description)}

    def check_new(self) -> None:
        check_hears(self.state.module, "model.network")

    def check_stored(self, folder: Path) -> None:
        if read_description(folder, trust=True).language != self.description.language:
            raise ValueError(f"resume: the text encoder is not the one that {folder} was trained with; put it back")

    def finish(self) -> None:
        if not self.description.plain:
            return  # its estimates are of whole steps
        precision = self.state.precision.precision
        run_in(self.state.ema.module, "float32")  # what is kept as a number of the model is exact
        self.statistics["x0_error"] = probe(self.model, self.data)
        run_in(self.state.ema.module, precision)

    def preview(self, path: Path) -> None:
        preview(self.model, path, self.data)

    def report(self, out: Path) -> None:
        report(self.model, out, self.data, self.run.train.steps, self.run.train.batch)

    def about(self) -> list[tuple[str, str]]:
        rows = [("network", f"{parameters(self.trained):,} parameters")]
        if self.data.names and self.description.hearing("label") is None:
            rows.append(("not heard", "the classes; condition.label=true trains a model that can be asked for one"))
        return rows
