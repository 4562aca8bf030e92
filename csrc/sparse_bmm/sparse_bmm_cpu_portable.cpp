// The build for any processor of the target architecture.
#include "kernel.h"

namespace dmt::sparse_bmm {

Runs portable_runs() { return {run<float>, run<double>, count_live<float>, count_live<double>}; }

}  // namespace dmt::sparse_bmm
