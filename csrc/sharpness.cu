// tmgan_sharpness_loss, its backward, and tmgan_sharp_regions.
//
// A team works on one image. Where the GPU has clusters: CLUSTER blocks that hold the image's Laplacian in shared
// memory and exchange sums through each other's, so that the image is read once. Elsewhere, and for large images: one
// block, whose values are in a workspace that stays in L2.
#include "sharpness.cuh"

namespace tmgan::sharpness {

constexpr int CLUSTER = 4;
constexpr int THREADS = 512;  // a block; two fit a multiprocessor, at 64 registers a thread
constexpr int PER = 32;       // values of a thread: a quarter of 256 x 256, 64 KB, three of which fit an H100
constexpr int ALONE = 1024;   // threads of a block whose values are in the workspace
constexpr int64_t MOST_GREY = 24 * 1024;  // values of grey rows, 96 KB: two blocks fit an H100

// Whether a cluster's shared memory holds an image, and grey rows beside it if so wanted.
bool fits_cluster(int64_t height, int64_t width, int sm, bool grey) {
    const int64_t rows = blocks_for(height, CLUSTER);
    return sm >= 90 && rows * width <= THREADS * PER && (!grey || (rows + 2) * width <= MOST_GREY);
}

struct Arguments {
    Image image;
    const void *labels;  // null, or (B, 1, H, W): uint8 (0 or not), or float32
    bool float_labels, only_sharp;
    float gamma;
    double *partial;      // (B, 2): sums of losses and of labels
    float *grey, *plane;  // where a team of one block has no room: (B, H + 2, W) and (B, H, W)
};

template <int CL, int THREADS_> struct Memory {
    Team<CL, THREADS_, 3> team;
    float values[1];  // as many as asked for
};

int64_t cluster_bytes(int64_t values) {
    return sizeof(Memory<CLUSTER, THREADS>) + values * static_cast<int64_t>(sizeof(float));
}

// Losses and local gradients of values, which begin at pixel `start` of the image.
template <class T, class Values, class M>
DEVICE void finish_image(const Values &values, M &memory, T *local, int64_t image, int64_t start,
                         const Arguments &given, int rank) {
    int turn = 0;
    const int64_t pixels = given.image.pixels();
    float threshold = 0.f;
    if (!given.labels) threshold = two_means<true>(values, memory.team, pixels, STEPS, turn);
    double sums[3] = {};
    float losses = 0.f, labels = 0.f;
    const int64_t offset = image * pixels + start;
    values.each(
        [&](float value, int i) {
            float label = fabsf(value) > threshold;
            if (given.labels) {
                label = given.float_labels ? static_cast<const float *>(given.labels)[offset + i]
                                           : static_cast<const uint8_t *>(given.labels)[offset + i] != 0;
            }
            const Loss loss = laplacian_loss(value, label, given.gamma, given.only_sharp);
            local[offset + i] = from_float<T>(loss.slope);
            losses += loss.value;
            labels += label;
        },
        [&] {
            sums[0] += losses;
            sums[1] += labels;
            losses = labels = 0.f;
        });
    memory.team.sum(sums, turn);
    if (rank == 0 && simt::thread() == 0) {
        given.partial[2 * image] = sums[0];
        given.partial[2 * image + 1] = sums[1];
    }
}

template <class T, int THREADS_>
DEVICE void fill(const T *x, float *grey, int first, int rows, const Image &image, bool vectors) {
    if (vectors) {
        fill_grey<T, 16 / sizeof(T), THREADS_>(x, grey, first, rows, image);
    } else {
        fill_grey<T, 1, THREADS_>(x, grey, first, rows, image);
    }
}

template <class T> KERNEL(THREADS, 2) loss_kernel(const T *x, T *local, Arguments given, bool vectors) {
    if constexpr (simt::has_clusters()) {
        using M = Memory<CLUSTER, THREADS>;
        M &memory = *simt::shared<M>();
        memory.team.begin();
        const Image &shape = given.image;
        const int rank = simt::cluster_rank<CLUSTER>(), each = (shape.height + CLUSTER - 1) / CLUSTER;
        const int first = smaller(rank * each, shape.height), rows = smaller(each, shape.height - first);
        const int64_t image = simt::block() / CLUSTER;
        x += image * shape.channels * shape.pixels();
        if (rows > 0) fill<T, THREADS>(x, memory.values, first, rows, shape, vectors);
        simt::sync();
        // The Laplacian takes the place of the grey rows, once nobody reads these any more.
        const Share<THREADS, float> values{memory.values, rows * shape.width};
        float own[PER];
#pragma unroll
        for (int j = 0; j < PER; ++j) {
            const int i = simt::thread() + j * THREADS;
            own[j] = i < values.count ? laplacian(memory.values, i, shape) : 0.f;
        }
        simt::sync();
#pragma unroll
        for (int j = 0; j < PER; ++j) {
            const int i = simt::thread() + j * THREADS;
            if (i < values.count) memory.values[i] = own[j];
        }
        finish_image<T>(values, memory, local, image, int64_t{first} * shape.width, given, rank);
    }
}

template <class T> KERNEL(ALONE, 1) loss_in_memory_kernel(const T *x, T *local, Arguments given, bool vectors) {
    auto &memory = *simt::shared<Memory<1, ALONE>>();
    const Image &shape = given.image;
    const int64_t image = simt::block();
    float *grey = given.grey + image * (shape.height + 2) * shape.width, *plane = given.plane + image * shape.pixels();
    fill<T, ALONE>(x + image * shape.channels * shape.pixels(), grey, 0, shape.height, shape, vectors);
    simt::sync();
    const Share<ALONE, float> values{plane, static_cast<int>(shape.pixels())};
    for (int64_t i = simt::thread(); i < values.count; i += ALONE) {
        plane[i] = laplacian(grey, static_cast<int>(i), shape);
    }
    finish_image<T>(values, memory, local, image, 0, given, 0);
}

// One block: the mean, and the factor that turns the saved plane into the gradient of the mean.
KERNEL(256, 1)
mean_kernel(const double *partial, float *loss, float *scale, int64_t batch, int64_t pixels, bool only_sharp,
            float gamma) {
    auto &team = *simt::shared<Team<1, 256, 2>>();
    double sums[2] = {};
    for (int64_t i = simt::thread(); i < batch; i += 256) {
        sums[0] += partial[2 * i];
        sums[1] += partial[2 * i + 1];
    }
    team.sum(sums, 0);
    double divisor = only_sharp ? sums[1] : static_cast<double>(pixels);
    if (!(divisor > 0)) divisor = 1;
    if (simt::thread() == 0) {
        *loss = static_cast<float>(sums[0] / divisor);
        *scale = static_cast<float>(gamma * UNIT / divisor);
    }
}

// scale * grad * L(local) / C into every channel: the adjoint of the Laplacian of the channel mean, which is symmetric.
// A thread makes V neighbouring pixels of a row.
template <class T, int V>
KERNEL(256, 1)
backward_kernel(const T *local, const float *grad, const float *scale, T *out, int64_t batch, Image image) {
    const int groups = image.width / V;
    const int64_t index = simt::block() * 256 + simt::thread(), pixels = image.pixels();
    if (index >= batch * image.height * groups) return;
    const int column = static_cast<int>(index % groups) * V;
    const int row = static_cast<int>(index / groups % image.height);
    const int64_t number = index / groups / image.height, pixel = int64_t{row} * image.width + column;
    const T *at = local + number * pixels + pixel;
    float up[V], middle[V], down[V], value[V];
    load<T, V>(at, middle);
    load<T, V>(row > 0 ? at - image.width : at, up);
    load<T, V>(row + 1 < image.height ? at + image.width : at, down);
    const float left = to_float(at[column > 0 ? -1 : 0]), right = to_float(at[column + V < image.width ? V : V - 1]);
    const float factor = *grad * *scale / image.channels;
#pragma unroll
    for (int j = 0; j < V; ++j) {
        const float before = j > 0 ? middle[j - 1] : left, after = j + 1 < V ? middle[j + 1] : right;
        value[j] = (up[j] + down[j] + before + after - 4.f * middle[j]) * factor;
    }
    out += number * image.channels * pixels;
    if (!image.nhwc) {
        for (int c = 0; c < image.channels; ++c) store<T, V>(out + c * pixels + pixel, value);
        return;
    }
    out += pixel * image.channels;
    if (image.channels == 3) {
#pragma unroll
        for (int part = 0; part < 3; ++part) {
            float mixed[V];
#pragma unroll
            for (int j = 0; j < V; ++j) mixed[j] = value[(part * V + j) / 3];
            store<T, V>(out + part * V, mixed);
        }
    } else {
        for (int j = 0; j < V; ++j) {
            for (int c = 0; c < image.channels; ++c) out[j * image.channels + c] = from_float<T>(value[j]);
        }
    }
}

// --------------------------------------------------------------------- regions
template <class Values, class M>
DEVICE void mark_regions(const Values &values, M &team, uint8_t *mask, float *threshold, int64_t pixels, int steps,
                         bool first) {
    int turn = 0;
    const float middle = two_means<false>(values, team, pixels, steps, turn);
    values.each([&](float value, int i) { mask[i] = value > middle; }, [] {});
    if (first && simt::thread() == 0) *threshold = middle;
}

template <class T>
KERNEL(THREADS, 2)
regions_kernel(const T *x, uint8_t *mask, float *threshold, int64_t pixels, int steps) {
    if constexpr (simt::has_clusters()) {
        using M = Memory<CLUSTER, THREADS>;
        M &memory = *simt::shared<M>();
        memory.team.begin();
        const int64_t image = simt::block() / CLUSTER, each = (pixels + CLUSTER - 1) / CLUSTER;
        const int64_t first = smaller<int64_t>(simt::cluster_rank<CLUSTER>() * each, pixels);
        const int64_t start = image * pixels + first;
        const Share<THREADS, float> values{memory.values, static_cast<int>(smaller(each, pixels - first))};
#pragma unroll 8
        for (int i = simt::thread(); i < values.count; i += THREADS) memory.values[i] = to_float(x[start + i]);
        mark_regions(values, memory.team, mask + start, threshold + image, pixels, steps, first == 0);
    }
}

template <class T>
KERNEL(ALONE, 1)
regions_in_memory_kernel(const T *x, uint8_t *mask, float *threshold, int64_t pixels, int steps) {
    const int64_t image = simt::block();
    const Share<ALONE, T> values{x + image * pixels, static_cast<int>(pixels)};
    auto &team = *simt::shared<Team<1, ALONE, 3>>();
    mark_regions(values, team, mask + image * pixels, threshold + image, pixels, steps, true);
}

}  // namespace tmgan::sharpness

extern "C" int64_t tmgan_sharpness_loss_workspace(int64_t batch, int32_t height, int32_t width, int32_t sm) {
    using namespace tmgan::sharpness;
    if (batch < 0 || height < 1 || width < 1) return TMGAN_BAD_SHAPE;
    const int64_t partial = batch * 2 * static_cast<int64_t>(sizeof(double));
    if (fits_cluster(height, width, sm, true)) return partial;
    return partial + batch * (2 * int64_t{height} + 2) * width * static_cast<int64_t>(sizeof(float));
}

extern "C" int tmgan_sharpness_loss(const void *image, const void *labels, int32_t float_labels, void *local,
                                    float *loss, float *scale, void *workspace, float gamma, int32_t only_sharp,
                                    int64_t batch, int32_t channels, int32_t height, int32_t width, int32_t nhwc,
                                    int32_t dtype, int32_t device, int32_t sm, void *stream) {
    using namespace tmgan;
    using namespace tmgan::sharpness;
    const int status =
        check(!image || !local || !loss || !scale || !workspace, batch, channels, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    if (!(gamma > 0) || (only_sharp | 1) != 1 || (float_labels | 1) != 1 || (nhwc | 1) != 1) return TMGAN_BAD_OPTION;
    if (batch > MOST_BLOCKS / CLUSTER) return TMGAN_BAD_SHAPE;
    if (!aligned(workspace, 16)) return TMGAN_MISALIGNED;
    if (batch == 0) return TMGAN_OK;

    Arguments given{};
    given.image = {channels, height, width, nhwc == 1};
    given.labels = labels;
    given.float_labels = float_labels;
    given.only_sharp = only_sharp;
    given.gamma = gamma;
    given.partial = static_cast<double *>(workspace);
    given.grey = reinterpret_cast<float *>(given.partial + 2 * batch);
    given.plane = given.grey + batch * (height + 2) * width;
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        const auto *x = static_cast<const T *>(image);
        auto *out = static_cast<T *>(local);
        const bool vectors = !nhwc && width % (16 / sizeof(T)) == 0 && aligned(image, 16);
        int status = 0;
        if (fits_cluster(height, width, sm, true)) {
            const int64_t values = (blocks_for(height, CLUSTER) + 2) * width;
            status = simt::launch<loss_kernel<T>>(batch * CLUSTER, THREADS, cluster_bytes(values), CLUSTER, device,
                                                  stream, x, out, given, vectors);
        } else {
            status = simt::launch<loss_in_memory_kernel<T>>(batch, ALONE, sizeof(Memory<1, ALONE>), 1, device, stream,
                                                            x, out, given, vectors);
        }
        if (status != 0) return status;
        return simt::launch<mean_kernel>(1, 256, sizeof(Team<1, 256, 2>), 1, device, stream,
                                         static_cast<const double *>(given.partial), loss, scale, batch,
                                         batch * height * width, only_sharp == 1, gamma);
    });
}

extern "C" int tmgan_sharpness_loss_backward(const float *grad, const float *scale, const void *local, void *out,
                                             int64_t batch, int32_t channels, int32_t height, int32_t width,
                                             int32_t nhwc, int32_t dtype, int32_t device, void *stream) {
    using namespace tmgan;
    using namespace tmgan::sharpness;
    const int status = check(!grad || !scale || !local || !out, batch, channels, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    if ((nhwc | 1) != 1) return TMGAN_BAD_OPTION;
    if (batch > MOST_BLOCKS * 256 / (int64_t{height} * width)) return TMGAN_BAD_SHAPE;
    if (batch == 0) return TMGAN_OK;
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        constexpr int V = 16 / sizeof(T);
        const Image image{channels, height, width, nhwc == 1};
        const auto run = [&](auto kernel_width) {
            constexpr int WIDTH = decltype(kernel_width)::value;
            const int64_t threads = batch * height * (width / WIDTH);
            return simt::launch<backward_kernel<T, WIDTH>>(blocks_for(threads, 256), 256, 0, 1, device, stream,
                                                           static_cast<const T *>(local), grad, scale,
                                                           static_cast<T *>(out), batch, image);
        };
        if (width % V == 0 && aligned(local, 16) && aligned(out, 16)) return run(std::integral_constant<int, V>{});
        return run(std::integral_constant<int, 1>{});
    });
}

extern "C" int tmgan_sharp_regions(const void *plane, uint8_t *mask, float *threshold, int32_t steps, int64_t batch,
                                   int32_t height, int32_t width, int32_t dtype, int32_t device, int32_t sm,
                                   void *stream) {
    using namespace tmgan;
    using namespace tmgan::sharpness;
    const int status = check(!plane || !mask || !threshold, batch, 1, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    if (steps < 0) return TMGAN_BAD_OPTION;
    if (batch > MOST_BLOCKS / CLUSTER) return TMGAN_BAD_SHAPE;
    if (batch == 0) return TMGAN_OK;
    return dispatch(dtype, device, [&](auto type) {
        using T = decltype(type);
        const auto *x = static_cast<const T *>(plane);
        const int64_t pixels = int64_t{height} * width;
        if (fits_cluster(pixels, 1, sm, false)) {
            return simt::launch<regions_kernel<T>>(batch * CLUSTER, THREADS, cluster_bytes(blocks_for(pixels, CLUSTER)),
                                                   CLUSTER, device, stream, x, mask, threshold, pixels, steps);
        }
        return simt::launch<regions_in_memory_kernel<T>>(batch, ALONE, sizeof(Team<1, ALONE, 3>), 1, device, stream, x,
                                                         mask, threshold, pixels, steps);
    });
}
