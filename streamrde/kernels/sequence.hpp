// A sequence of log-ODE steps and its gradients, for training a model whose field is a multilayer perceptron.
//
// Per window the last layer is contracted with the log-signature, W = sum_j l_j W_j, and every stage of the solver is a
// small product. Backwards each window's dW is the sum over its stages of outer products, and dW_j += l_j dW: two matrix
// products as large as the field per window, and one more that forms W again, instead of three per stage.
#pragma once

#include <cstddef>
#include <vector>

#include "stepper.hpp"

namespace streamrde {

// A hidden layer y = activation(V x + c), and where its gradients go.
template <typename T>
struct HiddenLayer {
    int inputs, outputs;
    Activation activation;
    Numbers<T> forward;   // V as (inputs, padded outputs)
    Numbers<T> backward;  // V as (outputs, padded inputs)
    Numbers<T> bias;      // (padded outputs,)
};

// Every row's windows are stepped one after the other; rows are independent. All arrays are contiguous.
template <typename T>
struct Sequence {
    int hidden, features, width;
    std::ptrdiff_t rows, windows;
    std::vector<HiddenLayer<T>> layers;
    Numbers<T> forward;  // last layer and, as unit `width`, its bias, as (width + 1, features, padded hidden)
    const T* backward;   // last layer as (hidden, features, padded width)
    Numbers<T> copied;   // its memory, where the width needs padding
    Numbers<T> decay;    // per second, (padded hidden,); empty: none
    Tableau tableau;
    int substeps;
    const T* logsigs;  // scaled, (rows, windows, features)
    const T* seconds;  // the windows' durations, (rows, windows); read where the state decays
    const T* mask;     // factors on the last hidden layer's outputs, (rows, width); null: 1
    const T* before;   // drives the first stage of the first window, (rows, features), and then the window before does;
                       // null: every window's first stage has its own
    const std::ptrdiff_t* lengths;  // windows of each row after which its state stays as it is, (rows,)

    int evaluations() const { return tableau.stages * substeps; }
    int row() const { return padded<T>(hidden); }
};

// What the forward pass keeps of a row's window: the slope of every evaluation of the field, and its hidden layers' outputs
// and, where these do not tell them, derivatives.
template <typename T>
struct Record {
    std::ptrdiff_t evaluation, size;
    std::vector<std::ptrdiff_t> outputs,
        slopes;  // places of each layer within an evaluation; slopes < 0: none are kept

    explicit Record(const Sequence<T>& sequence) {
        evaluation = sequence.row();
        for (const HiddenLayer<T>& layer : sequence.layers) {
            const bool from_output = layer.activation == Activation::identity || layer.activation == Activation::relu ||
                                     layer.activation == Activation::tanh;
            outputs.push_back(evaluation);
            evaluation += padded<T>(layer.outputs);
            slopes.push_back(from_output ? -1 : evaluation);
            evaluation += from_output ? 0 : padded<T>(layer.outputs);
        }
        size = evaluation * sequence.evaluations();
    }
};

// Gradients with respect to what all rows share, laid out for the kernels.
template <typename T>
struct SharedGradients {
    std::vector<Numbers<T>> layers, biases;  // (outputs, padded inputs), (padded outputs,)
    T* last;                                 // (hidden, features, padded width)
    Numbers<T> own_last, last_bias;          // memory of `last`, if it is not another's; (features, padded hidden)
    Numbers<T> decay;                        // (padded hidden,); empty: none

    // last: memory, all 0, for that gradient; null: of its own.
    SharedGradients(const Sequence<T>& sequence, T* given) : last(given) {
        for (const HiddenLayer<T>& layer : sequence.layers) {
            layers.emplace_back(static_cast<std::size_t>(layer.outputs) * padded<T>(layer.inputs));
            biases.emplace_back(padded<T>(layer.outputs));
        }
        if (!last) {
            own_last =
                Numbers<T>(static_cast<std::size_t>(sequence.hidden) * sequence.features * padded<T>(sequence.width));
            last = own_last.data();
        }
        last_bias = Numbers<T>(static_cast<std::size_t>(sequence.features) * sequence.row());
        decay = Numbers<T>(sequence.decay.size());
    }
};

template <typename T>
struct SequenceKernel {
    // states (rows, windows + 1, hidden): the first of each row is given. tape (rows, windows, Record::size), or null.
    // Only the rows listed are stepped; the longest come first.
    void (*forward)(const Sequence<T>& sequence, const std::ptrdiff_t* rows, std::ptrdiff_t count, T* states, T* tape);
    // gradient: with respect to the states; first: that with respect to the first ones, (rows, hidden), is written.
    void (*backward)(const Sequence<T>& sequence, const std::ptrdiff_t* rows, std::ptrdiff_t count, const T* states,
                     const T* tape, const T* gradient, T* first, SharedGradients<T>& shared);
};

struct SequenceKernels {
    SequenceKernel<float> of_float;
    SequenceKernel<double> of_double;
};

SequenceKernels sequences_baseline();
#ifdef STREAMRDE_X86
SequenceKernels sequences_avx2();
SequenceKernels sequences_avx512();
#endif

}  // namespace streamrde
