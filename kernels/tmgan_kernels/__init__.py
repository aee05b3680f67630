"""Fused tensor operations for image editing networks. One file an operation; importable without tmgan."""

from tmgan_kernels.gather_crop import gather_crop
from tmgan_kernels.instance_norm_glu import instance_norm_glu
from tmgan_kernels.laplace_sharpness import laplace_sharpness
from tmgan_kernels.masked_mae import masked_mae

__all__ = ["gather_crop", "instance_norm_glu", "laplace_sharpness", "masked_mae"]
