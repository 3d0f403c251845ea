// The step of a stack: blocks of a recurrence and a gated perceptron over tokens. See inference/fields/stack.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stepper.hpp"

namespace streamrde {

// Recurrences, with what `StackBlock` has of them. Layers without a bias have one of zeros.
STREAMRDE_ENUM(
    enum class Cell : int, cell,
    // layers: recall, admit, value, out; vectors: -2 softplus(rate)
    rg_lru,
    // layers: gate, value, out
    min_gru,
    // layers: drive's real and imaginary part, out of the real and of the imaginary part; vectors: -exp(rate),
    // exp(angle), skip
    lru,
    // layers: reset, keep and new of the token, then of the state
    gru,
    // layers: gate, forget, new and out of the token, then of the state
    lstm,
    // option: modes; vectors: decays of each mode, halved angles, weights of the real parts, of the imaginary ones; skip
    s4d,
    // option: rows of a block; layers: each entry of the generator, row by row, each value, out of each component;
    // vectors: strength of the damping, exp(rate)
    slice,
    // option: substeps; layers: drive, hidden, move, out; vectors: -softplus(rate)
    rde);
constexpr int cells = static_cast<int>(Cell::rde) + 1;
constexpr int most_modes = 64, most_rows = 4, most_substeps = 64;

template <typename T>
struct StackBlock {
    Numbers<T> before, between;  // factors of the norms, (padded width,)
    std::vector<Layer<T>> layers;
    std::vector<Numbers<T>> vectors;  // padded
    T fastest = 0;                    // largest angle per usual window, where there are angles
    Layer<T> inner, gate, down;
};

template <typename T>
struct StackModel : Scaling {
    Cell cell;
    int option;                      // see Cell
    int width, hidden, parts, part;  // a recurrence's state: `parts` rows of `part` numbers
    bool mean, last;                 // what is pooled
    T memory;                        // windows that the mean goes back
    T gain;                          // multiplies scaled tokens
    double unit;                     // seconds that count as 1; 0: every token counts as 1
    Layer<T> input, readout;
    std::vector<StackBlock<T>> blocks;
    Numbers<T> norm;  // factors of the last one
};

// z <- z after a token, for count streams: z (count, hidden), tokens (count, features).
template <typename T>
using StackKernel = void (*)(const StackModel<T>& model, T* z, const double* tokens, std::ptrdiff_t count);

struct StackKernels {
    StackKernel<float> of_float;
    StackKernel<double> of_double;
};

StackKernels stacks_baseline();
#ifdef STREAMRDE_X86
StackKernels stacks_avx2();
StackKernels stacks_avx512();
#endif

}  // namespace streamrde
