"""gaussian_blur: the contract of all operations, scipy's and kornia's Gaussians, and the adjoints of all borders."""

import pytest
import torch
from tmgan_kernels.gaussian_blur import blur_op, gaussian_blur

from .contract import DEVICE, KernelContract


class TestGaussianBlur(KernelContract):
    operation = gaussian_blur
    variants = ({"kernel_size": 5, "sigma": 1.0},)
    preserves_layout = True
    shapes = ((2, 3, 5, 7), (1, 2, 3, 8), (1, 3, 9, 3))

    def operators(self, inputs):
        image, = inputs
        return [(blur_op, (image, 3, 0.8, "reflect", True))]
