// The scheduler of the host build. One launch at a time: callers hold Python's lock or are alone.
#include "simt.h"

namespace tmgan::simt {

Machine machine;

namespace {

constexpr size_t STACK = 64 * 1024;

uint32_t draw(uint32_t below) {
    machine.random = machine.random * 1664525u + 1013904223u;
    return static_cast<uint32_t>(uint64_t{machine.random} * below >> 32);
}

void leave() {
    if (_setjmp(machine.current->at) == 0) _longjmp(machine.home, 1);
}

void live() {
    for (;;) {
        machine.task();
        machine.current->running = false;
        leave();
    }
}

// Runs one fiber until it waits or is done.
void resume(Fiber *fiber) {
    machine.current = fiber;
    if (_setjmp(machine.home) != 0) return;
    if (fiber->started) _longjmp(fiber->at, 1);
    fiber->started = true;
    fiber->stack.resize(STACK);
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack.data();
    fiber->start.uc_stack.ss_size = STACK;
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, live, 0);
    swapcontext(&machine.home_context, &fiber->start);
}

}  // namespace

void wait(Gate &gate) {
    if (++gate.arrived == gate.size) {
        gate.arrived = 0;
        machine.ready.insert(machine.ready.end(), gate.waiting.begin(), gate.waiting.end());
        gate.waiting.clear();
        return;
    }
    gate.waiting.push_back(machine.current);
    leave();
}

void run_cluster(int blocks, int threads, int64_t shared) {
    const int all = blocks * threads;
    machine.threads = threads;
    while (static_cast<int>(machine.fibers.size()) < all) machine.fibers.push_back(new Fiber);
    machine.blocks.assign(blocks, Gate{threads, 0, {}});
    machine.cluster = Gate{all, 0, {}};
    machine.warps.resize(all / 32);
    for (Warp &warp : machine.warps) warp.gate = Gate{32, 0, {}};
    // Shared memory starts with rubbish: 0xFF bytes are NaN as floats and -1 as integers.
    machine.memory.assign(blocks, std::vector<uint64_t>((shared + 15) / 16 * 2, ~uint64_t{0}));
    machine.ready.assign(machine.fibers.begin(), machine.fibers.begin() + all);
    for (int i = 0; i < all; ++i) {
        machine.fibers[i]->thread = i % threads;
        machine.fibers[i]->rank = i / threads;
        machine.fibers[i]->running = true;
    }
    while (!machine.ready.empty()) {
        std::swap(machine.ready[draw(machine.ready.size())], machine.ready.back());
        Fiber *next = machine.ready.back();
        machine.ready.pop_back();
        resume(next);
    }
    for (int i = 0; i < all; ++i) {
        if (machine.fibers[i]->running) {
            std::fprintf(stderr, "tmgan: deadlock: thread %d of block %lld waits for others that have ended\n",
                         i % threads, static_cast<long long>(machine.first_block + i / threads));
            std::abort();
        }
    }
}

}  // namespace tmgan::simt

// For measurements of host cost: 1 makes every launch a no-op.
extern "C" __attribute__((visibility("default"))) void tmgan_host_idle(int idle) {
    tmgan::simt::machine.idle = idle;
    tmgan::simt::machine.shared = 0;
}

// The most bytes of shared memory that a launch has asked for since: a GPU refuses more than it has, this machine does
// not.
extern "C" __attribute__((visibility("default"))) int64_t tmgan_host_shared(void) {
    return tmgan::simt::machine.shared;
}
