// Names of the tensor cores' interface. float32 has no use for them, and only that is run here.
#pragma once

namespace nvcuda::wmma {
struct accumulator;
struct matrix_a;
struct matrix_b;
struct row_major;
enum layout_t { mem_row_major };
template <class Use, int m, int n, int k, class T, class Layout = void>
struct fragment {};
template <class F, class T>
void fill_fragment(F&, T);
template <class F, class T>
void load_matrix_sync(F&, const T*, unsigned);
template <class C, class A, class B>
void mma_sync(C&, const A&, const B&, const C&);
template <class F, class T>
void store_matrix_sync(T*, const F&, unsigned, layout_t);
}  // namespace nvcuda::wmma
