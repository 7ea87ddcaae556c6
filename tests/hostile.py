"""Files that somebody may send to do harm, by what they pretend to be; made on the fly, the same every time.

An `Attack` puts files into a folder and says which commands a user would then give. Nothing of it harms a program that
believes nothing: the pickles and modules among them would write a file called by `CANARY`.
"""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CANARY = "canary-that-ran"
Command = list[Any]
Put = Callable[[Path], Any]


@dataclass(frozen=True)
class Attack:
    """`put(folder)` makes it; `commands(folder, run)` are then tried. `of_run`: the folder is a copy of a run."""

    name: str
    put: Put
    commands: Callable[[Path, Path], list[Command]]
    of_run: bool = False


class Evil:
    """A pickle that would write a file."""

    def __reduce__(self) -> Any:
        return (open, (CANARY, "w"))


PICKLED = pickle.dumps(Evil(), 2)
MODULE = f"open({CANARY!r}, 'w').close()\nclass Part: pass\n"
NUMBERS = np.random.default_rng(0).integers(0, 256, (4, 9, 9), dtype=np.uint8)


def png(width: int = 9, height: int = 9, data: bytes | None = None, more: bytes = b"", depth: int = 8) -> bytes:
    """A grey PNG whose head says any size."""
    plain = zlib.compress(bytes((width * depth // 8 + 1) * height)) if data is None else data
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), more, chunk(b"IDAT", plain), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def saved(picture: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


ZEROS = zlib.compress(bytes(30_000_000), 9)
SMALL = png()
JPEG, GIF = (saved(Image.fromarray(NUMBERS[0]), kind) for kind in ("JPEG", "GIF"))
PICTURES: dict[str, bytes] = {
    **{f"head says {w} x {h}": png(w, h, b"x") for w, h in ((0, 0), (1, 2**31 - 1), (2**31 - 1, 1), (60000, 60000))},
    "bomb of one bit": png(9400, 9400, depth=1, data=zlib.compress(bytes(1176 * 9400), 9)),
    "bomb": png(9400, 9400, data=zlib.compress(bytes(9401 * 9400), 9)),
    "text that unpacks": png(more=chunk(b"zTXt", b"a\0\0" + ZEROS)),
    "international text that unpacks": png(more=chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS)),
    "profile that unpacks": png(more=chunk(b"iCCP", b"a\0\0" + ZEROS)),
    "many chunks": png(more=chunk(b"tEXt", b"a\0b") * 5_000),
    "length of a chunk": SMALL.replace(b"IDAT", b"IDAT", 1)[:33] + b"\xff" * 4 + SMALL[37:],
    "jpeg of 65535": JPEG.replace(b"\x00\x09\x00\x09", b"\xff\xff\xff\xff", 1),
    "gif of 65535": GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:],
    "webp that lies": b"RIFF" + struct.pack("<I", 2**31) + b"WEBPVP8X" + b"\x0a\0\0\0" + b"\xff" * 10,
    "bmp that lies": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\n",
    "drawing": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
    "pickle": PICKLED,
    "empty": b"",
    "tiff": saved(Image.fromarray(NUMBERS[0]), "TIFF"),
}


def of_pictures() -> Iterator[Attack]:
    for name, content in PICTURES.items():

        def put(folder: Path, content: bytes = content) -> None:
            for i in range(3):
                (folder / f"{i}.png").write_bytes(SMALL)
            for i in range(3):
                (folder / f"bad-{i}.png").write_bytes(content)

        yield Attack(f"picture, {name}", put, lambda f, _: [["data", f]])
        yield Attack(f"picture, {name}, trained on", put, lambda f, _: [dry("folder", f, "data.size=8")])
        yield Attack(
            f"picture, {name}, drawn again",
            put,
            lambda f, run: [
                ["redraw", run, f / "bad-0.png", "-n", 1, "--steps", 1, "--out", f.parent / "out" / "o.png"]
            ],
        )


def dry(recipe: str, data: Any, *settings: str) -> Command:
    small = ("model.network.width=8", "schedule.type=CosineBetas", "schedule.steps=4", "train.batch=2", *settings)
    return ["train", recipe, "--data", data, "--dry-run", *(word for one in small for word in ("--set", one))]


def npy(head: str | bytes, content: bytes = b"", version: bytes = b"\1\0", length: int | None = None) -> bytes:
    text = head.encode() if isinstance(head, str) else head
    return b"\x93NUMPY" + version + struct.pack("<H", len(text) if length is None else length) + text + content


def told(shape: str = "(4, 9, 9)", descr: str = "'|u1'", more: str = "") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n"


SHAPES = (
    "(1000000000000000, 9, 9)",
    "(-1, 9, 9)",
    f"({2**63}, 9, 9)",
    "(4.5, 9, 9)",
    "'x'",
    "(4,)*9",
    "((4, 9), 9)",
    "()",
)
DESCRS = ("'|O'", "'<M8[s]'", "[('a', '|O')]", "'<c16'", "'|V10000000000'", "'<U1000000000'", "'|S9999999999'", "None")
CODE = f"__import__('builtins').open({CANARY!r}, 'w')"
ARRAYS: dict[str, bytes] = {
    **{f"shape {shape}": npy(told(shape), bytes(324)) for shape in SHAPES},
    **{f"kind {descr}": npy(told(descr=descr), PICKLED) for descr in DESCRS},
    "objects": npy(told("(1,)", "'|O'"), PICKLED),
    "code for a head": npy(CODE),
    "code in a head": npy(told(CODE)),
    "version 9": npy(told(), version=b"\x09\0"),
    "length of the head": npy(told(), length=65535),
    "deep head": npy("(" * 30000),
    "not a number": npy(told(descr="'<f4'"), struct.pack("<f", float("nan")) * 324),
    "huge numbers": npy(told("(4, 9, 9)", "'<f8'"), struct.pack("<d", 1e308) * 324),
    "pickle": PICKLED,
    "empty": b"",
}


def in_zip(files: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED, links: Sequence[str] = ()) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = packed
            entry.external_attr = (0o120777 if name in links else 0o100644) << 16
            archive.writestr(entry, content)
    return out.getvalue()


PACKED: dict[str, Callable[[], bytes]] = {
    "bomb": lambda: in_zip({"images.npy": npy(told("(40000, 100, 100)"), bytes(400_000_000))}),
    "beside a bomb": lambda: in_zip(
        {"images.npy": npy(told(), bytes(324)), "x.npy": npy(told("(3000,)"), bytes(300_000_000))}
    ),
    "name above": lambda: in_zip({"../above.npy": npy(told(), bytes(324))}),
    "absolute name": lambda: in_zip({"/tmp/absolute.npy": npy(told(), bytes(324))}),
    "labels of objects": lambda: in_zip(
        {"images.npy": npy(told(), bytes(324)), "labels.npy": npy(told("(4,)", "'|O'"), PICKLED)}
    ),
    "no arrays": lambda: in_zip({"a": b"x"}),
    "no heads": lambda: in_zip({"images.npy": b"", "labels.npy": b""}),
    "many": lambda: in_zip({f"{i}.npy": npy(told("(1,)"), b"x") for i in range(3000)}),
}


def of_arrays() -> Iterator[Attack]:
    def commands(folder: Path, run: Path) -> list[Command]:
        (path,) = folder.iterdir()
        return [
            dry("array", path, "data.limit=2"),
            ["invert", run, path, "--out", folder.parent / "out" / "l.safetensors"],
        ]

    for name, content in ARRAYS.items():
        yield Attack(f"npy, {name}", lambda f, c=content: (f / "a.npy").write_bytes(c), commands)  # type: ignore[misc]
        yield Attack(
            f"npz, {name}",
            lambda f, c=content: (f / "a.npz").write_bytes(in_zip({"images.npy": c})),  # type: ignore[misc]
            commands,
        )
    for name, make in PACKED.items():
        yield Attack(f"npz, {name}", lambda f, m=make: (f / "a.npz").write_bytes(m()), commands)  # type: ignore[misc]


PATHS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x.png",
    "\x00",
    "con",
    "0.png/../../x",
    "~/.ssh/id",
    "a" * 5000,
)
JSONS: dict[str, bytes] = {
    "deep": b"[" * 50_000,
    "deep tables": b'{"a":' * 50_000,
    "huge number": b'{"step": 1' + b"0" * 5000 + b"}",
    "not a number": b'{"step": NaN, "files": Infinity}',
    "wrong kinds": b'{"step": [], "files": [1], "data": {}, "caption": 5, "file": null}',
    "null": b"null",
    "a list": b"[1, 2]",
    "a text": b'"x"',
    "twice": b'{"step": 1, "step": -5, "files": {}, "files": {"..": {}}}',
    "other letters": '{"step": 1}'.encode("utf-16"),
    "no letters": b"\xff\xfe\x00" * 100,
    "codes": json.dumps({"\x1b[2J": "\x1b]0;x\x07", "step": "\x1b[31m", "file": "\u202e.png"}).encode(),
    "long": b'{"step": "' + b"x" * 3_000_000 + b'"}',
    "empty": b"",
    "negative": b'{"step": -1, "files": {"a": {"bytes": -1, "sha256": ""}}}',
    "pickle": PICKLED,
}


def of_tables() -> Iterator[Attack]:
    tables: dict[str, tuple[str, bytes]] = {
        **{f"path {i}": ("a.csv", f"file,caption\n{path},x\n0.png,y\n".encode()) for i, path in enumerate(PATHS)},
        **{
            f"line, path {i}": ("metadata.jsonl", b"%s\n" % json.dumps({"file_name": path, "text": "x"}).encode())
            for i, path in enumerate(PATHS)
        },
        **{f"line, {name}": ("a.jsonl", content) for name, content in JSONS.items()},
        **{f"beside, {name}": ("0.json", content) for name, content in JSONS.items()},
        "columns": ("a.csv", b"file,caption," + b"x," * 100_000 + b"\n0.png,a\n"),
        "long cell": ("a.csv", b'file,caption\n0.png,"' + b"x" * 2_000_000),
        "open quote": ("a.tsv", b'file\tcaption\n0.png\t"' + b"a\n" * 5000),
        "nulls": ("a.csv", b"file,caption\n\0\0\0.png,a\n"),
        "formula": ("metadata.csv", b"file_name,text\n0.png,=cmd|' /C calc'!A0\n"),
        "codes": ("a.csv", "file,caption\n0.png,\x1b[2J\x1b]52;c;eA==\x07\u202e[red]<script>\n".encode()),
    }

    for name, (file, content) in tables.items():

        def put(folder: Path, file: str = file, content: bytes = content) -> None:
            for i in range(3):
                (folder / f"{i}.png").write_bytes(SMALL)
            (folder / file).write_bytes(content)

        yield Attack(f"table, {name}", put, lambda f, _: [dry("captions", f, "data.size=8")])


def idx(kind: int, sides: Sequence[int], content: bytes) -> bytes:
    return bytes([0, 0, kind, len(sides)]) + b"".join(struct.pack(">I", side) for side in sides) + content


def of_idx() -> Iterator[Attack]:
    heads = {
        "beyond": idx(8, (2**32 - 1,) * 3, b""),
        "many axes": bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255,
        "no axes": bytes([0, 0, 8, 0]),
        "no sides": idx(8, (0, 0, 0), b""),
        "doubles": idx(14, (4, 9, 9), bytes(324)),
        "no kind": idx(77, (4, 9, 9), bytes(324)),
        "cut": idx(8, (4, 9, 9), bytes(100)),
        "more": idx(8, (4, 9, 9), bytes(40_000)),
        "wide": idx(8, (1, 1, 2**31), bytes(9)),
        "pickle": PICKLED,
        "empty": b"",
    }
    packed = {name: gzip.compress(content) for name, content in heads.items()}
    packed["bomb"] = gzip.compress(idx(8, (60_000, 100, 100), bytes(600_000_000)), 1)
    packed["no gzip"] = heads["cut"]
    labels = idx(8, (4,), bytes(4))

    def of(name: str, file: str, content: bytes, other: str, beside: bytes) -> Attack:
        def put(folder: Path) -> None:
            (folder / file).write_bytes(content)
            (folder / other).write_bytes(beside)

        return Attack(f"idx, {name}", put, lambda f, _: [dry("fashion-mnist", f)])

    images, classes = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
    for name, content in heads.items():
        yield of(name, images, content, classes, labels)
        yield of(f"labels, {name}", classes, content, images, idx(8, (4, 9, 9), bytes(324)))
    for name, content in packed.items():
        yield of(f"packed, {name}", images + ".gz", content, classes, labels)


def in_tar(entries: Sequence[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for head, content in entries:
            archive.addfile(head, io.BytesIO(content))
    return out.getvalue()


def entry(
    name: str, content: bytes = SMALL, kind: bytes = tarfile.REGTYPE, to: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    head = tarfile.TarInfo(name)
    head.type, head.linkname, head.size = kind, to, len(content) if kind == tarfile.REGTYPE else 0
    return head, content


OUTSIDE = ("../up.png", "/tmp/absolute.png", "a/../../b.png", "..", "C:\\x.png", "\x1b[31m.png", "a\nb.png", "-rf.png")
GOOD = [entry(f"{i}.png") for i in range(3)]


def of_archives() -> Iterator[Attack]:
    archives: dict[str, Callable[[], bytes]] = {}
    for i, name in enumerate(OUTSIDE):
        archives[f"name {i}.zip"] = lambda name=name: in_zip({name: SMALL, "0.png": SMALL})  # type: ignore[misc]
        archives[f"name {i}.tar"] = lambda name=name: in_tar([entry(name), *GOOD])  # type: ignore[misc]
    for i, kind in enumerate(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"Z")
    ):
        for to in ("/etc/passwd", "../../etc/passwd", "evil.png"):
            made = entry("evil.png", b"", kind, to)
            archives[f"kind {i} to {len(to)}.tar"] = lambda made=made: in_tar([made, *GOOD])  # type: ignore[misc]
    archives |= {
        "link.zip": lambda: in_zip({"a.png": b"/etc/passwd", "0.png": SMALL}, links=["a.png"]),
        "bomb.zip": lambda: in_zip({**{f"{i}.png": bytes(150_000_000) for i in range(3)}, "0.png": SMALL}),
        "nested.zip": lambda: in_zip({f"{i}.zip": in_zip({"0.png": SMALL}) for i in range(9)}),
        "many.zip": lambda: in_zip({f"{i}.txt": b"" for i in range(20_000)}, zipfile.ZIP_STORED),
        "sizes.zip": lambda: in_zip({"0.png": SMALL, "1.png": SMALL}).replace(
            struct.pack("<I", len(SMALL)), b"\xff" * 4
        ),
        "places.zip": lambda: in_zip({"0.png": SMALL, "1.png": SMALL}).replace(b"PK\1\2", b"PK\1\1", 1),
        "a bomb.tar.gz": lambda: gzip.compress(bytes(500_000_000), 1),
        "bomb within.tar.gz": lambda: in_tar([entry("x.txt", bytes(400_000_000)), *GOOD], "w:gz"),
        "size.tar": lambda: in_tar(GOOD).replace(b"%011o" % len(SMALL), b"7" * 11),
        "negative.tar": lambda: in_tar(GOOD).replace(b"%011o" % len(SMALL), b"-0000000001"),
        "endless name.tar": lambda: in_tar([entry("a/" * 3000 + "x.png"), *GOOD]),
        "empty.zip": lambda: b"",
        "pickle.tar": lambda: PICKLED,
        "xz.tar.xz": lambda: b"\xfd7zXZ\x00" + b"\xff" * 100,
    }
    for name, make in archives.items():
        yield Attack(
            f"archive, {name}",
            lambda f, n=name, m=make: (f / n.replace(" ", "-")).write_bytes(m()),  # type: ignore[misc]
            lambda f, _: [dry("folder", next(f.iterdir()), "data.size=8")],
        )


LOOKS: list[Command] = [["show"], ["verify"], ["sample", "-n", 1, "--steps", 1, "--out"]]


def looked(folder: Path, _: Path) -> list[Command]:
    return [[verb, folder, *rest, *([folder.parent / "out" / "s.png"] if rest else [])] for verb, *rest in LOOKS]


def replaced(name: str, new: Callable[[bytes], bytes]) -> Put:
    """A file of a run, other than it was, and the manifest beside it forged to suit."""

    def put(folder: Path) -> None:
        from unsteep.storage.manifest import write_manifest

        path = next(folder.glob(name), folder / name)
        path.write_bytes(new(path.read_bytes() if path.exists() else b""))
        if path.name != "manifest.json" and "step-" in path.parent.name:
            write_manifest(path.parent)
        (folder / "evil.py").write_text(MODULE)

    return put


TOMLS: dict[str, Callable[[bytes], bytes]] = {
    "a schedule of a module": lambda t: t.replace(b'"CosineBetas"', b'"evil:Part"'),
    "a network of a module": lambda t: t.replace(b'"UNet"', b'"evil:Part"'),
    "a network that runs": lambda t: t.replace(b'"UNet"', b'"os:system"'),
    "an objective of a module": lambda t: t.replace(b'"Simple"', b'"evil:Part"'),
    "data of a module": lambda t: t.replace(b'"Digits"', b'"evil:Part"'),
    "a run of a module": lambda t: b'type = "evil:Part"\n' + t,
    "a module above": lambda t: t.replace(b'"UNet"', b'"..evil:Part"'),
    "a path for a module": lambda t: t.replace(b'"UNet"', b'"/tmp/evil.py:Part"'),
    "codes": lambda t: t.replace(b'"UNet"', b'"\\u001b[2J[red]"'),
    "huge width": lambda t: t.replace(b"width = 8", b"width = 81920"),
    "endless width": lambda t: t.replace(b"width = 8", b"width = " + b"9" * 4000),
    "many steps": lambda t: t.replace(b"steps = 4", b"steps = 999999999999"),
    "not a number": lambda t: t.replace(b"s = 0.008", b"s = nan"),
    "infinite": lambda t: t.replace(b"s = 0.008", b"s = -inf"),
    "a date": lambda t: t.replace(b"steps = 4", b"steps = 1979-05-27"),
    "many blocks": lambda t: t.replace(b"multipliers = [1, 2]", b"multipliers = [" + b"1, " * 3000 + b"1]"),
    "huge pictures": lambda t: t.replace(b"size = 8", b"size = 1048576").replace(b"height = 8", b"height = 1048576"),
    "large pictures": lambda t: t.replace(b"height = 8", b"height = 16"),
    "pictures of terabytes": lambda t: t.replace(b" = 8\n", b" = 1048576\n").replace(
        b"width = 1048576", b"width = 8", 1
    ),
    "deep": lambda t: b"a = " + b"[" * 50_000,
    "deep tables": lambda t: b"[" + b"a." * 20_000 + b"a]\n",
    "twice": lambda t: t + t,
    "nothing": lambda t: b"",
    "no text": lambda t: b"\xff\xfe\0" * 50,
    "pickle": lambda t: PICKLED,
}
MOLD = "checkpoints/step-*/"


def of_configurations() -> Iterator[Attack]:
    for name, new in TOMLS.items():
        for file in ("run.toml", MOLD + "model.toml", MOLD + "trained-as.toml"):
            yield Attack(f"{file.rpartition('/')[2]}, {name}", replaced(file, new), looked, of_run=True)


def safetensors(head: Any, content: bytes = bytes(64), length: int | None = None) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def tensor(shape: Any = (4,), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADS: dict[str, bytes] = {
    "long": safetensors(b"{}", length=2**63),
    "a terabyte": safetensors(b"{}", length=2**40),
    "huge shape": safetensors({"a": tensor([10**15, 10**15])}),
    "negative shape": safetensors({"a": tensor([-4])}),
    "beyond": safetensors({"a": tensor([10**9], [0, 4 * 10**9])}),
    "backwards": safetensors({"a": tensor([4], [16, 0])}),
    "overlapping": safetensors({"a": tensor(), "b": tensor([4], [8, 24])}),
    "no kind": safetensors({"a": tensor(dtype="OBJECT")}),
    "deep": safetensors(b'{"a":' * 10_000),
    "no letters": safetensors(b"\xff" * 40),
    "other names": safetensors({"../../x": tensor(offsets=[0, 16])}, bytes(16)),
    "codes": safetensors({"\x1b[2J": tensor(offsets=[0, 16])}, bytes(16)),
    "nothing": safetensors({}, b""),
    "not numbers": safetensors({"a": tensor()}, struct.pack("<f", float("nan")) * 4),
    "pickle": PICKLED,
    "a zip of a pickle": in_zip({"archive/data.pkl": PICKLED, "archive/version": b"3"}),
    "empty": b"",
}


def of_checkpoints() -> Iterator[Attack]:
    for name, content in HEADS.items():
        for file in ("ema", "optimizer", "statistics"):
            yield Attack(
                f"{file}.safetensors, {name}",
                replaced(f"{MOLD}{file}.safetensors", lambda _, c=content: c),  # type: ignore[misc]
                lambda f, r: [*looked(f, r), ["train", "--resume", "--out", f, "--set", "train.steps=3"]],
                of_run=True,
            )


def of_states() -> Iterator[Attack]:
    def manifest(files: Any) -> Put:
        return replaced(f"{MOLD}manifest.json", lambda _: json.dumps({"files": files}).encode())

    entry = {"bytes": 1, "sha256": "0" * 64}
    lists = {f"path {i}": {path: entry} for i, path in enumerate(PATHS)}
    lists["two"] = {"model.toml": {**entry, "next": {"bytes": "x"}}}
    for name, files in lists.items():
        yield Attack(f"manifest, {name}", manifest(files), looked, of_run=True)
    for name, content in JSONS.items():
        for file in (
            MOLD + "manifest.json",
            MOLD + "state.json",
            MOLD + "optimizer.json",
            "log.jsonl",
            "about.json",
            ".lock",
        ):
            yield Attack(
                f"{file.rpartition('/')[2]}, {name}",
                replaced(file, lambda _, c=content: c),  # type: ignore[misc]
                lambda f, r: [*looked(f, r), ["train", "--resume", "--out", f, "--set", "train.steps=3"]],
                of_run=True,
            )


NAMES = (
    "..",
    ".",
    "[red]",
    "[/red]",
    "\x1b[2J",
    "a\nb",
    "<script>",
    "-rf",
    "con",
    "a" * 200,
    "\u202etxt",
    "$(id)",
    "`id`",
    "%s",
    "é" * 80,
)


def of_names() -> Iterator[Attack]:
    for i, name in enumerate(NAMES):
        for suffix in (".zip", ".tar"):

            def put(folder: Path, name: str = name, suffix: str = suffix) -> None:
                files = {f"{where}/{i}.png": SMALL for where in (name, "b") for i in range(2)}
                made = in_zip(files) if suffix == ".zip" else in_tar([entry(one, held) for one, held in files.items()])
                (folder / f"a{suffix}").write_bytes(made)

            yield Attack(
                f"class, {i}{suffix}",
                put,
                lambda f, _: [["data", next(f.iterdir())], dry("folder", next(f.iterdir()), "data.size=8")],
            )


def attacks() -> list[Attack]:
    """All of them, in an order that does not change."""
    kinds = (
        of_pictures,
        of_arrays,
        of_tables,
        of_idx,
        of_archives,
        of_configurations,
        of_checkpoints,
        of_states,
        of_names,
    )
    return [attack for kind in kinds for attack in kind()]
