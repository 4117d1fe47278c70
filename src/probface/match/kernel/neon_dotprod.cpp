// 4 float32 to a vector; one instruction multiplies and adds 16 pairs of bytes (64-bit ARM with DotProd).
#include "kernel.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

namespace probface {
namespace {

struct Set {
    static constexpr const char *kName = "neon-dotprod";
    static constexpr bool kFastInt8 = true, kBiased = false;  // both sides are signed here
    static constexpr int kWidth = 4, kVectors = 4;            // 6 x 4 sums, 4 vectors of references, 1 of probes
    typedef int32_t Ints __attribute__((vector_size(16)));
    typedef float Floats __attribute__((vector_size(16)));
    typedef int8x16_t Codes, Probe;

    static Codes codes(const uint8_t *from) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(128))); }
    static Probe probe(const int8_t *four) {
        return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(four)));
    }
    static Ints dot4(Ints sums, Codes references, Probe four) {
        return (Ints)vdotq_s32((int32x4_t)sums, references, four);
    }
    static uint32_t bits(uint32x4_t mask) {
        const uint32_t places[4] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(mask, vld1q_u32(places)));
    }
    static uint32_t not_less(Ints a, Ints b) { return bits(vcgeq_s32((int32x4_t)a, (int32x4_t)b)); }
    static uint32_t not_less(Floats a, Floats b) { return bits(vcgeq_f32((float32x4_t)a, (float32x4_t)b)); }
};

}  // namespace
}  // namespace probface

#include "vectors.h"

const probface::InstructionSet *probface::neon_dotprod() { return &routines; }
#else
const probface::InstructionSet *probface::neon_dotprod() { return nullptr; }
#endif
