// Whole matrices of scores. The cosines of FastMLS come from the caller's own matrix product.
#include "kernel.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace probface {

constexpr int64_t kBlockRows = 256;

void fast_mls_matrix(const InstructionSet &set, float *cosines, int64_t rows, int64_t columns, int64_t stride,
                     const float *row_sigma_sq, const float *column_sigma_sq, int threads) {
    in_parallel(threads, rows, [&](int, int64_t row) {
        set.fast_mls_row(cosines + row * stride, column_sigma_sq, row_sigma_sq[row], columns);
    });
}

void mls_matrix(const InstructionSet &set, const float *mu_i, const float *sigma_sq_i, int64_t rows, const float *mu_j,
                const float *sigma_sq_j, int64_t columns, int dim, int merge, float *out, int threads) {
    const int64_t tiles = (columns + kTile - 1) / kTile;
    in_parallel(threads, tiles, [&](int, int64_t tile) {
        std::vector<float> mu(size_t(dim) * kTile), sigma(size_t(dim) * kTile);
        const float *mu_rows[kTile], *sigma_rows[kTile];
        const int64_t first = tile * kTile;
        const int used = int(std::min<int64_t>(kTile, columns - first));
        for (int r = 0; r < kTile; ++r) {
            const int64_t column = first + std::min(r, used - 1);  // the last one stands in for those beyond the end
            mu_rows[r] = mu_j + column * dim;
            sigma_rows[r] = sigma_sq_j + column * dim;
        }
        set.transpose(mu_rows, dim, mu.data());
        set.transpose(sigma_rows, dim, sigma.data());
        std::vector<float> part(size_t(dim) * 2 * kTile), scores(size_t(kBlockRows) * kTile);
        for (int64_t start = 0; start < rows; start += kBlockRows) {
            const int64_t count = std::min(kBlockRows, rows - start);
            set.mls_tile(mu_i + start * dim, sigma_sq_i + start * dim, count, mu.data(), sigma.data(), dim, merge,
                         part.data(), scores.data());
            for (int64_t row = 0; row < count; ++row)
                std::memcpy(out + (start + row) * columns + first, &scores[size_t(row) * kTile], used * sizeof(float));
        }
    });
}

}  // namespace probface
