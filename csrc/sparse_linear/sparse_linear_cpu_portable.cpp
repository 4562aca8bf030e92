// The build of the steps for any processor of the target architecture.
#include "kernel.h"

namespace dmt::sparse_linear {

const Steps* portable_steps(Dtype dtype) { return steps_of(dtype); }

}  // namespace dmt::sparse_linear
