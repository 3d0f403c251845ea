// The truncated tensor algebra over C letters up to depth N, on rows of numbers.
//
// A row holds levels 1 to N one after the other. Within a level the FIRST letter runs fastest: the word (w1, ..., wk)
// stands at w1 + w2 C + ... + wk C^(k-1). Multiplying from the right by a vector is then, letter by letter, one scalar
// times a contiguous array, whatever C is; with the last letter fastest the inner loop would have length C.
//
// Every function is a template over (C, N), read at run time where they are 0, and over T: a double, or Lanes, a vector
// of doubles that holds as many paths. Order and kind of the operations on a coefficient are the same throughout (a
// fused multiply-add is written as one, and the files are compiled without contraction), so all give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "variant.hpp"

#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif

namespace streamrde {
namespace {

constexpr int largest_depth = 32;

#if defined(__AVX512F__)
typedef double Lanes __attribute__((vector_size(64)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return (Lanes)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__)
typedef double Lanes __attribute__((vector_size(32)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return (Lanes)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__)
typedef double Lanes __attribute__((vector_size(16)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return (Lanes)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
typedef double Lanes __attribute__((vector_size(16)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return a * b + c; }
#endif
constexpr int lanes = sizeof(Lanes) / sizeof(double);

inline double fma(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

// Written out n times: f(0), f(1), ..., the number known at compile time.
#define ALWAYS __attribute__((always_inline))
template <typename F, int... I>
ALWAYS inline void unroll(F&& f, std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int n, typename F>
ALWAYS inline void unroll(F&& f) {
    unroll(f, std::make_integer_sequence<int, n>{});
}

constexpr std::ptrdiff_t power(int base, int exponent) {
    std::ptrdiff_t value = 1;
    for (int k = 0; k < exponent; ++k) value *= base;
    return value;
}

constexpr std::ptrdiff_t row_size(int channels, int depth) {
    std::ptrdiff_t size = 0;
    for (int k = 1; k <= depth; ++k) size += power(channels, k);
    return size;
}

template <int CT, int NT>
struct Sizes {
    const int channels, depth;
    std::ptrdiff_t power[(NT ? NT : largest_depth) + 1];   // C^k
    std::ptrdiff_t offset[(NT ? NT : largest_depth) + 2];  // where level k begins; entry N + 1 is the row's size

    Sizes(int c, int n) : channels(CT ? CT : c), depth(NT ? NT : n) {
        power[0] = 1;
        offset[1] = 0;
        for (int k = 1; k <= (NT ? NT : depth); ++k) {
            power[k] = power[k - 1] * (CT ? CT : channels);
            offset[k + 1] = offset[k] + power[k];
        }
    }
};

// out[i * length + w] = left[w] * right[i] + add[i * length + w]; out may be add.
template <int CT, typename T>
inline void multiply_add(T* out, const T* left, std::ptrdiff_t length, const T* right, int letters, const T* add) {
    for (int i = 0; i < (CT ? CT : letters); ++i) {
        const T factor = right[i];
#pragma GCC ivdep
        for (std::ptrdiff_t w = 0; w < length; ++w) out[i * length + w] = fma(left[w], factor, add[i * length + w]);
    }
}

// Elements of scratch that `lower_levels` needs.
constexpr std::ptrdiff_t lower_scratch(int channels, int depth) {
    return depth * channels + 2 * (depth > 1 ? power(channels, depth - 2) : 1);
}

// Levels 1 to N - 1 of S <- S (x) exp(dx), and in `factor` what level N still needs: S_N <- S_N + factor (x) dx.
// Horner's scheme of Kidger & Lyons 2021, section 5.1, every step of it a fused multiply-add. N >= 2.
template <int CT, int NT, typename T>
inline void lower_levels(const Sizes<CT, NT>& sizes, T* __restrict S, const T* __restrict dx, T* __restrict factor,
                         T* __restrict scratch) {
    const int C = CT ? CT : sizes.channels, N = NT ? NT : sizes.depth;
    T* fractions = scratch;  // dx / m, m = 1 ... N
    for (int m = 1; m <= N; ++m)
        for (int i = 0; i < C; ++i) fractions[(m - 1) * C + i] = dx[i] * (1.0 / m);
    T* first = scratch + N * C;
    T* second = first + sizes.power[N - 2];
    // From the top down: level k reads only lower levels, which still have their old values.
    for (int k = N; k >= 2; --k) {
        T* left = k == 2 && k == N ? factor : first;
        for (int i = 0; i < C; ++i) left[i] = fractions[(k - 1) * C + i] + S[i];
        for (int j = 1; j <= k - 2; ++j) {
            T* next = k == N && j == k - 2 ? factor : left == first ? second : first;
            multiply_add<CT>(next, left, sizes.power[j], fractions + (k - j - 1) * C, C, S + sizes.offset[j + 1]);
            left = next;
        }
        if (k < N) multiply_add<CT>(S + sizes.offset[k], left, sizes.power[k - 1], fractions, C, S + sizes.offset[k]);
    }
    for (int i = 0; i < C; ++i) S[i] += dx[i];
}

// Values at `from`, `count` of them, the rest 0; and back.
inline Lanes load_part(const double* from, std::ptrdiff_t count) {
    Lanes values{};
    std::memcpy(&values, from, count * sizeof(double));
    return values;
}
inline void store_part(double* to, Lanes values, std::ptrdiff_t count) {
    std::memcpy(to, &values, count * sizeof(double));
}

constexpr std::ptrdiff_t padded(std::ptrdiff_t count) { return (count + lanes - 1) / lanes * lanes; }

// How far apart the factors of a run lie: not at multiples of the page, which share too few places in the cache.
constexpr std::ptrdiff_t factor_stride(std::ptrdiff_t length) { return padded(length) + (length % 512 ? 0 : 8); }

// level[i * length + w] += factors[t][w] * dx[t][i] for pieces t = 0, 1, ... in order. What makes a run of pieces cheaper
// than as many single ones: the top level, most of the row, is read and written once per run.
// factors: rows of factor_stride(length) values; dx: rows of `stride` values.
template <int rows, int columns>
inline void top_tile(double* __restrict level, std::ptrdiff_t length, std::ptrdiff_t rest,
                     const double* __restrict factors, const double* __restrict dx, int stride, int pieces) {
    Lanes sums[rows][columns];
    unroll<rows>([&](auto a) ALWAYS {
        unroll<columns>([&](auto b) ALWAYS {
            sums[a][b] = load_part(level + a * length + lanes * b, b < columns - 1 || !rest ? lanes : rest);
        });
    });
    for (int t = 0; t < pieces; ++t, factors += factor_stride(length), dx += stride) {
        Lanes left[columns];
        unroll<columns>([&](auto b) ALWAYS { std::memcpy(&left[b], factors + lanes * b, sizeof(Lanes)); });
        unroll<rows>([&](auto a) ALWAYS {
            const Lanes right = Lanes{} + dx[a];
            unroll<columns>([&](auto b) ALWAYS { sums[a][b] = fma(left[b], right, sums[a][b]); });
        });
    }
    unroll<rows>([&](auto a) ALWAYS {
        unroll<columns>([&](auto b) ALWAYS {
            store_part(level + a * length + lanes * b, sums[a][b], b < columns - 1 || !rest ? lanes : rest);
        });
    });
}

// The size of the even parts, none over `most`, into which `count` is cut; the last part takes what is left.
constexpr int even_part(std::ptrdiff_t count, int most) {
    const std::ptrdiff_t parts = (count + most - 1) / most;
    return static_cast<int>((count + parts - 1) / parts);
}

// CT letters and P = length of a factor, or 0 where they are read at run time.
template <int CT, std::ptrdiff_t P>
inline void top_level(double* __restrict level, const double* __restrict factors, std::ptrdiff_t length_,
                      const double* __restrict dx, int letters, int stride, int pieces) {
    // As many sums as leave registers for the factors: there are 32 with AVX-512 and NEON, 16 with AVX2 and SSE2.
#if defined(__AVX512F__) || defined(__aarch64__)
    constexpr int tall = CT ? even_part(CT, 4) : 4, most = tall < 4 ? 6 : 24 / tall;
#else
    constexpr int tall = CT ? even_part(CT, 3) : 3, most = 3;
#endif
    const int C = CT ? CT : letters;
    const std::ptrdiff_t length = P ? P : length_, rest = length % lanes;
    const auto strip = [&](auto columns, std::ptrdiff_t v, std::ptrdiff_t cut) ALWAYS {
        constexpr int n = decltype(columns)::value;
        double* corner = level + lanes * v;
        const double* left = factors + lanes * v;
        int i = 0;
        for (; i + tall <= C; i += tall)
            top_tile<tall, n>(corner + i * length, length, cut, left, dx + i, stride, pieces);
        if constexpr (CT != 0 && CT % tall != 0) {
            top_tile<CT % tall, n>(corner + i * length, length, cut, left, dx + i, stride, pieces);
        } else {
            for (; i < C; ++i) top_tile<1, n>(corner + i * length, length, cut, left, dx + i, stride, pieces);
        }
    };
    if constexpr (P != 0) {
        constexpr int vectors = static_cast<int>(padded(P) / lanes), wide = even_part(vectors, most);
        constexpr int last = vectors % wide ? vectors % wide : wide;
        int v = 0;
        for (; v + last < vectors; v += wide) strip(std::integral_constant<int, wide>{}, v, 0);
        strip(std::integral_constant<int, last>{}, v, rest);
    } else {
        const std::ptrdiff_t whole = length / lanes;
        std::ptrdiff_t v = 0;
        for (; v + most <= whole; v += most) strip(std::integral_constant<int, most>{}, v, 0);
        for (; v < whole; ++v) strip(std::integral_constant<int, 1>{}, v, 0);
        if (rest) strip(std::integral_constant<int, 1>{}, v, rest);
    }
}

// The same for paths in lanes; factors: rows of `length`, dx: rows of `letters`.
template <int CT>
inline void top_level_lanes(Lanes* __restrict level, const Lanes* __restrict factors, std::ptrdiff_t length,
                            const Lanes* __restrict dx, int letters, int pieces) {
    constexpr int rows = CT % 4 == 0 ? 4 : CT % 3 == 0 ? 3 : CT % 2 == 0 ? 2 : 1;
    const int C = CT ? CT : letters;
    for (std::ptrdiff_t w = 0; w < length; ++w) {
        for (int i = 0; i < C; i += rows) {
            Lanes sums[rows];
            unroll<rows>([&](auto a) ALWAYS { sums[a] = level[(i + a) * length + w]; });
            for (int t = 0; t < pieces; ++t)
                unroll<rows>([&](auto a)
                                 ALWAYS { sums[a] = fma(factors[t * length + w], dx[t * C + i + a], sums[a]); });
            unroll<rows>([&](auto a) ALWAYS { level[(i + a) * length + w] = sums[a]; });
        }
    }
}

// out += a (x) b for one level each.
template <typename T>
inline void add_outer(T* __restrict out, const T* __restrict a, std::ptrdiff_t size_a, const T* __restrict b,
                      std::ptrdiff_t size_b) {
    for (std::ptrdiff_t v = 0; v < size_b; ++v) {
        const T factor = b[v];
#pragma GCC ivdep
        for (std::ptrdiff_t u = 0; u < size_a; ++u) out[v * size_a + u] = fma(a[u], factor, out[v * size_a + u]);
    }
}

// S <- S (x) R, Chen's identity for two paths joined; from the top down, as level k reads only lower levels of S.
template <int CT, int NT>
inline void join(const Sizes<CT, NT>& sizes, double* __restrict S, const double* __restrict R) {
    for (int k = NT ? NT : sizes.depth; k >= 1; --k) {
        double* level = S + sizes.offset[k];
        for (std::ptrdiff_t w = 0; w < sizes.power[k]; ++w) level[w] += R[sizes.offset[k] + w];
        for (int j = 1; j < k; ++j)
            add_outer(level, S + sizes.offset[j], sizes.power[j], R + sizes.offset[k - j], sizes.power[k - j]);
    }
}

// Elements of scratch that `log_series` needs.
constexpr std::ptrdiff_t log_scratch(int channels, int depth) { return 2 * row_size(channels, depth - 1); }

// Levels 1 to N - 1 of P_1, where log(1 + S) = P_1 (x) S with P_n = 1/n - P_(n+1) (x) S, P_N = 1/N. The result lies in
// `scratch`, at the pointer returned.
template <int CT, int NT, typename T>
inline const T* log_series(const Sizes<CT, NT>& sizes, const T* __restrict S, T* __restrict scratch) {
    const int N = NT ? NT : sizes.depth;
    T* series = scratch;
    T* product = scratch + sizes.offset[N];
    for (int n = N - 1; n >= 1; --n) {
        const int top = N - n;
        for (int k = 1; k <= top; ++k) {
            T* level = product + sizes.offset[k];
            const T* s = S + sizes.offset[k];
            const double factor = 1.0 / (n + 1);
            for (std::ptrdiff_t w = 0; w < sizes.power[k]; ++w) level[w] = s[w] * factor;
            for (int j = 1; j < k; ++j)
                add_outer(level, series + sizes.offset[k - j], sizes.power[k - j], S + sizes.offset[j], sizes.power[j]);
        }
        for (std::ptrdiff_t w = 0; w < sizes.offset[top + 1]; ++w) product[w] = -product[w];
        T* swap = series;
        series = product;
        product = swap;
    }
    return series;
}

// out[i] = coefficient of log(1 + S) at word i, by the last product, which is needed at these words only.
template <typename T>
inline void log_words(const T* __restrict S, const T* __restrict series, const Words& words, T* __restrict out) {
    const std::int32_t* split = words.splits;
    for (std::ptrdiff_t i = 0; i < words.count; ++i) {
        T value = S[words.places[i]];
        for (int j = 1; j < words.lengths[i]; ++j, split += 2) value = fma(series[split[0]], S[split[1]], value);
        out[i] = value;
    }
}

}  // namespace
}  // namespace streamrde
