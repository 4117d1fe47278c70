// 8 float32 to a vector. Byte products go through 16 bits: no faster than float32, but a quarter of the memory.
#include "kernel.h"

#if defined(__AVX2__) && defined(__FMA__)
#include "compares256.h"

namespace probface {
namespace {

struct Set : Compares256 {
    static constexpr const char *kName = "avx2";
    static constexpr bool kFastInt8 = false, kBiased = true;
    static constexpr int kWidth = 8, kVectors = 2;  // 6 x 2 sums, 2 vectors of references, 1 of probes: 15 of 16
    struct Pairs {
        __m256i even, odd;  // bytes 0 and 2, bytes 1 and 3 of each four, as 16-bit numbers
    };
    typedef Pairs Codes, Probe;

    static Codes codes(const uint8_t *from) {
        __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
        return {_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16(bytes, 8)};
    }
    static Probe probe(const int8_t *four) {
        __m256i bytes = _mm256_set1_epi32(four_bytes(four));
        return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
    }
    static Ints dot4(Ints sums, const Codes &references, const Probe &four) {
        __m256i even = _mm256_madd_epi16(references.even, four.even);
        __m256i odd = _mm256_madd_epi16(references.odd, four.odd);
        return sums + (Ints)_mm256_add_epi32(even, odd);
    }
};

}  // namespace
}  // namespace probface

#include "vectors.h"

const probface::InstructionSet *probface::avx2() { return &routines; }
#else
const probface::InstructionSet *probface::avx2() { return nullptr; }
#endif
