/* The C interface of libtmgan: every function launches CUDA kernels on a stream and returns without waiting.
 *
 * Tensors are device memory, dense: NCHW, or NHWC where nhwc is 1 (planes (B, 1, H, W) are both). One image has fewer
 * than 2^31 values. Nothing is allocated: what a function needs beside its results is a workspace of the caller's,
 * whose size in bytes the function's _workspace twin returns, aligned to 16 bytes, contents free before and after. No
 * call waits for the device or keeps a pointer, so all may be captured into a CUDA graph; equal inputs give equal bits.
 *
 * Results: 0; a negative tmgan_status, before anything was asked of the driver, where an argument is wrong; or a
 * positive cudaError_t. The current device is the same after a call as before.
 *
 * Common arguments: dtype is a tmgan_dtype; device an ordinal; sm its compute capability, 10 * major + minor (from 90
 * on, blocks of a cluster share an image); stream a cudaStream_t, NULL for the default one.
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

/* out[r, c] = sum of w[|i|] w[|j|] x[r + i, c + j] over |i|, |j| <= radius, in every channel; if adjoint is 1, the
 * adjoint of that. radius 1 to 7; weights are radius + 1 numbers in host memory, the central one first, with w[0] + 2
 * (w[1] + ... + w[radius]) = 1. TMGAN_REFLECT needs height and width greater than radius. sizes, if not NULL, holds a
 * kernel size for every image, as integers of size_bytes (4 or 8) bytes, clamped to 3..15; an even one means the next
 * odd one. The filter is then a mean, weights are not read, and radius must be 7. */
TMGAN_API int tmgan_blur(const void *x, void *out, const void *sizes, int32_t size_bytes, const float *weights,
                         int32_t radius, int32_t border, int32_t adjoint, int64_t batch, int32_t channels,
                         int32_t height, int32_t width, int32_t nhwc, int32_t dtype, int32_t device, void *stream);

/* The naive sharpness loss, see kernels/tmgan_kernels/naive_sharpness_loss.py. image (B, C, H, W); labels NULL (the
 * image's own sharp regions) or (B, 1, H, W), float32 if float_labels is 1, else bytes that are 0 or not; only_sharp 1:
 * the mean over labels. Writes local (B, 1, H, W), of the image's type, one loss and one scale: the gradient of the
 * loss by the signed Laplacian is scale * local. */
TMGAN_API int64_t tmgan_sharpness_loss_workspace(int64_t batch, int32_t height, int32_t width, int32_t sm);
TMGAN_API int tmgan_sharpness_loss(const void *image, const void *labels, int32_t float_labels, void *local,
                                   float *loss, float *scale, void *workspace, float gamma, int32_t only_sharp,
                                   int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t nhwc,
                                   int32_t dtype, int32_t device, int32_t sm, void *stream);
/* out (B, C, H, W): the gradient by the image, times the one number that grad points to. */
TMGAN_API int tmgan_sharpness_loss_backward(const float *grad, const float *scale, const void *local, void *out,
                                            int64_t batch, int32_t channels, int32_t height, int32_t width,
                                            int32_t nhwc, int32_t dtype, int32_t device, void *stream);

/* 2-means of every plane (B, 1, H, W) from its mean: threshold (B,) after `steps` steps, and mask (B, 1, H, W), 1 where
 * plane > threshold, else 0. */
TMGAN_API int tmgan_sharp_regions(const void *plane, uint8_t *mask, float *threshold, int32_t steps, int64_t batch,
                                  int32_t height, int32_t width, int32_t dtype, int32_t device, int32_t sm,
                                  void *stream);

/* y = u sigmoid(v), where u and v are the first and second C channels of x (B, 2C, H, W), every plane normalised by its
 * mean and variance + eps; channels is C. Writes out (B, C, H, W) and mean and rstd (B, 2C). x, out, grad and dx are
 * aligned to 16 bytes; a workspace of 0 bytes may be NULL. backward 0 or 1: for which of the two functions. */
TMGAN_API int64_t tmgan_norm_glu_workspace(int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t nhwc,
                                           int32_t dtype, int32_t sm, int32_t backward);
TMGAN_API int tmgan_norm_glu(const void *x, void *out, float *mean, float *rstd, void *workspace, float eps,
                             int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t nhwc,
                             int32_t dtype, int32_t device, int32_t sm, void *stream);
/* dx (B, 2C, H, W) from grad (B, C, H, W), both in the layout of x. */
TMGAN_API int tmgan_norm_glu_backward(const void *grad, const void *x, const float *mean, const float *rstd, void *dx,
                                      void *workspace, int64_t batch, int32_t channels, int32_t height, int32_t width,
                                      int32_t nhwc, int32_t dtype, int32_t device, int32_t sm, void *stream);

/* source with the histogram of reference, plane by plane, in the units where low is black (0) and high is white (255).
 * by_level 0: the pixel of rank k gets the k-th smallest of reference, where source holds 256 levels only; quantize 1:
 * the floor of it, in 0-255 units; else sorted holds every plane of reference in order, (B, C, H * W), of its type.
 * by_level 1: equal levels get equal values, as skimage.exposure.match_histograms; floored if quantize is 1.
 * out_dtype is a tmgan_dtype, or 3: bytes, the levels themselves (with quantize). */
TMGAN_API int64_t tmgan_match_histogram_workspace(int64_t batch, int32_t channels, int32_t height, int32_t width);
TMGAN_API int tmgan_match_histogram(const void *source, const void *reference, const void *sorted, void *out,
                                    void *workspace, double low, double high, int32_t by_level, int32_t quantize,
                                    int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t source_nhwc,
                                    int32_t reference_nhwc, int32_t out_nhwc, int32_t source_dtype,
                                    int32_t reference_dtype, int32_t out_dtype, int32_t device, void *stream);
/* keep (B, 1, H, W), 0 or 1: 1 - dilate7x7(erode2x2(threshold < |G(matched) - G(generated)| <= ceiling in any
 * channel)), in 0-255 units, see kernels/tmgan_kernels/change_mask.py. matched is NCHW: bytes that are levels if
 * matched_levels is 1, else float32 in the units of generated. nhwc and dtype are those of generated. ceiling may be
 * INFINITY. */
TMGAN_API int tmgan_change_mask(const void *matched, const void *generated, uint8_t *keep, double low, double high,
                                float threshold, float ceiling, int64_t batch, int32_t channels, int32_t height,
                                int32_t width, int32_t nhwc, int32_t matched_levels, int32_t dtype, int32_t device,
                                void *stream);

#ifdef __cplusplus
}
#endif
#endif
