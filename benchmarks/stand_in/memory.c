// Memory of the card, page-locked memory, and copies.
#include "runtime.h"

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
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *start = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
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
    of(stream)->unjoined = 1;
    if (!c) {
        carry_out(&node);
        return 0;
    }
    if (!standInHas(node.to) || (node.from && !standInHas(node.from)))
        return complain(c, cudaErrorStreamCaptureUnsupported, what);  // memory that is not page-locked
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
        error = queue((Node){(char *)to + row * to_pitch, (char *)from + row * from_pitch, width}, stream,
                      "cudaMemcpy2DAsync");
    return error;
}
E cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    return queue((Node){to, NULL, bytes, value}, stream, "cudaMemsetAsync");
}
E cudaMemset(void *to, int value, size_t bytes) {
    E error = unsafe("cudaMemset");
    return error ? error : queue((Node){to, NULL, bytes, value}, 0, "cudaMemset");
}
E cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset, enum cudaMemcpyKind kind) {
    return 0;
}
E cudaGetSymbolAddress(void **pointer, const void *symbol) {
    static char memory[1 << 20];
    *pointer = memory;
    return 0;
}
