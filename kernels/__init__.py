"""Operations on the hot path of a training step, each with rules of differentiation of its own."""

from jaxgan.kernels.batch_norm_leaky_relu import batch_norm_leaky_relu
from jaxgan.kernels.bias_leaky_relu import bias_leaky_relu, leaky_relu
from jaxgan.kernels.blur_resample import blur_resample
from jaxgan.kernels.convolution import convolution, transposed_convolution
from jaxgan.kernels.gan_loss import fused
from jaxgan.kernels.launch import using
from jaxgan.kernels.sigmoid_bce import sigmoid_bce

__all__ = [
    "batch_norm_leaky_relu",
    "bias_leaky_relu",
    "blur_resample",
    "convolution",
    "fused",
    "leaky_relu",
    "sigmoid_bce",
    "transposed_convolution",
    "using",
]
