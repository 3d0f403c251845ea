// Compiled once per instruction set, with STREAMRDE_RESIDUALS naming the function it gives.
#include "residual.hpp"

#include <algorithm>

#include "cells-inl.hpp"

namespace streamrde {
namespace {

// Rows of a chunk, so that all that is computed of it stays in a second-level cache; fewer where rows are long.
constexpr std::ptrdiff_t rows_together = 64, few_together = 16;
constexpr int long_row = 512;

// Rows of a chunk; row r of `states` is the state before the token whose row is r.
template <typename T>
struct Chunk {
    T *u, *y, *in, *states, *carried;                          // of the forward pass
    T *of_u, *of_y, *of_in, *of_states, *of_carried, *passed;  // gradients; passed: by a stream's state after
    std::ptrdiff_t width, in_row, state_row, carried_row, part, streams, record;
};

// A vector of components of one token.
template <typename T>
struct Place {
    using Number = T;
    using V = Vector<T>;
    const Residual<T>& model;
    const Chunk<T>& chunk;
    ResidualGradients<T>* shared;
    T* tape;  // of this token; null: nothing is kept
    std::ptrdiff_t row, stream;
    int i;
    T time;

    V input(int part) const { return load(chunk.in + row * chunk.in_row + part * chunk.part + i); }
    V carried(int part) const { return load(chunk.carried + stream * chunk.carried_row + part * chunk.part + i); }
    V before(int part) const { return load(chunk.states + row * chunk.state_row + part * chunk.part + i); }
    V state(int part) const {
        return load(chunk.states + (row + chunk.streams) * chunk.state_row + part * chunk.part + i);
    }
    void put_state(int part, V value) const {
        store(chunk.states + (row + chunk.streams) * chunk.state_row + part * chunk.part + i, value);
    }
    V vector(int n) const { return load(model.vectors[n].data() + i); }
    V u() const { return load(chunk.u + row * chunk.width + i); }
    void put_y(V value) const { store(chunk.y + row * chunk.width + i, value); }
    void keep(int part, V value) const {
        if (tape) store(tape + part * chunk.part + i, value);
    }

    V kept(int part) const { return load(tape + part * chunk.part + i); }
    V of_y() const { return load(chunk.of_y + row * chunk.width + i); }
    V reached(int part) const {
        return load(chunk.of_states + row * chunk.state_row + part * chunk.part + i) +
               load(chunk.passed + stream * chunk.state_row + part * chunk.part + i);
    }
    void pass(int part, V value) const {
        store(chunk.passed + stream * chunk.state_row + part * chunk.part + i, value);
    }
    void put_of_input(int part, V value) const {
        store(chunk.of_in + row * chunk.in_row + part * chunk.part + i, value);
    }
    void put_of_carried(int part, V value) const {
        store(chunk.of_carried + row * chunk.carried_row + part * chunk.part + i, value);
    }
    void put_of_u(V value) const { store(chunk.of_u + row * chunk.width + i, value); }
    void add_to_vector(int n, V value) const {
        T* to = shared->vectors[n].data() + i;
        store(to, load(to) + value);
    }
    int option() const { return model.option; }
    T fastest() const { return model.fastest; }
};

// A matrix of a product, (inputs, outputs), in panels of the width of a tile: each stands together, and so does not
// throw itself out of a first-level cache.
template <typename T>
class Panels {
public:
    template <typename F>
    Panels(int inputs, int outputs, const F& entry)
        : inputs_(inputs), outputs_(outputs), data_(static_cast<std::size_t>(inputs) * outputs) {
        T* to = data_.data();
        for (int begin = 0; begin < outputs; begin += wide)
            for (int k = 0; k < inputs; ++k)
                for (int j = begin; j < std::min(begin + wide, outputs); ++j) *to++ = entry(k, j);
    }
    // out = bias + x times the matrix, for count rows; bias may be null.
    void product(const T* x, std::ptrdiff_t x_stride, const T* bias, T* out, std::ptrdiff_t out_stride,
                 std::ptrdiff_t count) const {
        for (int begin = 0; begin < outputs_; begin += wide) {
            const int width = std::min(wide, outputs_ - begin);
            streamrde::product<T>(data_.data() + static_cast<std::ptrdiff_t>(begin) * inputs_, width, inputs_, width, x,
                                  x_stride, bias ? bias + begin : nullptr, out + begin, out_stride, count);
        }
    }

private:
    static constexpr int wide = tile_vectors * lanes_of<T>;
    int inputs_, outputs_;
    Numbers<T> data_;
};

// Entry (row, column) of a layer's weights with all parts padded, 0 between them.
template <typename T>
T entry(const Linear<T>& layer, int row, int column) {
    const int in = padded<T>(layer.in), out = padded<T>(layer.out), k = row % in, j = column % out;
    if (k >= layer.in || j >= layer.out) return 0;
    return layer.weight[(static_cast<std::ptrdiff_t>(column / out) * layer.out + j) * layer.ins * layer.in +
                        row / in * layer.in + k];
}
template <typename T>
Panels<T> forwards(const Linear<T>& layer) {
    return Panels<T>(layer.rows(), layer.columns(), [&](int k, int j) { return entry(layer, k, j); });
}
template <typename T>
Panels<T> backwards(const Linear<T>& layer) {
    return Panels<T>(layer.columns(), layer.rows(), [&](int k, int j) { return entry(layer, j, k); });
}
template <typename T>
Numbers<T> bias_of(const Linear<T>& layer) {
    Numbers<T> bias(layer.columns());
    for (int j = 0; layer.bias && j < layer.outs * layer.out; ++j)
        bias.data()[j / layer.out * padded<T>(layer.out) + j % layer.out] = layer.bias[j];
    return bias;
}

// `parts` of `size` numbers, with zeros up to whole vectors behind each, and back.
template <typename T>
void spread(const T* from, int parts, int size, T* to) {
    const int row = padded<T>(size);
    for (int part = 0; part < parts; ++part, from += size, to += row) {
        std::copy_n(from, size, to);
        std::fill(to + size, to + row, T(0));
    }
}
template <typename T>
void gather(const T* from, int parts, int size, T* to) {
    for (int part = 0; part < parts; ++part, from += padded<T>(size), to += size) std::copy_n(from, size, to);
}

template <typename T>
T total(Vector<T> v) {
    T sum = 0;
    for (int i = 0; i < lanes_of<T>; ++i) sum += v[i];
    return sum;
}

template <typename T>
class Pass {
    using V = Vector<T>;
    static constexpr int lanes = lanes_of<T>;

public:
    Pass(const Residual<T>& model, std::ptrdiff_t streams)
        : m_(model),
          wide_(padded<T>(model.width)),
          part_(padded<T>(model.part)),
          most_(model.row() + model.record() > long_row ? few_together : rows_together),
          bias_in_(bias_of(model.in)),
          bias_carried_(bias_of(model.carried)),
          bias_out_(bias_of(model.out)) {
        group_ = std::min(most_, streams);
        const std::ptrdiff_t steps = std::min(model.steps, std::max<std::ptrdiff_t>(1, most_ / group_));
        together_ = steps;
        const std::ptrdiff_t rows = steps * group_, in = model.in.columns(), carried = model.carried.columns();
        const std::ptrdiff_t sizes[] = {rows * wide_,
                                        rows * wide_,
                                        rows * wide_,
                                        rows * wide_,
                                        rows * wide_,
                                        rows * wide_,
                                        rows * in,
                                        (rows + group_) * m_.row(),
                                        rows * in,
                                        rows * m_.row(),
                                        rows,
                                        std::max(group_, rows) * carried,
                                        rows * carried,
                                        group_ * m_.row(),
                                        group_ * m_.row()};
        std::ptrdiff_t whole = 0;
        for (const std::ptrdiff_t size : sizes) whole += padded<T>(static_cast<int>(size));
        memory_ = Numbers<T>(whole);
        T* next = memory_.data();
        T** const places[] = {&x_,          &chunk_.u,       &chunk_.y,          &chunk_.of_y,   &given_,
                              &chunk_.of_u, &chunk_.in,      &chunk_.states,     &chunk_.of_in,  &chunk_.of_states,
                              &size_,       &chunk_.carried, &chunk_.of_carried, &chunk_.passed, &through_};
        for (std::size_t i = 0; i < std::size(places); ++i) {
            *places[i] = next;
            next += padded<T>(static_cast<int>(sizes[i]));
        }
        chunk_.width = wide_;
        chunk_.in_row = in;
        chunk_.state_row = m_.row();
        chunk_.carried_row = carried;
        chunk_.part = part_;
        chunk_.record = m_.record();
    }

    void forward(std::ptrdiff_t begin, std::ptrdiff_t end, T* y, T* states, T* tape) {
        const Panels<T> in = forwards(m_.in), carried = forwards(m_.carried), out = forwards(m_.out);
        tape_ = tape;
        for (first_ = begin; first_ < end; first_ += group_) {
            n_ = chunk_.streams = std::min(group_, end - first_);
            if (m_.form.lasts) take_states(m_.state + first_ * m_.state_size(), chunk_.states);
            for (step_ = 0; step_ < m_.steps; step_ += together_) {
                const std::ptrdiff_t steps = std::min(together_, m_.steps - step_), rows = steps * n_;
                take_tokens(m_.x, x_, steps);
                norm(rows);
                if (m_.form.in) in.product(chunk_.u, wide_, bias_in_.data(), chunk_.in, chunk_.in_row, rows);
                for (std::ptrdiff_t i = 0; i < steps; ++i) {
                    if (m_.form.carried)
                        carried.product(chunk_.states + i * n_ * m_.row(), m_.row(), bias_carried_.data(),
                                        chunk_.carried, chunk_.carried_row, n_);
                    each<true>(i, nullptr);
                }
                const T* after = chunk_.states + n_ * m_.row();
                if (m_.form.out) out.product(after, m_.row(), bias_out_.data(), chunk_.y, wide_, rows);
                give_outputs(after, y, steps);
                if (!m_.form.lasts) continue;
                for (std::ptrdiff_t i = 0; i < steps; ++i)
                    for (std::ptrdiff_t s = 0; s < n_; ++s)
                        gather(after + (i * n_ + s) * m_.row(), m_.form.state, m_.part,
                               states + token(i, s) * m_.state_size());
                std::copy_n(after + (steps - 1) * n_ * m_.row(), n_ * m_.row(), chunk_.states);
            }
        }
    }

    void backward(std::ptrdiff_t begin, std::ptrdiff_t end, const T* of_y, const T* of_states, const T* states,
                  const T* tape, T* x, T* state, ResidualGradients<T>& shared) {
        const Panels<T> in = backwards(m_.in), carried = backwards(m_.carried), out = backwards(m_.out);
        tape_ = const_cast<T*>(tape);  // it is read alone
        for (first_ = begin; first_ < end; first_ += group_) {
            n_ = chunk_.streams = std::min(group_, end - first_);
            std::fill_n(chunk_.passed, n_ * m_.row(), T(0));
            for (step_ = (m_.steps - 1) / together_ * together_; step_ >= 0; step_ -= together_) {
                const std::ptrdiff_t steps = std::min(together_, m_.steps - step_), rows = steps * n_;
                take_tokens(m_.x, x_, steps);
                norm(rows);
                take_tokens(of_y, given_, steps);
                mask(steps);
                if (m_.form.lasts) take_all_states(states, steps);
                reach(out, of_states, steps);
                for (std::ptrdiff_t i = steps - 1; i >= 0; --i) {
                    each<false>(i, &shared);
                    if (m_.form.carried) pass_through(carried, i);
                }
                if (m_.form.carried) add_gradients(1, chunk_.states, m_.row(), chunk_.of_carried, rows, shared);
                const T* after = chunk_.states + n_ * m_.row();
                if (m_.form.out) add_gradients(2, after, m_.row(), chunk_.of_y, rows, shared);
                if (m_.form.in) {
                    add_gradients(0, chunk_.u, wide_, chunk_.of_in, rows, shared);
                    in.product(chunk_.of_in, chunk_.in_row, nullptr, chunk_.of_u, wide_, rows);
                }
                if (m_.cell == Cell::lru) skip_backwards(rows, shared.vectors[2].data());
                norm_backwards(rows, shared.norm.data());
                for (std::ptrdiff_t i = 0; i < steps; ++i)
                    for (std::ptrdiff_t s = 0; s < n_; ++s)
                        std::copy_n(given_ + (i * n_ + s) * wide_, m_.width, x + token(i, s) * m_.width);
            }
            for (std::ptrdiff_t s = 0; m_.form.lasts && s < n_; ++s)
                gather(chunk_.passed + s * m_.row(), m_.form.state, m_.part, state + (first_ + s) * m_.state_size());
        }
    }

private:
    // The number of a token of the chunk among all.
    std::ptrdiff_t token(std::ptrdiff_t i, std::ptrdiff_t s) const { return (step_ + i) * m_.streams + first_ + s; }

    void take_tokens(const T* from, T* to, std::ptrdiff_t steps) const {
        for (std::ptrdiff_t i = 0; i < steps; ++i)
            for (std::ptrdiff_t s = 0; s < n_; ++s)
                spread(from + token(i, s) * m_.width, 1, m_.width, to + (i * n_ + s) * wide_);
    }
    void take_states(const T* from, T* to) const {
        for (std::ptrdiff_t s = 0; s < n_; ++s)
            spread(from + s * m_.state_size(), m_.form.state, m_.part, to + s * m_.row());
    }
    void take_all_states(const T* states, std::ptrdiff_t steps) const {
        for (std::ptrdiff_t i = -1; i < steps; ++i)
            take_states(step_ + i < 0 ? m_.state + first_ * m_.state_size() : states + token(i, 0) * m_.state_size(),
                        chunk_.states + (i + 1) * n_ * m_.row());
    }

    template <bool forwards>
    void each(std::ptrdiff_t i, ResidualGradients<T>* shared) const {
        switch (m_.cell) {
            case Cell::rg_lru:
                return each_of<forwards, Part<Cell::rg_lru>>(i, shared);
            case Cell::min_gru:
                return each_of<forwards, Part<Cell::min_gru>>(i, shared);
            case Cell::lru:
                return each_of<forwards, Part<Cell::lru>>(i, shared);
            case Cell::gru:
                return each_of<forwards, Part<Cell::gru>>(i, shared);
            case Cell::lstm:
                return each_of<forwards, Part<Cell::lstm>>(i, shared);
            case Cell::s4d:
                return each_of<forwards, Part<Cell::s4d>>(i, shared);
            case Cell::slice:
                switch (m_.option) {
                    case 1:
                        return each_of<forwards, Flow<1>>(i, shared);
                    case 2:
                        return each_of<forwards, Flow<2>>(i, shared);
                    case 3:
                        return each_of<forwards, Flow<3>>(i, shared);
                    default:
                        return each_of<forwards, Flow<4>>(i, shared);
                }
            case Cell::rde:
                return;  // torch runs it
            case Cell::swiglu:
                return each_of<forwards, Part<Cell::swiglu>>(i, shared);
            case Cell::glu:
                return each_of<forwards, Part<Cell::glu>>(i, shared);
            case Cell::gelu:
                return each_of<forwards, Part<Cell::gelu>>(i, shared);
        }
    }
    template <bool forwards, typename P>
    void each_of(std::ptrdiff_t i, ResidualGradients<T>* shared) const {
        for (std::ptrdiff_t s = 0; s < n_; ++s) {
            const std::ptrdiff_t number = token(i, s);
            const T time = m_.time ? m_.time[number] : T(1);
            T* const kept = tape_ ? tape_ + number * chunk_.record : nullptr;
            for (int j = 0; j < part_; j += lanes) {
                const Place<T> at{m_, chunk_, shared, kept, i * n_ + s, s, j, time};
                if constexpr (forwards) P::forward(at);
                else P::backward(at);
            }
        }
    }

    // u = x / rms(x) times the factors; what x is divided by stands in size_.
    void norm(std::ptrdiff_t rows) const {
        for (std::ptrdiff_t r = 0; r < rows; ++r) {
            const T* x = x_ + r * wide_;
            V sum = {};
            for (int i = 0; i < wide_; i += lanes) sum = fma(load(x + i), load(x + i), sum);
            const T inverse = 1 / std::sqrt(total<T>(sum) / m_.width + T(norm_floor));
            size_[r] = inverse;
            for (int i = 0; i < wide_; i += lanes)
                store(chunk_.u + r * wide_ + i, load(x + i) * inverse * load(m_.norm.data() + i));
        }
    }
    // given_ becomes the gradient with respect to x.
    void norm_backwards(std::ptrdiff_t rows, T* of_factors) const {
        for (std::ptrdiff_t r = 0; r < rows; ++r) {
            const T *x = x_ + r * wide_, *of_u = chunk_.of_u + r * wide_;
            T* to = given_ + r * wide_;
            const T inverse = size_[r];
            V sum = {};
            for (int i = 0; i < wide_; i += lanes) {
                const V product = load(of_u + i) * load(x + i);
                store(of_factors + i, fma(product, all<T>(inverse), load(of_factors + i)));
                sum = fma(product, load(m_.norm.data() + i), sum);
            }
            const T less = -total<T>(sum) / m_.width * inverse * inverse;
            for (int i = 0; i < wide_; i += lanes) {
                const V own = fma(load(x + i), all<T>(less), load(of_u + i) * load(m_.norm.data() + i));
                store(to + i, fma(own, all<T>(inverse), load(to + i)));
            }
        }
    }

    // y = x + keep * what the branch gives.
    void give_outputs(const T* after, T* y, std::ptrdiff_t steps) const {
        const bool is_state = m_.form.carried > 0, skips = m_.cell == Cell::lru;
        for (std::ptrdiff_t i = 0; i < steps; ++i)
            for (std::ptrdiff_t s = 0; s < n_; ++s) {
                const std::ptrdiff_t r = i * n_ + s;
                const T *x = x_ + r * wide_, *u = chunk_.u + r * wide_;
                const T* from = is_state ? after + r * m_.row() : chunk_.y + r * wide_;
                const T* keep = m_.keep ? m_.keep + (first_ + s) * m_.width : nullptr;
                T* to = y + token(i, s) * m_.width;
                for (int j = 0; j < m_.width; ++j) {
                    const T own = skips ? from[j] + m_.vectors[2].data()[j] * u[j] : from[j];
                    to[j] = x[j] + (keep ? keep[j] * own : own);
                }
            }
    }
    // The gradient with respect to what the branch gives.
    void mask(std::ptrdiff_t steps) const {
        for (std::ptrdiff_t i = 0; i < steps; ++i)
            for (std::ptrdiff_t s = 0; s < n_; ++s) {
                const T* from = given_ + (i * n_ + s) * wide_;
                const T* keep = m_.keep ? m_.keep + (first_ + s) * m_.width : nullptr;
                T* to = chunk_.of_y + (i * n_ + s) * wide_;
                for (int j = 0; j < wide_; ++j) to[j] = keep && j < m_.width ? from[j] * keep[j] : from[j];
            }
    }
    // The states' own gradients: of the output, and those that were asked for.
    void reach(const Panels<T>& out, const T* of_states, std::ptrdiff_t steps) const {
        const std::ptrdiff_t rows = steps * n_;
        if (m_.form.out) {
            out.product(chunk_.of_y, wide_, nullptr, chunk_.of_states, m_.row(), rows);
        } else {
            std::fill_n(chunk_.of_states, rows * m_.row(), T(0));
            for (std::ptrdiff_t r = 0; m_.form.carried && r < rows; ++r)
                std::copy_n(chunk_.of_y + r * wide_, wide_, chunk_.of_states + r * m_.row());
        }
        for (std::ptrdiff_t i = 0; of_states && i < steps; ++i)
            for (std::ptrdiff_t s = 0; s < n_; ++s)
                for (int part = 0; part < m_.form.state; ++part)
                    for (int j = 0; j < m_.part; ++j)
                        chunk_.of_states[(i * n_ + s) * m_.row() + part * part_ + j] +=
                            of_states[token(i, s) * m_.state_size() + part * m_.part + j];
    }
    // What the layer on the state before passes on to it.
    void pass_through(const Panels<T>& carried, std::ptrdiff_t i) const {
        // It takes the output, a state's first part.
        carried.product(chunk_.of_carried + i * n_ * chunk_.carried_row, chunk_.carried_row, nullptr, through_, part_,
                        n_);
        for (std::ptrdiff_t s = 0; s < n_; ++s)
            for (int j = 0; j < part_; j += lanes) {
                T* to = chunk_.passed + s * m_.row() + j;
                store(to, load(to) + load(through_ + s * part_ + j));
            }
    }
    void skip_backwards(std::ptrdiff_t rows, T* of_skip) const {
        const T* skip = m_.vectors[2].data();
        for (std::ptrdiff_t r = 0; r < rows; ++r)
            for (int i = 0; i < wide_; i += lanes) {
                const V g = load(chunk_.of_y + r * wide_ + i);
                store(of_skip + i, fma(g, load(chunk_.u + r * wide_ + i), load(of_skip + i)));
                T* to = chunk_.of_u + r * wide_ + i;
                store(to, fma(g, load(skip + i), load(to)));
            }
    }
    // Of a layer's weights and bias, from what it took and the gradients of what it gave.
    void add_gradients(int layer, const T* x, std::ptrdiff_t x_stride, const T* of, std::ptrdiff_t rows,
                       ResidualGradients<T>& shared) const {
        const Linear<T>& own = layer == 0 ? m_.in : layer == 1 ? m_.carried : m_.out;
        const int columns = own.columns();
        accumulate<T>(x, x_stride, own.rows(), of, columns, columns, rows, shared.weights[layer].data(), columns);
        T* bias = shared.biases[layer].data();
        for (int i = 0; own.bias && i < columns; i += lanes) {
            V sum = load(bias + i);
            for (std::ptrdiff_t r = 0; r < rows; ++r) sum += load(of + r * columns + i);
            store(bias + i, sum);
        }
    }

    const Residual<T>& m_;
    int wide_, part_;
    std::ptrdiff_t most_, group_, together_, first_ = 0, step_ = 0, n_ = 0;
    Numbers<T> bias_in_, bias_carried_, bias_out_, memory_;
    Chunk<T> chunk_{};
    T *x_, *given_, *size_, *through_, *tape_ = nullptr;
};

template <typename T>
void forward(const Residual<T>& residual, std::ptrdiff_t begin, std::ptrdiff_t end, T* y, T* states, T* tape) {
    Pass<T>(residual, end - begin).forward(begin, end, y, states, tape);
}
template <typename T>
void backward(const Residual<T>& residual, std::ptrdiff_t begin, std::ptrdiff_t end, const T* of_y, const T* of_states,
              const T* states, const T* tape, T* x, T* state, ResidualGradients<T>& shared) {
    Pass<T>(residual, end - begin).backward(begin, end, of_y, of_states, states, tape, x, state, shared);
}

}  // namespace

ResidualKernels STREAMRDE_RESIDUALS() {
    return {{forward<float>, backward<float>}, {forward<double>, backward<double>}};
}

}  // namespace streamrde
