// What the files of the stand-in runtime share: see card.c.
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
typedef cudaError_t E;

// A copy, or without `from` a clear, that a graph carries out when it is launched.
typedef struct Node {
    void *to;
    const void *from;
    size_t bytes;
    int value;
    struct Node *next;
} Node;
typedef struct {
    unsigned long long id;
    Node *first, *last;
} Graph;
typedef struct Capture {
    Graph *graph;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    E broken;
    int open;
} Capture;
typedef struct Stream {
    Capture *capture;
    int priority;
    int unjoined;  // it has work that the origin of its capture has to wait for
    struct Stream *next;
} Stream;
typedef struct {
    Capture *capture;
    Stream *stream;
    double time;
    int recorded;
} Event;

#pragma GCC visibility push(hidden)  // preloaded, these names would take the place of others

extern pthread_mutex_t lock;

// card.c
E fail(E error);  // the error, which cudaGetLastError then gives

// streams.c
Stream *of(cudaStream_t stream);
Capture *running(Stream *stream);                         // that of a stream; NULL where nothing is captured
int captures_here(void);                                  // whether this thread captures a stream
E unsafe(const char *what);                               // 0 if no capture forbids this thread such a call now
E complain(Capture *capture, E error, const char *what);  // breaks a capture, and gives the error
void note(Graph *graph, Node node);                       // keeps it for the launches of a graph
void carry_out(const Node *node);                         // at once

#pragma GCC visibility pop
