// One path at a time with AVX-512: a level's coefficients eight to a register, whatever C is.
//
// The loops of algebra-inl.hpp multiply an array of C^j coefficients by one letter after the other; with three or five
// letters most of these arrays fill no vector. Here a product is taken along the flat level instead, register by
// register: out[e] = left[e mod length] * right[e div length] + add[e], the two factors permuted into place. Permutations
// are known at compile time. The operations on a coefficient, and so its bits, are those of algebra-inl.hpp.
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "algebra-inl.hpp"

namespace streamrde {
namespace {

using Register = __m512d;
constexpr int width = 8;

constexpr int registers_for(std::ptrdiff_t values) { return static_cast<int>((values + width - 1) / width); }

// The permutations that bring `left`, C^j = length values, and `right`, C values, into the order of the product.
// `left` is cyclic: what its last register has to spare repeats its beginning.
template <int C, int length>
struct Pattern {
    static constexpr int count = registers_for(C * length);  // of the product
    static constexpr int left_count = registers_for(length);
    alignas(64) std::int64_t left[count][width];
    alignas(64) std::int64_t right[count][width];
    alignas(64) std::int64_t cyclic[width];
    int source[count];    // the first of two neighbouring registers that hold the values of `left`
    bool aligned[count];  // they are one register, as it is
    bool uniform[count];  // all values have the same letter
    int letter[count];

    constexpr Pattern() : left(), right(), cyclic(), source(), aligned(), uniform(), letter() {
        for (int v = 0; v < count; ++v) {
            const int start = width * v % length;
            source[v] = start / width;
            aligned[v] = start % width == 0 && length >= width;
            letter[v] = width * v / length;
            uniform[v] = true;
            for (int l = 0; l < width; ++l) {
                const int e = width * v + l, own = e / length;
                right[v][l] = own < C ? own : C - 1;
                uniform[v] = uniform[v] && right[v][l] == letter[v];
                if (length < width) {
                    left[v][l] = e % length;
                } else {
                    const int q = start + l, next = width * (source[v] + 1);
                    if (q < next) left[v][l] = q % width;
                    else if (source[v] + 1 < left_count) left[v][l] = width + q - next;
                    else left[v][l] = width + q - length;  // wrapped round to the first register
                }
            }
        }
        const int spare = length - width * (left_count - 1);
        for (int l = 0; l < width; ++l) cyclic[l] = l < spare ? l : width + l - spare;
    }
};

template <int C, int length>
inline constexpr Pattern<C, length> pattern{};

ALWAYS inline __m512i order(const std::int64_t* lanes_of) { return _mm512_load_si512(lanes_of); }

// Makes the last register of `left` cyclic; see Pattern.
template <int C, int length>
ALWAYS inline void wrap(Register* left) {
    if constexpr (length > width && length % width != 0) {
        constexpr int last = registers_for(length) - 1;
        left[last] = _mm512_permutex2var_pd(left[last], order(pattern<C, length>.cyclic), left[0]);
    }
}

// What `left` gives to register v of the product.
template <int C, int length, int v>
ALWAYS inline Register left_factor(const Register* left, std::integral_constant<int, v>) {
    constexpr const Pattern<C, length>& p = pattern<C, length>;
    constexpr int from = p.source[v], next = from + 1 < p.left_count ? from + 1 : 0;
    if constexpr (p.aligned[v]) return left[from];
    else if constexpr (length <= width) return _mm512_permutexvar_pd(order(p.left[v]), left[0]);
    else return _mm512_permutex2var_pd(left[from], order(p.left[v]), left[next]);
}

// out = left (x) right + add, of `length` and C values; `right` also as an array in memory.
template <int C, int length>
ALWAYS inline void product(Register* out, const Register* left, const Register* right, const double* letters,
                           const Register* add) {
    constexpr const Pattern<C, length>& p = pattern<C, length>;
    unroll<p.count>([&](auto v) ALWAYS {
        const Register a = left_factor<C, length>(left, v);
        Register b;
        if (p.uniform[v]) b = _mm512_set1_pd(letters[p.letter[v]]);
        else if (C <= width) b = _mm512_permutexvar_pd(order(p.right[v]), right[0]);
        else b = _mm512_permutex2var_pd(right[0], order(p.right[v]), right[1]);
        out[v] = _mm512_fmadd_pd(a, b, add[v]);
    });
}

template <std::ptrdiff_t values>
ALWAYS inline void load(Register* to, const double* from) {
    constexpr int whole = values / width, rest = values % width;
    unroll<whole>([&](auto v) ALWAYS { to[v] = _mm512_loadu_pd(from + width * v); });
    if constexpr (rest != 0) to[whole] = _mm512_maskz_loadu_pd((1u << rest) - 1, from + width * whole);
}

template <std::ptrdiff_t values>
ALWAYS inline void store(double* to, const Register* from) {
    constexpr int whole = values / width, rest = values % width;
    unroll<whole>([&](auto v) ALWAYS { _mm512_storeu_pd(to + width * v, from[v]); });
    if constexpr (rest != 0) _mm512_mask_storeu_pd(to + width * whole, (1u << rest) - 1, from[whole]);
}

// Levels 1 to N - 1 of a row, and level N too where it is small enough to stay in registers.
template <int C, int N>
struct Row {
    static constexpr bool whole = N == 1 || power(C, N) <= 12 * width;
    static constexpr int kept = whole ? N : N - 1;  // levels that are kept here
    static constexpr int first_of(int k) {          // where level k begins, in registers
        int at = 0;
        for (int j = 1; j < k; ++j) at += registers_for(power(C, j));
        return at;
    }
    static constexpr std::ptrdiff_t stride = factor_stride(power(C, N - 1));

    Register values[first_of(kept + 1)];

    template <int k = 1>
    ALWAYS void read(const double* S) {
        if constexpr (k <= kept) {
            load<power(C, k)>(values + first_of(k), S + row_size(C, k - 1));
            read<k + 1>(S);
        }
    }

    template <int k = 1>
    ALWAYS void write(double* S) const {
        if constexpr (k <= kept) {
            store<power(C, k)>(S + row_size(C, k - 1), values + first_of(k));
            write<k + 1>(S);
        }
    }

    // What `lower_levels` does, and level N where it is kept. dx: 0 behind the letters; it is written to `memory` too.
    ALWAYS void append(const Register* dx, double* memory, double* factor) {
        constexpr int vectors = registers_for(C);
        Register fractions[N][vectors];
        alignas(64) double letters[N][width * vectors];
        unroll<N>([&](auto m) ALWAYS {
            unroll<vectors>([&](auto v) ALWAYS {
                fractions[m][v] = _mm512_mul_pd(dx[v], _mm512_set1_pd(1.0 / (m + 1)));
                _mm512_store_pd(letters[m] + width * v, fractions[m][v]);
            });
        });
        unroll<vectors>([&](auto v) ALWAYS { _mm512_store_pd(memory + width * v, dx[v]); });
        level<N>(fractions, letters, factor);
        unroll<vectors>([&](auto v) ALWAYS { values[v] = _mm512_add_pd(values[v], dx[v]); });
    }

private:
    template <int k, typename F, typename L>
    ALWAYS void level(const F& fractions, const L& letters, double* factor) {
        if constexpr (k >= 2) {
            Register left[registers_for(power(C, k - 1))];
            unroll<registers_for(C)>([&](auto v) ALWAYS { left[v] = _mm512_add_pd(fractions[k - 1][v], values[v]); });
            horner<k, 1>(left, fractions, letters);
            if constexpr (k <= kept) {
                wrap<C, static_cast<int>(power(C, k - 1))>(left);
                product<C, static_cast<int>(power(C, k - 1))>(values + first_of(k), left, fractions[0], letters[0],
                                                              values + first_of(k));
            } else {
                unroll<registers_for(power(C, k - 1))>([&](auto v)
                                                           ALWAYS { _mm512_store_pd(factor + width * v, left[v]); });
            }
            level<k - 1>(fractions, letters, factor);
        }
    }

    template <int k, int j, typename F, typename L>
    ALWAYS void horner(Register* left, const F& fractions, const L& letters) {
        if constexpr (j <= k - 2) {
            constexpr int length = static_cast<int>(power(C, j));
            Register next[registers_for(power(C, j + 1))];
            wrap<C, length>(left);
            product<C, length>(next, left, fractions[k - j - 1], letters[k - j - 1], values + first_of(j + 1));
            unroll<registers_for(power(C, j + 1))>([&](auto v) ALWAYS { left[v] = next[v]; });
            horner<k, j + 1>(left, fractions, letters);
        }
    }
};

// out += left (x) right, of C^(k-j) = length and C^j values; `right` in memory, `left` cyclic.
template <int C, int k, int j>
ALWAYS inline void add_product(Register* out, const Register* left, const double* right) {
    constexpr int length = static_cast<int>(power(C, k - j)), values = static_cast<int>(power(C, j));
    constexpr const Pattern<values, length>& p = pattern<values, length>;
    unroll<p.count>([&](auto v) ALWAYS {
        const Register a = left_factor<values, length>(left, v);
        Register b;
        if (p.uniform[v]) {
            b = _mm512_set1_pd(right[p.letter[v]]);
        } else {
            const int there = values - p.letter[v];
            const __mmask8 mask = there < width ? (1u << there) - 1 : 0xff;
            const __m512i within = _mm512_sub_epi64(order(p.right[v]), _mm512_set1_epi64(p.letter[v]));
            b = _mm512_permutexvar_pd(within, _mm512_maskz_loadu_pd(mask, right + p.letter[v]));
        }
        out[v] = _mm512_fmadd_pd(a, b, out[v]);
    });
}

// `log_series` of algebra-inl.hpp; `series` takes levels 1 to N - 1 as a row has them.
template <int C, int N>
struct LogSeries {
    static constexpr int first_of(int k) { return k < 2 ? 0 : first_of(k - 1) + registers_for(power(C, k - 1)); }

    ALWAYS static void compute(const double* S, double* series) {
        Register values[N > 1 ? first_of(N) : 1];
        factors<N - 1>(S, values);
        write<1>(values, series);
    }

private:
    template <int n>
    ALWAYS static void factors(const double* S, Register* values) {
        if constexpr (n >= 1) {
            Register product[first_of(N - n + 1)];
            level<n, 1>(S, values, product);
            unroll<first_of(N - n + 1)>([&](auto v)
                                            ALWAYS { values[v] = _mm512_sub_pd(_mm512_set1_pd(-0.0), product[v]); });
            cyclic<1, N - n>(values);
            factors<n - 1>(S, values);
        }
    }

    template <int n, int k>
    ALWAYS static void level(const double* S, const Register* values, Register* product) {
        if constexpr (k <= N - n) {
            Register* out = product + first_of(k);
            load<power(C, k)>(out, S + row_size(C, k - 1));
            unroll<registers_for(power(C, k))>(
                [&](auto v) ALWAYS { out[v] = _mm512_mul_pd(out[v], _mm512_set1_pd(1.0 / (n + 1))); });
            terms<k, 1>(S, values, out);
            level<n, k + 1>(S, values, product);
        }
    }

    template <int k, int j>
    ALWAYS static void terms(const double* S, const Register* values, Register* out) {
        if constexpr (j < k) {
            add_product<C, k, j>(out, values + first_of(k - j), S + row_size(C, j - 1));
            terms<k, j + 1>(S, values, out);
        }
    }

    template <int k, int last>
    ALWAYS static void cyclic(Register* values) {
        if constexpr (k <= last) {
            wrap<C, static_cast<int>(power(C, k))>(values + first_of(k));
            cyclic<k + 1, last>(values);
        }
    }

    template <int k>
    ALWAYS static void write(const Register* values, double* series) {
        if constexpr (k < N) {
            store<power(C, k)>(series + row_size(C, k - 1), values + first_of(k));
            write<k + 1>(values, series);
        }
    }
};

}  // namespace
}  // namespace streamrde
