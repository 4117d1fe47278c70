// Unit vectors to bytes: mu = scale * code + what is left, one scale for a tile of references.
#include "kernel.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace probface {

constexpr int64_t kRowsPerPart = 4096;
constexpr double kUp = 1 + 1e-6;  // float32 lengths are rounded up, so that a bound stays one

static double length(const float *x, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; ++d) sum += double(x[d]) * x[d];
    return std::sqrt(sum);
}

static float peak(const float *x, int dim) {
    float most = 0;
    for (int d = 0; d < dim; ++d) most = std::max(most, std::fabs(x[d]));
    return most;
}

void row_peaks(const float *vectors, int64_t count, int dim, int threads, float *peaks) {
    in_parallel(threads, (count + kRowsPerPart - 1) / kRowsPerPart, [&](int, int64_t part) {
        int64_t end = std::min(count, (part + 1) * kRowsPerPart);
        for (int64_t row = part * kRowsPerPart; row < end; ++row) peaks[row] = peak(vectors + row * dim, dim);
    });
}

void pack(const float *vectors, const int64_t *order, int64_t count, int dim, int threads, uint8_t *codes, float *scale,
          float *residual, float *norm) {
    const int steps = (dim + 3) / 4;
    const int64_t tiles = (count + kTile - 1) / kTile;
    in_parallel(threads, (tiles + 15) / 16, [&](int, int64_t part) {
        for (int64_t tile = part * 16; tile < std::min(tiles, (part + 1) * 16); ++tile) {
            const int64_t first = tile * kTile;
            const int used = int(std::min<int64_t>(kTile, count - first));
            float most = 0;
            double longest = 0, worst = 0;
            for (int r = 0; r < used; ++r) {
                const float *x = vectors + order[first + r] * dim;
                most = std::max(most, peak(x, dim));
                longest = std::max(longest, length(x, dim));
            }
            norm[tile] = float(longest * kUp);
            if (!codes) continue;
            scale[tile] = most / 127.0f;
            const float inverse = 127.0f / most;
            uint8_t *to = codes + tile * steps * kTile * 4;
            std::memset(to, 128, size_t(steps) * kTile * 4);
            for (int r = 0; r < used; ++r) {
                const float *x = vectors + order[first + r] * dim;
                double left = 0;
                for (int d = 0; d < dim; ++d) {
                    int code = int(std::lrint(x[d] * inverse));
                    code = std::min(127, std::max(-127, code));
                    to[(d / 4) * kTile * 4 + r * 4 + d % 4] = uint8_t(code + 128);
                    double rest = double(x[d]) - double(scale[tile]) * code;
                    left += rest * rest;
                }
                worst = std::max(worst, std::sqrt(left));
            }
            residual[tile] = float(worst * kUp);
        }
    });
}

}  // namespace probface
