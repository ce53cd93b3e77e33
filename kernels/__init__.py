"""Operations on the hot path of a training step, each with differentiation rules of its own."""

from jaxgan.kernels.convolution import convolution, transposed_convolution

__all__ = ["convolution", "transposed_convolution"]
