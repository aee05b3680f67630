"""The speed of every operation of tmgan_kernels, beside eager PyTorch, torch.compile and other libraries."""
