// Matrix products of blocks that stay in the caches. Rows are padded to whole vectors, so that none has a tail.
#pragma once

#include <cstddef>

#include "vectors-inl.hpp"

namespace streamrde {
namespace {

// Rows by vectors of a tile: its sums take 12 of AVX2's 16 registers or 24 of AVX-512's 32, weights and a factor the rest.
#if defined(__AVX512F__)
constexpr int tile_rows = 6, narrow_rows = 12, tile_vectors = 4;
#else
constexpr int tile_rows = 6, narrow_rows = 6, tile_vectors = 2;
#endif
template <int N>
constexpr int rows_of_tile = N == tile_vectors ? tile_rows : narrow_rows;

// out[s] = bias + sum_k x[s][k] weight[k] for S rows and N vectors. A multiply-add takes 4 cycles, and two can begin in each:
// P partial sums, interleaved, let a tile of few sums not wait for them. Their number and order decide a sum's bits.
// turned: x stands as (inputs, x_stride), a row's number the fastest index, so that one pointer finds the factors of all rows.
template <typename T, int S, int N, int P, bool turned = false>
inline void product_tile(const T* __restrict weight, std::ptrdiff_t stride, int inputs, const T* __restrict x,
                         std::ptrdiff_t x_stride, const T* __restrict bias, T* __restrict out,
                         std::ptrdiff_t out_stride) {
    using V = Vector<T>;
    constexpr int lanes = lanes_of<T>;
    V sum[P][S][N];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[p][s][n] = bias && !p ? load(bias + n * lanes) : V{};
    const auto add = [&](int p, int k) __attribute__((always_inline)) {
        V row[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) row[n] = load(weight + k * stride + n * lanes);
#pragma GCC unroll 16
        for (int s = 0; s < S; ++s) {
            const V factor = all<T>(turned ? x[k * x_stride + s] : x[s * x_stride + k]);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[p][s][n] = fma(row[n], factor, sum[p][s][n]);
        }
    };
    int k = 0;
    for (; k + P <= inputs; k += P)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) add(p, k + p);
#pragma GCC unroll 16
    for (int p = 0; p < P - 1; ++p)
        if (k + p < inputs) add(p, k + p);
    // Halves are added: (0 + 1) + (2 + 3).
#pragma GCC unroll 16
    for (int step = 1; step < P; step *= 2)
#pragma GCC unroll 16
        for (int p = 0; p < P; p += 2 * step)
#pragma GCC unroll 16
            for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
                for (int n = 0; n < N; ++n) sum[p][s][n] += sum[p + step][s][n];
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) store(out + s * out_stride + n * lanes, sum[0][s][n]);
}

enum class Partials {
    one,      // and x is turned: a sum has the same bits however many rows there are
    fitting,  // as many as keep the multiply-adds busy
};
template <int S, int N, Partials partials>
constexpr int partials_of = partials == Partials::one ? 1
                            : S * N < 4               ? 4
                            : S * N < 8               ? 2
                                                      : 1;

// The same for the last rows of a block, fewer than S + 1.
template <typename T, int S, int N, Partials partials>
inline void product_rest(std::ptrdiff_t count, const T* weight, std::ptrdiff_t stride, int inputs, const T* x,
                         std::ptrdiff_t x_stride, const T* bias, T* out, std::ptrdiff_t out_stride) {
    if constexpr (S > 0) {
        if (count == S)
            product_tile<T, S, N, partials_of<S, N, partials>, partials == Partials::one>(
                weight, stride, inputs, x, x_stride, bias, out, out_stride);
        else product_rest<T, S - 1, N, partials>(count, weight, stride, inputs, x, x_stride, bias, out, out_stride);
    }
}

template <typename T, int N, Partials partials>
inline void product_columns(const T* weight, std::ptrdiff_t stride, int inputs, const T* x, std::ptrdiff_t x_stride,
                            const T* bias, T* out, std::ptrdiff_t out_stride, std::ptrdiff_t count) {
    constexpr int most = rows_of_tile<N>;
    constexpr bool turned = partials == Partials::one;
    std::ptrdiff_t s = 0;
    for (; s + most <= count; s += most)
        product_tile<T, most, N, 1, turned>(weight, stride, inputs, x + (turned ? s : s * x_stride), x_stride, bias,
                                            out + s * out_stride, out_stride);
    product_rest<T, most - 1, N, partials>(count - s, weight, stride, inputs, x + (turned ? s : s * x_stride), x_stride,
                                           bias, out + s * out_stride, out_stride);
}

// out[s] = bias + sum_k x[s][k] weight[k] for count rows; weight (inputs, stride), `outputs` whole vectors of it; bias may be
// null.
template <typename T, Partials partials = Partials::fitting>
void product(const T* weight, std::ptrdiff_t stride, int inputs, int outputs, const T* x, std::ptrdiff_t x_stride,
             const T* bias, T* out, std::ptrdiff_t out_stride, std::ptrdiff_t count) {
    constexpr int lanes = lanes_of<T>;
    int r = 0;
    for (; r + tile_vectors * lanes <= outputs; r += tile_vectors * lanes)
        product_columns<T, tile_vectors, partials>(weight + r, stride, inputs, x, x_stride, bias ? bias + r : nullptr,
                                                   out + r, out_stride, count);
    if constexpr (tile_vectors > 2)
        for (; r + 2 * lanes <= outputs; r += 2 * lanes)
            product_columns<T, 2, partials>(weight + r, stride, inputs, x, x_stride, bias ? bias + r : nullptr, out + r,
                                            out_stride, count);
    for (; r < outputs; r += lanes)
        product_columns<T, 1, partials>(weight + r, stride, inputs, x, x_stride, bias ? bias + r : nullptr, out + r,
                                        out_stride, count);
}

// The same for one row whose weights no other shares: all its sums at once, so that the weights pass once.
template <typename T, Partials partials = Partials::fitting>
inline void product_of_row(const T* weight, std::ptrdiff_t stride, int inputs, int outputs, const T* x, const T* bias,
                           T* out, std::ptrdiff_t x_stride = 0) {
    constexpr int lanes = lanes_of<T>, wide = 2 * tile_vectors;
    int r = 0;
    for (; r + wide * lanes <= outputs; r += wide * lanes)
        product_tile<T, 1, wide, 1, partials == Partials::one>(weight + r, stride, inputs, x, x_stride,
                                                               bias ? bias + r : nullptr, out + r, 0);
    product<T, partials>(weight + r, stride, inputs, outputs - r, x, x_stride, bias ? bias + r : nullptr, out + r, 0,
                         1);
}

// The same for S rows, each sum of four partial ones whatever S is: a row's bits do not depend on the others. `outputs` need
// not be whole vectors, but `stride` is.
template <typename T, int S>
inline void product_of_rows(const T* weight, std::ptrdiff_t stride, int inputs, int outputs, const T* x,
                            std::ptrdiff_t x_stride, const T* bias, T* out, std::ptrdiff_t out_stride) {
    constexpr int lanes = lanes_of<T>, wide = S == 1 ? 2 : 1;  // with the weights so many registers as there are
    int r = 0;
    for (; r + wide * lanes <= stride && r < outputs; r += wide * lanes)
        product_tile<T, S, wide, 4>(weight + r, stride, inputs, x, x_stride, bias + r, out + r, out_stride);
    for (; r < outputs; r += lanes)
        product_tile<T, S, 1, 4>(weight + r, stride, inputs, x, x_stride, bias + r, out + r, out_stride);
}

#if defined(__AVX512F__)
constexpr int most_sums = 14;
#else
constexpr int most_sums = 6;
#endif

// to[j] += sum_c a[c][j] b[c] for J rows, of which `valid` are stored, and N vectors.
template <typename T, int J, int N>
inline void accumulate_tile(int valid, const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride,
                            std::ptrdiff_t count, T* to, std::ptrdiff_t stride) {
    using V = Vector<T>;
    constexpr int lanes = lanes_of<T>;
    V sum[J][N];
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[j][n] = j < valid ? load(to + j * stride + n * lanes) : V{};
    for (std::ptrdiff_t c = 0; c < count; ++c) {
        V value[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) value[n] = load(b + c * b_stride + n * lanes);
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j) {
            const V factor = all<T>(a[c * a_stride + j]);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) sum[j][n] = fma(value[n], factor, sum[j][n]);
        }
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
            if (j < valid) store(to + j * stride + n * lanes, sum[j][n]);
}

template <typename T, int J, int N>
inline void accumulate_sums(int tile, int valid, const T* a, std::ptrdiff_t a_stride, const T* b,
                            std::ptrdiff_t b_stride, std::ptrdiff_t count, T* to, std::ptrdiff_t stride) {
    if constexpr (J > 0) {
        if (tile == J) accumulate_tile<T, J, N>(valid, a, a_stride, b, b_stride, count, to, stride);
        else accumulate_sums<T, J - 2, N>(tile, valid, a, a_stride, b, b_stride, count, to, stride);
    }
}

// to[j] += sum_c a[c][j] b[c] over count rows; b and to `outputs` wide, whole vectors. a is read up to an even number of j.
template <typename T>
void accumulate(const T* a, std::ptrdiff_t a_stride, int terms, const T* b, std::ptrdiff_t b_stride, int outputs,
                std::ptrdiff_t count, T* to, std::ptrdiff_t stride) {
    constexpr int lanes = lanes_of<T>;
    const int tiles = (terms + most_sums - 1) / most_sums;
    const int tile = ((terms + tiles - 1) / tiles + 1) / 2 * 2;
    int r = 0;
    for (; r + 2 * lanes <= outputs; r += 2 * lanes)
        for (int j = 0; j < terms; j += tile) {
            const int valid = terms - j < tile ? terms - j : tile;
            accumulate_sums<T, most_sums, 2>((valid + 1) / 2 * 2, valid, a + j, a_stride, b + r, b_stride, count,
                                             to + j * stride + r, stride);
        }
    for (; r < outputs; r += lanes)
        for (int j = 0; j < terms; j += tile) {
            const int valid = terms - j < tile ? terms - j : tile;
            accumulate_sums<T, most_sums, 1>((valid + 1) / 2 * 2, valid, a + j, a_stride, b + r, b_stride, count,
                                             to + j * stride + r, stride);
        }
}

}  // namespace
}  // namespace streamrde
