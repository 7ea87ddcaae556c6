"""Drawn shapes, against shapes drawn by others, and the checker that reads them, against captions that lie."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, label

from unsteep.data import Shapes, shapes
from unsteep.data.shapes import COLOURS, NUMBERS, RELATIONS, SHAPES, Scene, coverage
from unsteep.evaluation.shapes_checker import attribute_accuracy, check, read_picture

HELD_OUT = ("blue circle", "green square", "red triangle")
MIRRORED = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))


@pytest.fixture(scope="module")
def data():
    """250 pictures of the training split, and 250 of the test split."""
    return Shapes(count=250, test_count=250, seed=5).read("all")


def outline(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    """The corners, or for a circle many points, of the shape of area pi r^2 with its centre of mass at (x, y)."""
    n = {"circle": 720, "square": 4, "triangle": 3}[shape]
    reach = r * math.sqrt(2 * math.pi / (n * math.sin(2 * math.pi / n)))  # of a regular polygon's corners
    angles = [2 * math.pi * (k + 0.5) / n + math.pi / 2 for k in range(n)]
    return [(x + reach * math.cos(a), y + reach * math.sin(a)) for a in angles]


def painted(*things: tuple[str, str, float, float, float], size: int = 32) -> np.ndarray:
    """A picture of (colour, shape, x, y, r), by polygons of Pillow at 16 times the size."""
    sheet = Image.new("RGB", (16 * size, 16 * size), "white")
    for colour, shape, *place in things:
        corners = [(16 * x - 0.5, 16 * y - 0.5) for x, y in outline(shape, *place)]
        ImageDraw.Draw(sheet).polygon(corners, fill=COLOURS[colour])
    return np.array(sheet.reduce(16)).transpose(2, 0, 1)


def captions_of(data) -> list[Scene]:
    return [Scene.of(caption) for caption in data.captions]


# Drawing


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [4.0, 5.3, 8.0])
def test_a_shape_has_the_area_and_the_centre_it_is_said_to_have(shape, radius):
    rows, columns = np.indices((48, 48)) + 0.5
    covered = coverage(shape, columns - 23.3, rows - 24.6, radius)
    assert covered.sum() == pytest.approx(math.pi * radius**2, rel=0.01)
    assert (columns * covered).sum() / covered.sum() == pytest.approx(23.3, abs=0.05)
    assert (rows * covered).sum() / covered.sum() == pytest.approx(24.6, abs=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_what_supersampling_gives(shape):
    rows, columns = np.indices((32, 32)) + 0.5
    ink = np.array(COLOURS["blue"])[:, None, None]
    ours = 255 + coverage(shape, columns - 14.7, rows - 16.2, 6.4) * (ink - 255)
    error = abs(ours - painted(("blue", shape, 14.7, 16.2, 6.4)))
    assert error.mean() < 1
    assert error.max() < 45  # at the triangle's corners, where the distance to the nearest side is not all


def test_every_picture_is_a_function_of_seed_split_and_index(monkeypatch):
    few, many = Shapes(count=20, test_count=9), Shapes(count=60, test_count=30)
    whole = many.read("all")
    assert torch.equal(few.read().x, whole.x[:20])
    assert few.read().captions == whole.captions[:20]
    assert torch.equal(few.read("test").x, whole.x[60:69])
    monkeypatch.setattr(shapes, "CHUNK", 7)
    assert many.read("all").digest == whole.digest
    assert Shapes(count=60, test_count=30, seed=1).read("all").digest != whole.digest
    assert len({picture.numpy().tobytes() for picture in whole.x}) == 90


def test_what_is_held_out_is_in_every_test_caption_and_in_no_other():
    train, test = (Shapes(count=1500, test_count=300).read(split) for split in ("train", "test"))
    held = {tuple(name.split()) for name in HELD_OUT}
    assert all(held.isdisjoint(scene.things) for scene in captions_of(train))
    assert all(held & set(scene.things) for scene in captions_of(test))
    seen = {thing for scene in captions_of(train) for thing in scene.things}
    assert len(seen) == len(COLOURS) * len(SHAPES) - len(held)
    assert {thing for scene in captions_of(test) for thing in scene.things} > held
    assert {scene.relation for scene in captions_of(test)} == {*RELATIONS, ""}


def test_kinds_numbers_and_relations_come_as_often_as_they_should():
    scenes = captions_of(Shapes(size=16, count=2000).read())
    counts = Counter(scene.relation or str(len(scene.things)) for scene in scenes)
    expected = {"1": 0.2} | dict.fromkeys("234", 0.2 / 3) | dict.fromkeys(RELATIONS, 0.15)
    assert counts.keys() == expected.keys()
    for kind, share in expected.items():
        assert abs(counts[kind] / 2000 - share) < 4 * math.sqrt(share * (1 - share) / 2000)


@pytest.mark.parametrize("size", [32, 50])
def test_things_stand_apart_and_clear_of_the_edge(size):
    data = Shapes(size=size, count=200, test_count=200).read("all")
    for picture, scene in zip(data.x.numpy(), captions_of(data), strict=True):
        inked = (picture < 250).any(0)
        assert not inked[[0, -1]].any()
        assert not inked[:, [0, -1]].any()
        assert label(inked, np.ones((3, 3)))[1] == len(scene.things)
        for j, (colour, _) in enumerate(scene.things):  # and have exactly their colour inside
            assert (picture == np.array(COLOURS[colour])[:, None, None]).all(0).any(), j


def test_captions_are_sentences_and_read_back():
    every = [scene for kind in Shapes().scenes() for scene in kind]
    assert len(every) == 18 + 3 * 18 + 4 * 18 * 17
    assert len({scene.caption for scene in every}) == len(every)
    assert all(Scene.of(scene.caption) == scene for scene in every)
    assert Scene((("red", "circle"), ("blue", "square")), "left of").caption == "a red circle left of a blue square"
    assert Scene((("red", "circle"),) * 2).caption == "two red circles"
    assert Scene.of(" A  Red Circle ").things == (("red", "circle"),)
    for words in ("a red dog", "two red circle", "a red circle left of a red circle", ""):
        with pytest.raises(ValueError, match="caption: expected one like"):
            Scene.of(words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 15}, "at least 16"),
        ({"count": 0}, "count"),
        ({"held_out": ("pink circle",)}, "'pink circle'"),
        ({"held_out": tuple(f"red {shape}" for shape in SHAPES)}, "no red thing"),
        ({"held_out": tuple(f"{colour} square" for colour in COLOURS)}, "no square thing"),
    ],
)
def test_settings_that_will_not_do_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Shapes(**settings)


def test_without_held_out_things_there_is_no_test_split():
    source = Shapes(count=30, held_out=())
    assert len(source.read("all")) == 30
    with pytest.raises(ValueError, match=r"set data.held_out"):
        source.read("test")


# Reading


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_the_checker_reads_shapes_drawn_by_another_hand(shape, colour):
    others = [other for other in COLOURS if other != colour]
    things = [(colour, shape, 9.3, 10.6, 4.2), (others[0], "circle", 24.1, 9.2, 4.6), (others[1], "square", 15, 25, 4)]
    found = read_picture(painted(*things))
    assert len(found) == 3
    for name, kind, x, y, r in things:
        (thing,) = (one for one in found if one.colour == name)
        assert thing.shape == kind
        assert math.dist((thing.x, thing.y), (x, y)) < 0.2
        assert thing.area == pytest.approx(math.pi * r**2, rel=0.08)
        corners = np.array(outline(kind, x, y, r))
        assert abs(np.array(thing.box) - [*corners.min(0), *corners.max(0)]).max() <= (0.51 if kind == "square" else 1)
        assert thing.fit > 0.9


def test_clean_pictures_are_read_without_a_mistake(data):
    assert {name: one.value for name, one in attribute_accuracy(data.x, data.captions).items()} == dict.fromkeys(
        ("count", "colour", "shape", "binding", "relation", "all"), 1.0
    )


@pytest.mark.parametrize(("blur", "noise"), [(1.0, 0), (0, 25), (0.7, 15)])
def test_soft_and_noisy_pictures_are_read(data, blur, noise):
    pixels = gaussian_filter(data.x.double().numpy(), (0, 0, blur, blur))
    pixels = pixels + np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else pixels
    rough = np.rint(pixels).clip(0, 255).astype(np.uint8)
    assert attribute_accuracy(rough[::2], data.captions[::2])["all"].value >= 0.98


def test_a_caption_of_another_scene_is_false(data):
    scenes = captions_of(data)
    for i, picture in enumerate(data.x[::3]):
        scene, other = scenes[3 * i], scenes[3 * i - 1]
        turned = Scene(other.things[::-1], MIRRORED[other.relation]) if other.relation else other
        assert check(picture, other.caption)["all"] == (scene in (other, turned))


def test_the_mirrored_picture_and_the_turned_caption_say_the_same(data):
    for picture, scene in list(zip(data.x, captions_of(data), strict=True))[::4]:
        if not scene.relation:
            continue
        opposite = MIRRORED[scene.relation]
        flipped = picture.flip(-1 if scene.relation in RELATIONS[:2] else -2)
        assert check(picture, Scene(scene.things[::-1], opposite).caption)["all"]
        assert not check(picture, Scene(scene.things, opposite).caption)["all"]
        if "triangle" not in scene.caption:  # which has an upper and a lower side
            assert check(flipped, Scene(scene.things, opposite).caption)["all"]


LEFT, RIGHT = ("red", "circle", 9, 16, 5), ("blue", "square", 23, 17, 4.5)


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("a red circle left of a blue square", ""),
        ("a blue square right of a red circle", ""),
        ("a red circle right of a blue square", "relation"),
        ("a red circle above a blue square", "relation"),
        ("a blue circle left of a red square", "binding relation"),
        ("a red circle left of a green square", "colour binding relation"),
        ("a red circle left of a blue triangle", "shape binding relation"),
        ("a red circle", "count colour shape binding"),
        ("two red circles", "colour shape binding"),
        ("three green triangles", "count colour shape binding"),
    ],
)
def test_each_attribute_is_judged_for_itself(caption, wrong):
    answers = check(painted(LEFT, RIGHT), caption)
    assert {name for name, right in answers.items() if not right} == {*wrong.split(), *(["all"] if wrong else [])}
    assert ("relation" in answers) == bool(Scene.of(caption).relation)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_counting(count):
    picture = painted(*[("green", "triangle", 8 + 16 * (i % 2), 9 + 15 * (i // 2), 4.5) for i in range(count)])
    for n, word in enumerate(NUMBERS, start=1):
        answers = check(picture, f"{word} green triangle{'s' if n > 1 else ''}")
        assert answers.pop("count") == answers.pop("all") == (n == count)
        assert all(answers.values())


def test_dirt_is_no_thing_and_what_has_no_shape_is_no_circle():
    picture = painted(LEFT)
    picture[:, 27:30, 27:30] = np.array(COLOURS["green"])[:, None, None]
    assert check(picture, "a red circle")["all"]
    bar = painted()
    bar[:, 10:16, 9:21] = np.array(COLOURS["red"])[:, None, None]
    assert [thing.shape for thing in read_picture(bar)] == [""]
    assert read_picture(painted()) == ()
    assert not any(check(painted(), "a red circle").values())


def test_shares_are_of_the_pictures_that_were_asked():
    pictures = np.stack([painted(LEFT, RIGHT), painted(LEFT), painted(LEFT)])
    shares = attribute_accuracy(pictures, ["a red circle left of a blue square", "a red circle", "two red circles"])
    assert {name: round(3 * share.value) for name, share in shares.items() if name != "relation"} == {
        "count": 2, "colour": 3, "shape": 3, "binding": 3, "all": 2
    }  # fmt: skip
    assert shares["relation"].value == 1
    assert shares["relation"].low == pytest.approx(1 / (1 + 1.959964**2))  # Wilson's interval for 1 of 1
    assert "relation" not in attribute_accuracy(pictures[1:], ["a red circle", "a red circle"])
    with pytest.raises(ValueError, match="caption for each picture"):
        attribute_accuracy(pictures, ["a red circle"])
    with pytest.raises(ValueError, match=r"uint8 \(3, h, w\)"):
        read_picture(pictures[0].astype(np.float32))
