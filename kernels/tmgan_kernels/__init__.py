"""Fused tensor operations for image editing networks. One file an operation; importable without tmgan."""

from tmgan_kernels._dispatch import prefer as prefer
from tmgan_kernels._native import missing
from tmgan_kernels.box_blur import box_blur
from tmgan_kernels.change_mask import change_mask
from tmgan_kernels.gather_crop import gather_crop
from tmgan_kernels.gaussian_blur import gaussian_blur
from tmgan_kernels.instance_norm_glu import instance_norm_glu
from tmgan_kernels.laplace_sharpness import laplace_sharpness
from tmgan_kernels.mask_score import mask_score
from tmgan_kernels.masked_mae import masked_mae
from tmgan_kernels.match_histogram import match_histogram
from tmgan_kernels.naive_sharpness_loss import naive_sharpness_loss
from tmgan_kernels.scale_gradient import scale_gradient
from tmgan_kernels.sharp_gradient import sharp_gradient
from tmgan_kernels.sharp_regions import sharp_regions
from tmgan_kernels.sharpness_score import sharpness_score

cuda_missing = missing

# The operations, which tests and benchmarks go through one by one; `prefer` and `cuda_missing` are none.
__all__ = [
    "box_blur",
    "change_mask",
    "gather_crop",
    "gaussian_blur",
    "instance_norm_glu",
    "laplace_sharpness",
    "mask_score",
    "masked_mae",
    "match_histogram",
    "naive_sharpness_loss",
    "scale_gradient",
    "sharp_gradient",
    "sharp_regions",
    "sharpness_score",
]
