// Kernels, which are launched and do nothing.
#include "runtime.h"

unsigned long long standInLaunches;  // so far; those of a graph are counted when it is captured

// Checks what the card would refuse. Also called by driver.c.
E standInLaunch(unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared, void *on) {
    Stream *stream = of((cudaStream_t)on);
    stream->unjoined = 1;
    standInLaunches++;
    if (!running(stream) && captures_here())
        fprintf(stderr, "stand-in GPU: a thread that captures a stream launches a kernel on another\n");
    int grid = x && y && z && x <= 2147483647u && y <= 65535 && z <= 65535;
    return grid && threads && threads <= 1024 && shared <= 232448 ? 0 : fail(cudaErrorInvalidConfiguration);
}
static E launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    return standInLaunch(grid.x, grid.y, grid.z, block.x * block.y * block.z, shared, stream);
}
E cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream) {
    return launch(grid, block, shared, stream);
}
E __cudaLaunchKernel(cudaKernel_t f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream) {
    return launch(grid, block, shared, stream);
}
E cudaLaunchCooperativeKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream) {
    return launch(grid, block, shared, stream);
}
E cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *f, void **args) {
    return launch(config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream);
}
E __cudaGetKernel(cudaKernel_t *kernel, const void *f) { *kernel = (cudaKernel_t)f; return 0; }
char __cudaInitModule(void **handle) { return 0; }
E cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *f) {
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    return 0;
}
E cudaFuncSetAttribute(const void *f, enum cudaFuncAttribute which, int value) { return 0; }
E cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *f, int block, size_t shared,
                                                         unsigned flags) {
    *count = 2048 / (block > 0 ? block : 1);
    if (*count > 32) *count = 32;
    return 0;
}
E cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *f, int block, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(count, f, block, shared, 0);
}
E cudaProfilerStart(void) { return 0; }
E cudaProfilerStop(void) { return 0; }
static int unknown(void) { return 801; }  // CUDA_ERROR_NOT_SUPPORTED
E cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                   enum cudaDriverEntryPointQueryResult *status) {
    extern void *dlopen(const char *, int), *dlsym(void *, const char *);
    static void *driver;
    if (!driver) driver = dlopen("libcuda.so.1", 1);
    *function = driver ? dlsym(driver, symbol) : NULL;
    if (!*function) *function = (void *)unknown;  // looked up by torch's allocator, called by nobody here
    if (status) *status = cudaDriverEntryPointSuccess;
    return 0;
}
E cudaUserObjectCreate(cudaUserObject_t *object, void *pointer, cudaHostFn_t destroy, unsigned count, unsigned flags) {
    *object = (cudaUserObject_t)calloc(1, 8);
    return 0;
}
E cudaUserObjectRelease(cudaUserObject_t object, unsigned count) { return 0; }
E cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count, unsigned flags) { return 0; }
