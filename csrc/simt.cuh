// What kernels ask of the machine, spelled once for nvcc and for the host build (host/simt.h), in which every thread is
// a fiber and the same kernels run on the CPU, for tests. Grids and blocks have one dimension.
#pragma once

#include <cstdint>

namespace tmgan::simt {

template <int BYTES> struct Packet;  // what one load or store instruction moves
template <> struct alignas(16) Packet<16> {
    uint32_t words[4];
};
template <> struct alignas(8) Packet<8> {
    uint32_t words[2];
};
template <> struct alignas(4) Packet<4> {
    uint32_t words[1];
};
template <> struct alignas(2) Packet<2> {
    uint16_t words[1];
};

}  // namespace tmgan::simt

#ifdef __CUDACC__
#include <algorithm>
#include <atomic>
#include <mutex>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define DEVICE __device__ __forceinline__
#define KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)

namespace tmgan {

using bf16 = __nv_bfloat16;
using f16 = __half;

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
DEVICE float to_float(f16 x) { return __half2float(x); }
template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> DEVICE f16 from_float<f16>(float x) { return __float2half_rn(x); }

namespace simt {

DEVICE int thread() { return threadIdx.x; }
DEVICE int64_t block() { return blockIdx.x; }
DEVICE int64_t blocks() { return gridDim.x; }
DEVICE int lane() { return threadIdx.x & 31; }
DEVICE int warp() { return threadIdx.x >> 5; }
DEVICE void sync() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
// All 32 lanes take part in what follows.
template <class V> DEVICE V shuffle(V value, int from) { return __shfl_sync(~0u, value, from); }
template <class V> DEVICE V shuffle_xor(V value, int with) { return __shfl_xor_sync(~0u, value, with); }
DEVICE uint32_t ballot(bool value) { return __ballot_sync(~0u, value); }
DEVICE uint32_t equal_lanes(uint32_t value) { return __match_any_sync(~0u, value); }
DEVICE int ones(uint32_t bits) { return __popc(bits); }
DEVICE void add_shared(int *counter, int value) { atomicAdd(counter, value); }  // integers only: order does not matter

template <int BYTES> DEVICE Packet<BYTES> load(const Packet<BYTES> *from) { return *from; }
// To global memory. In assembly because the compiler takes a packet that was put together in registers apart again.
DEVICE void store(Packet<16> *to, const Packet<16> &from) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(from.words[0]),
                 "r"(from.words[1]), "r"(from.words[2]), "r"(from.words[3])
                 : "memory");
}
DEVICE void store(Packet<8> *to, const Packet<8> &from) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(from.words[0]),
                 "r"(from.words[1])
                 : "memory");
}
DEVICE void store(Packet<4> *to, const Packet<4> &from) { *to = from; }
DEVICE void store(Packet<2> *to, const Packet<2> &from) { *to = from; }

// The dynamic shared memory of this block.
template <class V> DEVICE V *shared() {
    extern __shared__ __align__(16) unsigned char memory[];
    return reinterpret_cast<V *>(memory);
}

// Clusters of CL blocks with consecutive numbers; a cluster of one needs no hardware support.
template <int CL> DEVICE int cluster_rank() { return CL == 1 ? 0 : static_cast<int>(blockIdx.x % CL); }
template <int CL> DEVICE void cluster_sync() {
    if (CL == 1) {
        __syncthreads();
        return;
    }
#if __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
#endif
}
// The same shared variable of another block of the cluster.
template <int CL, class V> DEVICE V *peer(V *mine, int rank) {
#if __CUDA_ARCH__ >= 900
    if (CL > 1) return static_cast<V *>(__cluster_map_shared_rank(mine, rank));
#endif
    return mine;
}
// Whether the GPU that this code is compiled for has clusters.
DEVICE constexpr bool has_clusters() {
#if __CUDA_ARCH__ >= 900
    return true;
#else
    return false;
#endif
}

using Stream = cudaStream_t;

// Makes a device current, and the one before again.
class Device {
  public:
    explicit Device(int device) {
        status = cudaGetDevice(&before_);
        moved_ = status == cudaSuccess && before_ != device;
        if (moved_) status = cudaSetDevice(device);
    }
    ~Device() {
        if (moved_) cudaSetDevice(before_);
    }
    cudaError_t status;

  private:
    int before_ = -1;
    bool moved_ = false;
};

// Launches KERNEL with `shared` bytes of dynamic shared memory, in clusters of `cluster` blocks.
template <auto KERNEL_, class... A>
int launch(int64_t blocks, int threads, int64_t shared, int cluster, int device, void *stream, A... arguments) {
    if (shared > 48 * 1024) {
        static std::atomic<int64_t> allowed[64]{};  // asked for once a device and size, as asking costs a microsecond
        static std::mutex asking;
        if (shared > allowed[device & 63].load(std::memory_order_relaxed)) {
            const std::lock_guard<std::mutex> alone(asking);
            // Of two threads the one that wants less may come last, and must not take the other's away.
            const int64_t most = std::max(shared, allowed[device & 63].load(std::memory_order_relaxed));
            const cudaError_t status =
                cudaFuncSetAttribute(KERNEL_, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most));
            if (status != cudaSuccess) return status;
            allowed[device & 63].store(most, std::memory_order_relaxed);
        }
    }
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = static_cast<Stream>(stream);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
    config.attrs = &attribute;
    config.numAttrs = cluster > 1;
    return cudaLaunchKernelEx(&config, KERNEL_, arguments...);
}

}  // namespace simt
}  // namespace tmgan

#else
#include "host/simt.h"
#endif
