// Compiled once per instruction set, with STREAMRDE_SEQUENCES naming the function it gives.
#include "sequence.hpp"

#include <algorithm>
#include <vector>

#include "sequence_block-inl.hpp"
#include "sequence_ledger-inl.hpp"

namespace streamrde {
namespace {

template <typename T, typename A>
void activate_rows(T* values, T* slopes, std::ptrdiff_t stride, int size, std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>) {
            const std::ptrdiff_t place = s * stride + i;
            const Vector<T> x = load(values + place), y = A::template of<T>(x);
            store(values + place, y);
            if constexpr (!A::from_output)
                if (slopes) store(slopes + place, A::template slope<T>(x, y));
        }
}

// gradient *= slope, for activations whose outputs tell it.
template <typename T, typename A>
void slope_rows(T* gradient, std::ptrdiff_t stride, const T* outputs, std::ptrdiff_t outputs_stride, int size,
                std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>) {
            const Vector<T> y = load(outputs + s * outputs_stride + i);
            store(gradient + s * stride + i, load(gradient + s * stride + i) * A::template slope<T>(y, y));
        }
}

template <typename T>
void multiply_rows(T* values, std::ptrdiff_t stride, const T* factors, std::ptrdiff_t factors_stride, int size,
                   std::ptrdiff_t count) {
    for (std::ptrdiff_t s = 0; s < count; ++s)
        for (int i = 0; i < size; i += lanes_of<T>)
            store(values + s * stride + i, load(values + s * stride + i) * load(factors + s * factors_stride + i));
}

template <typename T>
void activate(Activation activation, T* values, T* slopes, std::ptrdiff_t stride, int size, std::ptrdiff_t count) {
    switch (activation) {
        case Activation::identity:
            return;
        case Activation::relu:
            return activate_rows<T, Relu>(values, slopes, stride, size, count);
        case Activation::tanh:
            return activate_rows<T, Tanh>(values, slopes, stride, size, count);
        case Activation::silu:
            return activate_rows<T, Silu>(values, slopes, stride, size, count);
        case Activation::softplus:
            return activate_rows<T, Softplus>(values, slopes, stride, size, count);
        case Activation::gelu:
            return activate_rows<T, Gelu>(values, slopes, stride, size, count);
    }
}

template <typename T>
void slope_of(Activation activation, T* gradient, std::ptrdiff_t stride, const T* outputs,
              std::ptrdiff_t outputs_stride, int size, std::ptrdiff_t count) {
    if (activation == Activation::relu) slope_rows<T, Relu>(gradient, stride, outputs, outputs_stride, size, count);
    else if (activation == Activation::tanh)
        slope_rows<T, Tanh>(gradient, stride, outputs, outputs_stride, size, count);
}

// The steps of all windows, a block of rows at a time.
template <typename T>
class Forward {
public:
    Forward(const Sequence<T>& given, std::ptrdiff_t total)
        : model_(given),
          block_(given, total, static_cast<std::ptrdiff_t>(given.width + 1) * padded<T>(given.hidden)),
          record_(block_.record),
          row_(block_.row) {
        const std::ptrdiff_t most = block_.rows_at_once;
        for (int pass = 0; pass < 2; ++pass) {
            block_.take(arena_);
            z_ = arena_.take(most * row_);
            start_ = arena_.take(most * row_);
            masked_ = arena_.take(model_.mask ? most * block_.wide : 0);
            scratch_ = arena_.take(most * record_.size);
            if (!pass) arena_.provide();
        }
    }

    void run(const std::ptrdiff_t* rows, std::ptrdiff_t total, T* states, T* tape) {
        const std::ptrdiff_t most = block_.rows_at_once;
        for (std::ptrdiff_t begin = 0; begin < total; begin += most) {
            block_.begin(rows + begin, std::min(most, total - begin));
            run_block(states, tape);
        }
    }

private:
    void run_block(T* states, T* tape) {
        const std::ptrdiff_t K = model_.windows;
        const std::ptrdiff_t* own = block_.rows;
        const int H = block_.H;
        const auto state = [&](std::ptrdiff_t s, std::ptrdiff_t k) { return states + (own[s] * (K + 1) + k) * H; };
        for (std::ptrdiff_t s = 0; s < block_.count; ++s) copy_row(state(s, 0), H, z_ + s * row_);
        for (std::ptrdiff_t from = 0; from < K; from += block_.windows_at_once) {
            const std::ptrdiff_t to = std::min(from + block_.windows_at_once, K);
            block_.contract(from, to, model_.forward.data(), model_.width + 1, row_);
            for (std::ptrdiff_t k = from; k < to; ++k) {
                const std::ptrdiff_t n = block_.active(k);
                block_.decay(k, n);
                for (int e = 0; e < model_.evaluations(); ++e) evaluate(k, from, e, n);
                for (std::ptrdiff_t s = 0; s < block_.count; ++s) copy_row(z_ + s * row_, H, state(s, k + 1));
                if (tape)
                    for (std::ptrdiff_t s = 0; s < n; ++s)
                        std::copy_n(scratch_ + s * record_.size, record_.size, tape + (own[s] * K + k) * record_.size);
            }
        }
    }

    // Evaluation e of the field in window k, and the end of a substep after its last stage.
    void evaluate(std::ptrdiff_t k, std::ptrdiff_t from, int e, std::ptrdiff_t n) {
        const Tableau& tableau = model_.tableau;
        const int wide = block_.wide, stage = e % tableau.stages;
        T* step = scratch_ + (e - stage) * record_.evaluation;
        T* now = scratch_ + e * record_.evaluation;
        block_.combine(start_, z_, step, record_.size, tableau.node[stage], tableau.stage[stage], stage, n);
        const T* x = start_;
        std::ptrdiff_t stride = row_;
        for (std::size_t i = 0; i < model_.layers.size(); ++i) {
            const HiddenLayer<T>& layer = model_.layers[i];
            const int size = padded<T>(layer.outputs);
            T* y = now + record_.outputs[i];
            product<T>(layer.forward.data(), size, layer.inputs, size, x, stride, layer.bias.data(), y, record_.size,
                       n);
            activate<T>(layer.activation, y, record_.slopes[i] < 0 ? nullptr : now + record_.slopes[i], record_.size,
                        size, n);
            x = y;
            stride = record_.size;
        }
        if (model_.mask) {
            for (std::ptrdiff_t s = 0; s < n; ++s) copy_row(x + s * stride, wide, masked_ + s * wide);
            multiply_rows<T>(masked_, wide, block_.mask, wide, wide, n);
            x = masked_;
            stride = wide;
        }
        for (std::ptrdiff_t s = 0; s < n; ++s) {
            const T* matrix = block_.matrix_of(k, from, s, e == 0);
            product_of_row<T>(matrix, row_, model_.width, row_, x + s * stride,
                              matrix + static_cast<std::ptrdiff_t>(model_.width) * row_, now + s * record_.size);
        }
        if (stage + 1 == tableau.stages)
            block_.combine(z_, z_, step, record_.size, tableau.nodes, tableau.weight, tableau.stages, n);
    }

    const Sequence<T>& model_;
    Block<T> block_;
    const Record<T>& record_;
    const int row_;
    Arena<T> arena_;
    T *z_, *start_, *masked_, *scratch_;
};

template <typename T>
void forward(const Sequence<T>& model, const std::ptrdiff_t* rows, std::ptrdiff_t total, T* states, T* tape) {
    if (total) Forward<T>(model, total).run(rows, total, states, tape);
}

// The gradients, from the last window to the first, a block of rows at a time.
template <typename T>
class Backward {
    using V = Vector<T>;
    static constexpr int lanes = lanes_of<T>;

    // A window k of n rows, the windows contracted with it beginning with `from`; its entries in the ledger begin at `entry`.
    struct Window {
        std::ptrdiff_t k, from, n, entry;
    };

public:
    Backward(const Sequence<T>& given, std::ptrdiff_t total, SharedGradients<T>& gradients)
        : model_(given),
          shared_(gradients),
          block_(given, total, static_cast<std::ptrdiff_t>(given.hidden) * padded<T>(given.width)),
          record_(block_.record),
          ledger_(given, block_.rows_at_once),
          row_(block_.row),
          wide_(block_.wide),
          stages_(given.tableau.stages),
          evaluations_(given.evaluations()),
          layers_(static_cast<std::ptrdiff_t>(given.layers.size())),
          most_(block_.rows_at_once),
          inputs_(layers_),
          units_(layers_) {
        for (int pass = 0; pass < 2; ++pass) {
            block_.take(arena_);
            ledger_.take(arena_);
            kept_ = arena_.take(most_ * record_.size);
            adjoint_ = arena_.take(most_ * row_);
            z_ = arena_.take(most_ * row_ * model_.substeps);
            slopes_ = arena_.take(most_ * row_ * stages_);
            features_ = arena_.take(most_ * std::max(wide_, row_));
            pending_slope_ = arena_.take(block_.carries ? most_ * row_ : 0);
            pending_output_ = arena_.take(block_.carries ? most_ * wide_ : 0);
            for (std::ptrdiff_t i = 0; i < layers_; ++i) {
                inputs_[i] = arena_.take(most_ * evaluations_ * padded<T>(model_.layers[i].inputs));
                units_[i] = arena_.take(most_ * evaluations_ * padded<T>(model_.layers[i].outputs));
            }
            if (!pass) arena_.provide();
        }
    }

    void run(const std::ptrdiff_t* rows, std::ptrdiff_t total, const T* states, const T* tape, const T* gradient,
             T* first) {
        for (std::ptrdiff_t begin = 0; begin < total; begin += most_) {
            block_.begin(rows + begin, std::min(most_, total - begin));
            run_block(states, tape, gradient, first);
        }
        ledger_.flush(shared_);
    }

private:
    void run_block(const T* states, const T* tape, const T* gradient, T* first) {
        const int H = block_.H;
        const std::ptrdiff_t K = model_.windows;
        const std::ptrdiff_t* own = block_.rows;
        std::fill_n(adjoint_, most_ * row_, T(0));
        if (block_.carries) {
            std::fill_n(pending_slope_, most_ * row_, T(0));
            std::fill_n(pending_output_, most_ * wide_, T(0));
        }
        for (std::ptrdiff_t to = K; to > 0;) {
            const std::ptrdiff_t from = std::max<std::ptrdiff_t>(to - block_.windows_at_once, 0);
            block_.contract(from, to, model_.backward, H, wide_);
            for (std::ptrdiff_t k = to - 1; k >= from; --k) {
                add_gradient(gradient, k + 1);
                const std::ptrdiff_t n = block_.active(k);
                if (n) run_window({k, from, n, enter(n)}, states, tape);
            }
            to = from;
        }
        add_gradient(gradient, 0);
        for (std::ptrdiff_t s = 0; s < block_.count; ++s) copy_row(adjoint_ + s * row_, H, first + own[s] * H);
        if (!block_.carries) return;
        const std::ptrdiff_t n = block_.active(0), entry = enter(n);
        for (std::ptrdiff_t s = 0; s < n; ++s) {
            ledger_.set_logsig(entry + s, block_.logsig(own[s], -1));
            ledger_.set(entry + s, 0, pending_slope_ + s * row_, pending_output_ + s * wide_);
            for (int e = 1; e < evaluations_; ++e) ledger_.clear(entry + s, e);
        }
    }

    void add_gradient(const T* gradient, std::ptrdiff_t k) {
        const int H = block_.H;
        for (std::ptrdiff_t s = 0; s < block_.count; ++s) {
            const T* from = gradient + (block_.rows[s] * (model_.windows + 1) + k) * H;
            for (int i = 0; i < H; ++i) adjoint_[s * row_ + i] += from[i];
        }
    }

    // Room for n entries in the ledger: the first of them.
    std::ptrdiff_t enter(std::ptrdiff_t n) {
        if (ledger_.count + n > ledger_.most) ledger_.flush(shared_);
        ledger_.count += n;
        return ledger_.count - n;
    }

    void run_window(const Window& window, const T* states, const T* tape) {
        const auto [k, from, n, entry] = window;
        const Tableau& tableau = model_.tableau;
        const std::ptrdiff_t K = model_.windows;
        const int H = block_.H;
        block_.decay(k, n);
        for (std::ptrdiff_t s = 0; s < n; ++s) {
            const std::ptrdiff_t own = block_.rows[s];
            ledger_.set_logsig(entry + s, block_.logsig(own, k));
            if (block_.carries) ledger_.set(entry + s, 0, pending_slope_ + s * row_, pending_output_ + s * wide_);
            std::copy_n(tape + (own * K + k) * record_.size, record_.size, kept_ + s * record_.size);
            copy_row(states + (own * (K + 1) + k) * H, H, z_ + s * row_);
        }
        for (int m = 1; m < model_.substeps; ++m)
            block_.combine(z_ + m * most_ * row_, z_ + (m - 1) * most_ * row_,
                           kept_ + (m - 1) * stages_ * record_.evaluation, record_.size, tableau.nodes, tableau.weight,
                           stages_, n);
        for (int m = model_.substeps - 1; m >= 0; --m) {
            std::copy_n(adjoint_, n * row_, features_);  // of the step's end; features_ is free until the first stage
            std::fill_n(adjoint_, n * row_, T(0));
            std::fill_n(slopes_, most_ * row_ * stages_, T(0));
            combine_backward(window, m, tableau.nodes, tableau.weight, stages_);
            for (int stage = stages_ - 1; stage >= 0; --stage) run_stage(window, m, stage);
        }
        for (std::ptrdiff_t i = 0; i < layers_; ++i) add_layer(i, n * evaluations_);
    }

    // One evaluation of the field.
    void run_stage(const Window& window, int m, int stage) {
        const std::ptrdiff_t n = window.n;
        const Tableau& tableau = model_.tableau;
        const int e = m * stages_ + stage;
        const T* now = kept_ + e * record_.evaluation;
        const T* slope = slopes_ + stage * most_ * row_;
        const T* last = now + record_.outputs[layers_ - 1];
        std::ptrdiff_t stride = record_.size;
        T* unit = units_[layers_ - 1] + e * n * wide_;
        for (std::ptrdiff_t s = 0; s < n; ++s)
            product_of_row<T>(block_.matrix_of(window.k, window.from, s, e == 0), wide_, block_.H, wide_,
                              slope + s * row_, nullptr, unit + s * wide_);
        if (model_.mask) {
            multiply_rows<T>(unit, wide_, block_.mask, wide_, wide_, n);
            for (std::ptrdiff_t s = 0; s < n; ++s) copy_row(last + s * stride, wide_, features_ + s * wide_);
            multiply_rows<T>(features_, wide_, block_.mask, wide_, wide_, n);
            last = features_;
            stride = wide_;
        }
        for (std::ptrdiff_t s = 0; s < n; ++s) {
            if (!block_.carries || e) {
                ledger_.set(window.entry + s, e, slope + s * row_, last + s * stride);
                continue;
            }
            copy_row(slope + s * row_, row_, pending_slope_ + s * row_);
            copy_row(last + s * stride, wide_, pending_output_ + s * wide_);
        }
        for (std::ptrdiff_t i = layers_ - 1; i >= 0; --i) run_layer(i, n, m, stage);
        combine_backward(window, m, tableau.node[stage], tableau.stage[stage], stage);
    }

    // A hidden layer in one evaluation: from the gradient of its outputs to that of its inputs, or of the stage's state.
    void run_layer(std::ptrdiff_t i, std::ptrdiff_t n, int m, int stage) {
        const HiddenLayer<T>& layer = model_.layers[i];
        const int in = padded<T>(layer.inputs), out = padded<T>(layer.outputs), e = m * stages_ + stage;
        const T* now = kept_ + e * record_.evaluation;
        T *x = inputs_[i] + e * n * in, *u = units_[i] + e * n * out;
        if (record_.slopes[i] < 0)
            slope_of<T>(layer.activation, u, out, now + record_.outputs[i], record_.size, out, n);
        else multiply_rows<T>(u, out, now + record_.slopes[i], record_.size, out, n);
        if (i)
            for (std::ptrdiff_t s = 0; s < n; ++s)
                copy_row(now + s * record_.size + record_.outputs[i - 1], in, x + s * in);
        else
            block_.combine(x, z_ + m * most_ * row_, kept_ + m * stages_ * record_.evaluation, record_.size,
                           model_.tableau.node[stage], model_.tableau.stage[stage], stage, n);
        T* gradient_in = i ? units_[i - 1] + e * n * in : features_;
        product<T>(layer.backward.data(), in, layer.outputs, in, u, out, nullptr, gradient_in, in, n);
    }

    // Adjoint of out = E(node) z + h sum_j a_j E(node - node_j) k_j in substep m, out's being in features_: of z, of the k_j,
    // and of the decay.
    void combine_backward(const Window& window, int m, int node, const double* a, int terms) {
        const Tableau& tableau = model_.tableau;
        const double h = 1.0 / model_.substeps;
        const T* z = z_ + m * most_ * row_;
        const T* step = kept_ + m * stages_ * record_.evaluation;
        T* decay = shared_.decay.data();
        for (std::ptrdiff_t s = 0; s < window.n; ++s) {
            const T time = block_.decays ? static_cast<T>(block_.elapsed(block_.rows[s], window.k, 1)) : T(0);
            for (int i = 0; i < row_; i += lanes) {
                const V g = load(features_ + s * row_ + i), through = block_.faded(node, s, i, g);
                store(adjoint_ + s * row_ + i, load(adjoint_ + s * row_ + i) + through);
                V rate = block_.decays ? through * load(z + s * row_ + i) * static_cast<T>(node) : V{};
                for (int j = 0; j < terms; ++j)
                    if (a[j] != 0) {
                        const int passed = node - tableau.node[j];
                        T* slope = slopes_ + (j * most_ + s) * row_ + i;
                        const V share = block_.faded(passed, s, i, g) * static_cast<T>(a[j] * h);
                        store(slope, load(slope) + share);
                        if (block_.decays)
                            rate += share * load(step + s * record_.size + j * record_.evaluation + i) *
                                    static_cast<T>(passed);
                    }
                if (block_.decays) store(decay + i, load(decay + i) - rate * time);
            }
        }
    }

    // What a window's evaluations give to a layer's gradients.
    void add_layer(std::ptrdiff_t i, std::ptrdiff_t count) {
        const HiddenLayer<T>& layer = model_.layers[i];
        const int in = padded<T>(layer.inputs), out = padded<T>(layer.outputs);
        accumulate<T>(units_[i], out, layer.outputs, inputs_[i], in, in, count, shared_.layers[i].data(), in);
        T* bias = shared_.biases[i].data();
        for (std::ptrdiff_t s = 0; s < count; ++s)
            for (int c = 0; c < out; c += lanes) store(bias + c, load(bias + c) + load(units_[i] + s * out + c));
    }

    const Sequence<T>& model_;
    SharedGradients<T>& shared_;
    Block<T> block_;
    const Record<T>& record_;
    Ledger<T> ledger_;
    const int row_, wide_, stages_, evaluations_;
    const std::ptrdiff_t layers_, most_;
    Arena<T> arena_;
    // z_: at the start of every substep; inputs_ and units_: what enters each layer and its gradient before the activation, for
    // all evaluations of a window; pending: what the first stages of the window after give to the one that drove them.
    T *kept_, *adjoint_, *z_, *slopes_, *features_, *pending_slope_, *pending_output_;
    std::vector<T*> inputs_, units_;
};

template <typename T>
void backward(const Sequence<T>& model, const std::ptrdiff_t* rows, std::ptrdiff_t total, const T* states,
              const T* tape, const T* gradient, T* first, SharedGradients<T>& shared) {
    if (total) Backward<T>(model, total, shared).run(rows, total, states, tape, gradient, first);
}

}  // namespace

SequenceKernels STREAMRDE_SEQUENCES() {
    return {{forward<float>, backward<float>}, {forward<double>, backward<double>}};
}

}  // namespace streamrde
