// dmt_kernels._C_cuda: loading it registers the CUDA kernels with torch.
#include "bindings.h"

PYBIND11_MODULE(_C_cuda, m) {
  m.doc() = "CUDA kernels of dmt_kernels";
  m.def("calls", &dmt::calls, "How often each operator of this module ran.");
  m.attr("torch_target") = "2.11";
}
