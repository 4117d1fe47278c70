// The inner loops over vectors of kWidth float32, written once; each instruction set includes this file with its own
// `Set`: the width and the few operations that the compiler's vector types lack. Everything is in an unnamed namespace,
// so that no routine compiled for one processor is ever linked into another's path.
#pragma once

#include "kernel.h"

#include <cmath>
#include <cstring>

namespace probface {
namespace {

typedef float Floats __attribute__((vector_size(4 * Set::kWidth)));
typedef int32_t Ints __attribute__((vector_size(4 * Set::kWidth)));
typedef double Doubles __attribute__((vector_size(4 * Set::kWidth)));
constexpr int kWidth = Set::kWidth;
constexpr int kVectors = Set::kVectors;  // vectors of references that are in registers at a time
constexpr int kPart = kWidth * kVectors;

template <class V, class T>
inline V load(const T *from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V, class T>
inline void store(T *to, V value) {
    std::memcpy(to, &value, sizeof value);
}

template <int Q>
inline void int8_panel_of(const uint8_t *tile, const int8_t *panel, int steps, const int32_t *start,
                          const int32_t *least, uint64_t *hits) {
    for (int q = 0; q < Q; ++q) hits[q] = 0;
    for (int part = 0; part < kTile; part += kPart) {
        Ints sums[Q][kVectors];
        for (int q = 0; q < Q; ++q)
            for (int v = 0; v < kVectors; ++v) sums[q][v] = Ints{} + (Set::kBiased ? start[q] : 0);
        const uint8_t *codes = tile + part * 4;
        const int8_t *probe = panel;
        for (int step = 0; step < steps; ++step, codes += kTile * 4, probe += kPanel * 4) {
            typename Set::Codes references[kVectors];
            for (int v = 0; v < kVectors; ++v) references[v] = Set::codes(codes + v * kWidth * 4);
            for (int q = 0; q < Q; ++q) {
                typename Set::Probe four = Set::probe(probe + q * 4);
                for (int v = 0; v < kVectors; ++v) sums[q][v] = Set::dot4(sums[q][v], references[v], four);
            }
        }
        for (int q = 0; q < Q; ++q)
            for (int v = 0; v < kVectors; ++v)
                hits[q] |= uint64_t(Set::not_less(sums[q][v], Ints{} + least[q])) << (part + v * kWidth);
    }
}

void int8_panel(const uint8_t *tile, const int8_t *panel, int steps, int probes, const int32_t *start,
                const int32_t *least, uint64_t *hits) {
    switch (probes) {
        case 1: return int8_panel_of<1>(tile, panel, steps, start, least, hits);
        case 2: return int8_panel_of<2>(tile, panel, steps, start, least, hits);
        case 3: return int8_panel_of<3>(tile, panel, steps, start, least, hits);
        case 4: return int8_panel_of<4>(tile, panel, steps, start, least, hits);
        case 5: return int8_panel_of<5>(tile, panel, steps, start, least, hits);
        default: return int8_panel_of<6>(tile, panel, steps, start, least, hits);
    }
}

// sums[q][v] = <probe q, kWidth references>, for kVectors vectors of references from column `part` of the tile on.
template <int Q>
__attribute__((always_inline)) inline void products(const float *tile, const float *panel, int dim, int part,
                                                    Floats (&sums)[Q][kVectors]) {
    for (int q = 0; q < Q; ++q)
        for (int v = 0; v < kVectors; ++v) sums[q][v] = Floats{};
    const float *column = tile + part;
    const float *probe = panel;
    for (int d = 0; d < dim; ++d, column += kTile, probe += kPanel) {
        Floats references[kVectors];
        for (int v = 0; v < kVectors; ++v) references[v] = load<Floats>(column + v * kWidth);
        for (int q = 0; q < Q; ++q) {
            Floats one = Floats{} + probe[q];
            for (int v = 0; v < kVectors; ++v) sums[q][v] += one * references[v];
        }
    }
}

template <int Q>
inline void float_panel_of(const float *tile, const float *panel, int dim, const float *least, uint64_t *hits) {
    for (int q = 0; q < Q; ++q) hits[q] = 0;
    for (int part = 0; part < kTile; part += kPart) {
        Floats sums[Q][kVectors];
        products<Q>(tile, panel, dim, part, sums);
        for (int q = 0; q < Q; ++q)
            for (int v = 0; v < kVectors; ++v)
                hits[q] |= uint64_t(Set::not_less(sums[q][v], Floats{} + least[q])) << (part + v * kWidth);
    }
}

void float_panel(const float *tile, const float *panel, int dim, int probes, const float *least, uint64_t *hits) {
    switch (probes) {
        case 1: return float_panel_of<1>(tile, panel, dim, least, hits);
        case 2: return float_panel_of<2>(tile, panel, dim, least, hits);
        case 3: return float_panel_of<3>(tile, panel, dim, least, hits);
        case 4: return float_panel_of<4>(tile, panel, dim, least, hits);
        case 5: return float_panel_of<5>(tile, panel, dim, least, hits);
        default: return float_panel_of<6>(tile, panel, dim, least, hits);
    }
}

// a[first], b[first], a[first + 1], b[first + 1] ...
inline Floats interleave(Floats a, Floats b, int first) {
#if defined(__clang__)
    Floats mixed;
    for (int i = 0; i < kWidth; ++i) mixed[i] = (i % 2 ? b : a)[first + i / 2];
    return mixed;
#else
    Ints lanes;
    for (int i = 0; i < kWidth; ++i) lanes[i] = first + i / 2 + (i % 2) * kWidth;
    return __builtin_shuffle(a, b, lanes);
#endif
}

// kWidth vectors are rows; log2(kWidth) perfect shuffles of them make columns.
inline void transpose_block(Floats *rows) {
    for (int stage = 1; stage < kWidth; stage *= 2) {
        Floats next[kWidth];
        for (int i = 0; i < kWidth / 2; ++i) {
            next[2 * i] = interleave(rows[i], rows[i + kWidth / 2], 0);
            next[2 * i + 1] = interleave(rows[i], rows[i + kWidth / 2], kWidth / 2);
        }
        for (int i = 0; i < kWidth; ++i) rows[i] = next[i];
    }
}

void transpose(const float *const *rows, int dim, float *tile) {
    int whole = dim - dim % kWidth;
    for (int r = 0; r < kTile; r += kWidth) {
        for (int d = 0; d < whole; d += kWidth) {
            Floats block[kWidth];
            for (int i = 0; i < kWidth; ++i) block[i] = load<Floats>(rows[r + i] + d);
            transpose_block(block);
            for (int i = 0; i < kWidth; ++i) store(tile + (d + i) * kTile + r, block[i]);
        }
        for (int d = whole; d < dim; ++d)
            for (int i = 0; i < kWidth; ++i) tile[d * kTile + r + i] = rows[r + i][d];
    }
}

double dot(const float *a, const float *b, int dim) {
    typedef float Halves __attribute__((vector_size(2 * Set::kWidth)));
    constexpr int kDoubles = kWidth / 2;
    constexpr int kSums = kLanes / kDoubles;
    Doubles sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Doubles{};
    int d = 0;
    for (; d + kLanes <= dim; d += kLanes)
        for (int i = 0; i < kSums; ++i)
            sums[i] += __builtin_convertvector(load<Halves>(a + d + i * kDoubles), Doubles) *
                       __builtin_convertvector(load<Halves>(b + d + i * kDoubles), Doubles);
    double lanes[kLanes];
    std::memcpy(lanes, sums, sizeof lanes);
    for (int i = 0; d + i < dim; ++i) lanes[i] += double(a[d + i]) * double(b[d + i]);
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

// log(x) of positive normal numbers to about 1e-7, from exponent and mantissa (the polynomial is Cephes' logf).
inline Floats natural_log(Floats x) {
    Ints bits = (Ints)x;
    Ints exponent = (bits - 0x3f3504f3) >> 23;          // 0x3f3504f3 is the square root of 1/2
    Floats m = (Floats)(bits - (exponent << 23));       // in [sqrt(1/2), sqrt(2))
    Floats e = __builtin_convertvector(exponent, Floats);
    Floats f = m - 1.0f, z = f * f;
    Floats y = f * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f - 1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f - 1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f - 2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * z;
    y = y + e * -2.12194440e-4f;
    y = y - z * 0.5f;
    return y + f + e * 0.693359375f;
}

// b(t) = 1 + (t / 2)(tau + log t) at t* = clamp(exp(-1 - tau), low, high); the logarithm is float32's, the slack covers it.
void thresholds(const double *tau, const double *turn, const float *sigma_sq, int probes, float bucket_low,
                float bucket_high, bool metric_is_cosine, double *cosine) {
    if (metric_is_cosine) {
        for (int p = 0; p < probes; ++p) cosine[p] = tau[p] - 1e-12;
        return;
    }
    for (int p = 0; p < probes; p += kWidth) {
        const int count = probes - p < kWidth ? probes - p : kWidth;
        double t[kWidth];
        Floats single = Floats{} + 1.0f;
        for (int i = 0; i < count; ++i) {
            const double s = sigma_sq[p + i], low = s + bucket_low, high = s + bucket_high, at = turn[p + i];
            t[i] = at < low ? low : (at > high ? high : at);
            single[i] = float(t[i]);
        }
        const Floats logs = natural_log(single);
        for (int i = 0; i < count; ++i) {
            const double log_t = logs[i], size = tau[p + i] < 0 ? -tau[p + i] : tau[p + i];
            const double slack = t[i] * (4e-7 + 4e-7 * (log_t < 0 ? -log_t : log_t) + 1e-15 * size) + 1e-12;
            cosine[p + i] = tau[p + i] < -1e300 ? tau[p + i] : 1.0 + 0.5 * t[i] * (tau[p + i] + log_t) - slack;
        }
    }
}

void int8_least(const double *cosine, const float *residual, const float *norm, const double *inverse_scale, int probes,
                float tile_residual, float tile_norm, double tile_inverse_scale, int32_t *least) {
    const double by_residual = double(tile_norm) + tile_residual, by_norm = tile_residual;
    for (int p = 0; p < probes; ++p) {
        double bound = residual[p] * by_residual + norm[p] * by_norm;
        double product = (cosine[p] - bound) * (inverse_scale[p] * tile_inverse_scale);
        product -= 2.0;  // the cast raises a negative number by less than 1, the line before rounds far less than 1 off
        product = product > -2e9 ? product : -2e9;
        product = product < 2e9 ? product : 2e9;
        least[p] = int32_t(product);
    }
}

// A panel is always computed whole here: probes that are not there have zeros.
void fast_mls_panel(const float *tile, const float *panel, int dim, const float *probe_sigma_sq, const float *sigma_sq,
                    float *scores) {
    for (int part = 0; part < kTile; part += kPart) {
        Floats sums[kPanel][kVectors];
        products<kPanel>(tile, panel, dim, part, sums);
        for (int q = 0; q < kPanel; ++q)
            for (int v = 0; v < kVectors; ++v) {
                const int at = part + v * kWidth;
                const Floats t = load<Floats>(sigma_sq + at) + probe_sigma_sq[q];
                store(scores + q * kTile + at, (2.0f * sums[q][v] - 2.0f) / t - natural_log(t));
            }
    }
}

// The logarithm of a long product: exponents are added as whole numbers, mantissas multiplied, the logarithm taken once.
struct LogOfProduct {
    Ints exponents = Ints{};
    Floats mantissas = Floats{} + 1.0f;
    int factors = 0;

    void multiply(Floats x) {
        exponents += ((Ints)x >> 23) - 127;  // x is positive and normal
        mantissas *= (Floats)(((Ints)x & 0x007fffff) | 0x3f800000);
        if (++factors == 64) {  // each is below 2, and 2^64 is far from the end of float32
            exponents += ((Ints)mantissas >> 23) - 127;
            mantissas = (Floats)(((Ints)mantissas & 0x007fffff) | 0x3f800000);
            factors = 0;
        }
    }
    Floats value() const {
        return natural_log(mantissas) + __builtin_convertvector(exponents, Floats) * 0.693147181f;
    }
};

struct Fraction {
    Floats above, below;
};

// The sum of N squared distances over their variances, as one fraction: n1 / d1 + n2 / d2 = (n1 d2 + n2 d1) / (d1 d2).
//   part: [dim][2][kWidth], means and variances of kWidth references
template <int N>
__attribute__((always_inline)) inline Fraction fraction(const float *mu, const float *sigma_sq, const float *part) {
    if constexpr (N == 1) {
        Floats apart = *mu - load<Floats>(part);
        return {apart * apart, *sigma_sq + load<Floats>(part + kWidth)};
    } else {
        Fraction a = fraction<N / 2>(mu, sigma_sq, part);
        Fraction b = fraction<N / 2>(mu + N / 2, sigma_sq + N / 2, part + N * kWidth);
        return {a.above * b.below + b.above * a.below, a.below * b.below};
    }
}

template <int Merge>
inline Floats mls_of(const float *mu, const float *sigma_sq, const float *part, int dim) {
    Floats distance{};
    LogOfProduct logs;
    int d = 0;
    for (; d + Merge <= dim; d += Merge) {
        Fraction merged = fraction<Merge>(mu + d, sigma_sq + d, part + 2 * d * kWidth);
        distance += merged.above / merged.below;
        logs.multiply(merged.below);
    }
    for (; d < dim; ++d) {
        Fraction single = fraction<1>(mu + d, sigma_sq + d, part + 2 * d * kWidth);
        distance += single.above / single.below;
        logs.multiply(single.below);
    }
    return -0.5f * (distance + logs.value());
}

void mls_tile(const float *mu, const float *sigma_sq, int64_t rows, const float *mu_tile, const float *sigma_tile,
              int dim, int merge, float *part, float *scores) {
    for (int first = 0; first < kTile; first += kWidth) {
        for (int d = 0; d < dim; ++d) {
            store(part + 2 * d * kWidth, load<Floats>(mu_tile + d * kTile + first));
            store(part + (2 * d + 1) * kWidth, load<Floats>(sigma_tile + d * kTile + first));
        }
        for (int64_t row = 0; row < rows; ++row) {
            const float *m = mu + row * dim, *s = sigma_sq + row * dim;
            Floats score = merge >= 8   ? mls_of<8>(m, s, part, dim)
                           : merge >= 4 ? mls_of<4>(m, s, part, dim)
                           : merge >= 2 ? mls_of<2>(m, s, part, dim)
                                        : mls_of<1>(m, s, part, dim);
            store(scores + row * kTile + first, score);
        }
    }
}

const InstructionSet routines = {Set::kName, Set::kFastInt8, int8_panel,   float_panel, transpose,
                                 dot,        thresholds, int8_least,     fast_mls_panel, mls_tile};

}  // namespace
}  // namespace probface
