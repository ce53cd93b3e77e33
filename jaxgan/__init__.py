"""Generative adversarial networks in JAX and Flax. See `jaxgan.game` for the types and `jaxgan.step` for the training step."""
