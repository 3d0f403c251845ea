// What a recurrence or a perceptron computes of one token, component by component, and the gradients of that.
//
// A component's equations stand in inference/stacks/. Both the step (stack_variant.cpp) and training (residual_variant.cpp)
// run them: `at` says where what is read and written stands, and a state may be written where it was read. Backwards,
// `reached` is the gradient that reaches a state: its own and what the state after it passes on.
#pragma once

#include <cmath>

#include "layers-inl.hpp"
#include "matrices-inl.hpp"
#include "stack.hpp"

namespace streamrde {
namespace {

// Under the root of an input's gain, and of a block's stretch: see inference/stacks/.
template <typename T>
constexpr T gain_floor = T(1e-6);

template <typename T>
inline Vector<T> root(Vector<T> x) {
    for (int i = 0; i < lanes_of<T>; ++i) x[i] = std::sqrt(x[i]);
    return x;
}

// Sine and cosine of angles per usual window; `fastest` is the largest of all angles.
template <typename T>
inline void turn(Vector<T> angle, T time, T fastest, Vector<T>& sine, Vector<T>& cosine) {
    const Vector<T> x = angle * time;
    if (!(fastest * time > Of<T>::furthest)) return sine_cosine<T>(x, sine, cosine);
    for (int i = 0; i < lanes_of<T>; ++i) {
        sine[i] = std::sin(x[i]);
        cosine[i] = std::cos(x[i]);
    }
}

// The share e^x that a token leaves, x <= 0, and the gain of what it adds, sqrt(1 - e^2x).
template <typename T>
struct Share {
    Vector<T> left, gain;
    explicit Share(Vector<T> exponent) {
        const Vector<T> less = exponential_minus_1<T>(exponent);
        left = less + T(1);
        gain = root<T>(fma(-less, less + T(2), all<T>(gain_floor<T>)));
    }
    // Of the gradients with respect to the gain, and to e^x times e^x, the one with respect to x.
    Vector<T> gradient(Vector<T> of_gain, Vector<T> of_left) const { return of_left - of_gain / gain * (left * left); }
};

template <typename T>
inline Vector<T> sigmoid_slope(Vector<T> y) {
    return fma(-y, y, y);
}

template <Cell cell>
struct Part;

template <>
struct Part<Cell::rg_lru> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        const Vector<T> recall = sigmoid<T>(at.input(0)), admit = sigmoid<T>(at.input(1)), value = at.input(2);
        const Share<T> share(at.vector(0) * recall * at.time);
        at.put_state(0, fma(share.left, at.before(0), share.gain * (admit * value)));
        at.keep(0, recall);
        at.keep(1, admit);
        at.keep(2, value);
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V recall = at.kept(0), admit = at.kept(1), value = at.kept(2), rate = at.vector(0), g = at.reached(0);
        const Share<T> share(rate * recall * at.time);
        const V admitted = g * share.gain;
        const V exponent = share.gradient(g * admit * value, g * at.before(0) * share.left) * at.time;
        at.add_to_vector(0, exponent * recall);
        at.put_of_input(0, exponent * rate * sigmoid_slope<T>(recall));
        at.put_of_input(1, admitted * value * sigmoid_slope<T>(admit));
        at.put_of_input(2, admitted * admit);
        at.pass(0, g * share.left);
    }
};

template <>
struct Part<Cell::min_gru> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        const Vector<T> gate = at.input(0), value = at.input(1);
        const Vector<T> less = exponential_minus_1<T>(-Softplus::of<T>(gate) * at.time);
        at.put_state(0, fma(less + T(1), at.before(0), -less * value));
        at.keep(0, gate);
        at.keep(1, value);
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V gate = at.kept(0), value = at.kept(1), g = at.reached(0);
        const V less = exponential_minus_1<T>(-Softplus::of<T>(gate) * at.time), left = less + T(1);
        at.put_of_input(0, g * left * (value - at.before(0)) * sigmoid<T>(gate) * at.time);
        at.put_of_input(1, -g * less);
        at.pass(0, g * left);
    }
};

template <>
struct Part<Cell::lru> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        V sine, cosine;
        turn<T>(at.vector(1), at.time, at.fastest(), sine, cosine);
        const Share<T> share(at.vector(0) * at.time);
        const V c = share.left * cosine, d = share.left * sine, re = at.before(0), im = at.before(1);
        at.put_state(0, fma(c, re, fma(-d, im, share.gain * at.input(0))));
        at.put_state(1, fma(d, re, fma(c, im, share.gain * at.input(1))));
        at.keep(0, at.input(0));
        at.keep(1, at.input(1));
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        V sine, cosine;
        turn<T>(at.vector(1), at.time, at.fastest(), sine, cosine);
        const Share<T> share(at.vector(0) * at.time);
        const V c = share.left * cosine, d = share.left * sine, re = at.before(0), im = at.before(1);
        const V of_re = at.reached(0), of_im = at.reached(1);
        const V of_c = fma(of_re, re, of_im * im), of_d = fma(of_im, re, -of_re * im);
        const V of_gain = fma(of_re, at.kept(0), of_im * at.kept(1));
        at.add_to_vector(0, share.gradient(of_gain, fma(of_c, c, of_d * d)) * at.time);
        at.add_to_vector(1, fma(of_d, c, -of_c * d) * at.time);
        at.put_of_input(0, share.gain * of_re);
        at.put_of_input(1, share.gain * of_im);
        at.pass(0, fma(c, of_re, d * of_im));
        at.pass(1, fma(c, of_im, -d * of_re));
    }
};

template <>
struct Part<Cell::gru> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V reset = sigmoid<T>(at.input(0) + at.carried(0)), stay = sigmoid<T>(at.input(1) + at.carried(1));
        const V carried = at.carried(2), fresh = hyperbolic_tangent<T>(fma(reset, carried, at.input(2)));
        at.put_state(0, fma(stay, at.before(0) - fresh, fresh));
        at.keep(0, reset);
        at.keep(1, stay);
        at.keep(2, fresh);
        at.keep(3, carried);
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V reset = at.kept(0), stay = at.kept(1), fresh = at.kept(2), g = at.reached(0);
        const V inner = g * (T(1) - stay) * fma(-fresh, fresh, all<T>(1));
        const V of_reset = inner * at.kept(3) * sigmoid_slope<T>(reset);
        const V of_stay = g * (at.before(0) - fresh) * sigmoid_slope<T>(stay);
        at.put_of_input(0, of_reset);
        at.put_of_input(1, of_stay);
        at.put_of_input(2, inner);
        at.put_of_carried(0, of_reset);
        at.put_of_carried(1, of_stay);
        at.put_of_carried(2, inner * reset);
        at.pass(0, g * stay);
    }
};

template <>
struct Part<Cell::lstm> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V gate = sigmoid<T>(at.input(0) + at.carried(0)), stay = sigmoid<T>(at.input(1) + at.carried(1));
        const V fresh = hyperbolic_tangent<T>(at.input(2) + at.carried(2));
        const V leave = sigmoid<T>(at.input(3) + at.carried(3)), memory = fma(stay, at.before(1), gate * fresh);
        at.put_state(0, leave * hyperbolic_tangent<T>(memory));
        at.put_state(1, memory);
        at.keep(0, gate);
        at.keep(1, stay);
        at.keep(2, fresh);
        at.keep(3, leave);
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V gate = at.kept(0), stay = at.kept(1), fresh = at.kept(2), leave = at.kept(3), g = at.reached(0);
        const V memory = hyperbolic_tangent<T>(at.state(1));
        const V inner = fma(g * leave, fma(-memory, memory, all<T>(1)), at.reached(1));
        const V of[4] = {inner * fresh * sigmoid_slope<T>(gate), inner * at.before(1) * sigmoid_slope<T>(stay),
                         inner * gate * fma(-fresh, fresh, all<T>(1)), g * memory * sigmoid_slope<T>(leave)};
        for (int n = 0; n < 4; ++n) {
            at.put_of_input(n, of[n]);
            at.put_of_carried(n, of[n]);
        }
        at.pass(0, V{});
        at.pass(1, inner * stay);
    }
};

template <>
struct Part<Cell::s4d> {
    // e^(a t) - 1 of a mode.
    template <typename T>
    struct Move {
        Vector<T> real, imaginary;
        template <typename At>
        Move(const At& at, int modes, int n) {
            Vector<T> sine, cosine;
            turn<T>(at.vector(modes + n), at.time, at.fastest(), sine, cosine);
            const Vector<T> less = exponential_minus_1<T>(at.vector(n) * at.time), turned = sine * sine * T(2);
            real = fma(-less, turned, less - turned);
            imaginary = (less + T(1)) * (sine * cosine * T(2));
        }
    };
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const int modes = at.option();
        const V input = at.u();
        V output = at.vector(4 * modes) * input;
        for (int n = 0; n < modes; ++n) {
            const Move<T> move(at, modes, n);
            const V re = at.before(n), im = at.before(modes + n), from = re - input;
            const V next = re + fma(move.real, from, -move.imaginary * im);
            const V other = im + fma(move.real, im, move.imaginary * from);
            at.put_state(n, next);
            at.put_state(modes + n, other);
            output = fma(at.vector(2 * modes + n), next, fma(at.vector(3 * modes + n), other, output));
        }
        at.put_y(output);
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const int modes = at.option();
        const V input = at.u(), g = at.of_y();
        V of_input = at.vector(4 * modes) * g;
        at.add_to_vector(4 * modes, g * input);
        for (int n = 0; n < modes; ++n) {
            const Move<T> move(at, modes, n);
            const V re = at.before(n), im = at.before(modes + n), from = re - input, whole = move.real + T(1);
            const V of_next = fma(at.vector(2 * modes + n), g, at.reached(n));
            const V of_other = fma(at.vector(3 * modes + n), g, at.reached(modes + n));
            at.add_to_vector(2 * modes + n, g * at.state(n));
            at.add_to_vector(3 * modes + n, g * at.state(modes + n));
            const V of_from = fma(of_next, move.real, of_other * move.imaginary);
            of_input -= of_from;
            at.pass(n, of_next + of_from);
            at.pass(modes + n, fma(of_other, whole, -of_next * move.imaginary));
            const V of_real = fma(of_next, from, of_other * im), of_imaginary = fma(of_other, from, -of_next * im);
            at.add_to_vector(n, fma(of_real, whole, of_imaginary * move.imaginary) * at.time);
            // Vectors have half the angle.
            at.add_to_vector(modes + n, fma(of_imaginary, whole, -of_real * move.imaginary) * (2 * at.time));
        }
        at.put_of_u(of_input);
    }
};

template <int S>
struct Flow {
    template <typename At, typename T>
    static Matrix<T, S> generator(const At& at, const Matrix<T, S>& a, Vector<T>& stretch) {
        stretch = all<T>(gain_floor<T>);
        for (int i = 0; i < S; ++i)
            for (int j = 0; j < S; ++j) {
                const Vector<T> half = (a.of[i][j] + a.of[j][i]) * T(0.5);
                stretch = fma(half, half, stretch);
            }
        stretch = root<T>(stretch);
        const Vector<T> damping = fma(at.vector(0), stretch, at.vector(1));
        return Matrix<T, S>::made([&](int i, int j) { return (i == j ? a.of[i][j] - damping : a.of[i][j]) * at.time; });
    }
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const auto a = Matrix<T, S>::made([&](int i, int j) { return at.input(i * S + j); });
        V stretch;
        Exponential<T, S, false> exponential;
        const Matrix<T, S>& flow = exponential.of(generator(at, a, stretch));
        V before[S];
        for (int i = 0; i < S; ++i) before[i] = at.before(i) + at.vector(2 + i);
        for (int i = 0; i < S; ++i) {
            V sum = fma(at.input(S * S + i), all<T>(at.time), -at.vector(2 + i));
            for (int j = 0; j < S; ++j) sum = fma(flow.of[i][j], before[j], sum);
            at.put_state(i, sum);
        }
        for (int n = 0; n < S * S; ++n) at.keep(n, at.input(n));
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const auto a = Matrix<T, S>::made([&](int i, int j) { return at.kept(i * S + j); });
        V stretch, g[S];
        Exponential<T, S, true> exponential;
        const Matrix<T, S>& flow = exponential.of(generator(at, a, stretch));
        for (int i = 0; i < S; ++i) g[i] = at.reached(i);
        for (int j = 0; j < S; ++j) {
            V sum = flow.of[0][j] * g[0];
            for (int i = 1; i < S; ++i) sum = fma(flow.of[i][j], g[i], sum);
            at.pass(j, sum);
            at.add_to_vector(2 + j, sum - g[j]);
            at.put_of_input(S * S + j, g[j] * at.time);
        }
        const auto of = exponential.gradient(
            Matrix<T, S>::made([&](int i, int j) { return g[i] * (at.before(j) + at.vector(2 + j)); }));
        V of_damping = {};
        for (int i = 0; i < S; ++i) of_damping -= of.of[i][i] * at.time;
        at.add_to_vector(0, of_damping * stretch);
        at.add_to_vector(1, of_damping);
        const V share = of_damping * at.vector(0) / stretch * T(0.5);
        for (int i = 0; i < S; ++i)
            for (int j = 0; j < S; ++j)
                at.put_of_input(i * S + j, fma(share, a.of[i][j] + a.of[j][i], of.of[i][j] * at.time));
    }
};

// silu(p) q, p sigmoid(q), gelu(p).
template <>
struct Part<Cell::swiglu> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        at.put_state(0, Silu::of<T>(at.input(0)) * at.input(1));
        at.keep(0, at.input(0));
        at.keep(1, at.input(1));
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V p = at.kept(0), q = at.kept(1), g = at.reached(0), share = sigmoid<T>(p), silu = p * share;
        at.put_state(0, silu * q);
        at.put_of_input(0, g * q * fma(silu, T(1) - share, share));
        at.put_of_input(1, g * silu);
    }
};

template <>
struct Part<Cell::glu> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        at.put_state(0, at.input(0) * sigmoid<T>(at.input(1)));
        at.keep(0, at.input(0));
        at.keep(1, at.input(1));
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        using V = Vector<T>;
        const V p = at.kept(0), share = sigmoid<T>(at.kept(1)), g = at.reached(0);
        at.put_state(0, p * share);
        at.put_of_input(0, g * share);
        at.put_of_input(1, g * p * sigmoid_slope<T>(share));
    }
};

template <>
struct Part<Cell::gelu> {
    template <typename At>
    static void forward(const At& at) {
        using T = typename At::Number;
        at.put_state(0, Gelu::of<T>(at.input(0)));
        at.keep(0, at.input(0));
    }
    template <typename At>
    static void backward(const At& at) {
        using T = typename At::Number;
        const Vector<T> p = at.kept(0);
        at.put_state(0, Gelu::of<T>(p));
        at.put_of_input(0, at.reached(0) * Gelu::slope<T>(p, p));
    }
};

}  // namespace
}  // namespace streamrde
