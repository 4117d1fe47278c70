// Which instruction sets this processor has.
#include "kernel.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace probface {

static bool runs_avx512_vnni() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

static bool runs_avx2() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static bool runs_avx_vnni() {
#if defined(__x86_64__)
    // Leaf 7, subleaf 1, EAX bit 4; compilers learnt the name at different times.
    unsigned eax = 7, ebx, ecx = 1, edx;
    if (!runs_avx2()) return false;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return eax >> 4 & 1;
#else
    return false;
#endif
}

static bool runs_neon_dotprod() {
#if defined(__aarch64__) && defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#elif defined(__aarch64__) && defined(__APPLE__)
    return true;
#else
    return false;
#endif
}

int instruction_sets(const InstructionSet **sets, int capacity) {
    const InstructionSet *candidates[] = {
        runs_avx512_vnni() ? avx512_vnni() : nullptr, runs_avx_vnni() ? avx_vnni() : nullptr,
        runs_avx2() ? avx2() : nullptr, runs_neon_dotprod() ? neon_dotprod() : nullptr, baseline()};
    int count = 0;
    for (const InstructionSet *candidate : candidates)
        if (candidate && count < capacity) sets[count++] = candidate;
    return count;
}

}  // namespace probface
