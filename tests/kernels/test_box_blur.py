import torch
from tmgan_kernels.box_blur import blur_op, box_blur

from .contract import DEVICE, KernelContract


class TestBoxBlur(KernelContract):
    operation = box_blur
    variants = ({"kernel_size": 5},)

