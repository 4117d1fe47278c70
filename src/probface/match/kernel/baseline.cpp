// 4 float32 to a vector, with what every processor of the architecture has (SSE2, NEON, or plain arithmetic).
#include "kernel.h"

namespace probface {
namespace {

struct Set {
    static constexpr const char *kName = "baseline";
    static constexpr bool kFastInt8 = false, kBiased = true;
    static constexpr int kWidth = 4, kVectors = 2;
    typedef int32_t Ints __attribute__((vector_size(16)));
    typedef float Floats __attribute__((vector_size(16)));
    struct Codes {
        const uint8_t *bytes;
    };
    struct Probe {
        const int8_t *four;
    };

    static Codes codes(const uint8_t *from) { return {from}; }
    static Probe probe(const int8_t *four) { return {four}; }
    static Ints dot4(Ints sums, Codes references, Probe probe) {
        for (int i = 0; i < kWidth; ++i)
            for (int b = 0; b < 4; ++b) sums[i] += int32_t(references.bytes[4 * i + b]) * probe.four[b];
        return sums;
    }
    static uint32_t bits(Ints mask) {
        return uint32_t((mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8));
    }
    static uint32_t not_less(Ints a, Ints b) { return bits(a >= b); }
    static uint32_t not_less(Floats a, Floats b) { return bits(a >= b); }
};

}  // namespace
}  // namespace probface

#include "vectors.h"

const probface::InstructionSet *probface::baseline() { return &routines; }
