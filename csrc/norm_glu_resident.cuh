// The NCHW kernels of norm_glu.cu that read a pair of planes once: a team keeps it, as stored, in its shared memory.
#pragma once

#include "norm_glu.cuh"

namespace tmgan::norm_glu {

constexpr int CLUSTER = 8;  // the largest that every GPU with clusters has

template <int CL> struct Memory {
    Team<CL, THREADS, 4> team;
    alignas(16) unsigned char values[16];  // as many as asked for
};

// Pixels begin .. begin + count - 1 of every plane of a pair are this block's.
struct Part {
    int64_t pair;
    int begin, count, rank;
};

template <int CL> DEVICE Part my_part(int pixels, int vector) {
    const int each = (pixels / vector + CL - 1) / CL * vector, rank = simt::cluster_rank<CL>();
    const int begin = smaller(rank * each, pixels);
    return {simt::block() / CL, begin, smaller(each, pixels - begin), rank};
}

template <class T, int CL>
KERNEL(THREADS, 2)
resident_kernel(const T *x, T *out, float *mean, float *rstd, Shape shape, float eps) {
    if constexpr (CL == 1 || simt::has_clusters()) {
        constexpr int V = 16 / sizeof(T);
        using P = simt::Packet<16>;
        auto &memory = *simt::shared<Memory<CL>>();
        memory.team.begin();
        const Part part = my_part<CL>(shape.pixels, V);
        const int64_t half = shape.channels, plane = part.pair / half * half + part.pair;
        const T *a = x + plane * shape.pixels + part.begin, *b = a + half * shape.pixels;
        P *kept = reinterpret_cast<P *>(memory.values);  // vector i of a at 2i, of b beside it
        double sums[4] = {};
        const int vectors = part.count / V;
#pragma unroll 4
        for (int i = simt::thread(); i < vectors; i += THREADS) {
            kept[2 * i] = simt::load(reinterpret_cast<const P *>(a) + i);
            kept[2 * i + 1] = simt::load(reinterpret_cast<const P *>(b) + i);
            float one[V], other[V], sum_a = 0.f, sum_b = 0.f;
            unpack<T, V>(kept[2 * i], one);
            unpack<T, V>(kept[2 * i + 1], other);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                sum_a += one[j];
                sum_b += other[j];
            }
            sums[0] += sum_a;
            sums[1] += sum_b;
        }
        memory.team.sum(sums, 0);
        const float mean_a = static_cast<float>(sums[0] / shape.pixels);
        const float mean_b = static_cast<float>(sums[1] / shape.pixels);
        sums[0] = sums[1] = sums[2] = sums[3] = 0.0;
#pragma unroll 2
        for (int i = simt::thread(); i < vectors; i += THREADS) {
            float one[V], other[V], sum_a = 0.f, sum_b = 0.f;
            unpack<T, V>(kept[2 * i], one);
            unpack<T, V>(kept[2 * i + 1], other);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                sum_a += (one[j] - mean_a) * (one[j] - mean_a);
                sum_b += (other[j] - mean_b) * (other[j] - mean_b);
            }
            sums[0] += sum_a;
            sums[1] += sum_b;
        }
        memory.team.sum(sums, 1);
        const float rstd_a = 1.f / sqrtf(static_cast<float>(sums[0] / shape.pixels) + eps);
        const float rstd_b = 1.f / sqrtf(static_cast<float>(sums[1] / shape.pixels) + eps);
        if (part.rank == 0 && simt::thread() == 0) {
            mean[plane] = mean_a;
            mean[plane + half] = mean_b;
            rstd[plane] = rstd_a;
            rstd[plane + half] = rstd_b;
        }
        out += part.pair * shape.pixels + part.begin;
#pragma unroll 2
        for (int i = simt::thread(); i < vectors; i += THREADS) {
            float one[V], other[V];
            unpack<T, V>(kept[2 * i], one);
            unpack<T, V>(kept[2 * i + 1], other);
#pragma unroll
            for (int j = 0; j < V; ++j) one[j] = (one[j] - mean_a) * rstd_a * sigmoid((other[j] - mean_b) * rstd_b);
            store<T, V>(out + i * V, one);
        }
    }
}

template <class T, int CL>
KERNEL(THREADS, 2)
resident_backward_kernel(const T *grad, const T *x, const float *mean, const float *rstd, T *dx, Shape shape) {
    if constexpr (CL == 1 || simt::has_clusters()) {
        constexpr int V = 16 / sizeof(T);
        using P = simt::Packet<16>;
        auto &memory = *simt::shared<Memory<CL>>();
        memory.team.begin();
        const Part part = my_part<CL>(shape.pixels, V);
        const int64_t half = shape.channels, plane = part.pair / half * half + part.pair;
        const float mean_a = mean[plane], mean_b = mean[plane + half], rstd_a = rstd[plane],
                    rstd_b = rstd[plane + half];
        const int64_t to_a = plane * shape.pixels + part.begin, to_b = to_a + half * shape.pixels;
        grad += part.pair * shape.pixels + part.begin;
        P *kept = reinterpret_cast<P *>(memory.values);
        const int vectors = part.count / V;
        double sums[4] = {};
#pragma unroll 2
        for (int i = simt::thread(); i < vectors; i += THREADS) {
            kept[3 * i] = simt::load(reinterpret_cast<const P *>(x + to_a) + i);
            kept[3 * i + 1] = simt::load(reinterpret_cast<const P *>(x + to_b) + i);
            kept[3 * i + 2] = simt::load(reinterpret_cast<const P *>(grad) + i);
            float a[V], b[V], g[V], part_sums[4] = {};
            unpack<T, V>(kept[3 * i], a);
            unpack<T, V>(kept[3 * i + 1], b);
            unpack<T, V>(kept[3 * i + 2], g);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                const Reaching r = reaching(g[j], a[j], b[j], mean_a, rstd_a, mean_b, rstd_b);
                part_sums[0] += r.du;
                part_sums[1] += r.du * r.u;
                part_sums[2] += r.dv;
                part_sums[3] += r.dv * r.v;
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[k] += part_sums[k];
        }
        memory.team.sum(sums, 0);
        float means[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) means[k] = static_cast<float>(sums[k] / shape.pixels);
#pragma unroll 2
        for (int i = simt::thread(); i < vectors; i += THREADS) {
            float a[V], b[V], g[V];
            unpack<T, V>(kept[3 * i], a);
            unpack<T, V>(kept[3 * i + 1], b);
            unpack<T, V>(kept[3 * i + 2], g);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                const Reaching r = reaching(g[j], a[j], b[j], mean_a, rstd_a, mean_b, rstd_b);
                a[j] = rstd_a * (r.du - means[0] - r.u * means[1]);
                b[j] = rstd_b * (r.dv - means[2] - r.v * means[3]);
            }
            store<T, V>(dx + to_a + i * V, a);
            store<T, V>(dx + to_b + i * V, b);
        }
    }
}

}  // namespace tmgan::norm_glu
