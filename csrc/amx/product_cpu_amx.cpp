// The build of the steps for AVX-512 and AMX.
#include "columns.h"
#include "parts.h"

namespace dmt::amx {

namespace {
constexpr Columns kColumns = {gather_columns, scatter_columns};
}

const Steps* bfloat16_steps() { return &kBfloat16; }
const Steps* float_steps() { return &kFloat; }
const Columns* columns() { return &kColumns; }

}  // namespace dmt::amx
