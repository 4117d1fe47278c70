// Whole matrices of scores, a tile of references at a time: product and score in one pass.
#include "kernel.h"
#include "threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace probface {

constexpr int64_t kBlockRows = 256;
constexpr int64_t kTogether = 1 << 16;  // float32 numbers of references that a core keeps at hand

// kTile rows from `first` on; the last one stands in for those beyond the end. How many there are.
static int rows_of_tile(const float *vectors, int64_t first, int64_t count, int dim, const float **rows) {
    const int used = int(std::min<int64_t>(kTile, count - first));
    for (int r = 0; r < kTile; ++r) rows[r] = vectors + (first + std::min(r, used - 1)) * dim;
    return used;
}

void fast_mls_matrix(const InstructionSet &set, const float *mu_i, const float *sigma_sq_i, int64_t rows,
                     const float *mu_j, const float *sigma_sq_j, int64_t columns, int dim, float *out, int threads) {
    const int64_t panels = (rows + kPanel - 1) / kPanel, tiles = (columns + kTile - 1) / kTile;
    std::vector<float> packed(size_t(panels) * kPanel * dim), sigma_sq(size_t(panels) * kPanel, 1.0f);
    for (int64_t row = 0; row < rows; ++row) {
        float *panel = packed.data() + row / kPanel * kPanel * dim + row % kPanel;
        for (int d = 0; d < dim; ++d) panel[d * kPanel] = mu_i[row * dim + d];
        sigma_sq[size_t(row)] = sigma_sq_i[row];
    }
    // Several tiles at a time, so that longer pieces of a row are written at once.
    const int64_t together = std::max<int64_t>(1, kTogether / (int64_t(dim) * kTile));
    in_parallel(threads, (tiles + together - 1) / together, [&](int, int64_t part) {
        const int64_t begin = part * together, end = std::min(tiles, begin + together);
        std::vector<float> transposed(size_t(end - begin) * dim * kTile), own(size_t(end - begin) * kTile);
        const float *vectors[kTile];
        for (int64_t tile = begin; tile < end; ++tile) {
            const int used = rows_of_tile(mu_j, tile * kTile, columns, dim, vectors);
            set.transpose(vectors, dim, &transposed[size_t(tile - begin) * dim * kTile]);
            for (int r = 0; r < kTile; ++r)
                own[size_t(tile - begin) * kTile + r] = sigma_sq_j[tile * kTile + std::min(r, used - 1)];
        }
        float scores[kPanel * kTile];
        for (int64_t panel = 0; panel < panels; ++panel)
            for (int64_t tile = begin; tile < end; ++tile) {
                set.fast_mls_panel(&transposed[size_t(tile - begin) * dim * kTile], &packed[size_t(panel) * kPanel * dim],
                                   dim, &sigma_sq[size_t(panel) * kPanel], &own[size_t(tile - begin) * kTile], scores);
                const size_t bytes = size_t(std::min<int64_t>(kTile, columns - tile * kTile)) * sizeof(float);
                for (int64_t row = panel * kPanel; row < std::min(rows, (panel + 1) * kPanel); ++row)
                    std::memcpy(out + row * columns + tile * kTile, scores + row % kPanel * kTile, bytes);
            }
    });
}

void mls_matrix(const InstructionSet &set, const float *mu_i, const float *sigma_sq_i, int64_t rows, const float *mu_j,
                const float *sigma_sq_j, int64_t columns, int dim, int merge, float *out, int threads) {
    const int64_t tiles = (columns + kTile - 1) / kTile;
    in_parallel(threads, tiles, [&](int, int64_t tile) {
        std::vector<float> mu(size_t(dim) * kTile), sigma(size_t(dim) * kTile);
        const float *vectors[kTile];
        const int64_t first = tile * kTile;
        const int used = rows_of_tile(mu_j, first, columns, dim, vectors);
        set.transpose(vectors, dim, mu.data());
        rows_of_tile(sigma_sq_j, first, columns, dim, vectors);
        set.transpose(vectors, dim, sigma.data());
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
