/* The C interface of libtmgan: every function launches CUDA kernels on a stream and returns without waiting.
 *
 * Tensors are device memory, dense: NCHW, or NHWC where nhwc is 1 (planes (B, 1, H, W) are both). One image has fewer
 * than 2^31 values. Nothing is allocated: what a function needs beside its results is a workspace of the caller's, whose
 * size in bytes the function's _workspace twin returns, aligned to 16 bytes, contents free before and after. No call
 * waits for the device or keeps a pointer, so all may be captured into a CUDA graph; equal inputs give equal bits.
 *
 * Results: 0; a negative tmgan_status, before anything was asked of the driver, where an argument is wrong; or a
 * positive cudaError_t. The current device is the same after a call as before.
 *
 * Common arguments: dtype is a tmgan_dtype; device an ordinal; sm its compute capability, 10 * major + minor (from 90 on,
 * blocks of a cluster share an image); stream a cudaStream_t, NULL for the default one.
 */
#ifndef TMGAN_H
#define TMGAN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TMGAN_ABI_VERSION 1
#define TMGAN_API __attribute__((visibility("default")))

typedef enum { TMGAN_FLOAT32 = 0, TMGAN_BFLOAT16 = 1, TMGAN_FLOAT16 = 2 } tmgan_dtype;
typedef enum { TMGAN_ZEROS = 0, TMGAN_REPLICATE = 1, TMGAN_REFLECT = 2 } tmgan_border;
typedef enum {
    TMGAN_OK = 0,
    TMGAN_NULL_POINTER = -1,
    TMGAN_BAD_SHAPE = -2,
    TMGAN_BAD_DTYPE = -3,
    TMGAN_BAD_OPTION = -4,
    TMGAN_MISALIGNED = -5,
    TMGAN_BAD_DEVICE = -6
} tmgan_status;

/* TMGAN_ABI_VERSION of the library. Callers refuse a library that has another one. */
TMGAN_API int tmgan_abi_version(void);
/* 0: kernels run on an NVIDIA GPU. 1: the host build, where device memory is host memory and nothing is fast. */
TMGAN_API int tmgan_on_host(void);
/* What a returned status means, in English; never NULL. */
TMGAN_API const char *tmgan_error_string(int status);

/* out[r, c] = sum of w[|i|] w[|j|] x[r + i, c + j] over |i|, |j| <= radius, in every channel; if adjoint is 1, the adjoint
 * of that. radius 1 to 7; weights are radius + 1 numbers in host memory, the central one first, with
 * w[0] + 2 (w[1] + ... + w[radius]) = 1. TMGAN_REFLECT needs height and width greater than radius.
 * sizes, if not NULL, holds a kernel size for every image, as integers of size_bytes (4 or 8) bytes, clamped to 3..15;
 * an even one means the next odd one. The filter is then a mean, weights are not read, and radius must be 7. */
TMGAN_API int tmgan_blur(const void *x, void *out, const void *sizes, int32_t size_bytes, const float *weights,
                         int32_t radius, int32_t border, int32_t adjoint, int64_t batch, int32_t channels,
                         int32_t height, int32_t width, int32_t nhwc, int32_t dtype, int32_t device, void *stream);

#ifdef __cplusplus
}
#endif
#endif
