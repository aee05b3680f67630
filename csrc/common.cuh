// What the kernel files share: 16-byte accesses, sums over a team of threads, argument checks, dispatch by type.
#pragma once

#include <algorithm>
#include <cmath>

#include "include/tmgan.h"
#include "simt.cuh"

namespace tmgan {

template <class I> DEVICE constexpr I smaller(I a, I b) { return a < b ? a : b; }
template <class I> DEVICE constexpr I larger(I a, I b) { return a < b ? b : a; }

// ------------------------------------------------------------------ vectors
using simt::Packet;

template <class T, int V> DEVICE void unpack(const Packet<sizeof(T) * V> &packet, float *out) {
    T values[V];
    memcpy(values, &packet, sizeof(packet));
#pragma unroll
    for (int i = 0; i < V; ++i) out[i] = to_float(values[i]);
}

template <class T, int V> DEVICE void load(const T *from, float *out) {
    unpack<T, V>(simt::load(reinterpret_cast<const Packet<sizeof(T) * V> *>(from)), out);
}

template <class T, int V> DEVICE void store(T *to, const float *values) {
    T rounded[V];
#pragma unroll
    for (int i = 0; i < V; ++i) rounded[i] = from_float<T>(values[i]);
    Packet<sizeof(T) * V> packet;
    memcpy(&packet, rounded, sizeof(packet));
    simt::store(reinterpret_cast<Packet<sizeof(T) * V> *>(to), packet);
}

// ------------------------------------------------------------------- on the host
constexpr int64_t MOST_BLOCKS = 2147483647;        // of a grid
constexpr int64_t MOST_VALUES = int64_t{1} << 31;  // of one image

inline int64_t blocks_for(int64_t work, int64_t each) { return (work + each - 1) / each; }

inline bool aligned(const void *pointer, int bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// Status of what every function is given; null: whether a pointer is missing.
inline int check(bool null, int64_t batch, int64_t channels, int64_t height, int64_t width, int dtype, int device) {
    if (dtype < TMGAN_FLOAT32 || dtype > TMGAN_FLOAT16) return TMGAN_BAD_DTYPE;
    if (batch < 0 || channels < 1 || height < 1 || width < 1) return TMGAN_BAD_SHAPE;
    if (channels >= MOST_VALUES || height * width >= MOST_VALUES || channels * height * width >= MOST_VALUES) {
        return TMGAN_BAD_SHAPE;
    }
    if (device < 0) return TMGAN_BAD_DEVICE;
    return null && batch > 0 ? TMGAN_NULL_POINTER : TMGAN_OK;
}

// Bytes of shared memory that a block may ask for on GPUs of this compute capability: 163 KB on an A100 and an Orin,
// 227 on data centre GPUs from Hopper on, 99 on GeForce and workstation cards of any generation.
inline int64_t most_shared(int sm) {
    if (sm == 80 || sm == 87) return 163 * 1024;
    return sm >= 90 && sm < 120 ? 227 * 1024 : 99 * 1024;
}

inline int item_size(int dtype) { return dtype == TMGAN_FLOAT32 ? 4 : 2; }

// Calls function(T{}) for the type that dtype names, with the device current.
template <class F> int dispatch(int dtype, int device, F function) {
    const simt::Device guard(device);
    if (guard.status != 0) return static_cast<int>(guard.status);
    switch (dtype) {
        case TMGAN_FLOAT32:
            return function(float{});
        case TMGAN_BFLOAT16:
            return function(bf16{});
        default:
            return function(f16{});
    }
}

}  // namespace tmgan
