"""CIFAR in every layout of its authors, and pickles that are read without running them."""

import io
import os
import pickle
import pickletools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import unsteep_
from unsteep.data import Cifar
from unsteep.data.pickled import unpickled

PARTS = {"10": [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], "100": ["train", "test"]}
CLASSES = {"10": ["airplane", "automobile", "bird"], "100": ["apple", "baby", "bear"]}
GROUPS = ["animals", "fruit"]


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def part_of(kind: str, name: str) -> tuple[np.ndarray, list[int], list[int]]:
    n = 4 if name.startswith("test") else 3
    return pixels(n, len(name)), [i % 3 for i in range(n)], [i % 2 for i in range(n)]


def files_of(kind: str, layout: str) -> dict[str, bytes]:
    """As `layout`: binary, a pickle of this Python, or one as Python 2 wrote it."""
    files: dict[str, bytes] = {}
    for name in PARTS[kind]:
        x, fine, coarse = part_of(kind, name)
        if layout == "binary":
            heads = [fine] if kind == "10" else [coarse, fine]
            columns = [np.array(head, np.uint8)[:, None] for head in heads]
            files[f"{name}.bin"] = np.concatenate([*columns, x], axis=1).tobytes()
        else:
            held: dict[Any, Any] = {"labels": fine} if kind == "10" else {"fine_labels": fine, "coarse_labels": coarse}
            held |= {"data": x, "filenames": [f"{i}.png" for i in range(len(x))], "batch_label": name}
            if layout == "python 2":
                held = {key.encode(): value for key, value in held.items()}
            files[name] = pickle.dumps(held, protocol=2 if layout == "python 2" else 4)
    if layout == "binary":
        files |= {"batches.meta.txt" if kind == "10" else "fine_label_names.txt": "\n".join(CLASSES[kind]).encode()}
        files |= {} if kind == "10" else {"coarse_label_names.txt": "\n".join(GROUPS).encode()}
    else:
        key = "label_names" if kind == "10" else "fine_label_names"
        names: dict[str, Any] = {key: CLASSES[kind], "coarse_label_names": GROUPS, "num_vis": 3072}
        files["batches.meta" if kind == "10" else "meta"] = pickle.dumps(names, protocol=2)
    return files


def laid(root: Path, files: dict[str, bytes], packed: bool) -> Path:
    if not packed:
        (root / "cifar").mkdir()
        for name, content in files.items():
            (root / "cifar" / name).write_bytes(content)
        return root
    with tarfile.open(root / "cifar.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            head = tarfile.TarInfo(f"cifar/{name}")
            head.size = len(content)
            archive.addfile(head, io.BytesIO(content))
    return root / "cifar.tar.gz"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["binary", "python 2", "python 3"])
@pytest.mark.parametrize("kind", ["10", "100"])
def test_every_layout_gives_the_same_pictures(tmp_path, kind, layout, packed):
    path = laid(tmp_path, files_of(kind, layout), packed)
    for split, parts in (("train", PARTS[kind][:-1]), ("test", PARTS[kind][-1:]), ("all", PARTS[kind])):
        data = Cifar(path=str(path)).read(split)
        wanted = [part_of(kind, name) for name in parts]
        assert np.array_equal(data.x.numpy(), np.concatenate([x for x, *_ in wanted]).reshape(-1, 3, 32, 32))
        assert data.labels.tolist() == [label for _, fine, _ in wanted for label in fine]
        assert data.names == tuple(CLASSES[kind])
    if kind == "100":
        assert Cifar(path=str(path), classes="coarse").read("test").names == tuple(GROUPS)
    assert len(Cifar(path=str(path), labels=(2,), limit=1).read()) == 1


@pytest.mark.parametrize("layout", ["binary", "python 2"])
@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "gone"])
def test_a_broken_part_is_named(tmp_path, layout, damage):
    files = files_of("10", layout)
    name = next(name for name in files if name.startswith("data_batch_3"))
    files[name] = {"cut": files[name][:-5], "junk": b"junk" * 9, "empty": b"", "gone": b""}[damage]
    if damage == "gone":
        del files[name]
    path = laid(tmp_path, files, packed=False)
    with pytest.raises(ValueError, match="data_batch_3") as error:
        Cifar(path=str(path)).read()
    assert "\n" not in str(error.value)


def test_what_is_no_cifar_is_said(tmp_path):
    (tmp_path / "photo.tar.gz").write_bytes(b"junk")
    for path, words in ((tmp_path, "holds no train"), (tmp_path / "photo.tar.gz", "expected cifar-10-binary")):
        code, _, err = unsteep_("train", "cifar", "--data", path, "--out", tmp_path / "run")
        assert code == 2
        assert words in err


class Evil:
    """What would make a file, were it run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_by_name(protocol, tmp_path):
    evil = Evil(str(tmp_path / "made"))
    pickle.loads(pickle.dumps(evil, protocol=protocol))
    assert (tmp_path / "made").exists()  # it would
    (tmp_path / "made").unlink()
    for held in (evil, {"data": evil}, [np.float64(3)], {1, 2}, np.ones(3)):
        with pytest.raises(ValueError, match="expected a pickle of numbers, texts and arrays of bytes"):
            unpickled(pickle.dumps(held, protocol=protocol))
    assert not (tmp_path / "made").exists()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(held=plain, protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_what_is_plain_is_read_as_pickle_reads_it(held, protocol):
    assert unpickled(pickle.dumps(held, protocol=protocol)) == held


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=3), by_columns=st.booleans(), protocol=st.integers(2, 4))
def test_arrays_of_bytes_are_read_as_pickle_reads_them(shape, by_columns, protocol):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    array = np.asfortranarray(array) if by_columns else array
    assert np.array_equal(unpickled(pickle.dumps(array, protocol=protocol)), array)


@given(data=st.data())
def test_a_damaged_pickle_is_a_value_error_or_still_data(data):
    content = bytearray(files_of("100", "python 2")["meta"])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpickled(bytes(content))
    except ValueError:
        return
    assert list(pickletools.genops(bytes(content)))


def test_two_sets_in_one_folder_and_classes_that_are_not_there_are_refused(tmp_path):
    for kind in ("10", "100"):
        (tmp_path / kind).mkdir()
        laid(tmp_path / kind, files_of(kind, "binary"), packed=False)
        for name, content in files_of(kind, "binary").items():
            (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="holds CIFAR-10 and CIFAR-100; give the folder or archive of one"):
        Cifar(path=str(tmp_path)).read()
    with pytest.raises(ValueError, match=r"data.classes: .* is CIFAR-10, which has no coarse ones"):
        Cifar(path=str(tmp_path / "10"), classes="coarse").read()
    assert len(Cifar(path=str(tmp_path / "100"), classes="coarse").read()) > 0
