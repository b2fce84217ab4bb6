// Which instruction set runs: the best that the CPU has, or a lower one named by the environment variable FOVEA_ISA.
#include "runtime/cpu.h"

#include <cstdlib>
#include <stdexcept>

namespace fovea {

#if defined(__x86_64__)
std::vector<std::string> cpu_features() {
    std::vector<std::string> names;
    __builtin_cpu_init();
#define FOVEA_FEATURE(name) \
    if (__builtin_cpu_supports(name)) names.push_back(name);
    FOVEA_FEATURE("sse4.2")
    FOVEA_FEATURE("avx")
    FOVEA_FEATURE("avx2")
    FOVEA_FEATURE("fma")
    FOVEA_FEATURE("bmi2")
    FOVEA_FEATURE("avx512f")
    FOVEA_FEATURE("avx512bw")
    FOVEA_FEATURE("avx512dq")
    FOVEA_FEATURE("avx512vl")
    FOVEA_FEATURE("avx512vnni")
    FOVEA_FEATURE("avx512bf16")
#undef FOVEA_FEATURE
    return names;
}
#else
std::vector<std::string> cpu_features() { return {}; }
#endif

#if defined(__x86_64__) && !defined(FOVEA_ONE_ISA)
namespace isa_v2 {
KernelTable kernel_table();
DotKernels dot_table();
}  // namespace isa_v2
namespace isa_v3 {
KernelTable kernel_table();
DotKernels dot_table();
}  // namespace isa_v3
namespace isa_v4 {
KernelTable kernel_table();
DotKernels dot_table();
}  // namespace isa_v4
namespace isa_v4d {
DotKernels dot_table();
}

static bool has(std::initializer_list<const char*> wanted) {
    const std::vector<std::string> present = cpu_features();
    for (const char* name : wanted) {
        bool found = false;
        for (const auto& feature : present) found = found || feature == name;
        if (!found) return false;
    }
    return true;
}

static KernelTable choose() {
    const bool v3 = has({"avx", "avx2", "fma", "bmi2"});
    const bool v4 = v3 && has({"avx512f", "avx512bw", "avx512dq", "avx512vl"});
    const char* wish = std::getenv("FOVEA_ISA");
    if (!wish || !*wish) return v4 ? isa_v4::kernel_table() : v3 ? isa_v3::kernel_table() : isa_v2::kernel_table();
    const std::string name = wish;
    if (name == "v4" && v4) return isa_v4::kernel_table();
    if (name == "v3" && v3) return isa_v3::kernel_table();
    if (name == "v2") return isa_v2::kernel_table();
    throw std::runtime_error("FOVEA_ISA must be v2, v3 or v4 and supported by this CPU (it has " +
                             std::string(v4   ? "v4"
                                         : v3 ? "v3"
                                              : "v2") +
                             "), got '" + name + "'");
}

static DotKernels choose_dot() {
    const std::string isa = kernels().isa;
    const char* wish = std::getenv("FOVEA_ISA");
    if (isa == "v2") return isa_v2::dot_table();
    if (isa == "v3") return isa_v3::dot_table();
    const bool dot = (!wish || !*wish) && has({"avx512bf16", "avx512vnni"});
    return dot ? isa_v4d::dot_table() : isa_v4::dot_table();
}
#else
namespace isa_baseline {
KernelTable kernel_table();
DotKernels dot_table();
}  // namespace isa_baseline

static KernelTable choose() { return isa_baseline::kernel_table(); }
static DotKernels choose_dot() { return isa_baseline::dot_table(); }
#endif

const KernelTable& kernels() {
    static const KernelTable table = choose();
    return table;
}

const DotKernels& dot_kernels() {
    static const DotKernels table = choose_dot();
    return table;
}

}  // namespace fovea
