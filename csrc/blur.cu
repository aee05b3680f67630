// tmgan_blur: box and Gaussian blurs and their adjoints.
#include "blur.cuh"

namespace tmgan::blur {

constexpr int THREADS = 128;

struct Arguments {
    Shape shape;
    Weights weights;
    const void *sizes;  // a kernel size for every image, or null
    int size_bytes;
};

DEVICE int64_t size_of_image(const Arguments &given, int64_t image) {
    if (given.size_bytes == 8) return static_cast<const int64_t *>(given.sizes)[image];
    return static_cast<const int32_t *>(given.sizes)[image];
}

DEVICE Weights box_weights(int radius) {
    const float size = static_cast<float>(2 * radius + 1);
    Weights box;
#pragma unroll
    for (int i = 0; i <= MOST; ++i) {
        box.w[i] = 1.f / size;
        box.beyond[i] = static_cast<float>(larger(radius - i, 0)) / size;
    }
    return box;
}

// A filter of `radius` <= R, or of a radius for every image.
template <class T, int V, int R, class Row>
KERNEL(THREADS, 1)
blur_kernel(const T *x, T *out, Arguments given, int radius, int blocks) {
    const Shape &shape = given.shape;
    const int64_t image = simt::block() / blocks;
    const int lanes = shape.planes * shape.strips * shape.groups;  // vectors of an image, less than 2^31
    const int64_t lane = simt::block() % blocks * THREADS + simt::thread();
    if (lane >= lanes) return;
    const int n = static_cast<int>(lane) % shape.groups, strip = static_cast<int>(lane) / shape.groups % shape.strips;
    const int64_t size = static_cast<int64_t>(shape.height) * shape.groups * V;  // of a plane
    const int64_t plane = (image * shape.planes + lane / shape.groups / shape.strips) * size;
    if (R == MOST && given.sizes) {
        radius = static_cast<int>(smaller<int64_t>(larger<int64_t>(size_of_image(given, image) / 2, 1), MOST));
        march<T, V, R, Row>(x + plane, out + plane, n, strip * shape.rows, shape, box_weights(radius), radius);
    } else {
        march<T, V, R, Row>(x + plane, out + plane, n, strip * shape.rows, shape, given.weights, radius);
    }
}

// Rows a thread marches over. A strip of n rows reads n + 2R, so long strips are cheap; but a GPU wants some 16 KB of
// reads under way on each of over a hundred processors: 65536 threads with two rows of 16 bytes each.
int strip_rows(int64_t columns, int height) {
    int rows = 64;
    while (rows > 8 && columns * blocks_for(height, rows) < 65536) rows /= 2;
    return std::min(rows, height);
}

template <class T, int V, int R, class Row>
int run(const void *x, void *out, Arguments &given, int radius, int64_t batch, int device, void *stream) {
    Shape &shape = given.shape;
    shape.rows = strip_rows(batch * shape.planes * shape.groups, shape.height);
    shape.strips = static_cast<int>(blocks_for(shape.height, shape.rows));
    const int64_t blocks = blocks_for(int64_t{shape.planes} * shape.strips * shape.groups, THREADS);
    if (batch * blocks > MOST_BLOCKS) return TMGAN_BAD_SHAPE;
    return simt::launch<blur_kernel<T, V, R, Row>>(batch * blocks, THREADS, 0, 1, device, stream,
                                                   static_cast<const T *>(x), static_cast<T *>(out), given, radius,
                                                   static_cast<int>(blocks));
}

template <class T, int STEP, int R>
int run_vectors(const void *x, void *out, Arguments &given, int radius, int64_t batch, int device, void *stream) {
    // Eight values of 16 bits would need over 255 registers beside 14 rows under way.
    constexpr int V = R == MOST ? 4 : 16 / sizeof(T);
    given.shape.groups /= V;
    return run<T, V, R, Window<T, V, STEP, R>>(x, out, given, radius, batch, device, stream);
}

template <class T, int STEP>
int run_radius(const void *x, void *out, Arguments &given, int radius, int64_t batch, int device, void *stream) {
    [[maybe_unused]] const int row = given.shape.groups;
    if constexpr (STEP > 0) {
        if (row % (16 / static_cast<int>(sizeof(T))) == 0 && aligned(x, 16) && aligned(out, 16)) {
            switch (given.sizes ? MOST : radius) {
                case 1:
                case 2:
                    return run_vectors<T, STEP, 2>(x, out, given, radius, batch, device, stream);
                case 3:
                case 4:
                    return run_vectors<T, STEP, 4>(x, out, given, radius, batch, device, stream);
                default:
                    return run_vectors<T, STEP, MOST>(x, out, given, radius, batch, device, stream);
            }
        }
    }
    return run<T, 1, MOST, Taps<T, MOST>>(x, out, given, radius, batch, device, stream);
}

int run_step(const void *x, void *out, Arguments &given, int radius, int64_t batch, int dtype, int device,
             void *stream) {
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        switch (given.shape.step) {
            case 1:
                return run_radius<T, 1>(x, out, given, radius, batch, device, stream);
            case 3:
                return run_radius<T, 3>(x, out, given, radius, batch, device, stream);
            default:
                return run_radius<T, 0>(x, out, given, radius, batch, device, stream);
        }
    });
}

}  // namespace tmgan::blur

extern "C" int tmgan_blur(const void *x, void *out, const void *sizes, int32_t size_bytes, const float *weights,
                          int32_t radius, int32_t border, int32_t adjoint, int64_t batch, int32_t channels,
                          int32_t height, int32_t width, int32_t nhwc, int32_t dtype, int32_t device, void *stream) {
    using namespace tmgan;
    using namespace tmgan::blur;
    const int status = check(!x || !out || !(sizes || weights), batch, channels, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    if (radius < 1 || radius > MOST || border < TMGAN_ZEROS || border > TMGAN_REFLECT || (adjoint | 1) != 1 ||
        (nhwc | 1) != 1 || (sizes && ((size_bytes != 4 && size_bytes != 8) || radius != MOST))) {
        return TMGAN_BAD_OPTION;
    }
    if (border == TMGAN_REFLECT && (height <= radius || width <= radius)) return TMGAN_BAD_SHAPE;
    if (batch == 0) return TMGAN_OK;

    Arguments given{};
    given.sizes = sizes;
    given.size_bytes = size_bytes;
    given.shape.height = height;
    given.shape.step = nhwc ? channels : 1;
    given.shape.planes = nhwc ? 1 : channels;
    given.shape.groups = width * given.shape.step;  // of one value, so far
    given.shape.fold = adjoint && border == TMGAN_REPLICATE;
    given.shape.twice = adjoint && border == TMGAN_REFLECT;
    given.shape.border = given.shape.fold ? TMGAN_ZEROS : border;
    for (int i = radius; i >= 0 && !sizes; --i) {
        given.weights.w[i] = weights[i];
        given.weights.beyond[i] = i < radius ? weights[i + 1] + given.weights.beyond[i + 1] : 0.f;
    }
    return run_step(x, out, given, radius, batch, dtype, device, stream);
}
