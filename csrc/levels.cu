// tmgan_match_histogram and tmgan_change_mask. All counting is in integers: atomic additions in shared memory, whose
// order does not matter, and no others.
#include "levels.cuh"

namespace tmgan::levels {

constexpr int COPIES = 4;  // of a block's histogram: threads of different warps seldom meet at a counter

// Histogram of the levels of one chunk of a plane, counts (planes, chunks, 256); the levels themselves too (keys).
KERNEL(256, 1) count_kernel(Image image, Units units, uint8_t *keys, int *counts, int chunks) {
    int *bins = simt::shared<int>();
    for (int i = simt::thread(); i < COPIES * LEVELS; i += 256) bins[i] = 0;
    simt::sync();
    const int64_t plane = simt::block() / chunks, first = simt::block() % chunks * CHUNK;
    int *own = bins + simt::warp() % COPIES * LEVELS;
#pragma unroll 4
    for (int i = 0; i < CHUNK / 256; ++i) {
        const int64_t pixel = first + i * 256 + simt::thread();
        if (pixel >= image.pixels) break;
        const int level = units.level(image.value(plane, pixel));
        if (keys) keys[plane * image.pixels + pixel] = static_cast<uint8_t>(level);
        simt::add_shared(own + level, 1);
    }
    simt::sync();
    int sum = 0;
#pragma unroll
    for (int copy = 0; copy < COPIES; ++copy) sum += bins[copy * LEVELS + simt::thread()];
    counts[simt::block() * LEVELS + simt::thread()] = sum;
}

// One plane a block, one level a thread: the cumulated histogram; or, if total is null, in place, the rank at which
// each level of each chunk starts: all pixels of lower levels, and those of this level in earlier chunks.
KERNEL(256, 1) cumulate_kernel(int *counts, int *total, int chunks) {
    int *sums = simt::shared<int>();
    const int level = simt::thread();
    counts += simt::block() * chunks * LEVELS + level;
    int own = 0;
#pragma unroll 8
    for (int chunk = 0; chunk < chunks; ++chunk) own += counts[chunk * LEVELS];
    sums[level] = own;
    for (int step = 1; step < LEVELS; step *= 2) {
        simt::sync();
        const int lower = level >= step ? sums[level - step] : 0;
        simt::sync();
        sums[level] += lower;
    }
    if (total) {
        total[simt::block() * LEVELS + level] = sums[level];
        return;
    }
    int start = sums[level] - own;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const int count = counts[chunk * LEVELS];
        counts[chunk * LEVELS] = start;
        start += count;
    }
}

// What a rank is worth: with cumulated counts of reference, its level; else the value at that place of sorted.
struct Worth {
    const int *cumulated;
    const void *sorted;
    int sorted_dtype;
    float low, step;
    bool as_level;
};

// Stable ranks of one chunk, by one warp that walks it 32 pixels at a time: the start of a pixel's level, plus the
// equal ones before it among the 32; the last of the equal ones moves the start on. The order is that of the raster.
KERNEL(128, 1)
rank_kernel(const uint8_t *keys, const int *starts, Worth worth, Image out, void *to, int64_t planes, int chunks) {
    int *following = simt::shared<int>() + simt::warp() * 2 * (LEVELS + 1), *cumulated = following + LEVELS + 1;
    const int64_t job = simt::block() * 4 + simt::warp(), plane = job / chunks, first = job % chunks * CHUNK;
    if (plane >= planes) return;  // the whole warp
    for (int i = simt::lane(); i < LEVELS; i += 32) {
        following[i] = starts[job * LEVELS + i];
        if (worth.cumulated) cumulated[i] = worth.cumulated[plane * LEVELS + i];
    }
    simt::sync_warp();
    const uint32_t before = (1u << simt::lane()) - 1u;
    const int64_t end = smaller(first + CHUNK, out.pixels);
    for (int64_t at = first; at < end; at += 32) {
        const int64_t pixel = at + simt::lane();
        const bool inside = pixel < end;
        const int key = inside ? keys[plane * out.pixels + pixel] : LEVELS;  // beyond the end: a level of their own
        const uint32_t equal = simt::equal_lanes(key);
        const int rank = inside ? following[key] + simt::ones(equal & before) : 0;
        simt::sync_warp();  // all lanes have read the starts
        if (inside && equal >> simt::lane() == 1u) following[key] = rank + 1;
        simt::sync_warp();  // all lanes see the new ones
        if (!inside) continue;
        float value;
        if (worth.cumulated) {
            const int level = first_above(cumulated, rank);
            value = worth.as_level ? level : level * worth.step + worth.low;
        } else {
            value = read(worth.sorted, plane * out.pixels + rank, worth.sorted_dtype);
        }
        write(to, out.at(plane, pixel), value, out.dtype);
    }
}

// ties="level": the matched value of every level of a plane, and then of every pixel.
KERNEL(256, 1)
level_kernel(const uint8_t *keys, const int *source, const int *reference, Worth worth, bool quantize, Image out,
             void *to, int chunks) {
    float *table = simt::shared<float>();
    const int64_t plane = simt::block() / chunks, first = simt::block() % chunks * CHUNK;
    const int level = simt::thread();
    double matched =
        interpolated(source + plane * LEVELS, reference + plane * LEVELS, level, static_cast<int>(out.pixels));
    if (quantize) matched = floor(matched);
    const float value = static_cast<float>(matched);
    table[level] = worth.as_level ? value : value * worth.step + worth.low;
    simt::sync();
    for (int i = simt::thread(); i < CHUNK && first + i < out.pixels; i += 256) {
        const int64_t pixel = first + i;
        write(to, out.at(plane, pixel), table[keys[plane * out.pixels + pixel]], out.dtype);
    }
}

// ----------------------------------------------------------------- change mask
struct Change {
    Image generated, matched;  // matched: NCHW, levels or values in the units of generated
    Units units;
    int height, width;
    float threshold, ceiling, taps[3];
    int down, across;  // blocks of an image
};

KERNEL(256, 1) change_kernel(Change given, uint8_t *keep) {
    Tile &tile = *simt::shared<Tile>();
    const int64_t image = simt::block() / (given.down * given.across);
    const int part = static_cast<int>(simt::block() % (given.down * given.across));
    const int top = part / given.across * OUT_ROWS, left = part % given.across * OUT_COLUMNS;  // of the pixels made
    const int height = given.height, width = given.width, channels = given.generated.channels;
    for (int i = simt::thread(); i < BIT_ROWS * WORDS; i += 256) tile.changed[i / WORDS][i % WORDS] = 0;
    for (int c = 0; c < channels; ++c) {
        const int64_t plane = image * channels + c;
        for (int i = simt::thread(); i < ROWS * COLUMNS; i += 256) {
            const int row = mirrored(top - 6 + i / COLUMNS, height - 1),
                      column = mirrored(left - 6 + i % COLUMNS, width - 1);
            const int64_t pixel = int64_t{row} * width + column;
            const float matched = given.matched.value(plane, pixel), value = given.generated.value(plane, pixel);
            tile.difference[i / COLUMNS][i % COLUMNS] = given.matched.dtype == UINT8
                                                            ? matched - (value - given.units.offset) * given.units.scale
                                                            : (matched - value) * given.units.scale;
        }
        simt::sync();
        for (int i = simt::thread(); i < ROWS * 32 * WORDS; i += 256) {
            const float *at = tile.difference[i / (32 * WORDS)] + i % (32 * WORDS);
            tile.smooth[i / (32 * WORDS)][i % (32 * WORDS)] =
                given.taps[0] * at[2] + given.taps[1] * (at[1] + at[3]) + given.taps[2] * (at[0] + at[4]);
        }
        simt::sync();
        // A warp makes a word: 32 columns of a row.
        for (int i = simt::warp(); i < BIT_ROWS * WORDS; i += 8) {
            const int row = i / WORDS, word = i % WORDS, column = word * 32 + simt::lane();
            const float middle = tile.smooth[row + 2][column];
            const float near = tile.smooth[row + 1][column] + tile.smooth[row + 3][column];
            const float far = tile.smooth[row][column] + tile.smooth[row + 4][column];
            const float difference = fabsf(given.taps[0] * middle + given.taps[1] * near + given.taps[2] * far);
            const uint32_t bits = simt::ballot(difference > given.threshold && difference <= given.ceiling);
            if (simt::lane() == 0) tile.changed[row][word] |= bits;
        }
        simt::sync();
    }
    // Erosion ignores what lies outside the image, and so does dilation.
    const auto outside = [&](int row, int word) {
        uint32_t bits = 0;
        const int y = top - 4 + row;
        for (int bit = 0; bit < 32; ++bit) {
            const int x = left - 4 + word * 32 + bit;
            if (y < 0 || y >= height || x < 0 || x >= width) bits |= 1u << bit;
        }
        return bits;
    };
    for (int i = simt::thread(); i < BIT_ROWS * WORDS; i += 256)
        tile.changed[i / WORDS][i % WORDS] |= outside(i / WORDS, i % WORDS);
    simt::sync();
    for (int i = simt::thread(); i < BIT_ROWS * WORDS; i += 256) {
        tile.eroded[i / WORDS][i % WORDS] = eroded(tile.changed, i / WORDS, i % WORDS) & ~outside(i / WORDS, i % WORDS);
    }
    simt::sync();
    for (int i = simt::thread(); i < BIT_ROWS * WORDS; i += 256) {
        tile.dilated[i / WORDS][i % WORDS] = widened(tile.eroded[i / WORDS], i % WORDS);
    }
    simt::sync();
    for (int i = simt::thread(); i < OUT_ROWS * OUT_COLUMNS; i += 256) {
        const int row = i / OUT_COLUMNS, column = i % OUT_COLUMNS, bit = column + 4;
        if (top + row >= height || left + column >= width) continue;
        uint32_t changed = 0;
#pragma unroll
        for (int y = 1; y <= 7; ++y) changed |= tile.dilated[row + y][bit / 32];
        keep[(image * height + top + row) * width + left + column] = !(changed >> bit % 32 & 1);
    }
}

// ------------------------------------------------------------------- workspace
struct Workspace {
    int *source_counts, *reference_counts, *source_total, *reference_total;
    uint8_t *keys;
    int64_t bytes;

    Workspace(void *memory, int64_t planes, int64_t pixels) {
        const int64_t tables = planes * blocks_for(pixels, CHUNK) * LEVELS;
        source_counts = static_cast<int *>(memory);
        reference_counts = source_counts + tables;
        source_total = reference_counts + tables;
        reference_total = source_total + planes * LEVELS;
        keys = reinterpret_cast<uint8_t *>(reference_total + planes * LEVELS);
        bytes = (2 * tables + 2 * planes * LEVELS) * static_cast<int64_t>(sizeof(int)) + planes * pixels;
    }
};

Units units_for(double low, double high, bool rounded) {
    const double scale = 255.0 / (high - low);
    return {static_cast<float>(rounded ? low - 0.5 / scale : low), static_cast<float>(scale)};
}

}  // namespace tmgan::levels

using namespace tmgan;
using namespace tmgan::levels;

extern "C" int64_t tmgan_match_histogram_workspace(int64_t batch, int32_t channels, int32_t height, int32_t width) {
    const int status = check(false, batch, channels, height, width, TMGAN_FLOAT32, 0);
    if (status != TMGAN_OK) return status;
    return Workspace(nullptr, batch * channels, int64_t{height} * width).bytes;
}

extern "C" int tmgan_match_histogram(const void *source, const void *reference, const void *sorted, void *out,
                                     void *workspace, double low, double high, int32_t by_level, int32_t quantize,
                                     int64_t batch, int32_t channels, int32_t height, int32_t width,
                                     int32_t source_nhwc, int32_t reference_nhwc, int32_t out_nhwc,
                                     int32_t source_dtype, int32_t reference_dtype, int32_t out_dtype, int32_t device,
                                     void *stream) {
    int status = check(!source || !reference || !out || !workspace || !(sorted || by_level || quantize), batch,
                       channels, height, width, source_dtype, device);
    if (status != TMGAN_OK) return status;
    if (reference_dtype < 0 || reference_dtype > TMGAN_FLOAT16 || out_dtype < 0 || out_dtype > UINT8)
        return TMGAN_BAD_DTYPE;
    if (!(low < high) || ((by_level | quantize | source_nhwc | reference_nhwc | out_nhwc) | 1) != 1 ||
        (out_dtype == UINT8 && !quantize)) {
        return TMGAN_BAD_OPTION;
    }
    const int64_t pixels = int64_t{height} * width, planes = batch * channels;
    const int64_t chunks = blocks_for(pixels, CHUNK);
    if (planes > MOST_BLOCKS / chunks) return TMGAN_BAD_SHAPE;
    if (!aligned(workspace, 16)) return TMGAN_MISALIGNED;
    if (batch == 0) return TMGAN_OK;
    const simt::Device guard(device);
    if (guard.status != 0) return static_cast<int>(guard.status);

    const Workspace space(workspace, planes, pixels);
    const Image from{source, source_dtype, channels, pixels, source_nhwc == 1};
    const Image other{reference, reference_dtype, channels, pixels, reference_nhwc == 1};
    const Image to{nullptr, out_dtype, channels, pixels, out_nhwc == 1};
    const int each = static_cast<int>(chunks);
    const auto count = [&](const Image &image, bool rounded, uint8_t *keys, int *counts) {
        return simt::launch<count_kernel>(planes * chunks, 256, COPIES * LEVELS * sizeof(int), 1, device, stream, image,
                                          units_for(low, high, rounded), keys, counts, each);
    };
    const auto cumulate = [&](int *counts, int *total) {
        return simt::launch<cumulate_kernel>(planes, 256, LEVELS * sizeof(int), 1, device, stream, counts, total, each);
    };
    const bool look_up = by_level || quantize;
    status = count(from, true, space.keys, space.source_counts);
    if (status == 0) status = cumulate(space.source_counts, by_level ? space.source_total : nullptr);
    if (status == 0 && look_up) status = count(other, by_level, nullptr, space.reference_counts);
    if (status == 0 && look_up) status = cumulate(space.reference_counts, space.reference_total);
    if (status != 0) return status;
    Worth worth{look_up ? space.reference_total : nullptr,
                sorted,
                reference_dtype,
                static_cast<float>(low),
                static_cast<float>((high - low) / 255.0),
                out_dtype == UINT8};
    if (by_level) {
        return simt::launch<level_kernel>(
            planes * chunks, 256, LEVELS * sizeof(float), 1, device, stream, static_cast<const uint8_t *>(space.keys),
            static_cast<const int *>(space.source_total), static_cast<const int *>(space.reference_total), worth,
            quantize == 1, to, out, each);
    }
    return simt::launch<rank_kernel>(blocks_for(planes * chunks, 4), 128, 8 * (LEVELS + 1) * sizeof(int), 1, device,
                                     stream, static_cast<const uint8_t *>(space.keys),
                                     static_cast<const int *>(space.source_counts), worth, to, out, planes, each);
}

extern "C" int tmgan_change_mask(const void *matched, const void *generated, uint8_t *keep, double low, double high,
                                 float threshold, float ceiling, int64_t batch, int32_t channels, int32_t height,
                                 int32_t width, int32_t nhwc, int32_t matched_levels, int32_t dtype, int32_t device,
                                 void *stream) {
    const int status = check(!matched || !generated || !keep, batch, channels, height, width, dtype, device);
    if (status != TMGAN_OK) return status;
    if (!(low < high) || !(threshold < ceiling) || ((nhwc | matched_levels) | 1) != 1) return TMGAN_BAD_OPTION;
    Change given{};
    const int64_t pixels = int64_t{height} * width;
    given.generated = {generated, dtype, channels, pixels, nhwc == 1};
    given.matched = {matched, matched_levels ? UINT8 : static_cast<int>(TMGAN_FLOAT32), channels, pixels, false};
    given.units = units_for(low, high, false);
    given.height = height;
    given.width = width;
    given.threshold = threshold;
    given.ceiling = ceiling;
    const double norm = 1 + 2 * std::exp(-0.5) + 2 * std::exp(-2.0);  // sigma 1
    for (int i = 0; i < 3; ++i) given.taps[i] = static_cast<float>(std::exp(-i * i / 2.0) / norm);
    given.down = static_cast<int>(blocks_for(height, OUT_ROWS));
    given.across = static_cast<int>(blocks_for(width, OUT_COLUMNS));
    const int64_t each = int64_t{given.down} * given.across;
    if (each > MOST_BLOCKS || batch > MOST_BLOCKS / each) return TMGAN_BAD_SHAPE;
    if (batch == 0) return TMGAN_OK;
    const simt::Device guard(device);
    if (guard.status != 0) return static_cast<int>(guard.status);
    return simt::launch<change_kernel>(batch * each, 256, sizeof(Tile), 1, device, stream, given, keep);
}
