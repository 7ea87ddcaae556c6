"""Packaged experiments: each a function that returns a Run, to train as it is or to change by `--set`.

A recipe is a starting point that was tried, not a framework: copy one to make another.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unsteep.core.chains import CosineBetas
from unsteep.data import Array, Captions, Cifar, Digits, Emoji, Folder, Idx, Poses, Shapes, Signer, Timelines
from unsteep.model import ModelConfig
from unsteep.networks import MLPConfig, SequenceConfig, SequenceDiTConfig, UNetConfig, preset
from unsteep.objectives import MinSNR, Motion
from unsteep.spaces import Keypoints
from unsteep.training.conditioning import Conditioning
from unsteep.training.denoising import Run
from unsteep.training.settings import TrainConfig

MOVING = Motion(velocity=1.0, bones=0.1, weight=MinSNR(least=1.0))  # of clips


def digits(path: str = "") -> Run:
    """Handwritten digits by class: 1,797 grey pictures of 8x8 from scikit-learn's wheel. A minute or two on a
    laptop."""
    if path:
        raise ValueError("data: digits come with scikit-learn; leave it out, or take the recipe folder for your own")
    return Run(
        data=Digits(),
        condition=Conditioning(label=True, drop=0.1),
        model=ModelConfig(network=preset("small", 8), prediction="v"),
        train=TrainConfig(steps=1500, batch=64, learning_rate=2e-3, warmup=100, final_learning_rate=1e-5, ema=0.995),
    )


def idx(path: str = "") -> Run:
    """MNIST, Fashion-MNIST, KMNIST or EMNIST by class: grey 28x28 pictures from idx files, gzipped or not."""
    if not path:
        raise ValueError("this recipe reads idx files: give their folder with data=DIR")
    return Run(
        data=Idx(path=path),
        condition=Conditioning(label=True, drop=0.1),
        model=ModelConfig(network=preset("small", 28), prediction="v"),
        train=TrainConfig(steps=20_000, batch=64, learning_rate=1e-3, warmup=500, final_learning_rate=1e-5, ema=0.999),
    )


def cifar(path: str = "") -> Run:
    """CIFAR-10 or CIFAR-100 by class: colour pictures of 32x32, from the archive of its authors or what it unpacks
    to."""
    if not path:
        raise ValueError("this recipe reads CIFAR: give its archive, or what that unpacks to, with data=DIR")
    return Run(
        data=Cifar(path=path),
        condition=Conditioning(label=True, drop=0.1),
        model=ModelConfig(network=preset("medium", 32), prediction="v"),
        train=TrainConfig(steps=100_000, batch=64, flip=True),
    )


def folder(path: str = "") -> Run:
    """Your own pictures: a folder, read recursively, resized to 64x64; `data.size` and `model.network` say
    otherwise."""
    if not path:
        raise ValueError("this recipe reads a folder of pictures: give it with data=DIR")
    return Run(
        data=Folder(path=path),
        model=ModelConfig(network=replace(preset("medium", 64), dropout=0.1), prediction="v"),
        train=TrainConfig(steps=50_000, batch=32, flip=True),
    )


def array(path: str = "") -> Run:
    """An array of pictures, from a .npy or .npz file."""
    if not path:
        raise ValueError("this recipe reads a .npy or .npz file: give it with data=FILE")
    return Run(
        data=Array(path=path),
        model=ModelConfig(network=preset("medium", 32), prediction="v"),
        train=TrainConfig(steps=20_000, batch=64),
    )


def shapes(path: str = "") -> Run:
    """Drawn shapes with captions: colours, numbers, relations. Nothing to download; less than an hour of a laptop."""
    if path:
        raise ValueError("data: shapes are drawn; leave it out, or take the recipe captions for your own")
    network = UNetConfig(width=32, multipliers=(1, 2, 2), blocks=1, attention=(5,))
    return Run(
        data=Shapes(size=20),
        condition=Conditioning(text="bpe", drop=0.1),
        model=ModelConfig(network=network, prediction="v"),
        train=TrainConfig(steps=5000, batch=64, learning_rate=1e-3, warmup=200, final_learning_rate=1e-5, ema=0.999),
    )


def captions(path: str = "") -> Run:
    """Your own pictures with captions: a.png with a.txt, a CSV or JSON lines; resized to 64x64."""
    if not path:
        raise ValueError("this recipe reads pictures with captions: give their folder with data=DIR")
    return Run(
        data=Captions(path=path),
        condition=Conditioning(text="bpe", drop=0.1),
        model=ModelConfig(network=replace(preset("medium", 64), dropout=0.1), prediction="v"),
        train=TrainConfig(steps=50_000, batch=32),
    )


def upscale(path: str = "") -> Run:
    """Small pictures made larger: a folder at 64x64, each from what is left of it at 16x16."""
    if not path:
        raise ValueError("this recipe reads a folder of pictures: give it with data=DIR")
    return Run(
        data=Folder(path=path),
        condition=Conditioning(picture="low-resolution:16", drop=0.1),
        model=ModelConfig(network=replace(preset("medium", 64), dropout=0.1), prediction="v"),
        train=TrainConfig(steps=50_000, batch=32, flip=True),
    )


def emoji(path: str = "") -> Run:
    """The emoji of Noto Color Emoji by their Unicode names, at 32x32; --data gives another font file."""
    return Run(
        data=Emoji(path=path, size=32) if path else Emoji(size=32),
        condition=Conditioning(text="bpe", drop=0.1),
        model=ModelConfig(network=replace(preset("medium", 32), dropout=0.1), prediction="v"),
        train=TrainConfig(steps=20_000, batch=64, learning_rate=5e-4, final_learning_rate=1e-5, ema=0.999),
    )


def vectors(path: str = "") -> Run:
    """Rows of numbers, from a .npy or .npz file (n, d), with a small network of full connections."""
    if not path:
        raise ValueError("this recipe reads a .npy or .npz file: give it with data=FILE")
    return Run(
        data=Array(path=path),
        model=ModelConfig(network=MLPConfig()),
        train=TrainConfig(steps=20_000, batch=256, learning_rate=1e-3, final_learning_rate=1e-5, ema=0.999),
    )


def sequences(path: str = "") -> Run:
    """Sequences of numbers of different lengths, from a .npz with x and lengths, with a small transformer."""
    if not path:
        raise ValueError(
            "this recipe reads a .npz file with x (n, frames, features) and lengths: give it with data=FILE"
        )
    return Run(
        data=Timelines(path=path),
        model=ModelConfig(network=SequenceConfig(), prediction="v"),
        train=TrainConfig(steps=20_000, batch=64, learning_rate=5e-4, final_learning_rate=1e-5, ema=0.999),
    )


def signer(path: str = "") -> Run:
    """A synthetic signer: body and hands that move as "HELLO fast left high" says. Nothing to download; minutes on a
    CPU."""
    if path:
        raise ValueError("data: the signer is made by a formula; leave it out, or take the recipe poses for your own")
    return Run(
        data=Signer(),
        space=Keypoints(),
        condition=Conditioning(text="bpe", drop=0.1),
        model=ModelConfig(network=SequenceDiTConfig(), prediction="x0"),
        schedule=CosineBetas(),
        objective=MOVING,
        train=TrainConfig(steps=4000, batch=32, learning_rate=1e-3, warmup=100, final_learning_rate=1e-5, ema=0.995),
    )


def fingerspelling(path: str = "") -> Run:
    """Letters of 19 sign languages, by letter and language: 600 MediaPipe clips of the package spoken-to-signed, or of
    its folder. A tiny corpus, about a clip for each letter and language."""
    found = path or _installed("spoken_to_signed", "assets/fingerspelling_lexicon")
    if not found:
        raise ValueError(
            "this recipe reads clips that the package spoken-to-signed 0.4.0 holds, which is not here; "
            "install it without what it needs itself (docs/motion.md says how), or: give their folder with data=DIR"
        )
    return Run(
        data=Poses(
            path=found,
            texts=f"{found}/index.csv",  # its rows of `fsl` name files of `ase` again, and are left out
            skeleton="mediapipe-178",
            classes="language",
            relative=True,
            longest=64,
            holdout=0.1,
        ),
        space=Keypoints(),
        condition=Conditioning(text="characters", label=True, drop=0.1),
        model=ModelConfig(network=SequenceDiTConfig(width=192), prediction="x0"),
        schedule=CosineBetas(),
        objective=MOVING,
        train=TrainConfig(steps=4000, batch=32, learning_rate=5e-4, warmup=200, final_learning_rate=1e-5, ema=0.998),
    )


def _installed(package: str, inside: str) -> str:
    """A folder in a package that is installed, which is not imported; empty where it is not."""
    spec = importlib.util.find_spec(package)
    where = [] if spec is None else [Path(one) / inside for one in spec.submodule_search_locations or ()]
    return next((str(one) for one in where if one.is_dir()), "")


def poses(path: str = "") -> Run:
    """Your own clips of moving points, .pose or .npz files in a folder; texts of a table with --set data.texts=FILE."""
    if not path:
        raise ValueError("this recipe reads .pose or .npz files: give their folder with data=DIR")
    return Run(
        data=Poses(path=path),
        space=Keypoints(),
        model=ModelConfig(network=SequenceDiTConfig(width=256, depth=6), prediction="x0"),
        schedule=CosineBetas(),
        objective=MOVING,
        train=TrainConfig(steps=20_000, batch=32, learning_rate=2e-4, final_learning_rate=1e-5, warmup=500, ema=0.999),
    )


RECIPES: dict[str, Callable[[str], Run]] = {
    "digits": digits,
    "fashion-mnist": idx,
    "mnist": idx,
    "cifar": cifar,
    "folder": folder,
    "array": array,
    "shapes": shapes,
    "captions": captions,
    "emoji": emoji,
    "upscale": upscale,
    "vectors": vectors,
    "sequences": sequences,
    "signer": signer,
    "fingerspelling": fingerspelling,
    "poses": poses,
}
