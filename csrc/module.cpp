// dmt_kernels._C: loading it registers the CPU kernels with torch; Python sees only what it says about itself.
#include <atomic>
#include <stdexcept>
#include <string>

#include "bindings.h"
#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace dmt {
namespace {

#if defined(__x86_64__)
// Whether there are matrix tiles, and the vectors of bfloat16 and of 16-bit numbers that came before them, and the
// system lets this process use them.
bool matrix_tiles() {
#if defined(__linux__) && !defined(DMT_NO_AMX)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool tiles = (d >> 22 & 1) != 0 && (d >> 24 & 1) != 0 && (c >> 6 & 1) != 0;
  if (!tiles || __get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || (a >> 5 & 1) == 0) return false;
  constexpr long kAskForState = 0x1023, kTiles = 18;
  return syscall(SYS_arch_prctl, kAskForState, kTiles) == 0;
#else
  return false;
#endif
}
#endif

Isa best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const bool tiles = avx512 && matrix_tiles();
  if (tiles) return Isa::amx;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

std::atomic<Isa>& chosen() {
  static std::atomic<Isa> isa{best()};
  return isa;
}

const char* const names[] = {"baseline", "avx2", "avx512", "amx"};

void force_isa(const std::string& name) {
  for (int i = 0; i < 4; ++i) {
    if (name != names[i]) continue;
    if (i > static_cast<int>(best())) throw std::invalid_argument("this processor has no " + name);
    chosen() = static_cast<Isa>(i);
    return;
  }
  throw std::invalid_argument("expected baseline, avx2, avx512 or amx, got " + name);
}

}  // namespace

Isa isa() { return chosen().load(std::memory_order_relaxed); }

#if defined(__x86_64__)
bool intel() {
  static const bool made = (__builtin_cpu_init(), __builtin_cpu_is("intel") != 0);
  return made;
}

#else
bool intel() { return false; }
#endif

}  // namespace dmt

PYBIND11_MODULE(_C, m) {
  m.doc() = "CPU kernels of dmt_kernels";
  m.def("isa", [] { return std::string(dmt::names[static_cast<int>(dmt::isa())]); }, "Instruction set in use.");
  m.def("force_isa", &dmt::force_isa, "Use another instruction set, for tests: baseline, avx2, avx512 or amx.");
  m.def("calls", &dmt::calls, "How often each operator of this module ran.");
  m.attr("torch_target") = "2.11";
}
