"""How good are class-conditional digits? `python benchmarks/digits.py runs/demo [--steps 50] [--solver ddim]`

500 samples, 50 a class, seeds from 0. A support-vector classifier trained on the real training digits says which
class it sees; the share that agrees with the class asked for, with its 95% Wilson interval, stands beside its
accuracy on held-out real digits. The distance to the nearest training picture (RMSE on 0..255) stands beside that of
held-out pictures: much smaller would mean that the model copies, much larger that its pictures are unlike digits.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.svm import SVC

import unsteep
from unsteep.data import Digits
from unsteep.metrics.interval import wilson
from unsteep.sampling import SOLVERS

COUNT = 500


def nearest(pictures: np.ndarray, training: np.ndarray) -> np.ndarray:
    """RMSE on 0..255 from each picture to the nearest of `training`; rows of pixels."""
    squared = ((pictures[:, None] - training[None]) ** 2).mean(2)
    return np.sqrt(squared.min(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--solver", choices=SOLVERS, default="ddim")
    options = parser.parse_args()

    training, held_out = Digits().read("train"), Digits().read("test")
    rows, others = (d.x.flatten(1).numpy().astype(float) for d in (training, held_out))
    classifier = SVC(gamma=0.001 * (16 / 255) ** 2, C=10).fit(rows, training.labels)
    asked = np.arange(COUNT) % 10
    model = unsteep.load(options.run)
    samples = model.sample(COUNT, label=asked.tolist(), steps=options.steps, solver=SOLVERS[options.solver], seed=0)
    pictures = samples.flatten(1).numpy().astype(float)
    hits = int((classifier.predict(pictures) == asked).sum())
    share = wilson(hits, COUNT)
    print(
        f"labelled as asked   {hits} of {COUNT}: {hits / COUNT:.1%} (95% interval {share.low:.1%} to {share.high:.1%})"
    )
    real = classifier.score(others, held_out.labels)
    print(f"the classifier      {real:.1%} of {len(others)} held-out real digits")
    for name, values in (("samples", nearest(pictures, rows)), ("held-out digits", nearest(others, rows))):
        quartiles = np.percentile(values, [25, 50, 75])
        print(f"nearest training picture of {name:16s} RMSE quartiles {quartiles.round(1)} of 255")


if __name__ == "__main__":
    main()
