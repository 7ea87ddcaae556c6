"""Derivatives of what a map says along a path: they are those of central differences, in every network."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from test_maps import EXACT, NETWORKS, each_schedule, randn
from unsteep.core.condition import Condition
from unsteep.core.schedules import Cosine, Schedule
from unsteep.denoiser import Denoiser
from unsteep.networks import TextEncoderConfig
from unsteep.networks.compiling import Taken, compile_in
from unsteep.networks.recomputing import recomputing
from unsteep.objectives.derivative import along, rates

T, R = torch.tensor([0.8, 0.5, 0.31]).double(), torch.tensor([0.3, 0.45, 0.02]).double()
H = 1e-6  # labels are of thousandths


def shaken(name: str) -> tuple[Denoiser, tuple[int, ...]]:
    """A denoiser that hears all that it can, its dropout on, with no weight at its special start."""
    config, shape = NETWORKS[name]
    more: dict[str, Any] = {"dropout": 0.3} if hasattr(config, "dropout") else {}
    if hasattr(config, "text"):
        more["text"] = TextEncoderConfig(pieces=9, limit=6, width=12, heads=3, depth=1)
    more |= {"attention": (8,)} if hasattr(config, "attention") else {}
    torch.manual_seed(0)
    denoiser = Denoiser(replace(config, **more).build().double(), Cosine(), "v", maps=True)
    for weight in denoiser.parameters():
        nn.init.normal_(weight, std=0.2)
    return denoiser.train(), shape


def told(name: str) -> Condition | None:
    text = torch.tensor([[3, 5, 2, 6], [4, 2, 0, 0], [7, 8, 3, 0]])
    return None if name == "mlp" else Condition({"text": text, "text_valid": text > 0})


@pytest.mark.parametrize("rates_of", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.5, -1.0, 2.0)])
@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_those_of_central_differences(name: str, rates_of: tuple[float, float, float]) -> None:
    denoiser, shape = shaken(name)
    x, way, (x_rate, t_rate, r_rate) = randn(3, *shape), randn(3, *shape, seed=1), rates_of

    def at(h: float) -> Tensor:
        torch.manual_seed(3)  # one dropout
        now, nxt = Cosine()(T + h * t_rate), Cosine()(R + h * r_rate)
        found: Tensor = denoiser(x + h * x_rate * way, now, told(name), nxt).x0.detach()
        return found

    torch.manual_seed(3)
    how: dict[str, Any] = {"x_rate": x_rate * way, "t_rate": t_rate, "r_rate": r_rate}
    estimate, change = along(denoiser, Cosine(), x, T, R, told(name), **how)
    torch.testing.assert_close(estimate.x0, at(0.0), rtol=0, atol=1e-12)
    expected = (8 * (at(H) - at(-H)) - at(2 * H) + at(-2 * H)) / (12 * H)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(change, expected, rtol=1e-6, atol=1e-6)
    change.square().sum().backward()  # it carries gradients
    assert all(bool(weight.grad.isfinite().all()) for weight in denoiser.parameters() if weight.grad is not None)
    assert float(denoiser.network.nxt_embedding.linear_1.weight.grad.abs().max()) > 0


@each_schedule
def test_those_of_the_levels_are_those_of_central_differences(schedule: Schedule) -> None:
    t = torch.linspace(0.03, 0.97, 40).double() + 3e-4  # not at a step of a chain, where lines meet
    found, ahead, behind = rates(schedule, t), schedule(t + 1e-7), schedule(t - 1e-7)
    for part in ("t", "logsnr", "alpha", "sigma"):
        expected = (getattr(ahead, part) - getattr(behind, part)) / 2e-7
        torch.testing.assert_close(getattr(found, part), expected, rtol=1e-5, atol=1e-6)


@each_schedule
def test_exact_maps_change_along_the_flow_as_they_must(schedule: Schedule) -> None:
    """dz / du = x0(z) at the end of a step, and where it leads stays along its beginning, z = x / sigma, u = alpha /
    sigma."""
    denoiser = Whole()
    u = torch.rand(2, 50, generator=torch.Generator().manual_seed(4), dtype=torch.float64).sort(0, descending=True)[0]
    t, r = 0.02 + 0.97 * u
    now, nxt, x = schedule(t), schedule(r), randn(50, 3) * schedule(t).scale[:, None]
    said, change = along(denoiser, schedule, x, t, r, r_rate=1.0)
    factor = -2 * torch.expm1((now.logsnr - nxt.logsnr) / 2) / rates(schedule, r).logsnr
    expected = EXACT(EXACT.moved(x, now, nxt), nxt).x0
    torch.testing.assert_close(said.x0 + factor[:, None] * change, expected, rtol=1e-9, atol=1e-9)


class Whole(nn.Module):
    """The exact map as a module."""

    def forward(self, x: Tensor, now: Any, condition: Any, nxt: Any) -> Any:
        return EXACT.to(x, now, nxt)


def test_neither_recomputing_nor_compiling_nor_half_precision_stands_in_the_way() -> None:
    denoiser, shape = shaken("modulated")
    x = randn(3, *shape)

    def found() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        denoiser.zero_grad()
        change = along(denoiser, Cosine(), x, T, R, told("modulated"), t_rate=1.0)[1]
        change.square().mean().backward()
        return change.detach(), denoiser.network.nxt_embedding.linear_2.weight.grad.clone()

    plain = found()
    recomputing(denoiser)
    compile_in(denoiser, Taken(True))
    denoiser.precision = "bf16"
    assert denoiser.network._compiled_call_impl is not None
    with torch.autocast("cpu", torch.bfloat16):
        again = found()
    assert denoiser.network._compiled_call_impl is not None
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
