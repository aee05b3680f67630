// Stands in, by LD_PRELOAD, for CUDA's runtime where there is none: one NVIDIA H200 that computes nothing.
//
// Its memory is the host's, taken from there when something is written. Copies and clears are carried out, at once; a
// launch does nothing, so that what a kernel would write stays as it was, zero in memory that is new. Streams and
// events keep no order, since nothing is ever late. What a capture into a CUDA graph forbids is refused with the error
// of the real runtime, and what it records is copied again by each launch of the graph.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cuda_runtime_api.h>

#define CARD_MEMORY (141UL << 30)
#define MOST_CAPTURES 4096
typedef cudaError_t E;

// ------------------------------------------------------------------- errors
static __thread E last;

static E fail(E error) {
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
        case cudaDevAttrCooperativeLaunch: case cudaDevAttrUnifiedAddressing: case cudaDevAttrAsyncEngineCount: return 1;
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

// ----------------------------------------------------------- streams and captures
typedef struct Node { void *to; const void *from; size_t bytes; int value; struct Node *next; } Node;
typedef struct { unsigned long long id; Node *first, *last; } Graph;  // what is carried out when it is launched
typedef struct Capture { Graph *graph; struct Stream *origin; enum cudaStreamCaptureMode mode; pthread_t thread; E broken; int open; } Capture;
typedef struct Stream { Capture *capture; int priority, unjoined; struct Stream *next; } Stream;
typedef struct { Capture *capture; Stream *stream; double time; int recorded; } Event;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Stream legacy, *streams;
static Capture *captures[MOST_CAPTURES];
static int number_of_captures;
static unsigned long long ids;
static __thread enum cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;

static Stream *of(cudaStream_t stream) { return stream == 0 || (size_t)stream <= 2 ? &legacy : (Stream *)stream; }
static Capture *running(Stream *stream) { return stream->capture && stream->capture->open ? stream->capture : NULL; }
static void touch(Stream *stream) { stream->unjoined = 1; }  // work that the origin of a capture has to wait for

static int captures_here(void) {
    for (int i = 0; i < number_of_captures; i++)
        if (captures[i]->open && pthread_equal(captures[i]->thread, pthread_self())) return 1;
    return 0;
}

static E complain(Capture *capture, E error, const char *what) {
    if (!capture->broken) fprintf(stderr, "stand-in GPU: %s: error %d while a stream is captured\n", what, error);
    capture->broken = error;
    return fail(error);
}

// For calls that CUDA holds to be unsafe during a capture: 0 if this thread may make one now.
static E unsafe(const char *what) {
    if (mode_of_thread == cudaStreamCaptureModeRelaxed) return 0;
    for (int i = 0; i < number_of_captures; i++) {
        Capture *c = captures[i];
        if (!c->open || c->mode == cudaStreamCaptureModeRelaxed) continue;
        int mine = pthread_equal(c->thread, pthread_self());
        if (mine || (c->mode == cudaStreamCaptureModeGlobal && mode_of_thread == cudaStreamCaptureModeGlobal))
            return complain(c, cudaErrorStreamCaptureUnsupported, what);
    }
    return 0;
}

E cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    enum cudaStreamCaptureMode before = mode_of_thread;
    mode_of_thread = *mode;
    *mode = before;
    return 0;
}
E cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    Stream *made = calloc(1, sizeof *made);
    made->priority = priority;
    pthread_mutex_lock(&lock);
    made->next = streams;
    streams = made;
    pthread_mutex_unlock(&lock);
    *stream = (cudaStream_t)made;
    return 0;
}
E cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
E cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
E cudaStreamDestroy(cudaStream_t stream) { return 0; }
E cudaStreamGetPriority(cudaStream_t stream, int *priority) { *priority = of(stream)->priority; return 0; }
E cudaStreamQuery(cudaStream_t stream) {
    Capture *c = running(of(stream));
    return c ? complain(c, cudaErrorStreamCaptureUnsupported, "cudaStreamQuery") : unsafe("cudaStreamQuery");
}
E cudaStreamSynchronize(cudaStream_t stream) {
    Capture *c = running(of(stream));
    return c ? complain(c, cudaErrorStreamCaptureUnsupported, "cudaStreamSynchronize") : unsafe("cudaStreamSynchronize");
}
E cudaDeviceSynchronize(void) { return unsafe("cudaDeviceSynchronize"); }

E cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    Stream *origin = of(stream);
    if (origin == &legacy) return fail(cudaErrorStreamCaptureUnsupported);
    if (running(origin)) return fail(cudaErrorIllegalState);
    pthread_mutex_lock(&lock);
    Capture *capture = calloc(1, sizeof *capture);
    capture->graph = calloc(1, sizeof(Graph));
    capture->graph->id = ++ids;
    capture->origin = origin;
    capture->mode = mode;
    capture->thread = pthread_self();
    capture->open = 1;
    if (number_of_captures == MOST_CAPTURES) {
        fprintf(stderr, "stand-in GPU: more than %d captures in one process\n", MOST_CAPTURES);
        abort();
    }
    captures[number_of_captures++] = capture;
    origin->capture = capture;
    pthread_mutex_unlock(&lock);
    return 0;
}
E cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    Stream *origin = of(stream);
    Capture *capture = running(origin);
    if (!capture) return fail(cudaErrorIllegalState);
    capture->open = 0;
    *graph = (cudaGraph_t)capture->graph;
    for (Stream *stream = streams; stream; stream = stream->next)
        if (stream->capture == capture && stream != origin && stream->unjoined) {
            *graph = NULL;
            return complain(capture, cudaErrorStreamCaptureUnjoined, "cudaStreamEndCapture");
        }
    if (capture->broken) {
        *graph = NULL;
        return fail(cudaErrorStreamCaptureInvalidated);
    }
    return 0;
}
E cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    Capture *c = running(of(stream));
    *status = !c ? cudaStreamCaptureStatusNone : c->broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return 0;
}
E cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                           cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *count) {
    Capture *c = running(of(stream));
    cudaStreamIsCapturing(stream, status);
    if (c && id) *id = c->graph->id;
    if (c && graph) *graph = (cudaGraph_t)c->graph;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return 0;
}
static void note(Graph *graph, Node node) {
    Node *kept = malloc(sizeof *kept);
    *kept = node;
    kept->next = NULL;
    if (graph->last) graph->last->next = kept;
    else graph->first = kept;
    graph->last = kept;
}
static void carry_out(const Node *node) {
    if (node->from) memcpy(node->to, node->from, node->bytes);
    else memset(node->to, node->value, node->bytes);
}
E cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
    *executable = (cudaGraphExec_t)graph;
    return 0;
}
E cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (Node *node = ((Graph *)executable)->first; node; node = node->next) carry_out(node);
    return 0;
}
E cudaGraphDestroy(cudaGraph_t graph) { return 0; }
E cudaGraphExecDestroy(cudaGraphExec_t executable) { return 0; }
E cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) { *count = 1; return 0; }
E cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) { function(data); return 0; }
E cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void *data, unsigned flags) {
    function(stream, 0, data);
    return 0;
}

// ------------------------------------------------------------------- events
E cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { *event = (cudaEvent_t)calloc(1, sizeof(Event)); return 0; }
E cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
E cudaEventDestroy(cudaEvent_t event) { return 0; }
E cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    Event *e = (Event *)event;
    e->time = 1e3 * now.tv_sec + 1e-6 * now.tv_nsec;
    e->stream = of(stream);
    e->capture = running(e->stream);
    e->recorded = 1;
    return 0;
}
E cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }
E cudaEventQuery(cudaEvent_t event) {
    Event *e = (Event *)event;
    if (e->capture && e->capture->open) return complain(e->capture, cudaErrorCapturedEvent, "cudaEventQuery");
    return unsafe("cudaEventQuery");
}
E cudaEventSynchronize(cudaEvent_t event) {
    Event *e = (Event *)event;
    if (e->capture && e->capture->open) return complain(e->capture, cudaErrorCapturedEvent, "cudaEventSynchronize");
    return unsafe("cudaEventSynchronize");
}
E cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    if (!((Event *)start)->recorded || !((Event *)end)->recorded) return fail(cudaErrorInvalidResourceHandle);
    *milliseconds = (float)(((Event *)end)->time - ((Event *)start)->time);
    return 0;
}
E cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    Stream *waiting = of(stream);
    Event *e = (Event *)event;
    Capture *theirs = e->capture && e->capture->open ? e->capture : NULL, *mine = running(waiting);
    if (!e->recorded) return 0;
    if (theirs && !mine) waiting->capture = theirs, waiting->unjoined = 1;
    else if (theirs) e->stream->unjoined = 0;
    if (mine && !theirs) return complain(mine, cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent");
    if (mine && theirs && mine != theirs) return complain(mine, cudaErrorStreamCaptureMerge, "cudaStreamWaitEvent");
    return 0;
}

// ------------------------------------------------------------------- memory
typedef struct Block { char *start; size_t bytes; enum cudaMemoryType type; struct Block *next; } Block;
static Block *blocks;
static size_t in_use;

// torch's threads for the card may still be there when C++ destroys what they belong to, and the process would abort.
static void leave(int status, void *unused) {
    fflush(NULL);
    _exit(status);
}

static E take(void **pointer, size_t bytes, enum cudaMemoryType type) {
    static int left;
    if (!left++) on_exit(leave, NULL);  // late, to run before what the libraries have registered
    if (type == cudaMemoryTypeDevice && in_use + bytes > CARD_MEMORY) return fail(cudaErrorMemoryAllocation);
    void *start = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
    pthread_mutex_lock(&lock);
    Block *block = malloc(sizeof *block);
    *block = (Block){start, bytes, type, blocks};
    blocks = block;
    if (type == cudaMemoryTypeDevice) in_use += bytes;
    pthread_mutex_unlock(&lock);
    *pointer = start;
    return 0;
}
static E give(void *pointer) {
    pthread_mutex_lock(&lock);
    for (Block **place = &blocks; *place; place = &(*place)->next)
        if ((*place)->start == pointer) {
            Block *block = *place;
            *place = block->next;
            munmap(block->start, block->bytes ? block->bytes : 1);
            if (block->type == cudaMemoryTypeDevice) in_use -= block->bytes;
            free(block);
            break;
        }
    pthread_mutex_unlock(&lock);
    return 0;
}
E cudaMalloc(void **pointer, size_t bytes) {
    E error = unsafe("cudaMalloc");
    return error ? error : take(pointer, bytes, cudaMemoryTypeDevice);
}
E cudaFree(void *pointer) {
    E error = unsafe("cudaFree");
    return error ? error : give(pointer);
}
E cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    E error = unsafe("cudaHostAlloc");
    return error ? error : take(pointer, bytes, cudaMemoryTypeHost);
}
E cudaFreeHost(void *pointer) {
    E error = unsafe("cudaFreeHost");
    return error ? error : give(pointer);
}
E cudaHostRegister(void *pointer, size_t bytes, unsigned flags) {
    E error = unsafe("cudaHostRegister");
    if (error) return error;
    pthread_mutex_lock(&lock);
    Block *block = malloc(sizeof *block);
    *block = (Block){pointer, bytes, cudaMemoryTypeHost, blocks};
    blocks = block;
    pthread_mutex_unlock(&lock);
    return 0;
}
E cudaHostUnregister(void *pointer) {
    pthread_mutex_lock(&lock);
    for (Block **place = &blocks; *place; place = &(*place)->next)
        if ((*place)->start == pointer) {
            Block *block = *place;
            *place = block->next;
            free(block);
            break;
        }
    pthread_mutex_unlock(&lock);
    return 0;
}
E cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = CARD_MEMORY;
    *free_bytes = CARD_MEMORY - in_use;
    return 0;
}
static enum cudaMemoryType type_of(const void *pointer) {
    enum cudaMemoryType type = cudaMemoryTypeUnregistered;
    pthread_mutex_lock(&lock);
    for (Block *block = blocks; block; block = block->next)
        if ((char *)pointer >= block->start && (char *)pointer < block->start + block->bytes) {
            type = block->type;
            break;
        }
    pthread_mutex_unlock(&lock);
    return type;
}
// Whether a kernel could read there. Also called by driver.c.
int standInHas(const void *pointer) { return type_of(pointer) != cudaMemoryTypeUnregistered; }
E cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    memset(attributes, 0, sizeof *attributes);
    attributes->type = type_of(pointer);
    if (attributes->type == cudaMemoryTypeUnregistered) attributes->device = -2;
    else attributes->hostPointer = attributes->devicePointer = (void *)pointer;
    return 0;
}
static E queue(Node node, cudaStream_t stream, const char *what) {
    Capture *c = running(of(stream));
    touch(of(stream));
    if (!c) {
        carry_out(&node);
        return 0;
    }
    int host = type_of(node.to) == cudaMemoryTypeUnregistered || (node.from && type_of(node.from) == cudaMemoryTypeUnregistered);
    if (host) return complain(c, cudaErrorStreamCaptureUnsupported, what);  // memory that is not page-locked
    note(c->graph, node);
    return 0;
}
E cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return queue((Node){to, from, bytes}, stream, "cudaMemcpyAsync");
}
E cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    E error = unsafe("cudaMemcpy");
    return error ? error : queue((Node){to, from, bytes}, 0, "cudaMemcpy");
}
E cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t bytes, cudaStream_t stream) {
    return queue((Node){to, from, bytes}, stream, "cudaMemcpyPeerAsync");
}
E cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                    enum cudaMemcpyKind kind, cudaStream_t stream) {
    E error = 0;
    for (size_t row = 0; row < height && !error; row++)
        error = queue((Node){(char *)to + row * to_pitch, (char *)from + row * from_pitch, width}, stream, "cudaMemcpy2DAsync");
    return error;
}
E cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    return queue((Node){to, NULL, bytes, value}, stream, "cudaMemsetAsync");
}
E cudaMemset(void *to, int value, size_t bytes) {
    E error = unsafe("cudaMemset");
    return error ? error : queue((Node){to, NULL, bytes, value}, 0, "cudaMemset");
}
E cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, enum cudaMemcpyKind kind) { return 0; }
E cudaGetSymbolAddress(void **pointer, const void *symbol) {
    static char memory[1 << 20];
    *pointer = memory;
    return 0;
}

// ------------------------------------------------------------------- kernels
unsigned long long standInLaunches;  // so far; those of a graph are counted when it is captured

// Checks what the card would refuse. Also called by driver.c.
E standInLaunch(unsigned x, unsigned y, unsigned z, unsigned threads, size_t shared, void *on) {
    Stream *stream = of((cudaStream_t)on);
    touch(stream);
    standInLaunches++;
    if (!running(stream) && captures_here())
        fprintf(stderr, "stand-in GPU: a kernel on a stream that is not captured, by the thread that captures another\n");
    int fits = x && y && z && threads && x <= 2147483647u && y <= 65535 && z <= 65535 && threads <= 1024 && shared <= 232448;
    return fits ? 0 : fail(cudaErrorInvalidConfiguration);
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
E cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *f, int block, size_t shared, unsigned flags) {
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
