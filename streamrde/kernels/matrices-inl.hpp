// Small matrices, one for each lane of a vector, and their exponential: see inference/stacks/slice.py.
#pragma once

#include <cmath>

#include "vectors-inl.hpp"

namespace streamrde {
namespace {

template <typename T, int S>
struct Matrix {
    using V = Vector<T>;
    V of[S][S];

    // f(i, j) in each place.
    template <typename F>
    static Matrix made(const F& f) {
        Matrix result;
        for (int i = 0; i < S; ++i)
            for (int j = 0; j < S; ++j) result.of[i][j] = f(i, j);
        return result;
    }
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
    // The product with the other one, turned over.
    Matrix times_turned(const Matrix& other) const {
        Matrix result;
        for (int i = 0; i < S; ++i)
            for (int j = 0; j < S; ++j) {
                V sum = of[i][0] * other.of[j][0];
                for (int k = 1; k < S; ++k) sum = fma(of[i][k], other.of[j][k], sum);
                result.of[i][j] = sum;
            }
        return result;
    }
    // This one turned over, times the other.
    Matrix turned_times(const Matrix& other) const {
        Matrix result;
        for (int i = 0; i < S; ++i)
            for (int j = 0; j < S; ++j) {
                V sum = of[0][i] * other.of[0][j];
                for (int k = 1; k < S; ++k) sum = fma(of[k][i], other.of[k][j], sum);
                result.of[i][j] = sum;
            }
        return result;
    }
};

// The exponential and, where it `keeps` the powers on the way, its gradient.
template <typename T, int S, bool keeps>
class Exponential {
    using V = Vector<T>;
    using M = Matrix<T, S>;

public:
    const M& of(const M& matrix) {
        constexpr T most = sizeof(T) == 4 ? T(0.5) : T(0.0625);
        V norm = {};
        for (int i = 0; i < S; ++i) {
            V sum = magnitude<T>(matrix.of[i][0]);
            for (int j = 1; j < S; ++j) sum += magnitude<T>(matrix.of[i][j]);
            norm = sum > norm ? sum : norm;
        }
        T top = 0;
        for (int i = 0; i < lanes_of<T>; ++i) top = norm[i] > top ? norm[i] : top;
        scale_ = all<T>(1);
        for (times_ = 0; times_ < halvings && top > most; ++times_, top /= 2)
            scale_ = norm * scale_ > most ? scale_ * T(0.5) : scale_;
        a_ = M::made([&](int i, int j) { return matrix.of[i][j] * scale_; });
        a2_ = a_ * a_;
        inner_ = M::made([&](int i, int j) { return fma(all<T>(p), a_.of[i][j], all<T>(q) * a2_.of[i][j]); });
        const M a4 = a2_ * inner_;
        left_ = M::made([&](int i, int j) { return fma(all<T>(r), a2_.of[i][j], a4.of[i][j]); });
        right_ = M::made([&](int i, int j) {
            return fma(all<T>(c), a_.of[i][j],
                       fma(all<T>(d), a2_.of[i][j], fma(all<T>(e), a4.of[i][j], all<T>(i == j ? b : T(0)))));
        });
        const M high = left_ * right_;
        power_[0] = M::made(
            [&](int i, int j) { return fma(all<T>(f), a2_.of[i][j], high.of[i][j]) + a_.of[i][j] + T(i == j); });
        V rest = scale_;
        for (int n = 0; n < times_; ++n, rest *= T(2)) {
            const M &before = power_[keeps ? n : 0], square = before * before;
            power_[keeps ? n + 1 : 0] =
                M::made([&](int i, int j) { return rest < T(1) ? square.of[i][j] : before.of[i][j]; });
        }
        return power_[keeps ? times_ : 0];
    }

    // The gradient with respect to the matrix, of the one with respect to its exponential.
    M gradient(M g) const {
        V rest = scale_;
        for (int n = 0; n < times_; ++n) rest *= T(2);
        for (int n = times_ - 1; n >= 0; --n) {
            rest *= T(0.5);
            const M one = g.times_turned(power_[n]), other = power_[n].turned_times(g);
            g = M::made([&](int i, int j) { return rest < T(1) ? one.of[i][j] + other.of[i][j] : g.of[i][j]; });
        }
        const M of_left = g.times_turned(right_), of_right = left_.turned_times(g);
        const M of_a4 = M::made([&](int i, int j) { return fma(all<T>(e), of_right.of[i][j], of_left.of[i][j]); });
        const M of_inner = a2_.turned_times(of_a4), by_inner = of_a4.times_turned(inner_);
        const M of_a2 = M::made([&](int i, int j) {
            return fma(all<T>(f), g.of[i][j],
                       fma(all<T>(r), of_left.of[i][j],
                           fma(all<T>(d), of_right.of[i][j], fma(all<T>(q), of_inner.of[i][j], by_inner.of[i][j]))));
        });
        const M one = of_a2.times_turned(a_), other = a_.turned_times(of_a2);
        return M::made([&](int i, int j) {
            return (g.of[i][j] + one.of[i][j] + other.of[i][j] +
                    fma(all<T>(c), of_right.of[i][j], all<T>(p) * of_inner.of[i][j])) *
                   scale_;
        });
    }

private:
    static constexpr int halvings = 30;
    static constexpr double root = 13.30413469565007;  // of 177
    static constexpr T r = T(2.0 / 3), p = T((1 + root) / 132), q = T((1 + root) / 528),
                       b = T((-271 + 29 * root) / 210), c = T(11 * (-1 + root) / 840), d = T(11 * (-9 + root) / 3360),
                       e = T((89 - root) / 2240), f = T((857 - 58 * root) / 630);
    int times_ = 0;
    V scale_;
    M a_, a2_, inner_, left_, right_, power_[keeps ? halvings + 1 : 1];
};

}  // namespace
}  // namespace streamrde
