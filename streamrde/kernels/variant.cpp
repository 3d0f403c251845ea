// Compiled once per instruction set, with STREAMRDE_SELECT naming the function it gives.
#include "variant.hpp"

#include <array>
#include <utility>
#include <vector>

namespace streamrde {
namespace {

// Inside the unnamed namespace, or the linker would keep one instruction set's copy of the templates for all.
#include "algebra.hpp"

// Rows up to this size (32 KiB) have kernels of their own; in larger ones the loops are long enough as they are.
constexpr std::ptrdiff_t largest_row = 4096;
constexpr int most_channels = 16, most_depth = 6;

constexpr std::ptrdiff_t row_size(int channels, int depth) {
    std::ptrdiff_t size = 0, power = 1;
    for (int k = 1; k <= depth; ++k) size += (power *= channels);
    return size;
}

double* buffer(std::size_t size) {
    thread_local std::vector<double> memory;
    if (memory.size() < size) memory.resize(size);
    return memory.data();
}

template <int CT, int NT>
struct Of {
    // One copy of the update for all callers: the same instructions, so the same bits, pushed one by one or many.
    [[gnu::noinline]] static void update(const Sizes<CT, NT>& sizes, double* S, const double* dx, double* scratch) {
        if constexpr (CT != 0) {
            alignas(64) double local[NT * CT + 2 * (row_size(CT, NT) - row_size(CT, NT - 1)) / CT];
            multiply_exp<CT, NT>(sizes, S, dx, local);
        } else {
            multiply_exp<CT, NT>(sizes, S, dx, scratch);
        }
    }

    static double* scratch(const Sizes<CT, NT>& sizes) {
        if constexpr (CT != 0) return nullptr;
        return buffer(sizes.depth * sizes.channels + 2 * sizes.power[sizes.depth - 1] + sizes.channels);
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
        double* dx = CT ? local : memory + sizes.depth * sizes.channels + 2 * sizes.power[sizes.depth - 1];
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
        tensor_log<CT, NT>(sizes, S, out, buffer(2 * sizes.offset[sizes.depth + 1]));
    }

    static constexpr Kernel kernel() { return {fold, push, log}; }
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
