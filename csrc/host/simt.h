// The machine of simt.cuh on the CPU: every thread of a cluster is a fiber, and fibers change places at barriers and
// shuffles only, in an order drawn anew for every launch. A barrier that is missing shows as a wrong or unsteady
// result, one that not all threads reach as a deadlock, which ends the process with a message.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <ucontext.h>

#define DEVICE inline
#define KERNEL(threads, blocks) void

namespace tmgan {

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_of(uint32_t{x.bits} << 16); }
inline float to_float(f16 x) {
    const uint32_t sign = (x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3FFu;
    if (exponent == 31) return float_of(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) return float_of(sign | bits_of(static_cast<float>(fraction) * 0x1p-24f));
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}
template <class T> T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) {
    const uint32_t bits = bits_of(x);
    if (x != x) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};  // to nearest, ties to even
}
template <> inline f16 from_float<f16>(float x) {
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (x != x) return {static_cast<uint16_t>(sign | 0x7E00)};
    if (magnitude >= 0x477FF000u) return {static_cast<uint16_t>(sign | 0x7C00)};  // rounds to 65536 or more
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves its multiple of 2^-24 in the last bits
        return {static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u))};
    }
    return {static_cast<uint16_t>(sign | (magnitude + 0xFFF + (magnitude >> 13 & 1) - 0x38000000u) >> 13)};
}

namespace simt {

struct Fiber;

// Where `size` fibers wait for each other.
struct Gate {
    int size = 0, arrived = 0;
    std::vector<Fiber *> waiting;
};

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    std::vector<char> stack;
    bool started = false, running = false;
    int thread = 0, rank = 0, turn = 0;
};

struct Warp {
    Gate gate;
    uint64_t slots[2][32];  // two, so that a lane may be one exchange ahead of another
};

struct Machine {
    std::vector<Fiber *> fibers, ready;  // fibers are kept for the next launch
    std::vector<Gate> blocks;
    std::vector<Warp> warps;
    std::vector<std::vector<uint64_t>> memory;
    Gate cluster;
    Fiber *current = nullptr;
    std::function<void()> task;
    ucontext_t home_context;
    jmp_buf home;
    int64_t first_block = 0, blocks_in_grid = 0;
    int threads = 0;
    uint32_t random = 1;
    bool idle = false;  // launches do nothing: what remains is the cost of the host's code
    int64_t shared = 0;  // the most bytes that a launch asked for since tmgan_host_idle
};

extern Machine machine;
void wait(Gate &gate);
void run_cluster(int blocks, int threads, int64_t shared);

inline int thread() { return machine.current->thread; }
inline int64_t block() { return machine.first_block + machine.current->rank; }
inline int64_t blocks() { return machine.blocks_in_grid; }
inline int lane() { return thread() & 31; }
inline int warp() { return thread() >> 5; }
inline void sync() { wait(machine.blocks[machine.current->rank]); }
inline Warp &my_warp() { return machine.warps[(machine.current->rank * machine.threads + thread()) / 32]; }
inline void sync_warp() { wait(my_warp().gate); }

// Every lane's value, after all have given theirs.
template <class V> const uint64_t *exchange(V value) {
    static_assert(sizeof(V) <= 8, "one register or two");
    Warp &warp = my_warp();
    uint64_t *slots = warp.slots[machine.current->turn ^= 1];
    slots[lane()] = 0;
    std::memcpy(&slots[lane()], &value, sizeof(V));
    wait(warp.gate);
    return slots;
}
template <class V> V shuffle(V value, int from) {
    std::memcpy(&value, exchange(value) + (from & 31), sizeof(V));
    return value;
}
template <class V> V shuffle_xor(V value, int with) { return shuffle(value, lane() ^ with); }
inline uint32_t ballot(bool value) {
    const uint64_t *all = exchange<uint32_t>(value);
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(all[i]) << i;
    return bits;
}
inline uint32_t equal_lanes(uint32_t value) {
    const uint64_t *all = exchange(value);
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(all[i] == value) << i;
    return bits;
}
inline int ones(uint32_t bits) { return __builtin_popcount(bits); }
inline void add_shared(int *counter, int value) { *counter += value; }

// The hardware faults on a misaligned packet, so this build must not let one pass.
template <class P> void check_aligned(const P *packet) {
    if (reinterpret_cast<uintptr_t>(packet) % sizeof(P) != 0) {
        std::fprintf(stderr, "tmgan: misaligned access of %zu bytes\n", sizeof(P));
        std::abort();
    }
}
template <class P> P load(const P *from) {
    check_aligned(from);
    return *from;
}
template <class P> void store(P *to, const P &from) {
    check_aligned(to);
    *to = from;
}

template <class V> V *shared() { return reinterpret_cast<V *>(machine.memory[machine.current->rank].data()); }
template <int CL> int cluster_rank() { return machine.current->rank; }
template <int CL> void cluster_sync() { wait(machine.cluster); }
template <int CL, class V> V *peer(V *mine, int rank) {
    const auto offset = reinterpret_cast<char *>(mine) - reinterpret_cast<char *>(shared<char>());
    return reinterpret_cast<V *>(reinterpret_cast<char *>(machine.memory[rank].data()) + offset);
}
constexpr bool has_clusters() { return true; }

struct Device {
    explicit Device(int) {}
    int status = 0;
};

template <auto KERNEL_, class... A>
int launch(int64_t blocks, int threads, int64_t shared, int cluster, int, void *, A... arguments) {
    machine.shared = machine.shared < shared ? shared : machine.shared;
    if (machine.idle) return 0;
    machine.task = [=] { KERNEL_(arguments...); };
    machine.blocks_in_grid = blocks;
    for (int64_t first = 0; first < blocks; first += cluster) {
        machine.first_block = first;
        run_cluster(cluster, threads, shared);
    }
    return 0;
}

}  // namespace simt
}  // namespace tmgan
