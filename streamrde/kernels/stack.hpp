// The step of a stack: blocks of a recurrence and a perceptron over tokens. See inference/fields/stack.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stepper.hpp"

namespace streamrde {

// Added to the mean square that a norm divides by: see inference/fields/stack.py.
constexpr double norm_floor = 1e-6;

// Recurrences, and behind them the units of perceptrons, with the layers and vectors that each has. The step has a layer for
// each part that stands here, those without a bias with one of zeros; training has all parts of a layer together.
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
    // vectors: strength of the damping, exp(rate), and what each component begins with
    slice,
    // option: substeps; layers: drive, hidden, move, out; vectors: -softplus(rate)
    rde,
    // layers: inner, gate, down
    swiglu, glu,
    // layers: inner, down
    gelu);
constexpr int cells = static_cast<int>(Cell::gelu) + 1;

// How many parts of `part` numbers each thing has; 0: there is no such thing.
struct Form {
    int in;       // of what the layer on the token gives
    int state;    // of the state, or of what the perceptron's last layer takes
    int carried;  // of what layers on the state before give
    int out;      // of what the last layer takes
    int vectors;  // numbers of each component
    int kept;     // of what the forward pass of training keeps for the backward pass
    bool lasts;   // the state goes on from token to token
    int most;     // largest option
};
constexpr Form form_of(Cell cell, int option) {
    switch (cell) {
        case Cell::rg_lru:
            return {3, 1, 0, 1, 1, 3, true, 1};
        case Cell::min_gru:
            return {2, 1, 0, 1, 0, 2, true, 1};
        case Cell::lru:
            return {2, 2, 0, 2, 3, 2, true, 1};
        case Cell::gru:
            return {3, 1, 3, 0, 0, 4, true, 1};
        case Cell::lstm:
            return {4, 2, 4, 0, 0, 4, true, 1};
        case Cell::s4d:
            return {0, 2 * option, 0, 0, 4 * option + 1, 0, true, 64};
        case Cell::slice:
            return {option * (option + 1), option, 0, option, 2 + option, option * (option + 1), true, 4};
        case Cell::rde:
            return {1, 1, 2, 1, 1, 0, true, 64};
        case Cell::gelu:
            return {1, 1, 0, 1, 0, 1, false, 1};
        default:
            return {2, 1, 0, 1, 0, 2, false, 1};
    }
}
// A vector that is added to the output, and has the width of a block, where others have the size of a part.
constexpr bool is_skip(Cell cell, int vector) { return cell == Cell::lru && vector == 2; }
// A vector of angles.
constexpr bool turns(Cell cell, int option, int vector) {
    return (cell == Cell::lru && vector == 1) || (cell == Cell::s4d && vector >= option && vector < 2 * option);
}

template <typename T>
struct StackBlock {
    Numbers<T> before, between;  // factors of the norms, (padded width,)
    std::vector<Layer<T>> layers;
    std::vector<Numbers<T>> vectors;  // padded
    T fastest = 0;                    // largest angle per usual window, where there are angles
    Layer<T> inner, gate, down;       // of a perceptron without gates, `gate` has nothing
};

template <typename T>
struct StackModel : Scaling {
    Cell cell, units;  // the recurrence, and the perceptron
    int option;        // see Cell
    Form form;         // of the recurrence, whose state is form.state rows of `part` numbers
    int width, hidden, part;
    bool mean, last;  // what is pooled
    T memory;         // windows that the mean goes back
    T gain;           // multiplies scaled tokens
    double unit;      // seconds that count as 1; 0: every token counts as 1
    Layer<T> input, readout;
    std::vector<StackBlock<T>> blocks;
    Numbers<T> norm;  // factors of the last one; empty: there is none
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
