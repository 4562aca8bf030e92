// What Hopper has and CUDA C++ does not: barriers that count bytes, the copy engine for tiles, and products of a
// warpgroup (PTX ISA 8.0: mbarrier, cp.async.bulk.tensor, wgmma). For sm_90a alone.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace dmt::hopper {

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// ---- barriers; `barrier` is a shared address ----

__device__ inline void init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes barriers known to the copy engine, before the block meets.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and says how many bytes are to come before the phase is over.
__device__ inline void expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline void wait(uint32_t barrier, uint32_t phase) {
  uint32_t done;
  do {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(barrier), "r"(phase)
                 : "memory");
  } while (!done);
}

__device__ inline void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// ---- pairs of numbers ----

template <class T>
constexpr bool kIsBrain = std::is_same_v<T, __nv_bfloat16>;

template <class T>
__device__ inline uint32_t packed(float a, float b) {
  if constexpr (kIsBrain<T>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
}

template <class T>
__device__ inline float2 unpacked(uint32_t pair) {
  if constexpr (kIsBrain<T>) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pair));
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
}

// ---- shared memory whose size the launch says ----

__device__ inline uint8_t* launched_memory() {
  extern __shared__ __align__(1024) uint8_t memory[];
  return memory;
}

// ---- registers, which warpgroups hand to one another ----

template <int kCount>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ inline void leave_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

// ---- tiles; outside the tensor they are zeros ----

__device__ inline void load_tile(uint32_t to, const CUtensorMap* map, uint32_t barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

// ---- launches that begin before the one ahead has ended ----

__device__ inline void wait_for_launch_ahead() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ inline void let_next_launch_begin() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- matrices of 8 x 8 16-bit values from shared memory to the registers of a warp ----

__device__ inline void load_matrices(uint32_t from, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(from)
               : "memory");
}

// Each nibble of kWhich, 8 and more, says of which byte of `a` (8 to 11) or `b` (12 to 15) the sign fills a byte of the
// result; __byte_perm cannot ask for signs.
template <uint32_t kWhich>
__device__ inline uint32_t spread_signs(uint32_t a, uint32_t b) {
  uint32_t spread;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(spread) : "r"(a), "r"(b), "n"(kWhich));
  return spread;
}

// ---- products of a warpgroup: 64 x N sums += 64 x 16 by 16 x N ----

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Of 64 x N sums a thread of the warpgroup has N / 2: of eight neighbours number j, 2 * (lane % 4) and the next, in its
// row (from 4 * j on) and eight rows further down (from 4 * j + 2 on).
template <int N>
struct Products;

#define DMT_F4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define DMT_F32(i)                                                                                         \
  DMT_F4(i), DMT_F4(i + 4), DMT_F4(i + 8), DMT_F4(i + 12), DMT_F4(i + 16), DMT_F4(i + 20), DMT_F4(i + 24), \
      DMT_F4(i + 28)
#define DMT_OPERANDS_64 DMT_F32(0)
#define DMT_OPERANDS_128 DMT_F32(0), DMT_F32(32)
#define DMT_OPERANDS_256 DMT_F32(0), DMT_F32(32), DMT_F32(64), DMT_F32(96)
#define DMT_NAMES_64                                                                                     \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define DMT_NAMES_128                                                                                    \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, " \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
  "%62, %63"
#define DMT_NAMES_256                                                                                    \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, " \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, " \
  "%62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
  "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, "     \
  "%101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, "     \
  "%117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define DMT_PRODUCT(n, types, left, down)                                                             \
  "{\n.reg .pred add;\nsetp.eq.b32 add, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." types \
  " {" DMT_NAMES_##n "}, " left ", add, 1, 1, " down ";\n}"

// One width of result: products with the left operand in shared memory and in registers, and waiting for them. kDown:
// the sum runs down the rows of the right operand's tiles, instead of along them. a, b, c, e, g: numbers of operands.
#define DMT_WIDTH(n, a, b, c, e, g)                                                                          \
  template <>                                                                                                \
  struct Products<n> {                                                                                       \
    template <class T, bool kDown>                                                                           \
    __device__ static inline void add(float* d, uint64_t left, uint64_t right) {                             \
      if constexpr (kIsBrain<T>) {                                                                           \
        asm volatile(DMT_PRODUCT(n, "bf16.bf16", "%" #a ", %" #b, "0, %" #c)                                 \
                     : DMT_OPERANDS_##n                                                                      \
                     : "l"(left), "l"(right), "n"(kDown ? 1 : 0));                                           \
      } else {                                                                                               \
        asm volatile(DMT_PRODUCT(n, "f16.f16", "%" #a ", %" #b, "0, %" #c)                                   \
                     : DMT_OPERANDS_##n                                                                      \
                     : "l"(left), "l"(right), "n"(kDown ? 1 : 0));                                           \
      }                                                                                                      \
    }                                                                                                        \
    template <class T>                                                                                       \
    __device__ static inline void add(float* d, const uint32_t (&left)[4], uint64_t right) {                 \
      if constexpr (kIsBrain<T>) {                                                                           \
        asm volatile(DMT_PRODUCT(n, "bf16.bf16", "{%" #a ", %" #b ", %" #c ", %" #e "}, %" #g, "0")          \
                     : DMT_OPERANDS_##n                                                                      \
                     : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));                  \
      } else {                                                                                               \
        asm volatile(DMT_PRODUCT(n, "f16.f16", "{%" #a ", %" #b ", %" #c ", %" #e "}, %" #g, "0")            \
                     : DMT_OPERANDS_##n                                                                      \
                     : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));                  \
      }                                                                                                      \
    }                                                                                                        \
    /* Until at most kPending groups of this warpgroup are under way; the sums of the others may be read. */ \
    template <int kPending>                                                                                  \
    __device__ static inline void wait(float* d) {                                                           \
      asm volatile("wgmma.wait_group.sync.aligned %" #a ";" : DMT_OPERANDS_##n : "n"(kPending) : "memory");  \
    }                                                                                                        \
  };

DMT_WIDTH(64, 32, 33, 34, 35, 36)
DMT_WIDTH(128, 64, 65, 66, 67, 68)
DMT_WIDTH(256, 128, 129, 130, 131, 132)

#undef DMT_WIDTH
#undef DMT_PRODUCT
#undef DMT_NAMES_256
#undef DMT_NAMES_128
#undef DMT_NAMES_64
#undef DMT_OPERANDS_256
#undef DMT_OPERANDS_128
#undef DMT_OPERANDS_64
#undef DMT_F32
#undef DMT_F4

// Keeps the left operands of products in their registers until these are over, which the assembler does not: it takes
// them for free once the products have begun. To be called after waiting for the sum `d`. Nothing comes of the
// comparison.
__device__ inline void hold_until_here(const uint32_t (&left)[4][4], float d) {
  uint32_t mixed = __float_as_uint(d);
#pragma unroll
  for (int i = 0; i < 16; i += 2) mixed ^= left[i / 4][i % 4] ^ left[i / 4][i % 4 + 1];
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, %0, 0x7fc12345;\n@p nanosleep.u32 0;\n}" ::"r"(mixed));
}

}  // namespace dmt::hopper
