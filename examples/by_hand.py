"""Diffusion by hand: a small network learns two Gaussian blobs, without configuration, run folder or command line.

    python examples/by_hand.py [steps]

The data are a mixture whose exact denoiser is known, so the trained network can be compared with the truth.
"""

import sys

import torch

from unsteep import (
    DDIM,
    Batch,
    Denoiser,
    Draw,
    LinearBetas,
    Mixture,
    MLPConfig,
    NoiseSource,
    Simple,
    add_noise,
    grid,
    sample,
)

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
truth = Mixture(means=torch.tensor([[-0.5, -0.5], [0.5, 0.5]]), covariances=torch.tensor([0.01, 0.04]))
data = truth.sample(4096).float()

torch.manual_seed(0)
denoiser = Denoiser(MLPConfig(features=2, width=64).build(), LinearBetas(), prediction="v")
optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-3)
objective = Simple()
for step in range(steps):
    index = torch.randint(len(data), (256,))
    draw = Draw(seed=0, step=step, places=torch.arange(256), batch=256)
    loss = objective(denoiser, Batch(data[index], None, index), draw).value.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0:
        print(f"step {step}: loss {loss.item():.4f}")

levels = grid(denoiser.schedule, steps=50)
noise = NoiseSource(range(1000))
x = sample(denoiser, noise.normal(torch.empty(1000, 2), draw=0), levels, DDIM(), noise)
print("mean of samples  ", x.mean(0).tolist(), " truth", truth.mean().tolist())
print("covariance", torch.cov(x.T).tolist(), " truth", truth.covariance().tolist())

middle = denoiser.schedule(0.3)
x_t = add_noise(data, torch.randn_like(data), middle)
with torch.no_grad():
    error = (denoiser(x_t, middle).x0 - truth(x_t, middle).x0).square().mean().sqrt()
print(f"RMS difference of the network's x0 from the exact one at t = 0.3: {float(error):.3f}")
