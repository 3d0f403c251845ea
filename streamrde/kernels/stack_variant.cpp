// Compiled once per instruction set, with STREAMRDE_STACKS naming the function it gives.
#include "stack.hpp"

#include <cmath>

#include "layers-inl.hpp"

namespace streamrde {
namespace {

// Streams that pass through a layer together, so that its weights stay in a first-level cache.
constexpr std::ptrdiff_t together = 16;
// Added to what a norm divides by, and under the root of an input's gain: see inference/fields/stack.py and stacks/.
constexpr double norm_floor = 1e-6, gain_floor = 1e-6;

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
        const int rows = 6 + model_.parts + work_rows(model_);
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
            const Rows<T> inner = rows(4), gate = rows(5);
            product(block.inner, normed, inner);
            product(block.gate, normed, gate);
            each(padded<T>(block.inner.outputs), [&](auto at) { at.put(inner, Silu::of<T>(at(inner)) * at(gate)); });
            product(block.down, inner, y);
            add(x, y);
            begin += static_cast<std::ptrdiff_t>(model_.parts) * model_.part;
        }
        norm(x, model_.norm, normed);
        pool(normed, z, pooled);
    }

private:
    Rows<T> rows(int place) const { return {memory_ + place * together * stride_, stride_}; }
    // Of the recurrence's state and what it computes.
    Rows<T> state(int part) const { return rows(6 + part); }
    Rows<T> work(int place) const { return rows(6 + model_.parts + place); }
    static int work_rows(const StackModel<T>& model) {
        return model.cell == Cell::slice ? model.option * (model.option + 1) : 6;
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
            for (int part = 0; part < model_.parts; ++part) {
                const T* from = z + s * model_.hidden + part * model_.part;
                T* to = state(part)[s];
                for (int i = 0; i < row; ++i) to[i] = i < model_.part ? from[i] : T(0);
            }
    }
    void give(T* z) const {
        for (std::ptrdiff_t s = 0; s < count_; ++s)
            for (int part = 0; part < model_.parts; ++part) {
                T* to = z + s * model_.hidden + part * model_.part;
                for (int i = 0; i < model_.part; ++i) to[i] = state(part)[s][i];
            }
    }

    void recur(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        switch (model_.cell) {
            case Cell::rg_lru:
                return rg_lru(block, u, y);
            case Cell::min_gru:
                return min_gru(block, u, y);
            case Cell::lru:
                return lru(block, u, y);
            case Cell::gru:
                return gru(block, u, y);
            case Cell::lstm:
                return lstm(block, u, y);
            case Cell::s4d:
                return s4d(block, u, y);
            case Cell::slice:
                switch (model_.option) {
                    case 1:
                        return slice<1>(block, u, y);
                    case 2:
                        return slice<2>(block, u, y);
                    case 3:
                        return slice<3>(block, u, y);
                    default:
                        return slice<4>(block, u, y);
                }
            case Cell::rde:
                return rde(block, u, y);
        }
    }

    // out = sqrt(1 - exp(2 exponent) + floor): the gain of an input beside which exp(exponent) of a state stays.
    void gains(Rows<T> exponents, Rows<T> out, int row) const {
        each(row, [&](auto at) { at.put(out, all<T>(T(gain_floor)) - exponential_minus_1<T>(at(exponents) * T(2))); });
        for (std::ptrdiff_t s = 0; s < count_; ++s)
            for (int i = 0; i < row; ++i) out[s][i] = std::sqrt(out[s][i]);
    }

    void rg_lru(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> h = state(0), exponent = work(0), admit = work(1), value = work(2), gain = work(3);
        const int row = padded<T>(model_.part);
        product(block.layers[0], u, exponent);
        product(block.layers[1], u, admit);
        product(block.layers[2], u, value);
        each(row, [&](auto at) { at.put(exponent, at(block.vectors[0]) * sigmoid<T>(at(exponent)) * time_[at.s]); });
        gains(exponent, gain, row);
        each(row, [&](auto at) {
            const V input = at(gain) * (sigmoid<T>(at(admit)) * at(value));
            at.put(h, fma(exponential<T>(at(exponent)), at(h), input));
        });
        product(block.layers[3], h, y);
    }

    void min_gru(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> h = state(0), gate = work(0), value = work(1);
        product(block.layers[0], u, gate);
        product(block.layers[1], u, value);
        each(padded<T>(model_.part), [&](auto at) {
            const V exponent = -Softplus::of<T>(at(gate)) * time_[at.s];
            at.put(h, fma(exponential<T>(exponent), at(h), -exponential_minus_1<T>(exponent) * at(value)));
        });
        product(block.layers[2], h, y);
    }

    void lru(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> real = state(0), imaginary = state(1), exponent = work(0), gain = work(1), drive = work(2),
                      other = work(3);
        const int row = padded<T>(model_.part);
        product(block.layers[0], u, drive);
        product(block.layers[1], u, other);
        each(row, [&](auto at) { at.put(exponent, at(block.vectors[0]) * time_[at.s]); });
        gains(exponent, gain, row);
        each(row, [&](auto at) {
            V sine, cosine;
            turn(block, at.s, at(block.vectors[1]), sine, cosine);
            const V size = exponential<T>(at(exponent)), c = size * cosine, d = size * sine;
            const V re = at(real), im = at(imaginary);
            at.put(real, fma(c, re, fma(-d, im, at(gain) * at(drive))));
            at.put(imaginary, fma(d, re, fma(c, im, at(gain) * at(other))));
        });
        product(block.layers[2], real, y);
        product(block.layers[3], imaginary, drive);
        each(padded<T>(model_.width), [&](auto at) { at.put(y, fma(at(block.vectors[2]), at(u), at(y) + at(drive))); });
    }

    void gru(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> h = state(0);
        for (int i = 0; i < 3; ++i) {
            product(block.layers[i], u, work(i));
            product(block.layers[3 + i], h, work(3 + i));
        }
        each(padded<T>(model_.part), [&](auto at) {
            const V reset = sigmoid<T>(at(work(0)) + at(work(3))), keep = sigmoid<T>(at(work(1)) + at(work(4)));
            const V fresh = hyperbolic_tangent<T>(fma(reset, at(work(5)), at(work(2))));
            const V moved = fma(keep, at(h), (all<T>(1) - keep) * fresh);
            at.put(h, moved);
            at.put(y, moved);
        });
    }

    void lstm(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const Rows<T> h = state(0), memory = state(1), other = work(4);
        for (int i = 0; i < 4; ++i) {
            product(block.layers[i], u, work(i));
            product(block.layers[4 + i], h, other);
            each(padded<T>(model_.part), [&](auto at) { at.put(work(i), at(work(i)) + at(other)); });
        }
        each(padded<T>(model_.part), [&](auto at) {
            const V fresh = sigmoid<T>(at(work(0))) * hyperbolic_tangent<T>(at(work(2)));
            const V moved = fma(sigmoid<T>(at(work(1))), at(memory), fresh);
            const V output = sigmoid<T>(at(work(3))) * hyperbolic_tangent<T>(moved);
            at.put(memory, moved);
            at.put(h, output);
            at.put(y, output);
        });
    }

    // Sine and cosine of angles per usual window, for stream s.
    void turn(const StackBlock<T>& block, std::ptrdiff_t s, V angle, V& sine, V& cosine) const {
        const V x = angle * time_[s];
        if (!(block.fastest * time_[s] > Of<T>::furthest)) return sine_cosine<T>(x, sine, cosine);
        for (int i = 0; i < lanes_of<T>; ++i) {
            sine[i] = std::sin(x[i]);
            cosine[i] = std::cos(x[i]);
        }
    }

    // No products: a vector of channels takes some 60 operations for each mode.
    void s4d(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        const int modes = model_.option;
        const std::vector<Numbers<T>>& own = block.vectors;
        each(padded<T>(model_.width), [&](auto at) {
            const V input = at(u);
            V output = at(own[4 * modes]) * input;
            for (int n = 0; n < modes; ++n) {
                V sine, cosine;
                turn(block, at.s, at(own[modes + n]), sine, cosine);
                const V less = exponential_minus_1<T>(at(own[n]) * time_[at.s]), turned = sine * sine * T(2);
                // e^(a t) - 1
                const V real = fma(-less, turned, less - turned), imaginary = (less + T(1)) * (sine * cosine * T(2));
                const V re = at(state(n)), im = at(state(modes + n)), from = re - input;
                const V next = re + fma(real, from, -imaginary * im), other = im + fma(real, im, imaginary * from);
                at.put(state(n), next);
                at.put(state(modes + n), other);
                output = fma(at(own[2 * modes + n]), next, fma(at(own[3 * modes + n]), other, output));
            }
            at.put(y, output);
        });
    }

    // A matrix for each lane.
    template <int S>
    struct Matrix {
        V of[S][S];
        Matrix operator*(const Matrix& other) const {
            Matrix result;
            for (int i = 0; i < S; ++i)
                for (int j = 0; j < S; ++j) {
                    V sum = of[i][0] * other.of[0][j];
                    for (int k = 1; k < S; ++k) sum = fma(of[i][k], other.of[k][j], sum);
                    result.of[i][j] = sum;
                }
            return result;
        }
        // f(i, j) in each place.
        template <typename F>
        static Matrix made(const F& f) {
            Matrix result;
            for (int i = 0; i < S; ++i)
                for (int j = 0; j < S; ++j) result.of[i][j] = f(i, j);
            return result;
        }
    };

    // As inference/stacks/slice.py says.
    template <int S>
    static Matrix<S> matrix_exponential(const Matrix<S>& of) {
        using M = Matrix<S>;
        constexpr T most = sizeof(T) == 4 ? T(0.5) : T(0.0625);
        constexpr int halvings = 30;
        V norm = {};
        for (int i = 0; i < S; ++i) {
            V sum = magnitude<T>(of.of[i][0]);
            for (int j = 1; j < S; ++j) sum += magnitude<T>(of.of[i][j]);
            norm = sum > norm ? sum : norm;
        }
        T top = 0;
        for (int i = 0; i < lanes_of<T>; ++i) top = norm[i] > top ? norm[i] : top;
        V scale = all<T>(1);
        int times = 0;
        for (; times < halvings && top > most; ++times, top /= 2) scale = norm * scale > most ? scale * T(0.5) : scale;
        const double root = std::sqrt(177.0);
        const T third = T(2.0 / 3), p = T((1 + root) / 132), q = T((1 + root) / 528), b = T((-271 + 29 * root) / 210),
                c = T(11 * (-1 + root) / 840), d = T(11 * (-9 + root) / 3360), e = T((89 - root) / 2240),
                f = T((857 - 58 * root) / 630);
        const M a = M::made([&](int i, int j) { return of.of[i][j] * scale; });
        const M a2 = a * a;
        const M a4 = a2 * M::made([&](int i, int j) { return fma(all<T>(p), a.of[i][j], all<T>(q) * a2.of[i][j]); });
        const M left = M::made([&](int i, int j) { return fma(all<T>(third), a2.of[i][j], a4.of[i][j]); });
        const M right = M::made([&](int i, int j) {
            return fma(all<T>(c), a.of[i][j],
                       fma(all<T>(d), a2.of[i][j], fma(all<T>(e), a4.of[i][j], all<T>(i == j ? b : T(0)))));
        });
        const M high = left * right;
        M power =
            M::made([&](int i, int j) { return fma(all<T>(f), a2.of[i][j], high.of[i][j]) + a.of[i][j] + T(i == j); });
        for (V rest = scale; times > 0; --times, rest *= T(2)) {
            const M square = power * power;
            for (int i = 0; i < S; ++i)
                for (int j = 0; j < S; ++j) power.of[i][j] = rest < T(1) ? square.of[i][j] : power.of[i][j];
        }
        return power;
    }

    template <int S>
    void slice(const StackBlock<T>& block, Rows<T> u, Rows<T> y) {
        for (int i = 0; i < S * (S + 1); ++i) product(block.layers[i], u, work(i));
        each(padded<T>(model_.part), [&](auto at) {
            V stretch = all<T>(T(gain_floor));
            Matrix<S> a = Matrix<S>::made([&](int i, int j) { return at(work(i * S + j)); });
            for (int i = 0; i < S; ++i)
                for (int j = 0; j < S; ++j) {
                    const V half = (a.of[i][j] + a.of[j][i]) * T(0.5);
                    stretch = fma(half, half, stretch);
                }
            for (int i = 0; i < lanes_of<T>; ++i) stretch[i] = std::sqrt(stretch[i]);
            const V damping = fma(at(block.vectors[0]), stretch, at(block.vectors[1]));
            const Matrix<S> flow = matrix_exponential<S>(Matrix<S>::made(
                [&](int i, int j) { return (i == j ? a.of[i][j] - damping : a.of[i][j]) * time_[at.s]; }));
            V before[S];
            for (int i = 0; i < S; ++i) before[i] = at(state(i));
            for (int i = 0; i < S; ++i) {
                V sum = at(work(S * S + i)) * time_[at.s];
                for (int j = 0; j < S; ++j) sum = fma(flow.of[i][j], before[j], sum);
                at.put(state(i), sum);
            }
        });
        product(block.layers[S * (S + 1)], state(0), y);
        for (int i = 1; i < S; ++i) {
            product(block.layers[S * (S + 1) + i], state(i), work(0));
            add(y, work(0));
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
