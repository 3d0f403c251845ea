// What one instruction set offers: the functions for given sizes.
#pragma once

#include <cstddef>

namespace streamrde {

struct Kernel {
    // Appends `pieces` straight pieces with the given increments, one after the other: S <- S (x) exp(dx_1) (x) ...
    void (*fold)(int channels, int depth, double* S, const double* increments, std::ptrdiff_t pieces);
    // The same from points: the first increment is points[0] - last; last becomes the last point.
    void (*push)(int channels, int depth, double* S, double* last, const double* points, std::ptrdiff_t count);
    // out = log S.
    void (*log)(int channels, int depth, const double* S, double* out);
    // As fold, for paths given by their pieces + 1 points.
    void (*fold_points)(int channels, int depth, double* S, const double* points, std::ptrdiff_t pieces);
    // Both for `count` paths at once, at most `lanes`: path r has its row at S[r] and its increments or points at data[r].
    void (*fold_lanes)(int channels, int depth, double* const* S, const double* const* data,
                       const std::ptrdiff_t* pieces, int count, bool points);
    void (*log_lanes)(int channels, int depth, const double* const* S, double* const* out, int count);
    int lanes;
};

Kernel select_baseline(int channels, int depth);
#ifdef STREAMRDE_X86
Kernel select_avx2(int channels, int depth);
Kernel select_avx512(int channels, int depth);
#endif

}  // namespace streamrde
