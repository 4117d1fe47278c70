// 16 float32 to a vector; one instruction multiplies and adds 64 pairs of bytes.
#include "kernel.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include <immintrin.h>

namespace probface {
namespace {

struct Set {
    static constexpr const char *kName = "avx512-vnni";
    static constexpr bool kFastInt8 = true, kBiased = true;
    static constexpr int kWidth = 16, kVectors = 4;  // 6 x 4 sums, 4 vectors of references, 1 of probes: 29 of 32
    typedef int32_t Ints __attribute__((vector_size(64)));
    typedef float Floats __attribute__((vector_size(64)));
    typedef __m512i Codes, Probe;

    static Codes codes(const uint8_t *from) { return _mm512_loadu_si512(from); }
    static Probe probe(const int8_t *four) { return _mm512_set1_epi32(four_bytes(four)); }
    static Ints dot4(Ints sums, Codes references, Probe four) {
        return (Ints)_mm512_dpbusd_epi32((__m512i)sums, references, four);
    }
    static uint32_t not_less(Ints a, Ints b) { return _mm512_cmpge_epi32_mask((__m512i)a, (__m512i)b); }
    static uint32_t not_less(Floats a, Floats b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
};

}  // namespace
}  // namespace probface

#include "vectors.h"

const probface::InstructionSet *probface::avx512_vnni() { return &routines; }
#else
const probface::InstructionSet *probface::avx512_vnni() { return nullptr; }
#endif
