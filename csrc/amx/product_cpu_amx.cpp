// The build of the steps for AVX-512 and AMX.
#include "columns.h"
#include "convolve.h"

namespace dmt::amx {

namespace {
constexpr Columns kColumns = {gather_columns, scatter_columns};
constexpr ModulationSteps kModulation = {modulate, pool};
}  // namespace

const Steps* bfloat16_steps() { return &kBfloat16; }
const Steps* float_steps() { return &kFloat; }
const Columns* columns() { return &kColumns; }
const ModulationSteps* modulation_steps() { return &kModulation; }
const ConvolutionSteps* convolution_steps(int64_t parts) {
  using convolution::kSteps;
  return parts == 1 ? &kSteps<1> : parts == 2 ? &kSteps<2> : &kSteps<3>;
}

}  // namespace dmt::amx
