// Instance normalisation and gated linear unit: which values a thread takes, and what it does with them.
//
//   u, v = (a - mean_a) rstd_a, (b - mean_b) rstd_b,   y = u sigmoid(v)     a, b: the two halves of the channels
#pragma once

#include "team.cuh"

namespace tmgan::norm_glu {

constexpr int THREADS = 256;
constexpr int STEPS = 4;  // vectors of each half that a thread takes; they wait in registers for the second look

struct Shape {
    int channels, pixels;  // of the output; pixels a plane
    int strips;            // of a plane
    int across;            // NHWC: vectors that neighbouring threads take from one pixel, a power of two; else 0
    int tiles;             // groups of so many vectors a pixel has
};

// One thread's vectors. Offsets count from the start of an image; those of x are the first half's.
template <class T, int V, bool NHWC> struct Tile {
    int64_t image;
    int strip, tile;
    int channel;        // of the first value; NCHW: of all
    int first, stride;  // vector k is pixel (NHWC) or vector (NCHW) first + k * stride of the plane
    int count;          // of those that a plane has
    bool real;          // NHWC: whether there is such a channel

    DEVICE Tile(const Shape &shape, bool backwards) {
        int64_t block = simt::block();
        // A launch that follows begins where the one before ended, with what is still in L2.
        if (backwards) block = static_cast<int64_t>(shape.strips) * shape.tiles * images(shape) - 1 - block;
        tile = static_cast<int>(block % shape.tiles);
        strip = static_cast<int>(block / shape.tiles % shape.strips);
        image = block / shape.tiles / shape.strips;
        if (NHWC) {
            stride = THREADS / shape.across;
            first = strip * stride * STEPS + simt::thread() / shape.across;
            count = shape.pixels;
            channel = (tile * shape.across + simt::thread() % shape.across) * V;
            real = channel < shape.channels;
        } else {
            stride = THREADS;
            first = strip * THREADS * STEPS + simt::thread();
            count = shape.pixels / V;
            channel = tile;
            real = true;
        }
    }
    DEVICE static int64_t images(const Shape &shape) { return simt::blocks() / shape.strips / shape.tiles; }

    DEVICE bool has(int k) const { return real && first + k * stride < count; }
    DEVICE int64_t of_x(int k, const Shape &shape) const { return offset(k, 2 * shape.channels, shape); }
    DEVICE int64_t of_y(int k, const Shape &shape) const { return offset(k, shape.channels, shape); }
    DEVICE int64_t second_half(const Shape &shape) const {
        return NHWC ? shape.channels : static_cast<int64_t>(shape.channels) * shape.pixels;
    }
    // Where the strip begins, in x; and how many pixels a strip has.
    DEVICE int64_t corner(const Shape &shape) const {
        const int64_t pixel = static_cast<int64_t>(strip) * size(shape);
        return NHWC ? pixel * 2 * shape.channels + channel : static_cast<int64_t>(channel) * shape.pixels + pixel;
    }
    DEVICE static int size(const Shape &shape) { return NHWC ? THREADS / shape.across * STEPS : THREADS * STEPS * V; }

  private:
    DEVICE int64_t offset(int k, int channels, const Shape &shape) const {
        const int64_t at = first + k * stride;
        return NHWC ? at * channels + channel : static_cast<int64_t>(channel) * shape.pixels + at * V;
    }
};

// Sums of the values of one channel over the block; every thread gets those of its own channels.
template <int V, bool NHWC> DEVICE void sum_channels(float (&values)[V], float *scratch, const Shape &shape) {
    if (!NHWC) {
        float sum = 0.f;
#pragma unroll
        for (int j = 0; j < V; ++j) sum += values[j];
#pragma unroll
        for (int with = 16; with > 0; with /= 2) sum += simt::shuffle_xor(sum, with);
        simt::sync();
        if (simt::lane() == 0) scratch[simt::warp()] = sum;
        simt::sync();
        sum = 0.f;
#pragma unroll
        for (int i = 0; i < THREADS / 32; ++i) sum += scratch[i];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = sum;
        return;
    }
    const int width = shape.across * V;
    simt::sync();
#pragma unroll
    for (int j = 0; j < V; ++j) scratch[simt::thread() * V + j] = values[j];
    simt::sync();
    float sum = 0.f;
    if (simt::thread() < width) {
        for (int i = simt::thread(); i < THREADS * V; i += width) sum += scratch[i];
    }
    simt::sync();
    if (simt::thread() < width) scratch[simt::thread()] = sum;
    simt::sync();
#pragma unroll
    for (int j = 0; j < V; ++j) values[j] = scratch[simt::thread() % shape.across * V + j];
}

DEVICE float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// The statistics of the channels of one vector.
template <int V, bool NHWC> struct Statistics {
    float mean_a[V], rstd_a[V], mean_b[V], rstd_b[V];

    DEVICE void load(const float *mean, const float *rstd, int64_t plane, int channels) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const int64_t at = plane + (NHWC ? j : 0);
            mean_a[j] = mean[at];
            rstd_a[j] = rstd[at];
            mean_b[j] = mean[at + channels];
            rstd_b[j] = rstd[at + channels];
        }
    }
};

struct Reaching {
    float u, v, du, dv;
};

// u, v and the gradients that reach them.
DEVICE Reaching reaching(float grad, float a, float b, float mean_a, float rstd_a, float mean_b, float rstd_b) {
    const float u = (a - mean_a) * rstd_a, v = (b - mean_b) * rstd_b, gate = sigmoid(v), du = grad * gate;
    return {u, v, du, du * u * (1.f - gate)};
}

}  // namespace tmgan::norm_glu
