// Streams, captures into graphs, and events: what a capture forbids is refused with the error of the real runtime.
#include "runtime.h"

#define MOST_CAPTURES 4096

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Stream legacy, *streams;
static Capture *captures[MOST_CAPTURES];
static int number_of_captures;
static unsigned long long ids;
static __thread enum cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;

Stream *of(cudaStream_t stream) { return stream == 0 || (size_t)stream <= 2 ? &legacy : (Stream *)stream; }
Capture *running(Stream *stream) { return stream->capture && stream->capture->open ? stream->capture : NULL; }

int captures_here(void) {
    for (int i = 0; i < number_of_captures; i++)
        if (captures[i]->open && pthread_equal(captures[i]->thread, pthread_self())) return 1;
    return 0;
}

E complain(Capture *capture, E error, const char *what) {
    if (!capture->broken) fprintf(stderr, "stand-in GPU: %s: error %d while a stream is captured\n", what, error);
    capture->broken = error;
    return fail(error);
}

// For calls that CUDA holds to be unsafe during a capture: 0 if this thread may make one now.
E unsafe(const char *what) {
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
E cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}
E cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
E cudaStreamDestroy(cudaStream_t stream) { return 0; }
E cudaStreamGetPriority(cudaStream_t stream, int *priority) { *priority = of(stream)->priority; return 0; }
E cudaStreamQuery(cudaStream_t stream) {
    Capture *c = running(of(stream));
    return c ? complain(c, cudaErrorStreamCaptureUnsupported, "cudaStreamQuery") : unsafe("cudaStreamQuery");
}
E cudaStreamSynchronize(cudaStream_t stream) {
    static const char what[] = "cudaStreamSynchronize";
    Capture *c = running(of(stream));
    return c ? complain(c, cudaErrorStreamCaptureUnsupported, what) : unsafe(what);
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
    *status = !c          ? cudaStreamCaptureStatusNone
              : c->broken ? cudaStreamCaptureStatusInvalidated
                          : cudaStreamCaptureStatusActive;
    return 0;
}
E cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                           cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                           size_t *count) {
    Capture *c = running(of(stream));
    cudaStreamIsCapturing(stream, status);
    if (c && id) *id = c->graph->id;
    if (c && graph) *graph = (cudaGraph_t)c->graph;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return 0;
}
void note(Graph *graph, Node node) {
    Node *kept = malloc(sizeof *kept);
    *kept = node;
    kept->next = NULL;
    if (graph->last) graph->last->next = kept;
    else graph->first = kept;
    graph->last = kept;
}
void carry_out(const Node *node) {
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
E cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = (cudaEvent_t)calloc(1, sizeof(Event));
    return 0;
}
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
