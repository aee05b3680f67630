// Images as 256 grey levels: histograms, stable ranks, matched values. What the threads of a block do with one chunk.
//
// Values are read and written through a runtime dtype: these kernels spend their time on counting, not on conversions,
// and one copy of each builds quickly.
#pragma once

#include "common.cuh"

namespace tmgan::levels {

constexpr int CHUNK = 2048;  // pixels whose ranks one warp hands out; its table of counts costs half a byte a pixel
constexpr int LEVELS = 256;
constexpr int UINT8 = 3;  // beside the tmgan_dtypes: levels, not values

DEVICE float read(const void *from, int64_t at, int dtype) {
    if (dtype == TMGAN_FLOAT32) return static_cast<const float *>(from)[at];
    if (dtype == TMGAN_BFLOAT16) return to_float(static_cast<const bf16 *>(from)[at]);
    if (dtype == TMGAN_FLOAT16) return to_float(static_cast<const f16 *>(from)[at]);
    return static_cast<const uint8_t *>(from)[at];
}

DEVICE void write(void *to, int64_t at, float value, int dtype) {
    if (dtype == TMGAN_FLOAT32) {
        static_cast<float *>(to)[at] = value;
    } else if (dtype == TMGAN_BFLOAT16) {
        static_cast<bf16 *>(to)[at] = from_float<bf16>(value);
    } else if (dtype == TMGAN_FLOAT16) {
        static_cast<f16 *>(to)[at] = from_float<f16>(value);
    } else {
        static_cast<uint8_t *>(to)[at] = static_cast<uint8_t>(value);
    }
}

// An image batch: where pixel p of plane c of image b lies.
struct Image {
    const void *data;
    int dtype, channels;
    int64_t pixels;
    bool nhwc;

    DEVICE int64_t at(int64_t plane, int64_t pixel) const {
        if (!nhwc) return plane * pixels + pixel;
        return (plane / channels * pixels + pixel) * channels + plane % channels;
    }
    DEVICE float value(int64_t plane, int64_t pixel) const { return read(data, at(plane, pixel), dtype); }
};

// (value - offset) * scale in 0-255 units, or with one half added for a floor to follow. A subtraction before a product
// cannot be contracted into one fused operation, so that levels agree with those of every other device.
struct Units {
    float offset, scale;

    DEVICE int level(float value) const {
        value = (value - offset) * scale;
        return static_cast<int>(value < 255.f ? (value > 0.f ? value : 0.f) : 255.f);  // NaN is 255
    }
};

// How many of 256 cumulated counts are <= value, where value is below the last of them: binary search.
DEVICE int first_above(const int *cumulated, int value) {
    int found = 0;
#pragma unroll
    for (int step = 128; step > 0; step /= 2) {
        if (cumulated[found + step - 1] <= value) found += step;
    }
    return found;
}

// numpy.interp(share in source, shares in reference, levels) for one level, in counts, so that only its division
// rounds.
DEVICE double interpolated(const int *source, const int *reference, int level, int pixels) {
    const int darker = source[level];
    const int above = first_above(reference, smaller(darker, pixels - 1));
    const int before = above > 0 ? reference[above - 1] : 0;
    if (before == 0) return above;
    const int below = first_above(reference, before - 1);
    const double part = static_cast<double>(above - below) * (darker - before);
    return below + part / (reference[above] - before);
}

// ------------------------------------------------- changed pixels, as bits
// A block makes OUT_ROWS x OUT_COLUMNS pixels of the mask. Dilation looks 3 pixels around, erosion one back, the blur 2
// around: bits begin 4 before the first pixel and end 3 behind the last, differences another 2 on either side.
constexpr int OUT_ROWS = 32, OUT_COLUMNS = 88;
constexpr int BIT_ROWS = OUT_ROWS + 7, WORDS = 3;  // 32 * WORDS == OUT_COLUMNS + 7 + 1
constexpr int ROWS = BIT_ROWS + 4, COLUMNS = 32 * WORDS + 4;

struct Tile {
    float difference[ROWS][COLUMNS];
    float smooth[ROWS][32 * WORDS];  // blurred along the rows
    uint32_t changed[BIT_ROWS][WORDS], eroded[BIT_ROWS][WORDS], dilated[BIT_ROWS][WORDS];
};

// The index that position i of a mirrored axis reads; positions that nobody keeps go anywhere inside.
DEVICE int mirrored(int i, int last) {
    i = i < 0 ? -i : i;
    i = last - i < 0 ? i - last : last - i;  // |last - |i||
    i = last - i;
    return smaller(i < 0 ? -i : i, last);
}

// A bit moved `by` columns to the right, -31 to 31, through the words of a row.
DEVICE uint32_t moved(const uint32_t *row, int word, int by) {
    const uint32_t own = row[word];
    if (by == 0) return own;
    if (by > 0) return own << by | (word > 0 ? row[word - 1] >> (32 - by) : 0);
    return own >> -by | (word + 1 < WORDS ? row[word + 1] << (32 + by) : 0);
}

// 2x2 erosion: rows y-1..y, columns x-1..x. Bits outside the image are 1 before and 0 after.
DEVICE uint32_t eroded(const uint32_t (*changed)[WORDS], int row, int word) {
    const uint32_t own = changed[row][word] & moved(changed[row], word, 1);
    return row == 0 ? 0 : own & changed[row - 1][word] & moved(changed[row - 1], word, 1);
}

// 7 columns wide dilation.
DEVICE uint32_t widened(const uint32_t *row, int word) {
    uint32_t bits = 0;
#pragma unroll
    for (int by = -3; by <= 3; ++by) bits |= moved(row, word, by);
    return bits;
}

}  // namespace tmgan::levels
