"""No network is deaf: whatever weight carries a condition, the answer depends on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from building import batches_for
from test_recipes import RECIPES, data_of, run_of
from unsteep.core.level import add_noise
from unsteep.data import Examples
from unsteep.networks import UNetConfig
from unsteep.networks.blocks import BLOCKS
from unsteep.networks.checks import groups_of
from unsteep.training.classifying import ClassifierRun
from unsteep.training.run import Run, start

LEAST = 1e-3  # of the answer's size; a deaf weight moves it by rounding alone


def noise(weight: Tensor) -> Tensor:
    """Of such a size that what a layer answers to numbers of size 1 has size 1."""
    return torch.randn_like(weight) / max(1, weight[0].numel()) ** 0.5


def shaken(module: nn.Module) -> nn.Module:
    """With every weight away from its special start, none of which gets a gradient."""
    torch.manual_seed(0)
    for weight in module.parameters():
        weight.requires_grad_(False).add_(0.3 * noise(weight))
    return module.eval()


@contextmanager
def told(network: nn.Module, names: set[str]) -> Iterator[None]:
    """Collects the layers with weights whose input does not depend on the noisy data: they carry conditions."""

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not any(isinstance(one, Tensor) and one.requires_grad for one in inputs):
                names.add(name)

        return hook

    leaves = [(n, m) for n, m in network.named_modules() if list(m.parameters()) and not list(m.children())]
    handles = [layer.register_forward_hook(note(name)) for name, layer in leaves]
    yield
    for handle in handles:
        handle.remove()


def least_moved(network: nn.Module, answer: Any, x: Tensor) -> dict[str, float]:
    """By how much of its size the answer moves at the least, for each layer that carries a condition."""
    names: set[str] = set()
    with told(network, names):
        before = answer(x.clone().requires_grad_()).detach()
    moved = {}
    layers = dict(network.named_modules())
    for name in names:
        kept = {part: weight.clone() for part, weight in layers[name].named_parameters()}
        for weight in layers[name].parameters():
            weight.add_(noise(weight))
        moved[name] = float((answer(x) - before).std() / before.std())
        for part, weight in layers[name].named_parameters():
            weight.copy_(kept[part])
    return moved


def check_hearing(network: nn.Module, answer: Any, x: Tensor) -> None:
    moved = least_moved(network, answer, x)
    assert moved, "no layer carries a condition"
    deaf = {name: far for name, far in moved.items() if far < LEAST}
    assert not deaf


def of_run(run: Run, data: Examples) -> tuple[nn.Module, Any, Tensor]:
    run = replace(run, condition=replace(run.condition, drop=0.0), train=replace(run.train, batch=4, flip=False))
    description = run.describe(data)
    denoiser = shaken(description.build())
    [(batch, _)] = batches_for(run, data, description)(0)
    level = run.schedule(torch.linspace(0.2, 0.8, 4))
    x = add_noise(batch.x, torch.randn_like(batch.x), level)
    condition = batch.condition.drop(torch.tensor([False, False, False, True])) if batch.condition else None  # one null
    return denoiser, lambda x: denoiser(x, level, condition).value, x


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipes_network_hears_by_every_weight(name: str) -> None:
    data = data_of(name)
    if len(data.x.shape) == 4:
        data = replace(data, x=torch.randint(0, 256, data.x.shape).to(torch.uint8))
    check_hearing(*of_run(run_of(name), data))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("condition", [{"label": True}, {"text": "bpe"}, {"picture": "low-resolution:4"}])
def test_every_condition_is_heard_by_either_kind_of_block(block: Any, condition: dict[str, Any]) -> None:
    data = data_of("shapes" if "text" in condition else "digits")
    data = replace(data, x=torch.randint(0, 256, (6, 1, 8, 8)).to(torch.uint8))
    run = run_of("digits")
    network = UNetConfig(width=16, multipliers=(1, 2), blocks=1, attention=(4,), block=block)
    run = replace(
        run,
        model=replace(run.model, network=network),
        condition=replace(run.condition, **{"label": False, **condition}),
    )
    check_hearing(*of_run(run, data))


def test_a_classifiers_encoder_hears_the_noise_level() -> None:
    data = data_of("digits")
    data = replace(data, x=torch.randint(0, 256, data.x.shape).to(torch.uint8))
    run = ClassifierRun(data=run_of("digits").data)
    classifier = shaken(run.describe(data).build())
    label = torch.tensor([10.0, 300.0, 700.0, 990.0])
    x = torch.randn(4, 1, 8, 8)
    check_hearing(classifier, lambda x: classifier.network(x, label), x)


def test_the_check_finds_a_deaf_network() -> None:
    """As the recipes' were: one channel a group at the first level."""
    data = replace(data_of("digits"), x=torch.randint(0, 256, (6, 1, 8, 8)).to(torch.uint8))
    run = run_of("digits")
    network = UNetConfig(width=32, multipliers=(1, 2), blocks=1, attention=(4,), groups=32)
    moved = least_moved(*of_run(replace(run, model=replace(run.model, network=network)), data))
    assert max(far for name, far in moved.items() if "down_blocks.0" in name) < 1e-5
    assert min(far for name, far in moved.items() if "down_blocks.1" in name) > LEAST


@pytest.mark.parametrize("run", [run_of("digits"), ClassifierRun(data=run_of("digits").data)])
def test_a_deaf_network_is_refused_by_name_when_a_run_begins(run: Any, tmp_path: Path) -> None:
    deaf: dict[str, Any] = {"width": 8, "groups": 8, "multipliers": (1, 2)}
    if isinstance(run, Run):
        run = replace(run, model=replace(run.model, network=replace(run.model.network, **deaf, block="ddpm")))
    else:
        run = replace(run, network=replace(run.network, **deaf))
    with pytest.raises(ValueError, match=r"network\.groups: .*one channel a group"):
        start(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_groups_follow_the_width() -> None:
    for width in range(4, 300, 2):
        groups = groups_of(width)
        assert width % groups == 0
        assert width // groups >= 4
        assert groups <= 32
    assert [groups_of(width) for width in (8, 32, 128, 256)] == [2, 8, 32, 32]
