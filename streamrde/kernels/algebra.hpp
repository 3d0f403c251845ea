// The truncated tensor algebra over C letters up to depth N, on one row of doubles.
//
// A row holds levels 1 to N one after the other. Within a level the FIRST letter runs fastest: the word (w1, ..., wk)
// stands at w1 + w2 C + ... + wk C^(k-1). Multiplying from the right by a vector is then, letter by letter, one scalar
// times a contiguous array, whatever C is; with the last letter fastest the inner loop would have length C.
//
// Every function is a template over (C, N); where they are 0 the sizes come in at run time. The arithmetic and its order
// are the same, so that both give the same bits. Included by variant.cpp inside a namespace of its own.

constexpr int max_depth = 32;

template <int CT, int NT>
struct Sizes {
    const int channels, depth;
    std::ptrdiff_t power[(NT ? NT : max_depth) + 1];   // C^k
    std::ptrdiff_t offset[(NT ? NT : max_depth) + 2];  // where level k begins; entry N + 1 is the row's size

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
template <int CT>
inline void multiply_add(double* out, const double* left, std::ptrdiff_t length, const double* right, int letters,
                         const double* add) {
    for (int i = 0; i < (CT ? CT : letters); ++i) {
        const double factor = right[i];
#pragma GCC ivdep
        for (std::ptrdiff_t w = 0; w < length; ++w) out[i * length + w] = left[w] * factor + add[i * length + w];
    }
}

// S <- S (x) exp(dx): Horner's scheme of Kidger & Lyons 2021, section 5.1, every step of it a fused multiply-add.
// scratch: depth * C + 2 C^(depth - 1) doubles.
template <int CT, int NT>
inline void multiply_exp(const Sizes<CT, NT>& sizes, double* __restrict S, const double* __restrict dx,
                         double* __restrict scratch) {
    const int C = CT ? CT : sizes.channels, N = NT ? NT : sizes.depth;
    double* fractions = scratch;  // dx / m, m = 1 ... N
    for (int m = 1; m <= N; ++m)
        for (int i = 0; i < C; ++i) fractions[(m - 1) * C + i] = dx[i] * (1.0 / m);
    double* left = scratch + N * C;
    double* next = left + (N > 1 ? sizes.power[N - 1] : 0);
    // From the top down: level k reads only lower levels, which still have their old values.
    for (int k = N; k >= 2; --k) {
        double* a = left;
        double* b = next;
        for (int i = 0; i < C; ++i) a[i] = fractions[(k - 1) * C + i] + S[i];
        for (int j = 1; j <= k - 2; ++j) {
            multiply_add<CT>(b, a, sizes.power[j], fractions + (k - j - 1) * C, C, S + sizes.offset[j + 1]);
            double* swap = a;
            a = b;
            b = swap;
        }
        multiply_add<CT>(S + sizes.offset[k], a, sizes.power[k - 1], fractions, C, S + sizes.offset[k]);
    }
    for (int i = 0; i < C; ++i) S[i] += dx[i];
}

// out += a (x) b for levels i and j.
inline void add_outer(double* __restrict out, const double* __restrict a, std::ptrdiff_t size_a,
                      const double* __restrict b, std::ptrdiff_t size_b) {
    for (std::ptrdiff_t v = 0; v < size_b; ++v) {
        const double factor = b[v];
#pragma GCC ivdep
        for (std::ptrdiff_t u = 0; u < size_a; ++u) out[v * size_a + u] += a[u] * factor;
    }
}

// out = log(1 + S) = P_1 (x) S, P_n = 1/n - P_(n+1) (x) S, P_N = 1/N. scratch: two rows.
template <int CT, int NT>
inline void tensor_log(const Sizes<CT, NT>& sizes, const double* __restrict S, double* __restrict out,
                       double* __restrict scratch) {
    const int N = NT ? NT : sizes.depth;
    const std::ptrdiff_t row = sizes.offset[N + 1];
    double* series = scratch;
    double* product = scratch + row;
    for (int n = N - 1; n >= 0; --n) {
        double* target = n ? product : out;
        const int top = N - n;
        for (int k = 1; k <= top; ++k) {
            double* level = target + sizes.offset[k];
            const double* s = S + sizes.offset[k];
            const double factor = 1.0 / (n + 1);
            for (std::ptrdiff_t w = 0; w < sizes.power[k]; ++w) level[w] = s[w] * factor;
            for (int j = 1; j < k; ++j)
                add_outer(level, series + sizes.offset[k - j], sizes.power[k - j], S + sizes.offset[j], sizes.power[j]);
        }
        if (n) {
            for (std::ptrdiff_t w = 0; w < sizes.offset[top + 1]; ++w) product[w] = -product[w];
            double* swap = series;
            series = product;
            product = swap;
        }
    }
}
