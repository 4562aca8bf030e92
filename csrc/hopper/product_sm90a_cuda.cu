// Launches of product_kernel.cuh. Nothing is read back and the grid depends on shapes alone: safe in CUDA graphs.
#include <algorithm>
#include <atomic>

#include "../cuda_device.h"
#include "product.h"
#include "product_kernel.cuh"

namespace dmt::hopper {
namespace {

constexpr int kSharedMemory = 227 * 1024;  // that a block may have

// The driver's encoder, found through the runtime so that nothing has to be linked against the driver.
decltype(&cuTensorMapEncodeTiled) encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    cuda_check(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result));
    STD_TORCH_CHECK(result == cudaDriverEntryPointSuccess, "sparse_linear: the driver has no tensor maps");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

// How the copy engine sees a matrix: boxes of `rows` rows and 64 columns, swizzled.
CUtensorMap map_of(const Matrix& m, ScalarType type, int rows) {
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(m.columns), static_cast<cuuint64_t>(m.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(m.stride) * 2};
  const cuuint32_t box[] = {kSide, static_cast<cuuint32_t>(rows)}, each[] = {1, 1};
  const auto dtype = type == ScalarType::Half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUresult made =
      encoder()(&map, dtype, 2, const_cast<void*>(m.data), sizes, strides, box, each, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  STD_TORCH_CHECK(made == CUDA_SUCCESS, "sparse_linear: the driver refuses a tensor map of ", m.rows, " x ", m.columns);
  return map;
}

bool is_mapped(const Matrix& m) {
  return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.stride % 8 == 0 && m.stride >= m.columns && m.rows > 0 &&
         m.columns > 0 && m.rows < INT32_MAX && m.columns < INT32_MAX;
}

int blocks_across(int64_t size, int each) { return static_cast<int>((size + each - 1) / each); }

template <class T, bool kInput, int kColumns>
void launch(const Job& job, Arguments a, cudaStream_t stream) {
  const auto kernel = product_kernel<T, kInput, kColumns>;
  static std::atomic<bool> allowed[kDevices];
  std::atomic<bool>& done = allowed[device_place()];
  if (!done.load(std::memory_order_relaxed)) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedMemory));
    done.store(true, std::memory_order_relaxed);
  }
  const CUtensorMap left = map_of(job.left, job.type, kSide);
  const CUtensorMap right = map_of(job.weight, job.type, kInput ? kSide : kColumns);
  a.panels = blocks_across(job.results(), kColumns);
  a.items = blocks_across(job.left.rows, kSide * kGroups) * a.panels;
  const int blocks = std::min(a.items, this_device().multiprocessors), rounds = blocks_across(a.items, blocks);
  a.stages = std::min<int>(kSharedMemory / shared_bytes<kColumns>(1), std::max(rounds * a.depth, 1));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes<kColumns>(a.stages));
  config.stream = stream;
  cudaLaunchAttribute early;
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = a.strips ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, left, right, static_cast<T*>(job.out), a));
}

// Wide blocks read less, narrow ones are more to share out: the widest of which three quarters of the device have one.
template <class T, bool kInput>
void launch_sized(const Job& job, const Arguments& a, cudaStream_t stream) {
  const int downs = blocks_across(job.left.rows, kSide * kGroups), wanted = this_device().multiprocessors * 3 / 4;
  if (downs * blocks_across(job.results(), 256) >= wanted) return launch<T, kInput, 256>(job, a, stream);
  if (downs * blocks_across(job.results(), 128) >= wanted) return launch<T, kInput, 128>(job, a, stream);
  launch<T, kInput, 64>(job, a, stream);
}

// From so many multiplications on it pays to find out first which tiles of x are dead: on an H200 with M = 4096 and
// K = N = 1024 it costs 2.6 us of 24, and with K = N = 512 more than half of the tiles have to be dead.
constexpr int64_t kWorthListing = int64_t{1} << 32;

}  // namespace

bool is_here() { return this_device().major == 9; }

bool takes(const Job& job) {
  if (job.type != ScalarType::BFloat16 && job.type != ScalarType::Half) return false;
  if (!is_mapped(job.left) || !is_mapped(job.weight) || job.results() % 8 != 0) return false;
  if (reinterpret_cast<uintptr_t>(job.bias) % 4 != 0 || reinterpret_cast<uintptr_t>(job.out) % 16 != 0) return false;
  const int64_t downs = blocks_across(job.left.rows, kSide * kGroups);
  if (downs * blocks_across(job.results(), kSide) >= INT32_MAX / 2) return false;
  return is_here();
}

void run(const Job& job, const Tensor& like) {
  const cudaStream_t stream = stream_of(like);
  const int64_t masked = job.input ? job.results() : job.left.columns;
  Arguments a{};
  a.rows = job.left.rows;
  a.depth = blocks_across(job.left.columns, kSide);
  a.columns = static_cast<int>(job.results());
  a.bits = reinterpret_cast<const uint2*>(job.bits);
  a.words = words(masked);
  a.bias = job.bias;
  Tensor strips;
  const bool listed = job.by_tile && !job.input && a.words <= kMostListed &&
                      job.left.rows * job.left.columns * job.results() >= kWorthListing;
  if (listed) {
    const int count = blocks_across(job.left.rows, kSide);
    strips = empty({count, 2}, ScalarType::Long, like);
    auto* found = static_cast<Strip*>(strips.mutable_data_ptr());
    strips_kernel<<<static_cast<unsigned>(count), 256, 0, stream>>>(a.bits, a.rows, static_cast<int>(masked),
                                                                    static_cast<int>(a.words), found);
    launch_check();
    a.strips = found;
  }
  if (job.type == ScalarType::Half) {
    job.input ? launch_sized<__half, true>(job, a, stream) : launch_sized<__half, false>(job, a, stream);
  } else {
    job.input ? launch_sized<__nv_bfloat16, true>(job, a, stream) : launch_sized<__nv_bfloat16, false>(job, a, stream);
  }
}

}  // namespace dmt::hopper
