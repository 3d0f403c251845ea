// Compiled once per instruction set, with STREAMRDE_SELECT naming the function it gives.
#include "variant.hpp"

#include <array>
#include <utility>
#include <vector>

#ifdef STREAMRDE_X86
#include <immintrin.h>
#endif

namespace streamrde {
namespace {

// Inside the unnamed namespace, or the linker would keep one instruction set's copy of the templates for all.
#include "algebra.hpp"

// Rows up to this size have kernels of their own; in larger ones the loops are long enough as they are.
constexpr std::ptrdiff_t largest_row = 1200;
constexpr int most_channels = 16, most_depth = 6;

constexpr std::ptrdiff_t row_size(int channels, int depth) {
    std::ptrdiff_t size = 0, power = 1;
    for (int k = 1; k <= depth; ++k) size += (power *= channels);
    return size;
}

// Elements of scratch that `multiply_exp` needs.
constexpr std::ptrdiff_t update_scratch(int channels, int depth) {
    return depth * channels + 2 * (row_size(channels, depth) - row_size(channels, depth - 1)) / channels;
}

// Aligned for vectors; each thread has one, which grows.
template <typename T>
T* buffer(std::size_t size) {
    struct alignas(64) Line {
        char bytes[64];
    };
    thread_local std::vector<Line> memory;
    const std::size_t needed = (size * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
    if (memory.size() < needed) memory.resize(needed);
    return reinterpret_cast<T*>(memory.data());
}

template <int CT, int NT>
struct Of {
    static constexpr bool fixed = CT != 0;

    static void update(const Sizes<CT, NT>& sizes, double* S, const double* dx, double* scratch) {
        if constexpr (fixed) {
            alignas(64) double local[update_scratch(CT ? CT : 1, NT)];
            multiply_exp<CT, NT>(sizes, S, dx, local);
        } else {
            multiply_exp<CT, NT>(sizes, S, dx, scratch);
        }
    }

    static double* scratch(const Sizes<CT, NT>& sizes) {
        if constexpr (fixed) return nullptr;
        return buffer<double>(update_scratch(sizes.channels, sizes.depth) + sizes.channels);
    }

    static void fold(int channels, int depth, double* S, const double* increments, std::ptrdiff_t pieces) {
        const Sizes<CT, NT> sizes(channels, depth);
        double* memory = scratch(sizes);
        for (std::ptrdiff_t p = 0; p < pieces; ++p) update(sizes, S, increments + p * sizes.channels, memory);
    }

    static void push(int channels, int depth, double* S, double* last, const double* points, std::ptrdiff_t count) {
        const Sizes<CT, NT> sizes(channels, depth);
        double* memory = scratch(sizes);
        double local[CT ? CT : 1];
        double* dx = fixed ? local : memory + update_scratch(sizes.channels, sizes.depth);
        for (std::ptrdiff_t p = 0; p < count; ++p) {
            const double* x = points + p * sizes.channels;
            for (int i = 0; i < sizes.channels; ++i) {
                dx[i] = x[i] - last[i];
                last[i] = x[i];
            }
            update(sizes, S, dx, memory);
        }
    }

    static void log(int channels, int depth, const double* S, double* out) {
        const Sizes<CT, NT> sizes(channels, depth);
        tensor_log<CT, NT>(sizes, S, out, buffer<double>(2 * sizes.offset[sizes.depth + 1]));
    }

    static void fold_points(int channels, int depth, double* S, const double* points, std::ptrdiff_t pieces) {
        const Sizes<CT, NT> sizes(channels, depth);
        double* memory = scratch(sizes);
        double local[CT ? CT : 1];
        double* dx = fixed ? local : memory + update_scratch(sizes.channels, sizes.depth);
        for (std::ptrdiff_t p = 0; p < pieces; ++p, points += sizes.channels) {
            for (int i = 0; i < sizes.channels; ++i) dx[i] = points[sizes.channels + i] - points[i];
            update(sizes, S, dx, memory);
        }
    }

    static void fold_lanes(int channels, int depth, double* const* S, const double* const* data,
                           const std::ptrdiff_t* pieces, int count, bool points) {
        const Sizes<CT, NT> sizes(channels, depth);
        const int C = sizes.channels;
        const std::ptrdiff_t row = sizes.offset[sizes.depth + 1];
        Lanes* work = buffer<Lanes>(row + 2 * C + update_scratch(C, sizes.depth));
        Lanes* dx = work + row;
        Lanes* last = dx + C;
        Lanes* memory = last + C;
        load(work, S, row, count);
        // Lanes without a path of their own repeat the first and are not stored.
        const double* at[lanes];
        std::ptrdiff_t shortest = pieces[0], longest = pieces[0];
        for (int r = 0; r < lanes; ++r) at[r] = data[r < count ? r : 0];
        for (int r = 1; r < count; ++r) {
            shortest = pieces[r] < shortest ? pieces[r] : shortest;
            longest = pieces[r] > longest ? pieces[r] : longest;
        }
        if (points)
            for (int i = 0; i < C; ++i) last[i] = gather(at, i);
        for (std::ptrdiff_t p = 0; p < longest; ++p) {
            for (int i = 0; i < C; ++i) {
                if (p >= shortest) {
                    // A path that has ended goes on with pieces of length 0, which change nothing.
                    for (int r = 0; r < lanes; ++r) {
                        const double* x = at[r] + p * C + i;
                        const bool goes_on = p < pieces[r < count ? r : 0];
                        dx[i][r] = !goes_on ? 0.0 : points ? x[C] - x[0] : x[0];
                    }
                } else if (points) {
                    const Lanes x = gather(at, (p + 1) * C + i);
                    dx[i] = x - last[i];
                    last[i] = x;
                } else {
                    dx[i] = gather(at, p * C + i);
                }
            }
            multiply_exp<CT, NT>(sizes, work, dx, memory);
        }
        store(S, work, row, count);
    }

    static Lanes gather(const double* const* at, std::ptrdiff_t place) {
        Lanes values;
        for (int r = 0; r < lanes; ++r) values[r] = at[r][place];
        return values;
    }

    static void log_lanes(int channels, int depth, const double* const* S, double* const* out, int count) {
        const Sizes<CT, NT> sizes(channels, depth);
        const std::ptrdiff_t row = sizes.offset[sizes.depth + 1];
        Lanes* work = buffer<Lanes>(4 * row);
        load(work, S, row, count);
        tensor_log<CT, NT>(sizes, work, work + row, work + 2 * row);
        store(out, work + row, row, count);
    }

    static void load(Lanes* to, const double* const* from, std::ptrdiff_t row, int count) {
        for (std::ptrdiff_t w = 0; w < row; ++w)
            for (int r = 0; r < lanes; ++r) to[w][r] = from[r < count ? r : 0][w];
    }

    static void store(double* const* to, const Lanes* from, std::ptrdiff_t row, int count) {
        for (int r = 0; r < count; ++r)
            for (std::ptrdiff_t w = 0; w < row; ++w) to[r][w] = from[w][r];
    }

    static constexpr Kernel kernel() {
        if constexpr (fixed) return {fold, push, log, fold_points, fold_lanes, log_lanes, lanes};
        return {fold, push, log, fold_points, nullptr, nullptr, 1};
    }
};

template <int I>
constexpr Kernel entry() {
    constexpr int channels = I / most_depth + 1, depth = I % most_depth + 1;
    if constexpr (row_size(channels, depth) <= largest_row) return Of<channels, depth>::kernel();
    return Of<0, 0>::kernel();
}

template <int... I>
constexpr std::array<Kernel, sizeof...(I)> entries(std::integer_sequence<int, I...>) {
    return {entry<I>()...};
}

constexpr auto table = entries(std::make_integer_sequence<int, most_channels * most_depth>{});

}  // namespace

Kernel STREAMRDE_SELECT(int channels, int depth) {
    if (channels > most_channels || depth > most_depth) return Of<0, 0>::kernel();
    return table[(channels - 1) * most_depth + depth - 1];
}

}  // namespace streamrde
