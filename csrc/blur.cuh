// Separable, symmetric filters of odd size: what one thread does.
//
// A thread marches down a strip of rows with one vector of V neighbouring values of a row. For every row it sums its
// taps along the row, and adds that sum, weighted, to the 2R + 1 output rows in reach, which it holds in registers: a
// row is read once a strip, and the next one travels while this one is summed.
//
// Borders are those of tmgan_blur. An adjoint differs from its filter at the outermost pixels only (see the derivation
// in kernels/tmgan_kernels/_separable.py): with zeros not at all; with replicate ("fold") outside lie zeros, and the
// outermost output weighs what it reads by w plus all weights further out; with reflect ("twice") the outermost inputs
// count double and the outermost outputs half.
#pragma once

#include "common.cuh"

namespace tmgan::blur {

constexpr int MOST = 7;  // radius

struct Weights {
    float w[MOST + 1], beyond[MOST + 1];  // beyond[i] = w[i + 1] + ... + w[radius]
};

struct Shape {
    int height, groups;  // rows, vectors a row
    int step, planes;    // distance of taps in values; planes an image
    int strips, rows;    // strips a plane, rows a strip
    int border;          // what lies outside
    bool fold, twice;    // adjoints; with fold, border is zeros
};

// The index that position i of an axis reads. Outside an image of zeros the value read does not matter.
DEVICE int source(int i, int size, int border) {
    if (border == TMGAN_REFLECT) {
        i = i < 0 ? -i : i;
        i = smaller(i, 2 * (size - 1) - i);
    }
    return smaller(larger(i, 0), size - 1);
}

// --------------------------------------------------- a row, as whole vectors
// STEP values lie between taps. The taps of one vector lie in the 2 HALO + 1 vectors around it.
template <class T, int V, int STEP, int R> struct Window {
    static constexpr int HALO = (R * STEP + V - 1) / V, HOME = HALO * V, SIZE = 2 * HOME + V;

    Packet<sizeof(T) * V> packets[2 * HALO + 1];

    DEVICE void load(const T *row, int n, const Shape &shape) {
#pragma unroll
        for (int i = 0; i <= 2 * HALO; ++i) {
            const int at = n + i - HALO;
            packets[i] = Packet<sizeof(T) * V>{};
            if (at >= 0 && at < shape.groups) {
                packets[i] = simt::load(reinterpret_cast<const Packet<sizeof(T) * V> *>(row) + at);
            }
        }
    }

    // What follows counts from either end of the row (FLIP: the right one), m vectors away. All in registers, with
    // indices known to the compiler: no loads, and none of the clamped columns that would cost the 16-byte loads.
    template <bool FLIP> DEVICE static float &value(float *values, int i) { return values[FLIP ? SIZE - 1 - i : i]; }

    template <bool FLIP> DEVICE static void double_end(float *values, int m) {
#pragma unroll
        for (int at = 0; at <= HALO; ++at) {
#pragma unroll
            for (int c = 0; c < STEP; ++c) {
                const int i = HOME - at * V + c;
                if (m == at) value<FLIP>(values, i) *= 2.f;
            }
        }
    }

    // Pixel -k gets what stands for it.
    template <bool FLIP> DEVICE static void mend_end(float *values, int m, bool reflect) {
#pragma unroll
        for (int at = 0; at < HALO; ++at) {
            if (m != at) continue;
            const int zero = HOME - at * V;  // where pixel 0 begins
#pragma unroll
            for (int k = 1; k <= R; ++k) {
#pragma unroll
                for (int c = 0; c < STEP; ++c) {
                    const int to = zero - k * STEP + c, mirror = zero + k * STEP + c;
                    if (to < 0) continue;
                    const float reflected = mirror < SIZE ? value<FLIP>(values, mirror) : 0.f;
                    value<FLIP>(values, to) = reflect ? reflected : value<FLIP>(values, zero + c);
                }
            }
        }
    }

    // What folding adds at one end of the row, to the vector that lies there.
    template <bool FLIP> DEVICE static void fold_end(float *sums, float *values, const Weights &weights, int radius) {
#pragma unroll
        for (int c = 0; c < STEP; ++c) {
#pragma unroll
            for (int t = 0; t < R; ++t) {
                if (t < radius)
                    sums[FLIP ? V - 1 - c : c] += weights.beyond[t] * value<FLIP>(values, HOME + t * STEP + c);
            }
        }
    }

    DEVICE void sum(float *sums, int n, const Shape &shape, const Weights &weights, int radius) {
        float values[SIZE];
#pragma unroll
        for (int i = 0; i <= 2 * HALO; ++i) unpack<T, V>(packets[i], values + i * V);
        const int from_end = shape.groups - 1 - n;
        if (shape.twice) {
            double_end<false>(values, n);
            double_end<true>(values, from_end);
        }
        if (shape.border != TMGAN_ZEROS) {
            mend_end<false>(values, n, shape.border == TMGAN_REFLECT);
            mend_end<true>(values, from_end, shape.border == TMGAN_REFLECT);
        }
#pragma unroll
        for (int j = 0; j < V; ++j) {
            sums[j] = 0.f;
#pragma unroll
            for (int t = -R; t <= R; ++t) {
                const int distance = t < 0 ? -t : t;
                if (distance <= radius) sums[j] += weights.w[distance] * values[HOME + j + t * STEP];
            }
        }
        if (shape.fold) {
            if (n == 0) fold_end<false>(sums, values, weights, radius);
            if (from_end == 0) fold_end<true>(sums, values, weights, radius);
        }
        if (shape.twice) {
#pragma unroll
            for (int c = 0; c < STEP; ++c) {
                if (n == 0) sums[c] *= 0.5f;
                if (from_end == 0) sums[V - 1 - c] *= 0.5f;
            }
        }
    }
};

// ------------------------------------------------ a row, one value at a time
// Any row length and distance of taps. 2R + 1 loads a value, and not the fast way.
template <class T, int R> struct Taps {
    T values[2 * R + 1];

    DEVICE void load(const T *row, int n, const Shape &shape) {
        const int width = shape.groups / shape.step, pixel = n / shape.step, channel = n - pixel * shape.step;
#pragma unroll
        for (int t = -R; t <= R; ++t) {
            values[t + R] = row[source(pixel + t, width, shape.border) * shape.step + channel];
        }
    }

    DEVICE void sum(float *sums, int n, const Shape &shape, const Weights &weights, int radius) {
        const int width = shape.groups / shape.step, pixel = n / shape.step;
        const bool first = pixel == 0, last = pixel == width - 1;
        sums[0] = 0.f;
#pragma unroll
        for (int t = -R; t <= R; ++t) {
            const int distance = t < 0 ? -t : t;
            const bool inside = pixel + t >= 0 && pixel + t < width;
            if (distance > radius || !(inside || shape.border != TMGAN_ZEROS)) continue;
            float value = to_float(values[t + R]);
            const int read = source(pixel + t, width, shape.border);
            if (shape.twice && (read == 0 || read == width - 1)) value *= 2.f;
            const float beyond = shape.fold ? weights.beyond[distance] * (int{first} + int{last}) : 0.f;
            sums[0] += (weights.w[distance] + beyond) * value;
        }
        if (shape.twice && (first || last)) sums[0] *= 0.5f;
    }
};

// ---------------------------------------------------------------- the march
// Filters rows first .. first + rows - 1 of a plane at x, vector n of each, into out. radius <= R, the taps there are:
// those further out are left out, not given a weight of 0, which would make NaN of infinity.
template <class T, int V, int R, class Row>
DEVICE void march(const T *x, T *out, int n, int first, const Shape &shape, const Weights &weights, int radius) {
    const int stride = shape.groups * V, last = shape.height - 1, end = smaller(first + shape.rows, shape.height);
    float under_way[2 * R + 1][V] = {};  // of output rows row - R .. row + R
    Row next;
    next.load(x + static_cast<int64_t>(source(first - R, shape.height, shape.border)) * stride, n, shape);
#pragma unroll 1
    for (int row = first - R; row < end + R; ++row) {
        Row now = next;
        if (row + 1 < end + R) {
            next.load(x + static_cast<int64_t>(source(row + 1, shape.height, shape.border)) * stride, n, shape);
        }
        if ((row >= 0 && row <= last) || shape.border != TMGAN_ZEROS) {
            float sums[V];
            now.sum(sums, n, shape, weights, radius);
            const int read = source(row, shape.height, shape.border);
            if (shape.twice && (read == 0 || read == last)) {
#pragma unroll
                for (int j = 0; j < V; ++j) sums[j] *= 2.f;
            }
#pragma unroll
            for (int i = 0; i <= 2 * R; ++i) {
                const int distance = i < R ? R - i : i - R;
                if (distance > radius) continue;
#pragma unroll
                for (int j = 0; j < V; ++j) under_way[i][j] += weights.w[distance] * sums[j];
            }
            if (shape.fold && (row < R || row > last - R)) {
#pragma unroll
                for (int i = 1; i < 2 * R; ++i) {
                    const int distance = i < R ? R - i : i - R, to = row - R + i;
                    if (distance >= radius || (to != 0 && to != last)) continue;
                    const float beyond = weights.beyond[distance] * (int{to == 0} + int{to == last});
#pragma unroll
                    for (int j = 0; j < V; ++j) under_way[i][j] += beyond * sums[j];
                }
            }
        }
        const int to = row - R;
        if (to >= first) {
            if (shape.twice && (to == 0 || to == last)) {
#pragma unroll
                for (int j = 0; j < V; ++j) under_way[0][j] *= 0.5f;
            }
            store<T, V>(out + static_cast<int64_t>(to) * stride + n * V, under_way[0]);
        }
#pragma unroll
        for (int i = 0; i < 2 * R; ++i) {
#pragma unroll
            for (int j = 0; j < V; ++j) under_way[i][j] = under_way[i + 1][j];
        }
#pragma unroll
        for (int j = 0; j < V; ++j) under_way[2 * R][j] = 0.f;
    }
}

}  // namespace tmgan::blur
