// Stands in, by LD_PRELOAD, for the calls of libcudart that torch makes when it makes and compiles fake tensors of a
// GPU. Describes the card of described.py. Nothing here launches, allocates or copies: a real call still fails.
#include <string.h>
#include <cuda_runtime_api.h>

cudaError_t cudaGetDevice(int *device) { *device = 0; return 0; }
cudaError_t cudaSetDevice(int device) { return 0; }
cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return 0; }
cudaError_t cudaGetLastError(void) { return 0; }
cudaError_t cudaPeekAtLastError(void) { return 0; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }
cudaError_t cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) { *value = 1; return 0; }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) { *status = 0; return 0; }
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) { return 0; }

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *free = 140UL << 30;
    *total = 141UL << 30;
    return 0;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *card, int device) {
    memset(card, 0, sizeof *card);
    strcpy(card->name, "NVIDIA H200");
    card->major = 9;
    card->minor = 0;
    card->multiProcessorCount = 132;
    card->warpSize = 32;
    card->maxThreadsPerBlock = 1024;
    card->maxThreadsPerMultiProcessor = 2048;
    card->regsPerMultiprocessor = 65536;
    card->sharedMemPerBlockOptin = 232448;
    card->totalGlobalMem = 141UL << 30;
    card->l2CacheSize = 60 << 20;
    return 0;
}
