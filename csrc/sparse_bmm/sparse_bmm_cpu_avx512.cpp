// The AVX-512 build.
#include "kernel.h"

namespace dmt::sparse_bmm {

Runs avx512_runs() { return {run<float>, run<double>, count_live<float>, count_live<double>}; }

}  // namespace dmt::sparse_bmm
