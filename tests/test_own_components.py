"""Components of a user's own: the round trip, the overrides, whose names are trusted, the words of every refusal."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsteep.core.open import Components, listed
from unsteep.storage.config import Trust, dumps, from_dict, keys, loads, override, to_dict
from unsteep.storage.protocols import asked, faults, members

HERE = __name__


class Curve(Protocol):
    """What may stand in `Run.curve`. Its values are properties, so that ClassVars and fields are right for mypy."""

    @property
    def calls(self) -> int: ...

    @property
    def top(self) -> float: ...

    def __call__(self, t: float) -> float:
        """The height at t."""
        ...


@dataclass(frozen=True, kw_only=True)
class Straight:
    start: float = 0.0
    end: float = 1.0
    calls: ClassVar[int] = 1

    @property
    def top(self) -> float:
        return max(self.start, self.end)

    def __call__(self, t: float) -> float:
        return self.start + t * (self.end - self.start)


@dataclass(frozen=True, kw_only=True)
class FlatConfig:
    top: float = 0.5
    calls: ClassVar[int] = 1

    def __call__(self, t: float) -> float:
        return self.top


@dataclass(frozen=True, kw_only=True)
class Turned:
    """One of our own that takes any curve, itself among them."""

    curve: AnyCurve = Straight()
    calls: int = 1

    @property
    def top(self) -> float:
        return self.curve.top

    def __call__(self, t: float) -> float:
        return self.curve(1 - t)


AnyCurve = Annotated[Curve, Components(Straight, FlatConfig, Turned)]
LoneCurve = Annotated[Curve, Components(FlatConfig)]


class Family:
    """A base class in place of a protocol."""

    def more(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class First(Family):
    n: int = 1


AnyFamily = Annotated[Family, Components(First)]

T_co = TypeVar("T_co", covariant=True)


class Shaped(Protocol[T_co]):
    """A protocol with a parameter, of which we have no class of our own."""

    @property
    def start(self) -> T_co: ...


# A user's classes. That they stand in this file and not in another makes no difference to the names.


@dataclass(frozen=True, kw_only=True)
class Knot:
    at: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Steep:
    start: int = 1
    rate: float = 1
    name: str | None = None
    clip: float | None = 2.0
    kind: Literal["up", 2] = "up"
    knots: tuple[Knot, ...] = ()
    inside: AnyCurve = FlatConfig()
    tuned: Any = field(default=None, compare=False, metadata={"setting": False})
    calls: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError("expected start >= 0,\ngot less")
        if self.start == 13:
            raise KeyError("no thirteen")

    @property
    def top(self) -> float:
        return math.inf

    def __call__(self, t: float) -> float:
        return self.start + t**2


@dataclass(frozen=True)
class Second(Family):
    m: int = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    curve: AnyCurve = Straight()
    maybe: AnyCurve | None = None
    after: AnyCurve | None = FlatConfig(top=0.25)
    also: tuple[AnyCurve, ...] = ()
    pair: tuple[AnyCurve | None, AnyFamily] = (None, First())
    weight: float | Literal["auto"] | AnyCurve = "auto"
    several: Literal["all"] | tuple[AnyCurve, ...] = "all"
    only: Annotated[Shaped[int], Components()] | None = None
    late: LoneCurve | None = None
    lone: LoneCurve = FlatConfig()
    family: AnyFamily | None = None
    closed: Straight | FlatConfig = Straight()
    pixels: Annotated[int, "of a side"] = 8
    steep: AnyCurve = field(default_factory=lambda: Steep(start=4))


RUN = Run()
OWN = f"{HERE}:Steep"

numbers = st.floats(allow_nan=False)
simple = st.builds(Straight, start=numbers) | st.builds(FlatConfig, top=numbers)
curves = st.recursive(
    simple,
    lambda inner: (
        st.builds(
            Steep,
            start=st.integers(min_value=14),
            rate=numbers,
            name=st.none() | st.text(),
            clip=st.none() | numbers,
            kind=st.sampled_from(["up", 2]),
            knots=st.lists(st.builds(Knot, at=numbers), max_size=2).map(tuple),
            inside=inner,
        )
        | st.builds(Turned, curve=inner)
    ),
    max_leaves=3,
)
families = st.builds(First, n=st.integers()) | st.builds(Second, m=st.integers())
runs = st.builds(
    Run,
    curve=curves,
    maybe=st.none() | curves,
    after=st.none() | curves,
    also=st.lists(curves, max_size=3).map(tuple),
    pair=st.tuples(st.none() | curves, families),
    weight=st.just("auto") | numbers | curves,
    several=st.just("all") | st.lists(curves, max_size=2).map(tuple),
    only=st.none() | st.builds(Straight, start=numbers),
    late=st.none() | curves,
    lone=curves,
    family=st.none() | families,
    closed=simple,
    steep=curves,
)


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one line that refuses."""
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(*changes: str) -> str:
    return refusal(override, RUN, changes)


# The round trip.


@settings(deadline=None, max_examples=150, derandomize=True)
@given(runs)
def test_what_is_written_is_read_back(run: Run) -> None:
    for trust in ("imported", "file", "typed", True, False):
        assert loads(Run, dumps(run), trust=trust) == run
    assert from_dict(Run, to_dict(run)) == run
    assert override(run, []) == run
    assert dumps(loads(Run, dumps(run))) == dumps(run)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(curves)
def test_a_component_of_ones_own_is_a_document_of_its_own(curve: Any) -> None:
    assert loads(type(curve), dumps(curve)) == curve


def test_the_document_is_the_one_a_person_would_write() -> None:
    table = to_dict(replace(RUN, curve=Steep(inside=Steep()), also=(FlatConfig(), Steep(name="a")), after=None))
    deep = {"type": OWN, "start": 1, "rate": 1.0, "clip": 2.0, "kind": "up", "knots": []}
    flat = {"type": "Flat", "top": 0.5}
    assert table["curve"] == {**deep, "inside": {**deep, "inside": flat}}
    assert table["also"] == [flat, {**deep, "name": "a", "inside": flat}]
    assert table["after"] == "none"
    assert table["pair"] == ["none", {"type": "First", "n": 1}]
    assert table["lone"] == flat  # a second one may come, so the only one of an open list is named
    assert f'also = [{{type = "Flat", top = 0.5}}, {{type = "{OWN}", start = 1, rate = 1.0, name = "a"' in dumps(
        replace(RUN, also=(FlatConfig(), Steep(name="a")))
    )


def test_a_bare_name_and_a_short_table_are_components_with_defaults() -> None:
    text = f'curve = "{OWN}"\nalso = ["{OWN}", {{type = "{HERE}:Knotted"}}, "Flat"]\nmaybe.type = "{OWN}"\nlone = {{}}'
    assert loads(Run, text) == Run(curve=Steep(), also=(Steep(), Knotted(), FlatConfig()), maybe=Steep())
    # our own by their full names are what they are, and are written short
    assert to_dict(loads(Run, f'curve = "{HERE}:FlatConfig"'))["curve"] == {"type": "Flat", "top": 0.5}


@dataclass(frozen=True, kw_only=True)
class Knotted(Straight):
    """Derived from one of our own: another class, with a name of its own."""


def test_none_infinities_and_what_is_no_setting() -> None:
    run = replace(RUN, curve=Steep(rate=-math.inf, clip=None, tuned=object()))
    back = loads(Run, dumps(run))
    assert back == run
    assert back.curve.clip is None  # type: ignore[attr-defined]
    assert back.curve.tuned is None  # type: ignore[attr-defined]
    assert type(loads(Run, f'curve = {{type = "{OWN}", rate = 3}}').curve.rate) is float  # type: ignore[attr-defined]


def test_a_list_is_told_by_its_components_alone() -> None:
    assert listed(AnyCurve) == (Straight, FlatConfig, Turned)
    assert listed(AnyCurve | AnyFamily | None) == (Straight, FlatConfig, Turned, First)
    assert listed(LoneCurve | AnyCurve) == (FlatConfig, Straight, Turned)
    assert listed(Straight | FlatConfig) == (Straight, FlatConfig)
    assert listed(Straight) == (Straight,)
    assert listed(Literal["a"] | float) == ()
    assert Components(Straight) == Components(Straight) != Components(FlatConfig)
    assert hash(AnyCurve) == hash(Annotated[Curve, Components(Straight, FlatConfig, Turned)])


# Overrides.


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ([f"curve={OWN}"], "curve", Steep()),
        ([f"curve.type={OWN}"], "curve", Steep()),
        ([f"curve={OWN}", "curve.start=3"], "curve", Steep(start=3)),
        ([f'curve={{type="{OWN}", start=3}}'], "curve", Steep(start=3)),
        ([f"curve={OWN}", f"curve.inside={OWN}", "curve.inside.rate=2"], "curve", Steep(inside=Steep(rate=2))),
        ([f"curve={OWN}", "curve.inside.top=2"], "curve", Steep(inside=FlatConfig(top=2))),
        ([f"curve={OWN}", "curve.clip=none", "curve.kind=2"], "curve", Steep(clip=None, kind=2)),
        ([f"curve={OWN}", "curve.knots=[{at=1}]"], "curve", Steep(knots=(Knot(at=1),))),
        ([f"curve={OWN}", "curve=Flat"], "curve", FlatConfig()),
        (["steep.start=5"], "steep", Steep(start=5)),
        (["steep=Turned", f"steep.curve={OWN}", "steep.curve.start=5"], "steep", Turned(curve=Steep(start=5))),
        ([f"maybe={OWN}", "maybe.start=6"], "maybe", Steep(start=6)),
        ([f"maybe={OWN}", "maybe=none"], "maybe", None),
        ([f"also={OWN}"], "also", (Steep(),)),
        ([f"also=Flat,{OWN}"], "also", (FlatConfig(), Steep())),
        ([f'also=[{{type="{OWN}", start=1}}]'], "also", (Steep(start=1),)),
        ([f'also=["{OWN}", "Flat"]'], "also", (Steep(), FlatConfig())),
        ([f"pair={OWN},{HERE}:Second"], "pair", (Steep(), Second())),
        ([f"weight={OWN}", "weight.start=2"], "weight", Steep(start=2)),
        (["weight=2"], "weight", 2.0),
        ([f"family={HERE}:Second", "family.m=7"], "family", Second(m=7)),
        ([f"lone={OWN}"], "lone", Steep()),
        ([f"several=Flat,{OWN}"], "several", (FlatConfig(), Steep())),
        ([f"only={HERE}:Straight", "only.start=2"], "only", Straight(start=2)),
        ([f"late={OWN}"], "late", Steep()),
        (["lone.top=3"], "lone", FlatConfig(top=3)),
        (["pixels=9"], "pixels", 9),
    ],
)
def test_an_override_names_a_class_of_ones_own_and_reaches_into_it(changes: list[str], name: str, value: Any) -> None:
    assert getattr(override(RUN, changes), name) == value


def test_an_override_needs_no_trust_for_what_stands_there() -> None:
    code = """
    from dataclasses import dataclass, replace
    @dataclass(frozen=True, kw_only=True)
    class Gone(Straight): pass
    """
    space: dict[str, Any] = {"Straight": Straight, "__name__": "nowhere_to_be_found"}
    exec(textwrap.dedent(code), space)
    run = replace(RUN, curve=space["Gone"]())
    assert type(override(run, ["curve.start=0.5"], trust="imported").curve) is space["Gone"]
    assert refusal(loads, Run, dumps(run)).startswith("curve: expected a class that is imported already")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A class of one's own with another one's in it by default."""

    inner: AnyCurve = Steep(start=3)
    calls: int = 1
    top: float = 0.0

    def __call__(self, t: float) -> float:
        return t


def test_a_default_of_ones_own_is_reached_into() -> None:
    run = override(RUN, [f"curve={HERE}:Holding", "curve.inner.rate=2"])
    assert run.curve == Holding(inner=Steep(start=3, rate=2))


# What a class must be.


def made(name: str, *, frozen: bool = True, **namespace: Any) -> type:
    """A class that would pass, but for what `namespace` takes away or adds. It stands in this module."""
    space = {"calls": 1, "top": 1.0, "__call__": lambda self, t: t, **namespace}
    space = {key: value for key, value in space.items() if value is not MISSING}
    return make_dataclass(name, [], namespace={**space, "__module__": HERE}, frozen=frozen)


BARE = type("Bare", (), {"__module__": HERE})
BARE_CHILD = type("BareChild", (Straight,), {"__module__": HERE, "__annotations__": {"lost": "int"}})
MOLTEN = made("Molten", frozen=False)
MUTE = made("Mute", __call__=MISSING)
EMPTY = made("Empty", __call__=MISSING, top=MISSING, calls=MISSING)
SILENT = made("Silent", __call__=3)
EAGER = made("Eager", top=lambda self: 1.0)
TABLED = make_dataclass("Tabled", [("table", "dict[str, int]", None)], bases=(Straight,), frozen=True, kw_only=True)
NESTED = make_dataclass("Nested", [("more", "tuple[Tabled, ...]", ())], bases=(Straight,), frozen=True, kw_only=True)
TYPED = make_dataclass("Typed", [("type", "str", "a")], bases=(Straight,), frozen=True, kw_only=True)
LOST = make_dataclass("Lost", [("a", "Nobody", None)], bases=(Straight,), frozen=True, kw_only=True)
TWINS = make_dataclass("Twins", [("either", "FlatConfig | Flat", None)], bases=(Straight,), frozen=True, kw_only=True)
Flat = made("Flat")
for _cls in (TWINS, TABLED, NESTED, TYPED, LOST):
    _cls.__module__ = HERE
Tabled = TABLED
STEEP = Steep()


class Watched(type):
    """A class that says when it is called."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise AssertionError("called before it was checked")


class Unready(metaclass=Watched):
    def __repr__(self) -> str:
        raise AssertionError("looked at")


READY = object.__new__(Unready)


@dataclass(frozen=True)
class Deaf(Straight):
    def __call__(self) -> float:  # type: ignore[override]
        return 0.0


@dataclass(frozen=True)
class Unmade(metaclass=Watched):
    calls: int = 1
    top: float = 1.0


FROZEN = "expected a frozen dataclass, got {name}, which is %s; put @dataclass(frozen=True, kw_only=True) above it"
CURVE = "expected a Curve with calls, top and __call__(), got {name} %s"
FIELDS = (
    "expected fields that can be settings, got {name} with %s; other fields take "
    "field(default=..., metadata={{'setting': False}})"
)
TABLE = "a field Tabled.table of dict[str, int], for which there is no TOML"
NO_CLASS = "expected {name} to be a class, got %s; name a frozen dataclass"

INSTANCES = [  # these can be made, and stand in a field
    ("BARE_CHILD", FROZEN % "no dataclass"),
    ("MOLTEN", FROZEN % "not frozen"),
    ("MUTE", CURVE % "without __call__(); add __call__() to it"),
    ("EMPTY", CURVE % "without calls, top and __call__(); add calls, top and __call__() to it"),
    ("SILENT", CURVE % "whose __call__ is no method; make __call__ a method"),
    ("EAGER", CURVE % "whose top is a method; put @property above top"),
    ("TABLED", FIELDS % TABLE),
    ("NESTED", FIELDS % TABLE),
    ("TYPED", FIELDS % "a field Typed.type, the key that names a component"),
    ("TWINS", FIELDS % "a field Twins.either of two classes of one name: Flat, Flat"),
    ("LOST", FIELDS % "annotations of Lost that cannot be read (name 'Nobody' is not defined)"),
]
CHECKED = [
    *INSTANCES,
    ("BARE", FROZEN % "no dataclass"),
    ("Unready", FROZEN % "no dataclass"),
    ("Unmade", CURVE % "without __call__(); add __call__() to it"),
    ("Deaf", CURVE % "whose __call__() does not take t; declare __call__(self, t)"),
    ("refused", NO_CLASS % "a function"),
    ("STEEP", NO_CLASS % "an instance of Steep"),
    ("READY", NO_CLASS % "an instance of Unready"),
    ("math", NO_CLASS % "an instance of module"),
]


@pytest.mark.parametrize(("attribute", "words"), CHECKED, ids=[name for name, _ in CHECKED])
def test_a_class_is_checked_before_it_is_called(attribute: str, words: str) -> None:
    name = f"{HERE}:{attribute}"
    assert refused(f"curve={name}") == "curve: " + words.format(name=name)
    assert refusal(loads, Run, f'curve = "{name}"') == "curve: " + words.format(name=name)
    assert refusal(loads, Run, f'several = ["{name}"]') == "several[0]: " + words.format(name=name)
    assert refused(f"also=Flat,{name}") == "also[1]: " + words.format(name=name)


def test_an_instance_that_may_not_stand_there_is_not_written() -> None:
    for attribute, words in INSTANCES:
        cls = globals()[attribute]
        message = refusal(dumps, replace(RUN, curve=cls()))
        assert message == "curve: " + words.format(name=f"{HERE}:{cls.__name__}")
    assert refusal(dumps, replace(RUN, curve=BARE())).startswith(f"curve: expected a frozen dataclass, got {HERE}:Bare")
    message = refusal(dumps, replace(RUN, also=(FlatConfig(), Steep)))  # type: ignore[arg-type]
    assert message == "also[1]: expected an instance, got the class Steep; write Steep()"
    message = refusal(dumps, replace(RUN, curve=math.sin))  # type: ignore[arg-type]
    assert message.startswith("curve: expected Straight | Flat | Turned | module:Class, got <built-in function sin>")
    for text in ("Flat", OWN, "none"):
        message = refusal(dumps, replace(RUN, curve=text))  # type: ignore[arg-type]
        assert message.startswith("curve: expected Straight | Flat | Turned | module:Class, got ")
    message = refusal(dumps, replace(RUN, closed=Steep()))  # type: ignore[arg-type]
    assert message.startswith("closed: expected Straight | Flat, got Steep(")


def test_a_class_without_a_name_of_its_own_is_not_written() -> None:
    @dataclass(frozen=True)
    class Inner(Straight):
        pass

    message = refusal(dumps, replace(RUN, curve=Inner()))
    assert message.startswith(f"curve: expected a class at the top of a module, got {HERE}:test_a_class_without")
    assert message.endswith("<locals>.Inner; move it there to give it a name")


def test_where_several_protocols_are_open_one_is_enough() -> None:
    @dataclass(frozen=True)
    class Both:
        either: AnyCurve | AnyFamily = Straight()

    Both.__annotations__["either"] = AnyCurve | AnyFamily
    assert override(Both(), [f"either={OWN}"]).either == Steep()
    assert override(Both(), [f"either={HERE}:Second"]).either == Second()
    message = refusal(override, Both(), [f"either={HERE}:MUTE"])
    assert message.startswith(
        "either: expected a Curve with calls, top and __call__() or a class derived from Family, "
    )
    assert message.endswith(f"got {HERE}:MUTE without __call__(); add __call__() to it")
    assert refused(f"family={OWN}") == (
        f"family: expected a class derived from Family, got {OWN} which is not derived from Family; derive it from "
        "Family"
    )


def test_a_refusal_of_the_class_itself_is_one_line_with_its_key() -> None:
    assert refused(f"curve={OWN}", "curve.start=-1") == "curve: expected start >= 0, got less"
    message = refused(f"curve={OWN}", "curve.start=13")
    assert message.startswith("curve: expected to make a Steep of these settings, got KeyError: 'no thirteen'; correct")


def test_unknown_keys_and_wrong_values_are_named_as_in_our_own() -> None:
    message = refused(f"curve={OWN}", "curve.strat=1")
    assert message.startswith("curve.strat: unknown key; did you mean curve.start")
    assert "the keys of curve are start, rate, name, clip, kind, knots, inside" in message
    assert "tuned" not in message
    assert refused(f"curve={OWN}", "curve.start=x") == 'curve.start: expected int, got "x"'
    assert refused(f'also=[{{type="{OWN}", strat=1}}]').startswith("also[0].strat: unknown key; did you mean also[0].s")
    assert refused(f"curve={OWN}", "curve.inside=Falt").startswith("curve.inside: expected one of Straight, Flat, Turn")


def test_a_name_that_is_none_is_told_what_may_stand_there() -> None:
    message = refused("curve=Falt")
    assert message == (
        'curve: expected one of Straight, Flat, Turned or module:Class of your own, got "Falt"; did you mean Flat?'
    )
    assert refused("closed=mine:Steep") == 'closed: expected one of Straight, Flat, got "mine:Steep"'
    assert refused("maybe.start=1").endswith(
        "first set maybe to one of Straight, Flat, Turned or module:Class of your own"
    )
    assert refusal(loads, Run, "curve = {start = 1}").startswith("curve: expected a table with type = one of Straight")
    assert refused("late.top=1").endswith("got none; first set late to one of Flat or module:Class of your own")
    assert refused("only.start=1").endswith("got none; first set only to one of module:Class of your own")
    assert refused("weight=manual").startswith(
        "weight: expected float | auto | Straight | Flat | Turned | module:Class"
    )


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("mine.py:Steep", ", mine:Steep"),
        ("./nets/mine.py:Steep", ", nets.mine:Steep"),
        ("nets\\\\mine:Steep", ""),
        (":Steep", "and the class"),
        ("mine:", "and the class"),
        ("mine:Steep.Inner", "and the class"),
        ("mine:Steep()", "and the class"),
        (".mine:Steep", ", mine:Steep"),
        ("mine..nets:Steep", "and the class"),
        ("C:/mine:Steep", ""),
    ],
)
def test_a_name_that_python_could_not_import_is_told_how(name: str, end: str) -> None:
    message = refused(f"curve={name}")
    assert message.startswith("curve: expected module:Class, got ")
    assert message.endswith(end)


# Protocols.


def test_what_a_protocol_asks_for() -> None:
    @runtime_checkable
    class Wide(Curve, Protocol[T_co]):
        """Of a protocol."""

        __slots__ = ()
        size: int
        function: Callable[[int], int]

        def __len__(self) -> int: ...

        @classmethod
        def make(cls) -> T_co: ...

    assert members(Curve) == {"calls": "value", "top": "value", "__call__": "method"}
    assert members(Wide) == {
        **members(Curve),
        "size": "value",
        "function": "either",
        "__len__": "method",
        "make": "method",
    }
    assert members(Protocol) == members(Generic) == members(object) == {}
    assert asked(Curve) == "a Curve with calls, top and __call__()"
    assert asked(Family) == "a class derived from Family"


def test_a_protocol_that_is_derived_from_gives_only_what_has_a_body() -> None:
    class Deep(Protocol):
        order: int = 2

        @property
        def steps(self) -> int: ...

        def walk(self) -> int:
            """Without one."""

        def halve(self) -> float:
            return 1 / self.order

        def same(self, x: int) -> int:
            return x

        def three(self) -> int:
            return 3

    @dataclass(frozen=True)
    class Child(Deep):
        pass

    @dataclass(frozen=True)
    class Whole(Deep):
        steps: int = 3

        def walk(self) -> int:
            return 3

    assert faults(Child, Deep) == ("without steps and walk()", "add steps and walk() to it")
    assert faults(Whole, Deep) is None


def test_a_field_without_a_default_is_a_value_and_an_abstract_method_is_none() -> None:
    class Base(ABC):
        @abstractmethod
        def more(self) -> int: ...

    @dataclass(frozen=True)
    class Lazy(Base):
        top: float
        calls: float

        def __call__(self, t: float) -> float:
            return t

    assert faults(Lazy, Curve) == ("without more()", "add more() to it")
    assert faults(Lazy, Base) == ("without more()", "add more() to it")
    Lazy.__abstractmethods__ = frozenset()
    assert faults(Lazy, Curve) is None


def test_our_own_keep_their_protocols() -> None:
    assert [faults(cls, Curve) for cls in listed(AnyCurve)] == [None, None, None]


# Trust: a module in the current folder, one on Python's path, and one that is imported.

MINE = """
    from dataclasses import dataclass
    open("ran", "a").write("{name};")

    @dataclass(frozen=True, kw_only=True)
    class Steep:
        start: int = 1
        calls: int = 1
        top: float = 1.0

        def __call__(self, t: float) -> float:
            return t
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """The current folder and a folder on Python's path, both empty. Modules of theirs are forgotten afterwards."""
    here, path = tmp_path / "here", tmp_path / "path"
    here.mkdir()
    path.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules, entries = dict(sys.modules), list(sys.path)
    yield here, path
    assert sys.path == entries
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def write(folder: Path, name: str, text: str = MINE) -> str:
    """A module of the user's; the name of its class Steep."""
    parts = name.split(".")
    for package in range(1, len(parts)):
        folder.joinpath(*parts[:package]).mkdir(exist_ok=True)
        folder.joinpath(*parts[:package], "__init__.py").write_text("open('ran', 'a').write('package;')\n")
    folder.joinpath(*parts).with_suffix(".py").write_text(textwrap.dedent(text).replace("{name}", name))
    return f"{name}:Steep"


def ran() -> str:
    """What the modules of the user's wrote when they were run."""
    return Path("ran").read_text() if Path("ran").exists() else ""


@pytest.mark.parametrize("trust", ["imported", False, "file", "typed", True])
@pytest.mark.parametrize("where", ["here", "path"])
@pytest.mark.parametrize("module", ["own_mine", "own_pack.nets.mine"])
def test_who_wrote_the_name_decides_what_is_imported(
    folders: tuple[Path, Path], trust: Trust, where: str, module: str
) -> None:
    name = write(folders[where == "path"], module)
    allowed = trust in ("typed", True) or (trust == "file" and where == "path")
    if allowed:
        run = loads(Run, f'curve = {{type = "{name}", start = 3}}', trust=trust)
        assert to_dict(run)["curve"] == {"type": name, "start": 3, "calls": 1, "top": 1.0}
        assert ran() == "package;" * module.count(".") + f"{module};"
        assert loads(Run, dumps(run)) == run  # now it is imported
        return
    message = refusal(loads, Run, f'curve = {{type = "{name}", start = 3}}', trust=trust)
    assert ran() == ""  # the packages around it neither
    assert module not in sys.modules
    if trust == "file":
        assert message == (
            f"curve: expected the module {module} on Python's path, got none; install it, or put its folder on "
            "PYTHONPATH; a name out of a file is looked for in the current folder only with trust=True, if "
            "you trust this file"
        )
    else:
        assert message == (
            f"curve: expected a class that is imported already, got a file that names the class {name} of your own, "
            f"which is not imported; import {module} first, or open with trust=True if you trust this file"
        )


def test_the_least_trust_is_the_default_of_documents_and_typing_that_of_settings(folders: tuple[Path, Path]) -> None:
    name = write(folders[0], "own_mine")
    for call in (lambda: loads(Run, f'curve = "{name}"'), lambda: from_dict(Run, {"curve": name})):
        assert "which is not imported; import own_mine first" in refusal(call)
    assert "not imported" in refusal(override, RUN, [f"curve={name}"], trust="imported")
    assert ran() == ""
    assert override(RUN, [f"curve={name}", "curve.start=3"]).curve.start == 3  # type: ignore[attr-defined]
    assert ran() == "own_mine;"


def test_a_module_is_run_once_and_found_by_what_it_is_then(folders: tuple[Path, Path]) -> None:
    name = write(folders[1], "own_mine")
    first = override(RUN, [f"curve={name}"])
    assert type(override(first, [f"also={name},{name}"]).also[1]) is type(first.curve)
    assert ran() == "own_mine;"


def test_what_can_be_imported_elsewhere_wins_over_the_current_folder(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(folders[0], "own_mine")
    write(folders[1], "own_mine", MINE.replace("start: int = 1", "start: int = 2"))
    write(folders[0], "colorsys")
    for first in ("", str(folders[0])):  # as `python -m` and a notebook would have it
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [first, *sys.path])
            entries = list(sys.path)
            assert override(RUN, [f"curve={name}"]).curve.start == 2  # type: ignore[attr-defined]
            assert "expected the class Steep in colorsys, got none there (" in refused("curve=colorsys:Steep")
            assert sys.path == entries
        del sys.modules["own_mine"]


@pytest.mark.parametrize("first", ["", ".", "absolute", "link"])
def test_a_file_reaches_the_current_folder_by_no_entry_of_the_path(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    name = write(folders[0], "own_mine")
    (folders[1] / "link").symlink_to(folders[0])
    entry = {"absolute": str(folders[0]), "link": str(folders[1] / "link")}.get(first, first)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [entry, *sys.path])
        message = refusal(loads, Run, f'curve = "{name}"', trust="file")
    assert "expected the module own_mine on Python's path, got none" in message
    assert ran() == ""


def test_what_a_module_needs_of_its_folder_is_found_and_what_it_adds_to_the_path_stays(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders[0], "own_helper", "VALUE = 7")
    extra = "    import sys, own_helper\n    sys.path.insert(0, 'extra')\n" + MINE
    name = write(folders[0], "own_mine", extra)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        before = list(sys.path)
        override(RUN, [f"curve={name}"])
        assert sys.path == ["extra", *before]


def test_a_module_that_was_written_a_moment_ago_is_seen(folders: tuple[Path, Path]) -> None:
    assert "got none" in refused("curve=own_mine:Steep")
    before = folders[0].stat()
    name = write(folders[0], "own_mine")
    os.utime(folders[0], ns=(before.st_atime_ns, before.st_mtime_ns))  # as a clock with coarse ticks would have it
    override(RUN, [f"curve={name}"])


def test_a_module_that_is_missing_or_broken_is_one_line(folders: tuple[Path, Path]) -> None:
    here, _ = folders
    assert refused("curve=own_mine:Steep") == (
        "curve: expected the module own_mine on Python's path or in the current folder, got none; correct its name, or "
        "put its folder on PYTHONPATH"
    )
    write(here, "own_pack.mine")
    assert "expected the module own_pack.other on Python's path or" in refused("curve=own_pack.other:Steep")
    assert "expected the module own_pack.mine.deep on Python's path" in refused("curve=own_pack.mine.deep:Steep")
    broken = {
        "own_raises": ("raise RuntimeError('so\\nsorry')", "RuntimeError: so sorry"),
        "own_leaves": ("import sys; sys.exit(3)", "SystemExit: 3"),
        "own_misses": ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        "own_garbled": ("class class", "SyntaxError: invalid syntax (own_garbled.py, line 1)"),
    }
    for module, (text, words) in broken.items():
        name = write(here, module, text)
        for key, setting in (("curve", f"curve={name}"), ("also[0]", f"also={name}"), ("weight", f"weight={name}")):
            message = refused(setting)
            assert message == f"{key}: expected {module} to be imported, got {words}; correct the module"
        assert module not in sys.modules


def test_a_name_that_a_module_does_not_have_is_told_the_nearest_and_the_file(folders: tuple[Path, Path]) -> None:
    write(folders[0], "own_mine")
    file = folders[0] / "own_mine.py"
    message = refused("curve=own_mine:Sttep")
    assert message == (
        f"curve: expected the class Sttep in own_mine, got none there ({file.resolve()}); did you mean Steep?"
    )
    message = refusal(loads, Run, 'curve = "own_mine:Other"')
    assert message.endswith("; name a class at its top")
    assert refused("curve=sys:Other").startswith("curve: expected the class Other in sys, got none there (no file); ")


def test_a_module_may_hand_out_its_classes_late_but_only_to_those_who_are_trusted(folders: tuple[Path, Path]) -> None:
    write(folders[0], "own_real")
    late = """
        def __getattr__(name):
            if name == "Wrong":
                raise RuntimeError("not today")
            if name != "Steep":
                raise AttributeError(name)
            from own_real import Steep
            return Steep
    """
    name = write(folders[0], "own_late", late)
    assert "expected the class Other in own_late" in refused("curve=own_late:Other")
    assert "got RuntimeError: not today; correct the module" in refused("curve=own_late:Wrong")
    assert "expected the class Steep in own_late, got none there" in refusal(loads, Run, f'curve = "{name}"')
    assert "own_real" not in sys.modules
    override(RUN, ["curve=own_real:Steep"])
    run = override(RUN, [f"curve={name}"])
    assert to_dict(run)["curve"]["type"] == "own_real:Steep"  # where it stands


def test_what_is_in_the_place_of_a_module_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trap:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("looked into")

    monkeypatch.setitem(sys.modules, "own_trap", Trap())
    monkeypatch.setitem(sys.modules, "own_halted", None)
    assert "which is not imported" in refusal(loads, Run, 'curve = "own_trap:Steep"')
    assert "which is not imported" in refusal(loads, Run, 'curve = "own_halted:Steep"')
    assert "expected the module own_halted on Python's path" in refused("curve=own_halted:Steep")


def test_a_trust_that_is_none_trusts_nobody() -> None:
    for trust in ("yes", 1, None):
        message = refusal(loads, Run, "", trust=trust)
        assert message.startswith("trust: expected True, False or one of imported, file, typed, got ")


def test_a_folder_that_is_gone_is_no_current_folder(folders: tuple[Path, Path]) -> None:
    name = write(folders[1], "own_mine", MINE.replace('open("ran", "a")', "print").replace(".write(", ", ("))
    gone = folders[0] / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        assert override(RUN, [f"curve={name}"]).curve.start == 1  # type: ignore[attr-defined]
    finally:
        os.chdir(folders[0])


# In a second process.

SCRIPT = """
    import sys
    from dataclasses import dataclass
    from typing import Annotated, Protocol
    from unsteep.core.open import Components
    from unsteep.storage.config import dumps, loads, override

    class Curve(Protocol):
        calls: int
        def __call__(self, t: float) -> float: ...

    @dataclass(frozen=True)
    class Flat:
        calls: int = 1
        def __call__(self, t): return t

    @dataclass(frozen=True)
    class Run:
        curve: Annotated[Curve, Components(Flat)] = Flat()

    class Odd(Flat): pass
"""


def python(code: str, *, cwd: Path, path: Path | None = None) -> str:
    """What a second Python prints, in one line."""
    source = Path(sys.modules["unsteep"].__file__ or "").parents[1]
    entries = os.pathsep.join(map(str, [source, *([path] if path else [])]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT) + textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": entries},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_process_opens_it_with_trust_or_imported_and_not_otherwise(folders: tuple[Path, Path]) -> None:
    here, path = folders
    name = write(here, "own_mine")
    (here / "run.toml").write_text(f'[curve]\ntype = "{name}"\nstart = 3\ncalls = 1\ntop = 1.0\n')
    code = """
        {before}
        text = open("run.toml").read()
        try:
            run = loads(Run, text, {option})
            assert loads(Run, dumps(run)) == run and dumps(run) == text, dumps(run)
            print(run.curve)
        except ValueError as error:
            print(error)
        """
    steep = "Steep(start=3, calls=1, top=1.0)"
    assert "got a file that names the class own_mine:Steep" in python(code.format(before="", option=""), cwd=here)
    assert not (here / "ran").exists()
    strict = python(code.format(before="", option="trust='file'"), cwd=here)
    assert "expected the module own_mine on Python's path, got none" in strict  # -c puts the current folder first
    assert not (here / "ran").exists()
    assert python(code.format(before="", option="trust=True"), cwd=here) == steep
    assert python(code.format(before="import own_mine", option=""), cwd=here) == steep
    assert python(code.format(before="", option="trust='file'"), cwd=here, path=here) == steep  # said by the user
    assert "got none; install it" in python(code.format(before="", option="trust='file'"), cwd=here, path=Path())
    (here / "own_mine.py").rename(path / "own_mine.py")
    assert python(code.format(before="", option="trust='file'"), cwd=here, path=path) == steep
    assert "which is not imported" in python(code.format(before="", option=""), cwd=here, path=path)


def test_a_class_of_the_program_that_runs_is_found_in_it_alone(tmp_path: Path) -> None:
    own = """
        @dataclass(frozen=True)
        class Tiny(Flat):
            start: int = 1

        run = override(Run(), ["curve=__main__:Tiny", "curve.start=3"])
        assert loads(Run, dumps(run)) == run == Run(curve=Tiny(start=3))
        print(dumps(run))
        """
    text = python(own, cwd=tmp_path)
    assert text.startswith('[curve]\ntype = "__main__:Tiny"')
    for trust in ("imported", "file", "typed"):
        message = refusal(loads, Run, text, trust=trust)
        assert message == (
            "curve: expected the class Tiny in the program that runs, which is what __main__ means, got none there; "
            "put the class into a module of its own, name that, and import it"
        )


# Help.


def test_keys_list_our_own_and_then_that_any_other_may_stand_there() -> None:
    rows = {key: (kind, default) for key, kind, default in keys(Run)}
    ours = "Straight | Flat | Turned | module:Class"
    assert rows["curve"] == (ours, "Straight")
    assert rows["curve.start"] == ("float", 0.0)
    assert rows["maybe"] == (f"{ours} | none", None)
    assert rows["also"] == (f"[{ours}, ...]", ())
    assert rows["weight"] == (f"float | auto | {ours}", "auto")
    assert rows["lone"] == ("Flat | module:Class", "Flat")
    assert rows["closed"] == ("Straight | Flat", "Straight")
    assert rows["pixels"] == ("int", 8)
    assert rows["steep"] == (ours, OWN)
    assert rows["steep.start"] == ("int", 4)
    assert rows["steep.inside.top"] == ("float", 0.5)
    assert "steep.tuned" not in rows
