"""Typed settings and TOML: the round trip, the overrides, and the words of every refusal."""

import math
import subprocess
import sys
import tomllib
from dataclasses import MISSING, dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsteep.storage.config import dumps, from_dict, keys, loads, override, to_dict


@dataclass(frozen=True, kw_only=True)
class LinearBetas:
    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02

    def __post_init__(self) -> None:
        if self.start > self.end:
            raise ValueError(f"expected start <= end, got {self.start} > {self.end}; exchange them")


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    s: float = 0.008


@dataclass(frozen=True, kw_only=True)
class Interpolated:
    chain: "Chain" = LinearBetas()


Chain = LinearBetas | CosineConfig
Schedule = LinearBetas | CosineConfig | Interpolated


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    name: Literal["adam", "sgd"] = "adam"


@dataclass(frozen=True, kw_only=True)
class Data:
    path: str
    labels: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    flip: bool = False
    mirror: "str | None" = None


@dataclass(frozen=True, kw_only=True)
class Run:
    data: Data
    schedule: Schedule = LinearBetas()
    guide: CosineConfig | Interpolated | None = None
    after: Schedule | None = CosineConfig(s=0.5)
    lone: CosineConfig | None = None
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(clip=2.0))
    stages: tuple[Chain | None, ...] = ()
    weight: float | Literal["auto"] | CosineConfig = "auto"
    every: Literal[1, 2, True, "epoch"] = 1


numbers = st.floats(allow_nan=False)
betas = st.builds(LinearBetas, steps=st.integers(), start=st.floats(0, 0.5), end=st.floats(0.5, math.inf))
cosines = st.builds(CosineConfig, s=numbers)
schedules = betas | cosines | st.builds(Interpolated, chain=betas | cosines)
runs = st.builds(
    Run,
    data=st.builds(
        Data,
        path=st.text(),
        labels=st.lists(st.integers()).map(tuple),
        words=st.lists(st.text()).map(tuple),
        flip=st.booleans(),
        mirror=st.none() | st.text() | st.just("none"),
    ),
    schedule=schedules,
    guide=st.none() | cosines | st.builds(Interpolated, chain=betas),
    after=st.none() | schedules,
    lone=st.none() | cosines,
    optimizer=st.builds(
        Optimizer, betas=st.tuples(numbers, numbers), clip=st.none() | numbers, name=st.sampled_from(["adam", "sgd"])
    ),
    stages=st.lists(st.none() | betas | cosines, max_size=3).map(tuple),
    weight=st.just("auto") | numbers | cosines,
    every=st.sampled_from([1, 2, True, "epoch"]),
)
RUN = Run(data=Data(path="photos/"))


def refusal(text: str, *arguments: str) -> str:
    """The one line that refuses a document, or an override of RUN."""
    with pytest.raises(ValueError) as caught:
        override(RUN, arguments) if arguments else loads(Run, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The round trip.


@settings(deadline=None, max_examples=150, derandomize=True)
@given(runs)
def test_what_is_written_is_read_back(run: Run) -> None:
    back = loads(Run, dumps(run))
    assert back == run
    assert type(back.every) is type(run.every)  # True == 1 to Python
    assert from_dict(Run, to_dict(run)) == run
    assert override(run, []) == run
    assert dumps(back) == dumps(run)


def test_infinities_and_nan_survive() -> None:
    run = replace(RUN, optimizer=Optimizer(betas=(math.inf, -math.inf), clip=math.nan), weight=-0.0)
    back = loads(Run, dumps(run))
    assert back.optimizer.betas == (math.inf, -math.inf)
    assert back.optimizer.clip is not None
    assert math.isnan(back.optimizer.clip)
    assert isinstance(back.weight, float)
    assert math.copysign(1, back.weight) == -1


def test_the_document_is_the_one_a_person_would_write() -> None:
    run = replace(RUN, schedule=Interpolated(chain=CosineConfig()), after=None, stages=(LinearBetas(), None))
    assert tomllib.loads(dumps(run)) == {
        "data": {"path": "photos/", "labels": [], "words": [], "flip": False},
        "schedule": {"type": "Interpolated", "chain": {"type": "Cosine", "s": 0.008}},
        "after": "none",
        "optimizer": {"betas": [0.9, 0.999], "clip": 2.0, "name": "adam"},
        "stages": [{"type": "LinearBetas", "steps": 1000, "start": 1e-4, "end": 0.02}, "none"],
        "weight": "auto",
        "every": 1,
    }
    assert "\n[schedule.chain]\n" in dumps(run)


def test_a_bare_name_and_a_short_table_are_components_with_defaults() -> None:
    text = 'schedule = "Interpolated"\nguide.type = "Cosine"\nlone = "Cosine"\noptimizer = {}\n[data]\npath = "a"\n'
    run = loads(Run, text)
    assert run.schedule == Interpolated()
    assert run.guide == run.lone == CosineConfig()
    assert run.optimizer == Optimizer()  # the class's own defaults, not those of the instance that Run would make


def test_an_int_is_a_float_and_nothing_else_is_converted() -> None:
    read = loads(CosineConfig, "s = 1")
    assert read.s == 1
    assert type(read.s) is float
    for text, table in [("steps = 1.0", LinearBetas), ("steps = true", LinearBetas), ("start = '1'", LinearBetas)]:
        with pytest.raises(ValueError, match=r"expected (int|float), got"):
            loads(table, text)


def test_reading_a_configuration_does_not_import_torch() -> None:
    code = "import sys, unsteep.storage.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Overrides.


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("schedule=Cosine", "schedule", CosineConfig()),
        ("schedule.type=Cosine", "schedule", CosineConfig()),
        ('schedule={type="Cosine", s=1}', "schedule", CosineConfig(s=1)),
        ("schedule.start=2e-4", "schedule", LinearBetas(start=2e-4)),
        (" schedule.steps = 1_000_000 ", "schedule.steps", 1_000_000),
        ("after.s=.25", "after", CosineConfig(s=0.25)),
        ("after=none", "after", None),
        ("after=Interpolated", "after.chain", LinearBetas()),
        ("lone.s=3", "lone", CosineConfig(s=3.0)),
        ("data.labels=[4]", "data.labels", (4,)),
        ("data.labels=4", "data.labels", (4,)),
        ("data.labels=1, 2", "data.labels", (1, 2)),
        ("data.labels=[]", "data.labels", ()),
        ("data.words=4,five", "data.words", ("4", "five")),
        ('data.words=["a, b", "c"]', "data.words", ("a, b", "c")),
        ("data.path=a=b/", "data.path", "a=b/"),
        ("data.path=20", "data.path", "20"),
        ("data.path=", "data.path", ""),
        ("data.flip=true", "data.flip", True),
        ("data.mirror=none", "data.mirror", None),
        ('data.mirror="none"', "data.mirror", "none"),
        ("data.mirror=None of these", "data.mirror", "None of these"),
        ("optimizer.clip=none", "optimizer.clip", None),
        ("optimizer.clip=-inf", "optimizer.clip", -math.inf),
        ("optimizer.betas=0.5,1", "optimizer.betas", (0.5, 1.0)),
        ("optimizer.name=sgd", "optimizer.name", "sgd"),
        ("stages=Cosine,none,LinearBetas", "stages", (CosineConfig(), None, LinearBetas())),
        ("weight=3", "weight", 3.0),
        ("weight=auto", "weight", "auto"),
        ("weight=Cosine", "weight", CosineConfig()),
        ("every=epoch", "every", "epoch"),
        ("every=2", "every", 2),
        ("every=true", "every", True),
    ],
)
def test_a_value_is_read_by_the_type_of_its_field(setting: str, path: str, value: Any) -> None:
    got: Any = override(RUN, [setting])
    for name in path.split("."):
        got = getattr(got, name)
    assert got == value
    assert type(got) is type(value)


def test_overrides_change_nothing_else_and_apply_in_order() -> None:
    assert override(RUN, ["optimizer.name=sgd"]) == replace(RUN, optimizer=Optimizer(clip=2.0, name="sgd"))
    assert override(RUN, ["schedule=Cosine", "schedule.s=1"]).schedule == CosineConfig(s=1)
    assert override(RUN, ["schedule.start=1e-5", "schedule=LinearBetas"]).schedule == LinearBetas()
    deep = override(RUN, ["schedule=Interpolated", "schedule.chain=Cosine", "schedule.chain.s=1"])
    assert deep.schedule == Interpolated(chain=CosineConfig(s=1))


def test_only_the_outcome_of_all_overrides_must_hold() -> None:
    # on the way, start = 0.5 stands above the old end
    assert override(RUN, ["schedule.start=0.5", "schedule.end=0.9"]).schedule == LinearBetas(start=0.5, end=0.9)


# Refusals.


def test_an_unknown_key_is_named_with_its_nearest_and_its_neighbours() -> None:
    message = refusal("", "schedule.strat=1")
    assert message.startswith("schedule.strat: unknown key")
    assert "did you mean schedule.start" in message
    assert "steps, start, end" in message
    assert refusal('[data]\npath = ""\nlabel = [1]\n').startswith("data.label: unknown key; did you mean data.labels")
    assert "schedule.steps" in refusal("", "steps=5")  # the right name without its table
    assert "optimizer" in refusal("", "optimiser.name=sgd")
    assert refusal("", "schedule.s=1").startswith("schedule.s: unknown key")  # Cosine's, while LinearBetas stands
    assert "did you mean schedule.start?" not in refusal("", "schedule=Cosine", "schedule.start=1")  # and the reverse


def test_a_long_list_of_keys_is_cut_to_the_nearest() -> None:
    wide = dataclass(frozen=True)(type("Wide", (), {"__annotations__": {f"knob{i}": int for i in range(40)}}))
    with pytest.raises(ValueError, match="unknown key; did you mean knob") as caught:
        from_dict(wide, {"knb7": 1})
    assert "knob7" in str(caught.value)
    assert str(caught.value).count("knob") == 3


@pytest.mark.parametrize(
    ("setting", "key", "expected", "got"),
    [
        ("schedule.steps=many", "schedule.steps", "int", '"many"'),
        ("schedule.steps=1.5", "schedule.steps", "int", '"1.5"'),
        ("data.flip=yes", "data.flip", "bool", '"yes"'),
        ("data.labels=1,x", "data.labels", "[int, ...]", '"1,x"'),
        ("optimizer.betas=1,2,3", "optimizer.betas", "[float, float]", '"1,2,3"'),
        ("optimizer.clip=soft", "optimizer.clip", "float | none", '"soft"'),
        ("weight=manual", "weight", "float | auto | Cosine", '"manual"'),
    ],
)
def test_a_wrong_type_names_key_type_and_value(setting: str, key: str, expected: str, got: str) -> None:
    message = refusal("", setting)
    assert message.startswith(f"{key}: expected")
    assert expected in message
    assert got in message


def test_a_wrong_element_is_named_by_its_place() -> None:
    assert refusal('[data]\npath = ""\nlabels = [1, "x"]').startswith('data.labels[1]: expected int, got "x"')


def test_a_bad_choice_lists_the_valid_ones() -> None:
    message = refusal("", "optimizer.name=adma")
    assert message == 'optimizer.name: expected one of adam, sgd, got "adma"; did you mean adam?'
    message = refusal("", "schedule=Cosin")
    assert message.startswith("schedule: expected one of LinearBetas, Cosine, Interpolated")
    assert "did you mean Cosine" in message
    assert "LinearBetas, Cosine" in refusal('data.path = ""\n[schedule.chain]\ns = 1')
    assert refusal('data.path = ""\nschedule.type = ["Cosine"]').startswith("schedule: expected one of")
    assert refusal('data.path = ""\n[schedule]\ns = 1').startswith("schedule: expected a table with type = one of")


def test_a_setting_needs_an_equals_sign_and_a_path_that_exists() -> None:
    assert refusal("", "schedule").startswith('expected KEY=VALUE, got "schedule"')
    assert "guide: expected a component to reach into, got none" in refusal("", "guide.s=1")
    assert refusal("", "data.flip.more=1").startswith("data.flip: expected a component")
    assert refusal("", "weight.s=1").startswith("weight")


def test_a_missing_required_field_is_named() -> None:
    assert refusal("[data]\nflip = true").startswith("data.path: expected str, got nothing")
    assert refusal("").startswith("data: expected Data, got nothing")


def test_a_components_own_refusal_comes_with_its_key() -> None:
    message = refusal("", "schedule=Interpolated", "schedule.chain.start=0.5")
    assert message == "schedule.chain: expected start <= end, got 0.5 > 0.02; exchange them"
    with pytest.raises(ValueError, match=r"^LinearBetas: expected start"):
        loads(LinearBetas, "start = 1")


def test_what_is_not_toml_is_refused_with_its_line() -> None:
    assert "line 2" in refusal("every = 1\nschedule = = 2")


def test_a_value_that_its_annotation_does_not_allow_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"^schedule: expected LinearBetas \| Cosine \| Interpolated, got Optimizer"):
        dumps(replace(RUN, schedule=Optimizer()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^data.path: expected str, got"):
        dumps(replace(RUN, data=Data(path=b"x")))  # type: ignore[arg-type]


# Help.


def test_keys_lists_what_can_be_set() -> None:
    rows = {key: (kind, default) for key, kind, default in keys(Run)}
    assert rows["data.path"] == ("str", MISSING)
    assert rows["schedule"] == ("LinearBetas | Cosine | Interpolated", "LinearBetas")
    assert rows["schedule.start"] == ("float", 1e-4)
    assert rows["after.s"] == ("float", 0.5)  # of the instance, not of the class
    assert rows["optimizer.clip"] == ("float | none", 2.0)
    assert rows["optimizer.name"] == ("adam | sgd", "adam")
    assert rows["guide"] == ("Cosine | Interpolated | none", None)
    assert rows["weight"] == ("float | auto | Cosine", "auto")
    assert "optimizer" not in rows  # no choice, so its keys alone
    assert "lone.s" not in rows
    defaults = {key: default for key, _, default in keys(Run) if isinstance(default, bool | int | float)}
    assert override(RUN, [f"{key}={str(value).lower()}" for key, value in defaults.items()]) == RUN
