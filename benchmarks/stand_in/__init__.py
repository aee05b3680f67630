"""One NVIDIA H200 that is not there: CUDA's runtime, driver and libraries in C, which do everything but compute."""
