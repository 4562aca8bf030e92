// The AVX2 build.
#include "kernel.h"

namespace dmt::sparse_bmm {

Runs avx2_runs() { return {run<float>, run<double>, count_live<float>, count_live<double>}; }

}  // namespace dmt::sparse_bmm
