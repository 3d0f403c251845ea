// What one instruction set offers: the functions for given sizes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace streamrde {

// Words whose coefficients are wanted, and how each is split in two: see word_table.hpp.
struct Words {
    std::ptrdiff_t count;
    const std::int32_t* places;   // in a row, (count,)
    const std::int32_t* lengths;  // letters, (count,)
    const std::int32_t* splits;   // for each word uv, v of one letter first: places of u and of v
};

struct Kernel {
    // Appends `pieces` straight pieces with the given increments, one after the other: S <- S (x) exp(dx_1) (x) ...
    void (*fold)(int channels, int depth, double* S, const double* increments, std::ptrdiff_t pieces);
    // The same for the pieces from `before` to the first of `count` points, to the second, and so on.
    void (*follow)(int channels, int depth, double* S, const double* before, const double* points,
                   std::ptrdiff_t count);
    // S <- S (x) R: two paths joined.
    void (*join)(int channels, int depth, double* S, const double* R);
    // out = coefficients of log(1 + S) at the words.
    void (*log)(int channels, int depth, const double* S, const Words& words, double* out);
    // Appends to `count` paths at once, at most `lanes`: path r has its row at S[r], and its increments at data[r], or its
    // pieces[r] + 1 points. Null where one path at a time is as fast.
    void (*fold_lanes)(int channels, int depth, double* const* S, const double* const* data,
                       const std::ptrdiff_t* pieces, int count, bool points);
    int lanes;
};

Kernel select_baseline(int channels, int depth);
#ifdef STREAMRDE_X86
Kernel select_avx2(int channels, int depth);
Kernel select_avx512(int channels, int depth);
#endif

}  // namespace streamrde
