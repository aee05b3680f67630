// The kernels of norm_glu.cu that make two sweeps, one strip a block: measure, finish, apply. For either layout and any
// size.
#pragma once

#include "norm_glu.cuh"

namespace tmgan::norm_glu {

// Of each strip and channel a row of four numbers: table is (B, strips, 4, C).
template <int V, bool NHWC, class X>
DEVICE void write_table(float *table, const X &tile, const Shape &shape, const float (&rows)[4][V]) {
    table += (tile.image * shape.strips + tile.strip) * 4 * shape.channels + tile.channel;
    const bool mine = NHWC ? simt::thread() < shape.across && tile.real : simt::thread() == 0;
    if (!mine) return;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int j = 0; j < (NHWC ? V : 1); ++j) table[k * shape.channels + j] = rows[k][j];
    }
}

// Mean and sum of squared deviations of each strip: a, then b. Looked at twice while in registers.
template <class T, int V, bool NHWC> KERNEL(THREADS, 2) measure_kernel(const T *x, float *table, Shape shape) {
    using P = simt::Packet<sizeof(T) * V>;
    float *scratch = simt::shared<float>();
    const Tile<T, V, NHWC> tile(shape, false);
    x += tile.image * 2 * shape.channels * shape.pixels;
    P kept[2][STEPS];
    float rows[4][V] = {};  // mean and deviations of a, of b
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
        kept[0][k] = kept[1][k] = P{};
        if (!tile.has(k)) continue;
        kept[0][k] = simt::load(reinterpret_cast<const P *>(x + tile.of_x(k, shape)));
        kept[1][k] = simt::load(reinterpret_cast<const P *>(x + tile.of_x(k, shape) + tile.second_half(shape)));
    }
    // Sums count from a value of the strip, so that they stay small where a plane is far from zero.
    float shift[2][V] = {};
    if (tile.real) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const int64_t at = tile.corner(shape) + (NHWC ? j : 0);
            shift[0][j] = to_float(x[at]);
            shift[1][j] = to_float(x[at + tile.second_half(shape)]);
        }
    }
    const int size = Tile<T, V, NHWC>::size(shape);
    const float count = static_cast<float>(smaller(size, shape.pixels - tile.strip * size));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int pass = 0; pass < 2; ++pass) {
            float (&sums)[V] = rows[2 * half + pass];
#pragma unroll
            for (int k = 0; k < STEPS; ++k) {
                float values[V];
                unpack<T, V>(kept[half][k], values);
#pragma unroll
                for (int j = 0; j < V; ++j) {
                    const float away = values[j] - (pass == 0 ? shift[half][j] : rows[2 * half][j]);
                    if (tile.has(k)) sums[j] += pass == 0 ? away : away * away;
                }
            }
            sum_channels<V, NHWC>(sums, scratch, shape);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                if (pass == 0) sums[j] = shift[half][j] + sums[j] / count;
            }
        }
    }
    write_table<V, NHWC>(table, tile, shape, rows);
}

template <class T, int V, bool NHWC>
KERNEL(THREADS, 1)
measure_backward_kernel(const T *grad, const T *x, const float *mean, const float *rstd, float *table, Shape shape) {
    const Tile<T, V, NHWC> tile(shape, false);
    x += tile.image * 2 * shape.channels * shape.pixels;
    grad += tile.image * shape.channels * shape.pixels;
    Statistics<V, NHWC> known{};
    if (tile.real) known.load(mean, rstd, tile.image * 2 * shape.channels + tile.channel, shape.channels);
    float rows[4][V] = {};
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
        if (!tile.has(k)) continue;
        float a[V], b[V], g[V];
        load<T, V>(x + tile.of_x(k, shape), a);
        load<T, V>(x + tile.of_x(k, shape) + tile.second_half(shape), b);
        load<T, V>(grad + tile.of_y(k, shape), g);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const Reaching r =
                reaching(g[j], a[j], b[j], known.mean_a[j], known.rstd_a[j], known.mean_b[j], known.rstd_b[j]);
            rows[0][j] += r.du;
            rows[1][j] += r.du * r.u;
            rows[2][j] += r.dv;
            rows[3][j] += r.dv * r.v;
        }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) sum_channels<V, NHWC>(rows[k], simt::shared<float>(), shape);
    write_table<V, NHWC>(table, tile, shape, rows);
}

// Adds up the strips of 32 channels of one image: 8 threads a channel. Forward: mean and rstd (B, 2C) by Chan's
// formula; backward: the four means (B, 4, C).
template <bool BACKWARD>
KERNEL(256, 1)
finish_kernel(const float *table, float *mean, float *rstd, Shape shape, int strip_pixels, float eps) {
    auto &sums = *simt::shared<double[4][8][32]>();
    const int blocks = (shape.channels + 31) / 32, lane = simt::lane(), row = simt::warp();
    const int64_t image = simt::block() / blocks;
    const int channel = static_cast<int>(simt::block() % blocks) * 32 + lane;
    const bool real = channel < shape.channels;
    table += image * shape.strips * 4 * shape.channels + channel;
    double centre[2] = {}, total[4];
    constexpr int PASSES = BACKWARD ? 1 : 2;  // forward: the mean, then deviations from it
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
#pragma unroll
        for (int k = 0; k < 4; ++k) total[k] = 0.0;
#pragma unroll 4
        for (int strip = row; strip < shape.strips && real; strip += 8) {
            const float *at = table + static_cast<int64_t>(strip) * 4 * shape.channels;
            const double count = smaller(strip_pixels, shape.pixels - strip * strip_pixels);
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const double value = at[k * shape.channels];
                if (BACKWARD) {
                    total[k] += value;
                } else if (k % 2 == 0) {
                    const double away = value - centre[k / 2];
                    total[k] += count * (pass == 0 ? away : away * away);
                } else {
                    total[k] += value;
                }
            }
        }
        simt::sync();
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[k][row][lane] = total[k];
        simt::sync();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            total[k] = 0.0;
#pragma unroll
            for (int i = 0; i < 8; ++i) total[k] += sums[k][i][lane];
        }
        if (pass == 0) {
            centre[0] = total[0] / shape.pixels;
            centre[1] = total[2] / shape.pixels;
        }
    }
    if (!real || row > 0) return;
    if (BACKWARD) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            mean[(image * 4 + k) * shape.channels + channel] = static_cast<float>(total[k] / shape.pixels);
        }
        return;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int64_t plane = (image * 2 + half) * shape.channels + channel;
        const double variance = (total[2 * half] + total[2 * half + 1]) / shape.pixels;
        mean[plane] = static_cast<float>(centre[half]);
        rstd[plane] = 1.f / sqrtf(static_cast<float>(variance) + eps);
    }
}

template <class T, int V, bool NHWC>
KERNEL(THREADS, 1)
apply_kernel(const T *x, T *out, const float *mean, const float *rstd, Shape shape) {
    const Tile<T, V, NHWC> tile(shape, true);
    if (!tile.real) return;
    x += tile.image * 2 * shape.channels * shape.pixels;
    out += tile.image * shape.channels * shape.pixels;
    Statistics<V, NHWC> known;
    known.load(mean, rstd, tile.image * 2 * shape.channels + tile.channel, shape.channels);
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
        if (!tile.has(k)) continue;
        float a[V], b[V];
        load<T, V>(x + tile.of_x(k, shape), a);
        load<T, V>(x + tile.of_x(k, shape) + tile.second_half(shape), b);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            a[j] = (a[j] - known.mean_a[j]) * known.rstd_a[j] * sigmoid((b[j] - known.mean_b[j]) * known.rstd_b[j]);
        }
        store<T, V>(out + tile.of_y(k, shape), a);
    }
}

template <class T, int V, bool NHWC>
KERNEL(THREADS, 1)
apply_backward_kernel(const T *grad, const T *x, const float *mean, const float *rstd, const float *means, T *dx,
                      Shape shape) {
    const Tile<T, V, NHWC> tile(shape, true);
    if (!tile.real) return;
    x += tile.image * 2 * shape.channels * shape.pixels;
    dx += tile.image * 2 * shape.channels * shape.pixels;
    grad += tile.image * shape.channels * shape.pixels;
    Statistics<V, NHWC> known;
    known.load(mean, rstd, tile.image * 2 * shape.channels + tile.channel, shape.channels);
    float of[4][V];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int j = 0; j < V; ++j)
            of[k][j] = means[(tile.image * 4 + k) * shape.channels + tile.channel + (NHWC ? j : 0)];
    }
#pragma unroll
    for (int k = 0; k < STEPS; ++k) {
        if (!tile.has(k)) continue;
        const int64_t at = tile.of_x(k, shape), beside = at + tile.second_half(shape);
        float a[V], b[V], g[V];
        load<T, V>(x + at, a);
        load<T, V>(x + beside, b);
        load<T, V>(grad + tile.of_y(k, shape), g);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const Reaching r =
                reaching(g[j], a[j], b[j], known.mean_a[j], known.rstd_a[j], known.mean_b[j], known.rstd_b[j]);
            a[j] = known.rstd_a[j] * (r.du - of[0][j] - r.u * of[1][j]);
            b[j] = known.rstd_b[j] * (r.dv - of[2][j] - r.v * of[3][j]);
        }
        store<T, V>(dx + at, a);
        store<T, V>(dx + beside, b);
    }
}

}  // namespace tmgan::norm_glu
