// Vectors of numbers and the functions that a model's activations are made of.
//
// Every function is elementwise, in one order of operations whatever the vector's length, with a fused multiply-add written
// as one. So AVX2 and AVX-512 give the same bits, and a number's result depends on nothing that stands beside it.
#pragma once

#include <cstdint>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace streamrde {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

typedef float Floats __attribute__((vector_size(vector_bytes)));
typedef double Doubles __attribute__((vector_size(vector_bytes)));
typedef std::int32_t Bits32 __attribute__((vector_size(vector_bytes)));
typedef std::int64_t Bits64 __attribute__((vector_size(vector_bytes)));

#if defined(__AVX512F__)
inline Floats fma(Floats a, Floats b, Floats c) { return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline Doubles fma(Doubles a, Doubles b, Doubles c) {
    return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__)
inline Floats fma(Floats a, Floats b, Floats c) { return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline Doubles fma(Doubles a, Doubles b, Doubles c) {
    return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
inline Doubles fma(Doubles a, Doubles b, Doubles c) { return a * b + c; }
#endif

template <typename T>
struct Of;

template <>
struct Of<float> {
    using Vector = Floats;
    using Bits = Bits32;
    static constexpr int mantissa = 23, bias = 127, exp_terms = 7, log_terms = 8, erfc_terms = 13;
    static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
    static constexpr float log2e = 1.44269504f, ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;
    static constexpr float least = -87.0f;  // exp of less is 0 to all that adds it
    // pi / 2 in three parts, of which a multiple by a whole number below `furthest` loses nothing (Cephes).
    static constexpr int sine_terms = 5;
    static constexpr float quarter_high = 1.5703125f, quarter_middle = 4.837512969970703125e-4f,
                           quarter_low = 7.54978995489188216e-8f, furthest = 65536.0f;
};

template <>
struct Of<double> {
    using Vector = Doubles;
    using Bits = Bits64;
    static constexpr int mantissa = 52, bias = 1023, exp_terms = 13, log_terms = 18, erfc_terms = 25;
    static constexpr double round = 6755399441055744.0;
    static constexpr double log2e = 1.4426950408889634, ln2_high = 0.69314718036912382,
                            ln2_low = 1.9082149292705877e-10;
    static constexpr double least = -708.0;
    static constexpr int sine_terms = 9;
    static constexpr double quarter_high = 1.57079625129699707031, quarter_middle = 7.54978941586159635335e-8,
                            quarter_low = 5.39030252995776476554e-15, furthest = 1e6;
};

template <typename T>
using Vector = typename Of<T>::Vector;
template <typename T>
constexpr int lanes_of = vector_bytes / sizeof(T);

template <typename T>
inline Vector<T> all(T value) {
    return value - Vector<T>{};
}

template <typename T>
inline Vector<T> load(const T* from) {
    Vector<T> value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <typename T>
inline void store(T* to, Vector<T> value) {
    __builtin_memcpy(to, &value, sizeof value);
}

template <typename T>
inline Vector<T> magnitude(Vector<T> x) {
    using Bits = typename Of<T>::Bits;
    return (Vector<T>)((Bits)x & ~((Bits)all<T>(T(-0.0))));
}

// exp(x) - 1 and, in `scale`, 2^n, with x = n ln 2 + r: for x <= 0. NaN stays NaN.
template <typename T>
inline Vector<T> expm1_parts(Vector<T> x, Vector<T>& scale) {
    using V = Vector<T>;
    using O = Of<T>;
    x = x < O::least ? all<T>(O::least) : x;
    const V shifted = fma(x, all<T>(O::log2e), all<T>(O::round));
    const V n = shifted - O::round;
    const V r = fma(n, all<T>(-O::ln2_low), fma(n, all<T>(-O::ln2_high), x));
    T factorial = 1;
    for (int k = 2; k <= O::exp_terms; ++k) factorial *= k;
    // r + r^2/2! + ...: Taylor's series, |r| <= ln 2 / 2.
    V sum = all<T>(1 / factorial);
    for (int k = O::exp_terms - 1; k >= 1; --k) {
        factorial /= k + 1;
        sum = fma(sum, r, all<T>(1 / factorial));
    }
    scale = (V)(((typename O::Bits)shifted << O::mantissa) + (typename O::Bits)all<T>(1));
    return sum * r;
}

// exp(x) for x <= 0.
template <typename T>
inline Vector<T> exponential(Vector<T> x) {
    Vector<T> scale;
    const Vector<T> rest = expm1_parts<T>(x, scale);
    return fma(rest, scale, scale);
}

// exp(x) - 1 for x <= 0, with all its digits near 0.
template <typename T>
inline Vector<T> exponential_minus_1(Vector<T> x) {
    Vector<T> scale;
    const Vector<T> rest = expm1_parts<T>(x, scale);
    return fma(rest, scale, scale - T(1));
}

template <typename T>
inline Vector<T> hyperbolic_tangent(Vector<T> x) {
    const Vector<T> m = exponential_minus_1<T>(magnitude<T>(x) * T(-2));
    const Vector<T> size = -m / (m + T(2));
    return x < T(0) ? -size : size;
}

template <typename T>
inline Vector<T> sigmoid(Vector<T> x) {
    const Vector<T> e = exponential<T>(-magnitude<T>(x));
    return (x < T(0) ? e : all<T>(1)) / (e + T(1));
}

// Sine and cosine of |x| <= furthest: of x = n pi/2 + r by Taylor's series, |r| <= pi/4, turned by n quarters.
template <typename T>
inline void sine_cosine(Vector<T> x, Vector<T>& sine, Vector<T>& cosine) {
    using V = Vector<T>;
    using O = Of<T>;
    using Bits = typename O::Bits;
    const V shifted = fma(x, all<T>(T(0.63661977236758134308)), all<T>(O::round));
    const V n = shifted - O::round;
    const V r =
        fma(n, all<T>(-O::quarter_low), fma(n, all<T>(-O::quarter_middle), fma(n, all<T>(-O::quarter_high), x)));
    const V square = r * r;
    // 1 - r^2/2! + ... has one term more than r - r^3/3! + ...
    T sign = O::sine_terms % 2 ? T(-1) : T(1);
    T size = 1;
    for (int k = 2; k <= 2 * O::sine_terms; ++k) size *= k;
    V c = all<T>(sign / size);
    size /= 2 * O::sine_terms;
    sign = -sign;
    V s = all<T>(sign / size);
    for (int k = O::sine_terms - 1; k >= 1; --k) {
        size /= 2 * k + 1;
        c = fma(c, square, all<T>(sign / size));
        size /= 2 * k;
        sign = -sign;
        s = fma(s, square, all<T>(sign / size));
    }
    c = fma(c, square, all<T>(1));
    s *= r;
    const Bits quarters = (Bits)shifted;
    const Bits swapped = (quarters & (Bits{} + 1)) != 0;
    const V a = swapped ? c : s, b = swapped ? s : c;
    sine = (quarters & (Bits{} + 2)) != 0 ? -a : a;
    cosine = ((quarters + 1) & (Bits{} + 2)) != 0 ? -b : b;
}

// log(1 + u) = 2 atanh(u / (2 + u)) for u in [0, 1].
template <typename T>
inline Vector<T> log_1_plus(Vector<T> u) {
    const Vector<T> s = u / (u + T(2)), square = s * s;
    Vector<T> sum = all<T>(T(1) / (2 * Of<T>::log_terms - 1));
    for (int k = Of<T>::log_terms - 2; k >= 0; --k) sum = fma(sum, square, all<T>(T(1) / (2 * k + 1)));
    return s * T(2) * sum;
}

// erfc(x) = exp(-x^2) f(t), t = (x - 3)/(x + 3), x >= 0: f's Chebyshev series, computed to 40 digits with mpmath.
constexpr double erfc_series[] = {
    0.6597255495060735499,     -0.4536615205378020867,    0.1603983408215629632,    -0.04490812115112282592,
    0.009641428650695697142,   -0.001442508077744395448,  0.0001009943673537991565, 0.00001208502453445530025,
    -3.625420602753755783e-6,  7.186810742476415443e-8,   8.914235859898216815e-8,  -7.421566624959606246e-9,
    -2.389336570265877858e-9,  3.062235535489925097e-10,  7.788945388151088397e-11, -1.097374582924558447e-11,
    -3.091520731191773472e-12, 3.525433881723422079e-13,  1.399045217977161579e-13, -8.246037476838808896e-15,
    -6.639961426989321383e-15, -7.978348824752610805e-17, 3.047241237604098699e-16, 3.032131711022566931e-17,
    -1.218201221299715147e-17,
};

template <typename T>
inline Vector<T> complementary_error(Vector<T> x) {
    using V = Vector<T>;
    const V t = (x - T(3)) / (x + T(3)), twice = t * T(2);
    V b = {}, before = {};
    for (int k = Of<T>::erfc_terms - 1; k >= 1; --k) {  // Clenshaw
        const V next = fma(twice, b, T(erfc_series[k]) - before);
        before = b;
        b = next;
    }
    return exponential<T>(-x * x) * fma(t, b, T(erfc_series[0] / 2) - before);
}

// Each activation, and its slope in x, which gives y; where `from_output`, y alone tells it.
struct Relu {
    static constexpr bool from_output = true;
    template <typename T>
    static Vector<T> of(Vector<T> x) {
        return x < T(0) ? all<T>(0) : x;
    }
    template <typename T>
    static Vector<T> slope(Vector<T>, Vector<T> y) {
        return y > T(0) ? all<T>(1) : all<T>(0);
    }
};
struct Tanh {
    static constexpr bool from_output = true;
    template <typename T>
    static Vector<T> of(Vector<T> x) {
        return hyperbolic_tangent<T>(x);
    }
    template <typename T>
    static Vector<T> slope(Vector<T>, Vector<T> y) {
        return fma(-y, y, all<T>(1));
    }
};
struct Silu {
    static constexpr bool from_output = false;
    template <typename T>
    static Vector<T> of(Vector<T> x) {
        return x * sigmoid<T>(x);
    }
    template <typename T>
    static Vector<T> slope(Vector<T> x, Vector<T> y) {
        const Vector<T> s = sigmoid<T>(x);
        return fma(y, T(1) - s, s);
    }
};
struct Softplus {
    static constexpr bool from_output = false;
    template <typename T>
    static Vector<T> of(Vector<T> x) {
        return (x < T(0) ? all<T>(0) : x) + log_1_plus<T>(exponential<T>(-magnitude<T>(x)));
    }
    template <typename T>
    static Vector<T> slope(Vector<T> x, Vector<T>) {
        return sigmoid<T>(x);
    }
};
// x Phi(x), the exact one.
struct Gelu {
    static constexpr bool from_output = false;
    template <typename T>
    static Vector<T> share(Vector<T> x) {
        const Vector<T> tail = complementary_error<T>(magnitude<T>(x) * T(0.70710678118654752440));
        return x < T(0) ? tail : T(2) - tail;
    }
    template <typename T>
    static Vector<T> of(Vector<T> x) {
        return x * T(0.5) * share<T>(x);
    }
    template <typename T>
    static Vector<T> slope(Vector<T> x, Vector<T>) {
        const Vector<T> density = exponential<T>(x * x * T(-0.5)) * T(0.39894228040143267794);
        return fma(x, density, share<T>(x) * T(0.5));
    }
};

}  // namespace
}  // namespace streamrde
