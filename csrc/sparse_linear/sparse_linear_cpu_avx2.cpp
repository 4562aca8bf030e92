// The AVX2 build of the steps.
#include "kernel.h"

namespace dmt::sparse_linear {

const Steps* avx2_steps(Dtype dtype) { return steps_of(dtype); }

}  // namespace dmt::sparse_linear
