// Stands in for libcuda.so.1, beside card.c: what torch and Triton's launcher ask of a driver. Launches go there.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef int E;

// As cuda.h has it, which a torch without its compiler lacks.
typedef struct {
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    void *hStream, *attributes;
    unsigned count;
} CUlaunchConfig;

// Of kernels.c, memory.c and card.c, which are preloaded.
extern E cudaDeviceGetAttribute(int *, int, int);
extern E standInLaunch(unsigned, unsigned, unsigned, unsigned, size_t, void *);
extern int standInHas(const void *);

static E launch(unsigned x, unsigned y, unsigned z, unsigned threads, unsigned shared, void *stream) {
    return x && y && z ? standInLaunch(x, y, z, threads, shared, stream) : 0;  // Triton launches no empty grid
}

E cuInit(unsigned flags) { return 0; }
E cuDriverGetVersion(int *version) { *version = 13000; return 0; }
E cuGetErrorString(E error, const char **text) { *text = "an error of the stand-in driver"; return 0; }
E cuGetErrorName(E error, const char **text) { *text = "CUDA_ERROR"; return 0; }
E cuDeviceGet(int *device, int number) { *device = number; return 0; }
E cuDeviceGetCount(int *count) { *count = 1; return 0; }
E cuDeviceGetName(char *name, int n, int device) { snprintf(name, n, "NVIDIA H200"); return 0; }
E cuDeviceGetAttribute(int *value, int which, int device) { return cudaDeviceGetAttribute(value, which, device); }
E cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
static char context;
E cuDevicePrimaryCtxRetain(void **made, int device) { *made = &context; return 0; }
E cuCtxGetCurrent(void **current) { *current = &context; return 0; }
E cuCtxSetCurrent(void *current) { return 0; }
E cuCtxGetDevice(int *device) { *device = 0; return 0; }
E cuCtxGetLimit(size_t *value, int which) { *value = 1 << 20; return 0; }
E cuCtxSetLimit(int which, size_t value) { return 0; }
E cuModuleLoadData(void **module, const void *image) { *module = calloc(1, 8); return 0; }
E cuModuleLoadDataEx(void **module, const void *image, unsigned n, int *options, void **values) {
    return cuModuleLoadData(module, image);
}
E cuModuleLoad(void **module, const char *path) { *module = calloc(1, 8); return 0; }
E cuModuleUnload(void *module) { return 0; }
E cuModuleGetFunction(void **function, void *module, const char *name) { *function = calloc(1, 8); return 0; }
E cuFuncGetAttribute(int *value, int which, void *function) {  // threads of a block, registers of a thread
    *value = which == 0 ? 1024 : which == 4 ? 32 : 0;
    return 0;
}
E cuFuncSetAttribute(void *function, int which, int value) { return 0; }
E cuFuncSetCacheConfig(void *function, int config) { return 0; }
E cuFuncGetModule(void **module, void *function) { *module = calloc(1, 8); return 0; }
E cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                 void *stream, void **arguments, void **extra) {
    return launch(x, y, z, bx * by * bz, shared, stream);
}
E cuLaunchCooperativeKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                            unsigned shared, void *stream, void **arguments) {
    return launch(x, y, z, bx * by * bz, shared, stream);
}
E cuLaunchKernelEx(const CUlaunchConfig *c, void *f, void **arguments, void **extra) {
    return launch(c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX * c->blockDimY * c->blockDimZ, c->sharedMemBytes,
                  c->hStream);
}
E cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, void *f, int block, size_t shared) { *count = 2; return 0; }
E cuOccupancyMaxActiveClusters(int *count, void *f, const void *config) { *count = 66; return 0; }
E cuPointerGetAttribute(void *value, int which, unsigned long long pointer) {  // Triton asks it of every argument
    *(unsigned long long *)value = pointer;
    return standInHas((void *)pointer) ? 0 : 1;  // CUDA_ERROR_INVALID_VALUE
}
E cuTensorMapEncodeTiled(void) { return 0; }
E cuTensorMapEncodeIm2col(void) { return 0; }
E cuLinkCreate_v2(void) { return 999; }
E cuLinkAddData_v2(void) { return 999; }
E cuLinkComplete(void) { return 999; }
