// Comparisons of vectors of 8, for the two sets that have 256 bits. Included between its own processor's guards.
#pragma once

#include <cstdint>
#include <immintrin.h>

namespace probface {
namespace {

struct Compares256 {
    typedef int32_t Ints __attribute__((vector_size(32)));
    typedef float Floats __attribute__((vector_size(32)));

    static uint32_t not_less(Ints a, Ints b) {
        return 255 ^ _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32((__m256i)b, (__m256i)a)));
    }
    static uint32_t not_less(Floats a, Floats b) {
        return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
    }
};

}  // namespace
}  // namespace probface
