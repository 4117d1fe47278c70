// 8 float32 to a vector; one instruction multiplies and adds 32 pairs of bytes (processors without AVX-512).
#include "kernel.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
#include "compares256.h"

namespace probface {
namespace {

struct Set : Compares256 {
    static constexpr const char *kName = "avx-vnni";
    static constexpr bool kFastInt8 = true, kBiased = true;
    static constexpr int kWidth = 8, kVectors = 2;
    typedef __m256i Codes, Probe;

    static Codes codes(const uint8_t *from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)); }
    static Probe probe(const int8_t *four) { return _mm256_set1_epi32(four_bytes(four)); }
    static Ints dot4(Ints sums, Codes references, Probe four) {
        return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, references, four);
    }
};

}  // namespace
}  // namespace probface

#include "vectors.h"

const probface::InstructionSet *probface::avx_vnni() { return &routines; }
#else
const probface::InstructionSet *probface::avx_vnni() { return nullptr; }
#endif
