// Stands in, by LD_PRELOAD, for what torch calls of cuBLAS and cuDNN in this project: each says that it is done.
//
// A call that is missing here reaches the real library, which has no card to work with and crashes: run it under gdb,
// and add its name below.
#include <stdlib.h>
#include <string.h>

#define DONE(name) int name(void) { return 0; }
#define MAKE(name) int name(void **made) { *made = calloc(1, 4096); return 0; }

MAKE(cublasCreate_v2)
MAKE(cublasLtMatmulDescCreate)
MAKE(cublasLtMatmulPreferenceCreate)
MAKE(cublasLtMatrixLayoutCreate)
MAKE(cudnnCreate)
MAKE(cudnnCreateActivationDescriptor)
MAKE(cudnnCreateDropoutDescriptor)
MAKE(cudnnCreateFilterDescriptor)
MAKE(cudnnCreateRNNDataDescriptor)
MAKE(cudnnCreateRNNDescriptor)
MAKE(cudnnCreateTensorDescriptor)

DONE(cublasDdot_v2)
DONE(cublasDestroy_v2)
DONE(cublasDgemmStridedBatched)
DONE(cublasDgemm_v2)
DONE(cublasDgemv_v2)
DONE(cublasGemmEx)
DONE(cublasGemmStridedBatchedEx)
DONE(cublasLtMatmul)
DONE(cublasLtMatmulDescDestroy)
DONE(cublasLtMatmulDescSetAttribute)
DONE(cublasLtMatmulPreferenceDestroy)
DONE(cublasLtMatmulPreferenceSetAttribute)
DONE(cublasLtMatrixLayoutDestroy)
DONE(cublasLtMatrixLayoutSetAttribute)
DONE(cublasSdot_v2)
DONE(cublasSetMathMode)
DONE(cublasSetPointerMode_v2)
DONE(cublasSetStream_v2)
DONE(cublasSetWorkspace_v2)
DONE(cublasSgemmStridedBatched)
DONE(cublasSgemm_v2)
DONE(cublasSgemv_v2)
DONE(cudnnBackendDestroyDescriptor)
DONE(cudnnBackendExecute)
DONE(cudnnBackendFinalize)
DONE(cudnnBackendSetAttribute)
DONE(cudnnBatchNormalizationBackwardEx)
DONE(cudnnBatchNormalizationForwardInference)
DONE(cudnnBatchNormalizationForwardTrainingEx)
DONE(cudnnDestroyActivationDescriptor)
DONE(cudnnDestroyDropoutDescriptor)
DONE(cudnnDestroyFilterDescriptor)
DONE(cudnnDestroyRNNDataDescriptor)
DONE(cudnnDestroyRNNDescriptor)
DONE(cudnnDestroyTensorDescriptor)
DONE(cudnnRNNBackwardData_v8)
DONE(cudnnRNNBackwardWeights_v8)
DONE(cudnnRNNForward)
DONE(cudnnRestoreDropoutDescriptor)
DONE(cudnnSetActivationDescriptor)
DONE(cudnnSetDropoutDescriptor)
DONE(cudnnSetFilterNdDescriptor)
DONE(cudnnSetRNNDataDescriptor)
DONE(cudnnSetStream)
DONE(cudnnSetTensorNdDescriptor)

// ------------------------------------------------------------------- cuBLAS
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                   int asked, void *results, int *count) {
    memset(results, 0, 64);
    *count = 1;
    return 0;
}

// ------------------------------------------------------------------- cuDNN
int cudnnBackendCreateDescriptor(int type, void **made) { *made = calloc(1, 4096); return 0; }
int cudnnBackendGetAttribute(void *descriptor, int name, int type, long asked, long *count, void *values) {
    if (count) *count = 1;
    if (type == 3 && asked > 0 && values) *(long *)values = 0;  // CUDNN_TYPE_INT64: the bytes of a workspace
    return 0;
}
const char *cudnnGetErrorString(int status) { return "an error of the stand-in"; }
int cudnnDropoutGetStatesSize(void *handle, size_t *bytes) { *bytes = 1 << 20; return 0; }
int cudnnGetRNNTempSpaceSizes(void *handle, void *rnn, int mode, void *x, size_t *work, size_t *reserve) {
    if (work) *work = 1 << 20;
    if (reserve) *reserve = 1 << 20;
    return 0;
}

// An LSTM's weights: for each pseudo layer four matrices for the input and four for the state, then all biases. The
// descriptor of a tensor is the number of its dimensions, and then these.
typedef struct { int bytes, directions, input, hidden, layers; } RNN;
int cudnnSetRNNDescriptor_v8(RNN *r, int algo, int cell, int bias, int direction, int mode, int type, int precision,
                             int math, int input, int hidden, int projection, int layers, void *dropout,
                             unsigned flags) {
    *r = (RNN){type == 1 ? 8 : type == 0 ? 4 : 2, direction ? 2 : 1, input, hidden, layers};
    return 0;
}
static int columns(const RNN *r, int pseudo, int id) {
    return id >= 4 ? r->hidden : pseudo < r->directions ? r->input : r->hidden * r->directions;
}
static size_t matrices(const RNN *r, int pseudo, int id) {  // elements before this one
    size_t count = 0;
    for (int p = 0; p <= pseudo; p++)
        for (int i = 0; i < (p == pseudo ? id : 8); i++) count += (size_t)r->hidden * columns(r, p, i);
    return count;
}
int cudnnGetRNNWeightSpaceSize(void *h, RNN *r, size_t *bytes) {
    int last = r->layers * r->directions;
    *bytes = r->bytes * (matrices(r, last - 1, 8) + (size_t)last * 8 * r->hidden);
    return 0;
}
int cudnnGetRNNWeightParams(void *h, RNN *r, int pseudo, size_t bytes, char *space, int id, int *matrix,
                            void **matrix_at, int *bias, void **bias_at) {
    int last = r->layers * r->directions;
    if (matrix) {
        matrix[0] = 3; matrix[1] = 1; matrix[2] = r->hidden; matrix[3] = columns(r, pseudo, id);
        *matrix_at = space + r->bytes * matrices(r, pseudo, id);
    }
    if (bias) {
        bias[0] = 3; bias[1] = 1; bias[2] = r->hidden; bias[3] = 1;
        *bias_at = space + r->bytes * (matrices(r, last - 1, 8) + (size_t)(8 * pseudo + id) * r->hidden);
    }
    return 0;
}
int cudnnGetTensorNdDescriptor(const int *d, int asked, int *type, int *count, int *sizes, int *strides) {
    *type = 0; *count = d[0];
    for (int i = 0; i < d[0] && i < asked; i++) { sizes[i] = d[1 + i]; strides[i] = 1; }
    return 0;
}
