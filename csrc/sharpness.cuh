// The naive sharpness loss and its regions: what a team of threads does with one image.
#pragma once

#include "team.cuh"

namespace tmgan::sharpness {

constexpr float FLOOR = 1e-6f;  // of z
constexpr int STEPS = 5;        // of 2-means
// gamma * UNIT is what the saved gradient is measured in: float16 then holds its largest value, 1e6 gamma.
constexpr float UNIT = 16.f;

struct Loss {
    float value, slope;
};

// -log t where sharp, else -log(1 - t), for 1e-6 <= z, t = tanh z, and half its derivative by z, to the last places.
//
// With u = exp(-2z): t = (1 - u) / (1 + u), so the loss is log1p(x) for x = u / ((1 - u) / 2) where sharp, else for its
// reciprocal; the derivative is -x (1 + t), else 1 + t, and 1 + t = 2 / (1 + u). Below z = 1/2 subtraction would lose
// digits of (1 - u) / 2, which then is exp(-z) sinh z with the series of sinh. Beyond z = 40 u would vanish.
DEVICE Loss pixel_loss(float z, bool sharp) {
    const float v = expf(z > 40.f ? -40.f : -z);
    const float u = v * v, square = z * z;
    const float sinh = z * (1 + square * (1.f / 6) * (1 + square * (1.f / 20) * (1 + square * (1.f / 42))));
    const float rest = z < 0.5f ? v * sinh : 0.5f - 0.5f * u;
    const float under = sharp ? rest : u;
    const float inverse = 1 / (under * (1 + u));  // one division for x and the derivative
    const float x = (sharp ? u : rest) * (1 + u) * inverse;
    const float rise = under * inverse;
    const float w = 1 + x;                                          // (1 + u) / (2 under)
    const float loss = logf(w) + (x - (w - 1)) * 2 * under * rise;  // w - 1 is what of x arrived in w
    return {sharp || z <= 20 ? loss : 2 * z - 0.69314718f, sharp ? -x * rise : rise};
}

// The loss of a pixel with this signed Laplacian, and its derivative by that in units of gamma * UNIT.
DEVICE Loss laplacian_loss(float value, float label, float gamma, bool only_sharp) {
    const float magnitude = fabsf(value) * gamma;
    const bool flat = magnitude < FLOOR;
    const float z = flat ? FLOOR : magnitude;  // not a maximum, which would turn NaN into a number
    const bool finite = z <= 3.4e38f;          // else 0 times a loss may be NaN, as in the definition
    Loss loss{};
    if (label != 0.f || !finite) {
        loss = pixel_loss(z, true);
        loss = {loss.value * label, loss.slope * label};
    }
    if (!only_sharp && (label != 1.f || !finite)) {
        const Loss blurred = pixel_loss(z, false);
        loss = {loss.value + (1 - label) * blurred.value, loss.slope + (1 - label) * blurred.slope};
    }
    loss.slope = flat ? 0.f : (value < 0 ? -loss.slope : loss.slope) * (2.f / UNIT);
    return loss;
}

struct Image {
    int channels, height, width;
    bool nhwc;

    DEVICE int64_t pixels() const { return int64_t{height} * width; }
};

// The sum of V neighbouring pixels of a row over channels; NCHW if V > 1.
template <class T, int V> DEVICE void channel_sum(const T *x, int64_t pixel, const Image &image, float (&sums)[V]) {
    const int64_t step = image.nhwc ? 1 : image.pixels();
    x += image.nhwc ? pixel * image.channels : pixel;
    load<T, V>(x, sums);
#pragma unroll 2
    for (int c = 1; c < image.channels; ++c) {
        float more[V];
        load<T, V>(x + c * step, more);
#pragma unroll
        for (int j = 0; j < V; ++j) sums[j] += more[j];
    }
}

// Channel sums of rows first - 1 .. first + rows of an image into grey, rows outside it repeated; V divides the width.
template <class T, int V, int THREADS>
DEVICE void fill_grey(const T *x, float *grey, int first, int rows, const Image &image) {
    const int groups = image.width / V;
    for (int64_t i = simt::thread(); i < int64_t{rows + 2} * groups; i += THREADS) {
        const int row = static_cast<int>(i / groups), column = static_cast<int>(i % groups) * V;
        const int from = smaller(larger(first - 1 + row, 0), image.height - 1);
        float sums[V];
        channel_sum<T, V>(x, int64_t{from} * image.width + column, image, sums);
#pragma unroll
        for (int j = 0; j < V; ++j) grey[int64_t{row} * image.width + column + j] = sums[j];
    }
}

// The signed Laplacian of the channel mean at pixel i of the rows that grey holds.
DEVICE float laplacian(const float *grey, int i, const Image &image) {
    const int column = i % image.width;
    const float *at = grey + image.width + i;
    const float left = at[column > 0 ? -1 : 0], right = at[column + 1 < image.width ? 1 : 0];
    return (at[-image.width] + at[image.width] + left + right - 4.f * at[0]) / image.channels;
}

}  // namespace tmgan::sharpness
