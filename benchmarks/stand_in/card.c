// Stands in, by LD_PRELOAD, for CUDA's runtime where there is none: one NVIDIA H200 that computes nothing.
//
// Its memory is the host's, taken from there when something is written. Copies and clears are carried out, at once; a
// launch does nothing, so that what a kernel would write stays as it was, zero in memory that is new. Streams and
// events keep no order, since nothing is ever late. What a capture into a CUDA graph forbids is refused with the error
// of the real runtime, and what it records is copied again by each launch of the graph.
#include "runtime.h"

static __thread E last;

E fail(E error) {
    if (error) last = error;
    return error;
}

E cudaGetLastError(void) {
    E error = last;
    last = 0;
    return error;
}
E cudaPeekAtLastError(void) { return last; }

// ------------------------------------------------------------------- the card
static int attribute(enum cudaDeviceAttr which) {
    switch (which) {
        case cudaDevAttrMaxThreadsPerBlock: return 1024;
        case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: return 1024;
        case cudaDevAttrMaxBlockDimZ: return 64;
        case cudaDevAttrMaxGridDimX: return 2147483647;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: return 65535;
        case cudaDevAttrMaxSharedMemoryPerBlock: return 49152;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: return 232448;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return 233472;
        case cudaDevAttrMaxRegistersPerBlock: case cudaDevAttrMaxRegistersPerMultiprocessor: return 65536;
        case cudaDevAttrMaxThreadsPerMultiProcessor: return 2048;
        case cudaDevAttrMultiProcessorCount: return 132;
        case cudaDevAttrWarpSize: return 32;
        case cudaDevAttrComputeCapabilityMajor: return 9;
        case cudaDevAttrL2CacheSize: return 60 << 20;
        case cudaDevAttrClockRate: return 1980000;
        case cudaDevAttrMemoryClockRate: return 3201000;
        case cudaDevAttrGlobalMemoryBusWidth: return 6144;
        case cudaDevAttrCooperativeLaunch: case cudaDevAttrUnifiedAddressing: return 1;
        case cudaDevAttrAsyncEngineCount: return 1;
        default: return 0;
    }
}
E cudaGetDevice(int *device) { *device = 0; return 0; }
E cudaSetDevice(int device) { return device == 0 ? 0 : fail(cudaErrorInvalidDevice); }
E cudaGetDeviceCount(int *count) { *count = 1; return 0; }
E cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
E cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
E cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }
E cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device) { *value = attribute(which); return 0; }
E cudaDeviceGetPCIBusId(char *id, int length, int device) { snprintf(id, length, "0000:00:00.0"); return 0; }
E cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return 0; }

E cudaGetDeviceProperties(struct cudaDeviceProp *card, int device) {
    memset(card, 0, sizeof *card);
    strcpy(card->name, "NVIDIA H200");
    card->major = attribute(cudaDevAttrComputeCapabilityMajor);
    card->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
    card->warpSize = attribute(cudaDevAttrWarpSize);
    card->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
    card->maxThreadsPerMultiProcessor = attribute(cudaDevAttrMaxThreadsPerMultiProcessor);
    card->maxThreadsDim[0] = card->maxThreadsDim[1] = 1024;
    card->maxThreadsDim[2] = 64;
    card->maxGridSize[0] = 2147483647;
    card->maxGridSize[1] = card->maxGridSize[2] = 65535;
    card->regsPerBlock = card->regsPerMultiprocessor = 65536;
    card->sharedMemPerBlock = attribute(cudaDevAttrMaxSharedMemoryPerBlock);
    card->sharedMemPerBlockOptin = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    card->sharedMemPerMultiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    card->totalGlobalMem = CARD_MEMORY;
    card->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
    card->memoryBusWidth = attribute(cudaDevAttrGlobalMemoryBusWidth);
    return 0;
}
