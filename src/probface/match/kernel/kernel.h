// What the parts of the kernel know of each other. docs/exact_search.md has the mathematics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace probface {

constexpr int kTile = 64;          // references to a tile: what one call of a panel routine compares
constexpr int kPanel = 6;          // probes to a panel: what fits the registers beside four vectors of references
constexpr int kLanes = 32;         // running sums of the float64 inner product; the order of its additions is fixed

// The inner loops, once for each instruction set. `int8_panel` and `dot` give the same answer on every set; the rounding of
// `float_panel`, `thresholds` and `int8_least` is covered by the filter's slack, and `fast_mls_panel` and `mls_tile` are
// float32 results.
struct InstructionSet {
    const char *name;
    bool fast_int8;  // whole-number products at full speed: the int8 filter pays for large batches of probes

    // Bit r of hits[p] is set where <probe p, reference r> >= least[p], for whole-number codes.
    //   tile: [steps][kTile][4] uint8, the codes of the references plus 128; panel: [steps][kPanel][4] int8
    //   start[p] = -128 * (sum of the codes of probe p)
    void (*int8_panel)(const uint8_t *tile, const int8_t *panel, int steps, int probes, const int32_t *start,
                       const int32_t *least, uint64_t *hits);
    // The same for float32. tile: [dim][kTile]; panel: [dim][kPanel].
    void (*float_panel)(const float *tile, const float *panel, int dim, int probes, const float *least, uint64_t *hits);
    // rows[r] + 0 .. dim - 1 of kTile rows to tile [dim][kTile].
    void (*transpose)(const float *const *rows, int dim, float *tile);
    // Inner product in float64: kLanes running sums, halved into one; products of two float32 are exact there.
    double (*dot)(const float *a, const float *b, int dim);
    // cosine[p] = b(t*) of `probes` probes in a bucket, rounded down: no reference there with a lower cosine reaches tau[p].
    //   turn[p] = exp(-1 - tau[p])
    void (*thresholds)(const double *tau, const double *turn, const float *sigma_sq, int probes, float bucket_low,
                       float bucket_high, bool metric_is_cosine, double *cosine);
    // Largest whole numbers below which no product can belong to a cosine of cosine[p] or more:
    // cosine >= c needs product >= (c - bound) / (scales), less a margin for the rounding of this line itself.
    void (*int8_least)(const double *cosine, const float *residual, const float *norm, const double *inverse_scale,
                       int probes, float tile_residual, float tile_norm, double tile_inverse_scale, int32_t *least);
    // FastMLS of a panel of probes with a tile of references: scores [kPanel][kTile].
    void (*fast_mls_panel)(const float *tile, const float *panel, int dim, const float *probe_sigma_sq,
                           const float *sigma_sq, float *scores);
    // MLS with D variances of `rows` probes with kTile references, `merge` dimensions to one division.
    //   mu_tile, sigma_tile: [dim][kTile]; part: room for 2 * dim * kTile; scores: [rows][kTile]
    // The caller has scaled variances and squared distances so that products of `merge` of them stay within float32.
    void (*mls_tile)(const float *mu, const float *sigma_sq, int64_t rows, const float *mu_tile, const float *sigma_tile,
                     int dim, int merge, float *part, float *scores);
};

// Four codes of a probe as one number, to be spread over a vector.
static inline int32_t four_bytes(const int8_t *codes) {
    int32_t number;
    std::memcpy(&number, codes, sizeof number);
    return number;
}

const InstructionSet *avx512_vnni();  // null where the compiler knows no such instructions
const InstructionSet *avx_vnni();
const InstructionSet *avx2();
const InstructionSet *neon_dotprod();
const InstructionSet *baseline();  // always there

// The sets that this processor can run, best first; `baseline` is the last.
int instruction_sets(const InstructionSet **sets, int capacity);

// References in the order of the index: sorted by sigma^2 into buckets, within a bucket by scale into tiles.
struct References {
    int64_t count;
    int dim;
    const float *vectors;         // [rows][dim], in the caller's order
    const int64_t *order;         // [count] position -> row, or -1: erased
    const float *sigma_sq;        // [count] by position
    int64_t buckets;              // runs of whole tiles of like sigma^2 that share a cosine threshold
    const int64_t *bucket_first;  // [buckets + 1] position of its first reference
    const float *bucket_low;      // [buckets] its least and largest sigma^2
    const float *bucket_high;
    const float *tile_norm;       // largest length in each tile
    const uint8_t *codes;         // [tiles][steps][kTile][4], not read without int8 filter
    const float *tile_scale;      // mu is near scale * (code - 128)
    const float *tile_residual;   // largest length of what is left
};

struct Probes {
    int64_t count;
    const float *vectors;   // [count][dim]
    const float *sigma_sq;  // [count]
};

enum class Metric { fast_mls, cosine };

struct Found {
    double *scores;    // [probes][k], best first
    int64_t *rows;     // [probes][k]; -1 where there are fewer than k
    int64_t rescored;  // how many pairs passed the filter
};

void search(const InstructionSet &set, const References &references, const Probes &probes, Metric metric, int k,
            bool int8_filter, int threads, Found &found);

// Codes of `count` rows, positions `first` on, with the scale and residual of each tile. Deterministic.
void pack(const float *vectors, const int64_t *order, int64_t count, int dim, int threads, uint8_t *codes, float *scale,
          float *residual, float *norm);

// max |x| of each row: what tiles are sorted by.
void row_peaks(const float *vectors, int64_t count, int dim, int threads, float *peaks);

void fast_mls_matrix(const InstructionSet &set, const float *mu_i, const float *sigma_sq_i, int64_t rows,
                     const float *mu_j, const float *sigma_sq_j, int64_t columns, int dim, float *out, int threads);

void mls_matrix(const InstructionSet &set, const float *mu_i, const float *sigma_sq_i, int64_t rows, const float *mu_j,
                const float *sigma_sq_j, int64_t columns, int dim, int merge, float *out, int threads);

}  // namespace probface
