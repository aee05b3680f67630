// Sums over a team: the threads of CL blocks of one cluster, or of one block. Always in the same order, so that equal
// inputs give equal bits, and in float64, so that counts are exact.
#pragma once

#include "common.cuh"

namespace tmgan {

// A part of a team's shared memory; two of everything, so that one barrier a sum suffices: whoever is a sum ahead
// writes where nobody reads.
template <int CL, int THREADS, int N> struct Team {
    double warps[2][THREADS / 32][N];
    double blocks[2][CL][N];

    // Before the first sum: all blocks of a cluster must live before one writes to another.
    DEVICE static void begin() {
        if (CL > 1) simt::cluster_sync<CL>();
    }

    // Every thread of the team gets the sums of all threads' values. turn alternates between calls.
    DEVICE void sum(double (&values)[N], int turn) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
#pragma unroll
            for (int with = 16; with > 0; with /= 2) values[k] += simt::shuffle_xor(values[k], with);
            if (simt::lane() == 0) warps[turn][simt::warp()][k] = values[k];
        }
        simt::sync();
#pragma unroll
        for (int k = 0; k < N; ++k) {
            values[k] = 0.0;
#pragma unroll 4
            for (int i = 0; i < THREADS / 32; ++i) values[k] += warps[turn][i][k];
        }
        if (CL == 1) return;
        const int rank = simt::cluster_rank<CL>();
        if (simt::thread() < CL) {
            double *to = simt::peer<CL>(&blocks[turn][rank][0], simt::thread());
#pragma unroll
            for (int k = 0; k < N; ++k) to[k] = values[k];
        }
        simt::cluster_sync<CL>();
#pragma unroll
        for (int k = 0; k < N; ++k) {
            values[k] = 0.0;
#pragma unroll
            for (int i = 0; i < CL; ++i) values[k] += blocks[turn][i][k];
        }
    }
};

// The values of one thread: number thread, thread + THREADS, ... of `count` in shared or global memory. Threads read
// only what they wrote themselves, or what nobody wrote: no barrier is needed between.
template <int THREADS, class T> struct Share {
    const T *values;
    int count;

    // f(value, index) for each of them, then done(): after at most 32 values, so that sums of float32 stay short.
    template <class F, class D> DEVICE void each(F f, D done) const {
        for (int64_t first = simt::thread(); first < count; first += int64_t{32} * THREADS) {
#pragma unroll 4
            for (int j = 0; j < 32; ++j) {
                const int64_t i = first + int64_t{j} * THREADS;
                if (i < count) f(to_float(values[i]), static_cast<int>(i));
            }
            done();
        }
    }
};

// The threshold of 2-means over a team's values, or of their magnitudes: see kernels/tmgan_kernels/sharp_regions.py.
// team needs room for three sums; turn is where its next one goes.
template <bool ABSOLUTE, class Values, class T>
DEVICE float two_means(const Values &values, T &team, int64_t pixels, int steps, int &turn) {
    double sums[3] = {};
    float part = 0.f, below = 0.f;
    values.each([&](float value, int) { part += ABSOLUTE ? fabsf(value) : value; },
                [&] {
                    sums[0] += part;
                    part = 0.f;
                });
    team.sum(sums, turn);
    turn ^= 1;
    float threshold = static_cast<float>(sums[0] / pixels);
    for (int step = 0; step < steps; ++step) {
        int number = 0;
        sums[0] = sums[1] = sums[2] = 0.0;
        values.each(
            [&](float value, int) {
                value = ABSOLUTE ? fabsf(value) : value;
                const bool above = value > threshold;
                part += above ? value : 0.f;
                below += above ? 0.f : value;
                number += above;
            },
            [&] {
                sums[0] += part;
                sums[1] += below;
                part = below = 0.f;
            });
        sums[2] = number;
        team.sum(sums, turn);
        turn ^= 1;
        const double rest = pixels - sums[2];
        if (sums[2] > 0 && rest > 0) threshold = static_cast<float>((sums[0] / sums[2] + sums[1] / rest) / 2);
    }
    return threshold;
}

}  // namespace tmgan
