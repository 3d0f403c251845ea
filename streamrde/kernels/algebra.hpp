// The truncated tensor algebra over C letters up to depth N, on rows of numbers.
//
// A row holds levels 1 to N one after the other. Within a level the FIRST letter runs fastest: the word (w1, ..., wk)
// stands at w1 + w2 C + ... + wk C^(k-1). Multiplying from the right by a vector is then, letter by letter, one scalar
// times a contiguous array, whatever C is; with the last letter fastest the inner loop would have length C.
//
// Every function is a template over (C, N), read at run time where they are 0, and over T: a double, or Lanes, a vector
// of doubles that holds as many paths. Order and kind of the operations are the same throughout (a fused multiply-add is
// written as one, and the files are compiled without contraction), so all of them give the same bits.
// Included by variant.cpp inside a namespace of its own.

constexpr int largest_depth = 32;

#if defined(__AVX512F__)
typedef double Lanes __attribute__((vector_size(64)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return (Lanes)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__)
typedef double Lanes __attribute__((vector_size(32)));
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return (Lanes)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
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

// S <- S (x) exp(dx): Horner's scheme of Kidger & Lyons 2021, section 5.1, every step of it a fused multiply-add.
// scratch: depth * C + 2 C^(depth - 1) elements.
template <int CT, int NT, typename T>
inline void multiply_exp(const Sizes<CT, NT>& sizes, T* __restrict S, const T* __restrict dx, T* __restrict scratch) {
    const int C = CT ? CT : sizes.channels, N = NT ? NT : sizes.depth;
    T* fractions = scratch;  // dx / m, m = 1 ... N
    for (int m = 1; m <= N; ++m)
        for (int i = 0; i < C; ++i) fractions[(m - 1) * C + i] = dx[i] * (1.0 / m);
    T* left = scratch + N * C;
    T* next = left + (N > 1 ? sizes.power[N - 1] : 0);
    // From the top down: level k reads only lower levels, which still have their old values.
    for (int k = N; k >= 2; --k) {
        T* a = left;
        T* b = next;
        for (int i = 0; i < C; ++i) a[i] = fractions[(k - 1) * C + i] + S[i];
        for (int j = 1; j <= k - 2; ++j) {
            multiply_add<CT>(b, a, sizes.power[j], fractions + (k - j - 1) * C, C, S + sizes.offset[j + 1]);
            T* swap = a;
            a = b;
            b = swap;
        }
        multiply_add<CT>(S + sizes.offset[k], a, sizes.power[k - 1], fractions, C, S + sizes.offset[k]);
    }
    for (int i = 0; i < C; ++i) S[i] += dx[i];
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

// out = log(1 + S) = P_1 (x) S, P_n = 1/n - P_(n+1) (x) S, P_N = 1/N. scratch: two rows.
template <int CT, int NT, typename T>
inline void tensor_log(const Sizes<CT, NT>& sizes, const T* __restrict S, T* __restrict out, T* __restrict scratch) {
    const int N = NT ? NT : sizes.depth;
    T* series = scratch;
    T* product = scratch + sizes.offset[N + 1];
    for (int n = N - 1; n >= 0; --n) {
        T* target = n ? product : out;
        const int top = N - n;
        for (int k = 1; k <= top; ++k) {
            T* level = target + sizes.offset[k];
            const T* s = S + sizes.offset[k];
            const double factor = 1.0 / (n + 1);
            for (std::ptrdiff_t w = 0; w < sizes.power[k]; ++w) level[w] = s[w] * factor;
            for (int j = 1; j < k; ++j)
                add_outer(level, series + sizes.offset[k - j], sizes.power[k - j], S + sizes.offset[j], sizes.power[j]);
        }
        if (n) {
            for (std::ptrdiff_t w = 0; w < sizes.offset[top + 1]; ++w) product[w] = -product[w];
            T* swap = series;
            series = product;
            product = swap;
        }
    }
}
