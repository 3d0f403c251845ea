// The log-ODE step of a model whose field is a multilayer perceptron that ends in a linear layer.
//
// With h(z) the last hidden layer, F(z) l = (sum_j l_j W_j) h(z) + sum_j l_j b_j: both sums are contracted once per window,
// and every stage of the solver is a product with a (hidden, width) matrix. See inference/stepper.py for the meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "layout.hpp"

namespace streamrde {

STREAMRDE_ENUM(enum class Activation : int, activation, identity, relu, tanh, silu, softplus, gelu);
constexpr int activations = static_cast<int>(Activation::gelu) + 1;

// Memory for `size` numbers, aligned for vectors.
template <typename T>
class Numbers {
public:
    explicit Numbers(std::size_t size = 0) : size_(size) {
        if (size) data_ = static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{64}));
        for (std::size_t i = 0; i < size; ++i) data_[i] = 0;
    }
    Numbers(Numbers&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Numbers& operator=(Numbers&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Numbers() { ::operator delete(data_, std::align_val_t{64}); }
    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }

private:
    T* data_ = nullptr;
    std::size_t size_;
};

// Rows are padded to whole vectors of the widest instruction set, so that no kernel has a tail.
template <typename T>
constexpr int padding = 64 / sizeof(T);
template <typename T>
constexpr int padded(int size) {
    return (size + padding<T> - 1) / padding<T> * padding<T>;
}
// Outputs whose weights stand together, feature after feature, in the contraction.
template <typename T>
constexpr int panel = 128 / sizeof(T);

// y = activation(W x + b); weights stand as (inputs, padded outputs).
template <typename T>
struct Layer {
    int inputs, outputs;
    Activation activation;
    Numbers<T> weight, bias;
};

// A solver's tableau: stage i starts from z + h sum_j stage[i][j] k_j, at time node[i]/nodes of the step.
struct Tableau {
    int stages, order, nodes;
    int node[4];
    double stage[4][4];
    double weight[4];
};

// How tokens are scaled: see inference/token_scaling.py.
struct Scaling {
    int features;
    Numbers<double> scale;  // multiplies a token before it is rounded
    Numbers<double> shift;  // taken from it before; empty: nothing is, and nothing clipped
    double clip = 0;        // largest magnitude of an entry of a scaled token; 0: any
    int summaries = 0;      // an entry from here on that is NaN was not observed, and becomes 0
};

template <typename T>
struct Model : Scaling {
    int hidden;
    Layer<T> initial, readout;
    std::vector<Layer<T>> layers;
    // Flat index i = k * padded(hidden) + h of the contracted matrix, k the last hidden layer's unit or, behind them, the
    // bias; panel i / panel holds its weights as (features, panel).
    Numbers<T> last;
    std::ptrdiff_t contracted;  // numbers in a contracted matrix, whole panels
    Numbers<T> decay;           // per second, (padded hidden,); empty: none
    Tableau tableau;
    int substeps;  // 0: as many as the tolerance needs
    double tolerance;
    int most_substeps;
};

// A block of work: everything per stream, one after the other.
template <typename T>
struct Steps {
    T* z;                    // (count, hidden), replaced
    const double* logsig;    // (count, features)
    const double* previous;  // the same of the window before, drives the first stage; null: the window's own
    double* error;           // estimates of the step's error; null: not asked for
    std::ptrdiff_t count;
};

template <typename T>
struct StepKernel {
    // z <- z after one window.
    void (*step)(const Model<T>& model, const Steps<T>& steps);
    // out = activation(W x + b), (count, layer.outputs), for x (count, layer.inputs).
    void (*apply)(const Layer<T>& layer, const T* x, T* out, std::ptrdiff_t count);
    // Rows of logits to probabilities, in place.
    void (*softmax)(T* rows, std::ptrdiff_t width, std::ptrdiff_t count);
};

struct StepKernels {
    StepKernel<float> of_float;
    StepKernel<double> of_double;
};

StepKernels steps_baseline();
#ifdef STREAMRDE_X86
StepKernels steps_avx2();
StepKernels steps_avx512();
#endif

}  // namespace streamrde
