// The build for any processor of the target architecture.
#include "kernel.h"

namespace dmt::sparse_bmm {

Steps portable_steps(bool wide) { return wide ? steps<double>() : steps<float>(); }

}  // namespace dmt::sparse_bmm
