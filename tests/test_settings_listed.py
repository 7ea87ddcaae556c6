"""Every name that --set takes is listed: keys with what they may be, components with their keys, solvers."""

import pytest

from command_line import made, unsteep_
from unsteep.cli.settings import components, keys
from unsteep.sampling import SOLVERS
from unsteep.storage.meanings import gist, settings
from unsteep.storage.schema import kind_of


@pytest.mark.parametrize("name", ["Folder", "Betas", *list(components())[::7]])
def test_a_component_lists_its_fields(name: str) -> None:
    where, cls = components()[name]
    said = made("settings", name)
    assert f"--set {where}={name}\n" in said
    assert all(one.key in said for one in settings(cls, where))
    assert ("to be given" in said) == (name in ("Folder", "Betas") or "to be given" in str(list(settings(cls, where))))


@pytest.mark.parametrize("key", ["model.network", "schedule", "data", "objective", "objective.weight"])
def test_a_key_of_components_lists_each_with_a_line(key: str) -> None:
    said = made("settings", key)
    choices = {name: cls for _, annotation in keys()[key] for name, cls in kind_of(annotation).components.items()}
    assert len(choices) > 2
    for name, cls in choices.items():
        line = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert len(gist(cls)) > 5
        assert " ".join(gist(cls).split()[:4]) in " ".join(line.split())
    assert f"{key}." in said or key == "objective.weight"  # and what lies below the usual one


def test_every_key_of_every_component_is_known() -> None:
    for where, cls in components().values():
        if where.partition(".")[0] != "space":
            assert all(one.key in keys() for one in settings(cls, where) if one.key.count(".") == where.count(".") + 1)
    assert "Decay of the average" in made("settings", "train.ema")
    assert "of Cosine" in made("settings", "schedule.logsnr_min")


def test_solvers_are_listed_and_their_settings() -> None:
    said = made("settings", "solver")
    for name, solver in SOLVERS.items():
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in said.splitlines()), name
        assert all(one.key in made("settings", name) for one in settings(solver))
    assert made("settings", "sampler") == said
    assert "eta" in made("settings", "DDIM")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    for name, nearest in (("model.netwrok", "model.network"), ("folder.size", "data.size"), ("ddmi", "ddim")):
        code, _, err = unsteep_("settings", name)
        assert (code, nearest in err) == (2, True), err
