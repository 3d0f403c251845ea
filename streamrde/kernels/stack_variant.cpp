// Compiled once per instruction set, with STREAMRDE_STACKS naming the function it gives.
#include "stack.hpp"

#include <cmath>

#include "cells-inl.hpp"

namespace streamrde {
namespace {

// Streams that pass through a layer together, so that its weights stay in a first-level cache.
constexpr std::ptrdiff_t together = 16;

// Rows of a block of streams, all of one padded length.
template <typename T>
struct Rows {
    T* data;
    std::ptrdiff_t stride;
    T* operator[](std::ptrdiff_t s) const { return data + s * stride; }
};

template <typename T>
class Pass {
    using V = Vector<T>;

public:
    explicit Pass(const StackModel<T>& model) : model_(model) {
        int wide = padded<T>(model.features);
        for (const int size : {model.width, model.part, model.blocks.front().inner.outputs})
            wide = padded<T>(size) > wide ? padded<T>(size) : wide;
        const int rows = 6 + model_.form.state + work_rows(model_);
        memory_ = buffer<T>(static_cast<std::size_t>(rows) * together * wide + together);
        time_ = memory_ + static_cast<std::size_t>(rows) * together * wide;
        stride_ = wide;
    }

    void step(T* z, const double* tokens, std::ptrdiff_t count) {
        count_ = count;
        const Rows<T> token = rows(0), x = rows(1), normed = rows(2), y = rows(3);
        for (std::ptrdiff_t s = 0; s < count; ++s) {
            const double* from = tokens + s * model_.features;
            time_[s] = model_.unit ? static_cast<T>(from[0] / model_.unit) : T(1);
            for (int j = 0; j < model_.features; ++j)
                token[s][j] = (model_.shift.size() ? scaled<T>(model_, from[j], j)
                                                   : static_cast<T>(from[j] * model_.scale.data()[j])) *
                              model_.gain;
        }
        product(model_.input, token, x);
        const int pooled = (model_.mean + model_.last) * model_.width;
        std::ptrdiff_t begin = pooled + model_.mean;
        for (const StackBlock<T>& block : model_.blocks) {
            norm(x, block.before, normed);
            take(z + begin);
            recur(block, normed, y);
            give(z + begin);
            add(x, y);
            norm(x, block.between, normed);
            perceptron(block, normed, y);
            add(x, y);
            begin += static_cast<std::ptrdiff_t>(model_.form.state) * model_.part;
        }
        if (model_.norm.size()) norm(x, model_.norm, normed);
        pool(model_.norm.size() ? normed : x, z, pooled);
    }

private:
    Rows<T> rows(int place) const { return {memory_ + place * together * stride_, stride_}; }
    // Of the recurrence's state and what it computes.
    Rows<T> state(int part) const { return rows(6 + part); }
    Rows<T> work(int place) const { return rows(6 + model_.form.state + place); }
    static int work_rows(const StackModel<T>& model) {
        const int rows = model.form.in + model.form.carried;
        return rows < 6 ? 6 : rows;
    }

    // A vector's place in a row of one stream.
    struct At {
        std::ptrdiff_t s;
        int i;
        V operator()(Rows<T> of) const { return load(of[s] + i); }
        V operator()(const Numbers<T>& of) const { return load(of.data() + i); }
        void put(Rows<T> to, V value) const { store(to[s] + i, value); }
    };

    template <typename F>
    void each(int row, const F& f) const {
        for (std::ptrdiff_t s = 0; s < count_; ++s)
            for (int i = 0; i < row; i += lanes_of<T>) f(At{s, i});
    }

    // A row's bits do not depend on the others.
    void product(const Layer<T>& layer, Rows<T> x, Rows<T> out) const {
        const int stride = padded<T>(layer.outputs);
        std::ptrdiff_t s = 0;
        for (; s + group <= count_; s += group)
            product_of_rows<T, group>(layer.weight.data(), stride, layer.inputs, layer.outputs, x[s], x.stride,
                                      layer.bias.data(), out[s], out.stride);
        for (; s < count_; ++s)
            product_of_rows<T, 1>(layer.weight.data(), stride, layer.inputs, layer.outputs, x[s], x.stride,
                                  layer.bias.data(), out[s], out.stride);
    }

    void add(Rows<T> x, Rows<T> y) const {
        each(padded<T>(model_.width), [&](auto at) { at.put(x, at(x) + at(y)); });
    }

    // The squares are added in the same order on all instruction sets. What stands behind a row is never read as a part of it.
    void norm(Rows<T> x, const Numbers<T>& factors, Rows<T> out) const {
        const int width = model_.width, whole = width / padding<T> * padding<T>;
        for (std::ptrdiff_t s = 0; s < count_; ++s) {
            const T* from = x[s];
            T sums[padding<T>] = {};
            for (int i = 0; i < whole; i += padding<T>)
                for (int j = 0; j < padding<T>; ++j) sums[j] += from[i + j] * from[i + j];
            for (int i = whole; i < width; ++i) sums[i - whole] += from[i] * from[i];
            for (int half = padding<T> / 2; half; half /= 2)
                for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
            const T size = std::sqrt(sums[0] / width + T(norm_floor));
            for (int i = 0; i < width; ++i) out[s][i] = from[i] / size * factors.data()[i];
        }
    }

    // The recurrence's state out of the streams' rows, and back.
    void take(const T* z) const {
        const int row = padded<T>(model_.part);
        for (std::ptrdiff_t s = 0; s < count_; ++s)
            for (int part = 0; part < model_.form.state; ++part) {
                const T* from = z + s * model_.hidden + part * model_.part;
                T* to = state(part)[s];
                for (int i = 0; i < row; ++i) to[i] = i < model_.part ? from[i] : T(0);
            }
    }
    void give(T* z) const {
        for (std::ptrdiff_t s = 0; s < count_; ++s)
            for (int part = 0; part < model_.form.state; ++part) {
                T* to = z + s * model_.hidden + part * model_.part;
                for (int i = 0; i < model_.part; ++i) to[i] = state(part)[s][i];
            }
    }

    // Where a cell of cells-inl.hpp finds what it reads, and puts what it gives.
    struct Place {
        using Number = T;
        const Pass& pass;
        const StackBlock<T>& block;
        Rows<T> in, of_state, states, token, output;
        std::ptrdiff_t s;
        int i;
        T time;

        V input(int part) const { return load(pass.after(in, part)[s] + i); }
        V carried(int part) const { return load(pass.after(of_state, part)[s] + i); }
        V before(int part) const { return load(pass.after(states, part)[s] + i); }
        void put_state(int part, V value) const { store(pass.after(states, part)[s] + i, value); }
        V vector(int n) const { return load(block.vectors[n].data() + i); }
        V u() const { return load(token[s] + i); }
        void put_y(V value) const { store(output[s] + i, value); }
        void keep(int, V) const {}
        int option() const { return pass.model_.option; }
        T fastest() const { return block.fastest; }
    };
    Rows<T> after(Rows<T> rows, int place) const { return {rows.data + place * together * stride_, stride_}; }

    template <typename P>
    void cell(const StackBlock<T>& block, int size, Rows<T> in, Rows<T> states, Rows<T> u, Rows<T> y) const {
        const Rows<T> carried = after(in, model_.form.in);
        each(padded<T>(size),
             [&](auto at) { P::forward(Place{*this, block, in, carried, states, u, y, at.s, at.i, time_[at.s]}); });
    }

    void perceptron(const StackBlock<T>& block, Rows<T> u, Rows<T> y) const {
        const Rows<T> inner = rows(4), gate = rows(5);
        const int size = block.inner.outputs;
        product(block.inner, u, inner);
        if (model_.units != Cell::gelu) product(block.gate, u, gate);
        if (model_.units == Cell::swiglu) cell<Part<Cell::swiglu>>(block, size, inner, inner, u, y);
        else if (model_.units == Cell::glu) cell<Part<Cell::glu>>(block, size, inner, inner, u, y);
        else cell<Part<Cell::gelu>>(block, size, inner, inner, u, y);
        product(block.down, inner, y);
    }

    void recur(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        if (model_.cell == Cell::rde) return rde(block, u, y);
        const Form& form = model_.form;
        for (int i = 0; i < form.in; ++i) product(block.layers[i], u, work(i));
        for (int i = 0; i < form.carried; ++i) product(block.layers[form.in + i], state(0), work(form.in + i));
        advance(block, u, y);
        const Layer<T>* out = block.layers.data() + form.in + form.carried;
        for (int i = 0; i < form.out; ++i) {
            product(out[i], state(i), i ? work(0) : y);
            if (i) add(y, work(0));
        }
        const int row = padded<T>(model_.width);
        if (model_.cell == Cell::lru) each(row, [&](auto at) { at.put(y, fma(at(block.vectors[2]), at(u), at(y))); });
        if (form.carried) each(row, [&](auto at) { at.put(y, at(state(0))); });
    }

    void advance(const StackBlock<T>& block, Rows<T> u, Rows<T> y) const {
        const int part = model_.part;
        const Rows<T> in = work(0), h = state(0);
        switch (model_.cell) {
            case Cell::rg_lru:
                return cell<Part<Cell::rg_lru>>(block, part, in, h, u, y);
            case Cell::min_gru:
                return cell<Part<Cell::min_gru>>(block, part, in, h, u, y);
            case Cell::lru:
                return cell<Part<Cell::lru>>(block, part, in, h, u, y);
            case Cell::gru:
                return cell<Part<Cell::gru>>(block, part, in, h, u, y);
            case Cell::lstm:
                return cell<Part<Cell::lstm>>(block, part, in, h, u, y);
            case Cell::s4d:
                return cell<Part<Cell::s4d>>(block, part, in, h, u, y);
            case Cell::slice:
                switch (model_.option) {
                    case 1:
                        return cell<Flow<1>>(block, part, in, h, u, y);
                    case 2:
                        return cell<Flow<2>>(block, part, in, h, u, y);
                    case 3:
                        return cell<Flow<3>>(block, part, in, h, u, y);
                    default:
                        return cell<Flow<4>>(block, part, in, h, u, y);
                }
            default:
                return;
        }
    }

    void rde(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> h = state(0), drive = work(0), inner = work(1), slope = work(2), between = work(3),
                      half = work(4);
        const int row = padded<T>(model_.part);
        const T share = T(1) / static_cast<T>(model_.option);
        const auto field = [&](Rows<T> from) {
            product(block.layers[1], from, inner);
            each(row, [&](auto at) { at.put(inner, hyperbolic_tangent<T>(at(inner)) * at(drive)); });
            product(block.layers[2], inner, slope);
        };
        product(block.layers[0], u, drive);
        each(row, [&](auto at) { at.put(half, exponential<T>(at(block.vectors[0]) * (time_[at.s] * share / 2))); });
        for (int n = 0; n < model_.option; ++n) {
            field(h);
            each(row,
                 [&](auto at) { at.put(between, at(half) * fma(at(slope), all<T>(time_[at.s] * share / 2), at(h))); });
            field(between);
            each(row, [&](auto at) { at.put(h, at(half) * fma(at(half), at(h), at(slope) * (time_[at.s] * share))); });
        }
        product(block.layers[3], h, y);
    }

    void pool(Rows<T> x, T* z, int counter) const {
        for (std::ptrdiff_t s = 0; s < count_; ++s) {
            T* own = z + s * model_.hidden;
            if (model_.mean) {
                T count = own[counter] + 1;
                count = count > model_.memory ? model_.memory : count;
                for (int i = 0; i < model_.width; ++i) own[i] += (x[s][i] - own[i]) / count;
                own[counter] = count;
            }
            if (model_.last)
                for (int i = 0; i < model_.width; ++i) own[model_.mean * model_.width + i] = x[s][i];
        }
    }

    const StackModel<T>& model_;
    T *memory_, *time_;
    std::ptrdiff_t stride_, count_ = 0;
};

template <typename T>
void step(const StackModel<T>& model, T* z, const double* tokens, std::ptrdiff_t count) {
    Pass<T> pass(model);
    for (std::ptrdiff_t begin = 0; begin < count; begin += together)
        pass.step(z + begin * model.hidden, tokens + begin * model.features,
                  count - begin < together ? count - begin : together);
}

}  // namespace

StackKernels STREAMRDE_STACKS() { return {step<float>, step<double>}; }

}  // namespace streamrde
