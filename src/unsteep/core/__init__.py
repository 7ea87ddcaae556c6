"""Pure mathematics of the diffusion process: torch tensors in, torch tensors out. Knows no network and no data."""
