// Half a block of a stack over a sequence, y = x + keep * branch(norm(x)), and its gradients, for training.
//
// The branch is a recurrence or the units of a perceptron: a layer takes norm(x), an elementwise part follows token by token
// where it carries a state, and a layer leads out. The layers are products over all tokens of a chunk, which stays in the
// caches from the norm to the sum. See inference/fields/stack.py and inference/stacks/ for the meaning. The step of stack.hpp
// computes the same, with the same code for the elementwise part.
#pragma once

#include <cstddef>
#include <vector>

#include "stack.hpp"

namespace streamrde {

// A layer as torch has it: weight (outs * out, ins * in), bias (outs * out,); weight null: there is none.
template <typename T>
struct Linear {
    int ins = 0, in = 0, outs = 0, out = 0;
    const T *weight = nullptr, *bias = nullptr;
    int rows() const { return ins * padded<T>(in); }
    int columns() const { return outs * padded<T>(out); }
};

template <typename T>
struct Residual {
    Cell cell = Cell::rg_lru;
    int option = 1, width = 0, part = 0;
    Form form{};
    std::ptrdiff_t steps = 0, streams = 0;
    const T* x = nullptr;      // (steps, streams, width)
    const T* keep = nullptr;   // factors on the branch's output, (streams, width); null: 1
    const T* time = nullptr;   // durations in usual windows, (steps, streams); null: 1
    const T* state = nullptr;  // before the first token, (streams, state_size())
    Numbers<T> norm;
    Linear<T> in, carried, out;
    std::vector<Numbers<T>> vectors;  // padded
    T fastest = 0;                    // largest angle per usual window, where there are angles

    int row() const { return form.state * padded<T>(part); }
    int record() const { return form.kept * padded<T>(part); }
    int state_size() const { return form.lasts ? form.state * part : 0; }
};

// Gradients with respect to what all streams share: of layers as (rows, columns) and (columns,), of vectors as they are.
template <typename T>
struct ResidualGradients {
    Numbers<T> norm, weights[3], biases[3];  // of in, carried, out
    std::vector<Numbers<T>> vectors;

    explicit ResidualGradients(const Residual<T>& residual) : norm(padded<T>(residual.width)) {
        const Linear<T>* layers[3] = {&residual.in, &residual.carried, &residual.out};
        for (int i = 0; i < 3; ++i) {
            weights[i] = Numbers<T>(static_cast<std::size_t>(layers[i]->rows()) * layers[i]->columns());
            biases[i] = Numbers<T>(layers[i]->columns());
        }
        for (const Numbers<T>& vector : residual.vectors) vectors.emplace_back(vector.size());
    }
};

// Streams from `begin` to `end` in each. Every stream's numbers are its own.
template <typename T>
struct ResidualKernel {
    // y (steps, streams, width); states (steps, streams, state_size()); tape (steps, streams, record()), or null.
    void (*forward)(const Residual<T>& residual, std::ptrdiff_t begin, std::ptrdiff_t end, T* y, T* states, T* tape);
    // of_y, of_states: gradients with respect to these, of_states may be null; x, state: those that are written.
    void (*backward)(const Residual<T>& residual, std::ptrdiff_t begin, std::ptrdiff_t end, const T* of_y,
                     const T* of_states, const T* states, const T* tape, T* x, T* state, ResidualGradients<T>& shared);
};

struct ResidualKernels {
    ResidualKernel<float> of_float;
    ResidualKernel<double> of_double;
};

ResidualKernels residuals_baseline();
#ifdef STREAMRDE_X86
ResidualKernels residuals_avx2();
ResidualKernels residuals_avx512();
#endif

}  // namespace streamrde
