// tmgan_norm_glu and its backward.
//
// NCHW: where the shared memory of a team (a block, or a cluster of them) holds both planes of a pair, each is read
// once
// ("resident"). Else, and for NHWC, whose channels lie together: strips write partial sums to a table, a small kernel
// adds them up, and a second sweep, in reverse order for what L2 still holds, makes the values.
#include "norm_glu_resident.cuh"
#include "norm_glu_strips.cuh"

namespace tmgan::norm_glu {

// Bytes of planes that a block keeps: two blocks fit an H100, one any other GPU.
int64_t most_kept(int sm) {
    constexpr int64_t BESIDE = 2 * 1024;
    static_assert(sizeof(Memory<CLUSTER>) + 3 * 16 <= BESIDE, "sums, and a vector of each plane more than its share");
    const int64_t all = most_shared(sm) - BESIDE;
    return sm >= 90 ? std::min<int64_t>(all, 100 * 1024) : std::min<int64_t>(all, 150 * 1024);
}

// Blocks of a cluster that hold `planes` planes of a pair, 0 if none can.
int cluster_for(int64_t pixels, int planes, int item, int sm, int nhwc) {
    if (nhwc || pixels % (16 / item) != 0) return 0;
    const int64_t bytes = pixels * item * planes;
    if (bytes <= most_kept(sm)) return 1;
    return sm >= 90 && bytes <= CLUSTER * most_kept(sm) ? CLUSTER : 0;
}

// Values a thread takes at once.
int vector_for(int64_t channels, int64_t pixels, int item, int nhwc) {
    const int vector = 16 / item;
    return (nhwc ? channels : pixels) % vector == 0 ? vector : 1;
}

Shape shape_for(int channels, int64_t pixels, int vector, int nhwc) {
    Shape shape{channels, static_cast<int>(pixels), 0, 0, channels};
    int64_t strip = THREADS * STEPS * vector;
    if (nhwc) {
        const int vectors = channels / vector;
        shape.across = 1;
        while (shape.across < vectors && shape.across < 32) shape.across *= 2;
        shape.tiles = static_cast<int>(blocks_for(vectors, shape.across));
        strip = THREADS / shape.across * STEPS;
    }
    shape.strips = static_cast<int>(blocks_for(pixels, strip));
    return shape;
}

int64_t table_size(int64_t batch, const Shape &shape) {
    return batch * shape.strips * 4 * shape.channels * static_cast<int64_t>(sizeof(float));
}

template <class F> int with_layout(int vector, int nhwc, F function) {
    using std::integral_constant;
    if (vector == 1) {
        return nhwc ? function(integral_constant<int, 1>{}, std::true_type{})
                    : function(integral_constant<int, 1>{}, std::false_type{});
    }
    return nhwc ? function(integral_constant<int, 16>{}, std::true_type{})
                : function(integral_constant<int, 16>{}, std::false_type{});
}

}  // namespace tmgan::norm_glu

using namespace tmgan;
using namespace tmgan::norm_glu;

extern "C" int64_t tmgan_norm_glu_workspace(int64_t batch, int32_t channels, int32_t height, int32_t width,
                                            int32_t nhwc, int32_t dtype, int32_t sm, int32_t backward) {
    const int status = check(false, batch, channels, height, width, dtype, 0);
    if (status != TMGAN_OK) return status;
    const int64_t pixels = int64_t{height} * width;
    const int item = item_size(dtype);
    if (cluster_for(pixels, backward ? 3 : 2, item, sm, nhwc)) return 0;
    const Shape shape = shape_for(channels, pixels, vector_for(channels, pixels, item, nhwc), nhwc);
    const int64_t means = batch * 4 * channels * static_cast<int64_t>(sizeof(float));
    return table_size(batch, shape) + (backward ? means : 0);
}

namespace {

// What both functions ask first.
int check_norm(bool null, const void *x, const void *y, const void *workspace, int64_t batch, int32_t channels,
               int32_t height, int32_t width, int32_t nhwc, int32_t dtype, int32_t device) {
    const int status = check(null, batch, channels, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    const int64_t pixels = int64_t{height} * width;
    if (pixels < 2 || 2 * channels * pixels >= MOST_VALUES) return TMGAN_BAD_SHAPE;
    if (batch > MOST_BLOCKS / (CLUSTER * int64_t{channels})) return TMGAN_BAD_SHAPE;
    if ((nhwc | 1) != 1) return TMGAN_BAD_OPTION;
    return aligned(x, 16) && aligned(y, 16) && aligned(workspace, 16) ? TMGAN_OK : TMGAN_MISALIGNED;
}

}  // namespace

extern "C" int tmgan_norm_glu(const void *x, void *out, float *mean, float *rstd, void *workspace, float eps,
                              int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t nhwc,
                              int32_t dtype, int32_t device, int32_t sm, void *stream) {
    const int status = check_norm(!x || !out || !mean || !rstd, x, out, workspace, batch, channels, height, width, nhwc,
                                  dtype, device);
    if (status != TMGAN_OK) return status;
    if (!(eps >= 0)) return TMGAN_BAD_OPTION;
    const int64_t pixels = int64_t{height} * width;
    const int item = item_size(dtype), cluster = cluster_for(pixels, 2, item, sm, nhwc);
    if (batch > 0 && cluster == 0 && !workspace) return TMGAN_NULL_POINTER;
    if (batch == 0) return TMGAN_OK;
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        const auto *from = static_cast<const T *>(x);
        auto *to = static_cast<T *>(out);
        const int vector = vector_for(channels, pixels, item, nhwc);
        const Shape shape = shape_for(channels, pixels, vector, nhwc);
        const auto resident = [&](auto blocks) {
            constexpr int CL = decltype(blocks)::value;
            const int64_t bytes = blocks_for(pixels / vector, CL) * 2 * 16;
            return simt::launch<resident_kernel<T, CL>>(batch * channels * CL, THREADS, sizeof(Memory<CL>) + bytes, CL,
                                                        device, stream, from, to, mean, rstd, shape, eps);
        };
        if (cluster == 1) return resident(std::integral_constant<int, 1>{});
        if (cluster == CLUSTER) return resident(std::integral_constant<int, CLUSTER>{});
        auto *table = static_cast<float *>(workspace);
        return with_layout(vector, nhwc, [&](auto bytes, auto layout) {
            constexpr int V = decltype(bytes)::value == 1 ? 1 : 16 / sizeof(T);
            constexpr bool NHWC = decltype(layout)::value;
            const int64_t blocks = batch * shape.strips * shape.tiles;
            if (blocks > MOST_BLOCKS) return static_cast<int>(TMGAN_BAD_SHAPE);
            int status = simt::launch<measure_kernel<T, V, NHWC>>(blocks, THREADS, THREADS * V * sizeof(float), 1,
                                                                  device, stream, from, table, shape);
            if (status != 0) return status;
            const int strip = NHWC ? THREADS / shape.across * STEPS : THREADS * STEPS * V;
            status = simt::launch<finish_kernel<false>>(batch * blocks_for(channels, 32), 256, sizeof(double[4][8][32]),
                                                        1, device, stream, static_cast<const float *>(table), mean,
                                                        rstd, shape, strip, eps);
            if (status != 0) return status;
            return simt::launch<apply_kernel<T, V, NHWC>>(blocks, THREADS, 0, 1, device, stream, from, to,
                                                          static_cast<const float *>(mean),
                                                          static_cast<const float *>(rstd), shape);
        });
    });
}

extern "C" int tmgan_norm_glu_backward(const void *grad, const void *x, const float *mean, const float *rstd, void *dx,
                                       void *workspace, int64_t batch, int32_t channels, int32_t height, int32_t width,
                                       int32_t nhwc, int32_t dtype, int32_t device, int32_t sm, void *stream) {
    const int status = check_norm(!grad || !x || !mean || !rstd || !dx, x, dx, workspace, batch, channels, height,
                                  width, nhwc, dtype, device);
    if (status != TMGAN_OK) return status;
    if (!aligned(grad, 16)) return TMGAN_MISALIGNED;
    const int64_t pixels = int64_t{height} * width;
    const int item = item_size(dtype), cluster = cluster_for(pixels, 3, item, sm, nhwc);
    if (batch > 0 && cluster == 0 && !workspace) return TMGAN_NULL_POINTER;
    if (batch == 0) return TMGAN_OK;
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        const auto *from = static_cast<const T *>(x), *reached = static_cast<const T *>(grad);
        auto *to = static_cast<T *>(dx);
        const int vector = vector_for(channels, pixels, item, nhwc);
        const Shape shape = shape_for(channels, pixels, vector, nhwc);
        const auto resident = [&](auto blocks) {
            constexpr int CL = decltype(blocks)::value;
            const int64_t bytes = blocks_for(pixels / vector, CL) * 3 * 16;
            return simt::launch<resident_backward_kernel<T, CL>>(batch * channels * CL, THREADS,
                                                                 sizeof(Memory<CL>) + bytes, CL, device, stream,
                                                                 reached, from, mean, rstd, to, shape);
        };
        if (cluster == 1) return resident(std::integral_constant<int, 1>{});
        if (cluster == CLUSTER) return resident(std::integral_constant<int, CLUSTER>{});
        auto *table = static_cast<float *>(workspace),
             *means = table + table_size(batch, shape) / int64_t{sizeof(float)};
        return with_layout(vector, nhwc, [&](auto bytes, auto layout) {
            constexpr int V = decltype(bytes)::value == 1 ? 1 : 16 / sizeof(T);
            constexpr bool NHWC = decltype(layout)::value;
            const int64_t blocks = batch * shape.strips * shape.tiles;
            if (blocks > MOST_BLOCKS) return static_cast<int>(TMGAN_BAD_SHAPE);
            int status = simt::launch<measure_backward_kernel<T, V, NHWC>>(blocks, THREADS, THREADS * V * sizeof(float),
                                                                           1, device, stream, reached, from, mean, rstd,
                                                                           table, shape);
            if (status != 0) return status;
            status = simt::launch<finish_kernel<true>>(batch * blocks_for(channels, 32), 256, sizeof(double[4][8][32]),
                                                       1, device, stream, static_cast<const float *>(table), means,
                                                       static_cast<float *>(nullptr), shape, 0, 0.f);
            if (status != 0) return status;
            return simt::launch<apply_backward_kernel<T, V, NHWC>>(blocks, THREADS, 0, 1, device, stream, reached, from,
                                                                   mean, rstd, static_cast<const float *>(means), to,
                                                                   shape);
        });
    });
}
