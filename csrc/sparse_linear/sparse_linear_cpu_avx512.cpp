// The AVX-512 build of the steps.
#include "kernel.h"

namespace dmt::sparse_linear {

const Steps* avx512_steps(Dtype dtype) { return steps_of(dtype); }

}  // namespace dmt::sparse_linear
