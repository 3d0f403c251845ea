// Compiled once per instruction set, with STREAMRDE_LABELS naming the function it gives. The bits are the same on all.
#include "kalman.hpp"

#include <algorithm>
#include <cmath>

namespace streamrde {
namespace {

constexpr std::ptrdiff_t lanes = 8;

// Sums in eight lanes, which are then folded: the order is fixed, and compilers may make vectors of any width of it.
double dot(const double* a, const double* b, std::ptrdiff_t count) {
    double sum[lanes] = {};
    std::ptrdiff_t j = 0;
    for (; j + lanes <= count; j += lanes)
        for (std::ptrdiff_t k = 0; k < lanes; ++k) sum[k] += a[j + k] * b[j + k];
    for (std::ptrdiff_t k = 0; j + k < count; ++k) sum[k] += a[j + k] * b[j + k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// u = P phi. Each row of the triangle is read once, for the entry of its own number and for those before it.
void multiply(const double* row, const double* phi, std::ptrdiff_t features, double* u) {
    for (std::ptrdiff_t i = 0; i < features; row += ++i) {
        const double weight = phi[i];
        u[i] = dot(row, phi, i) + row[i] * weight;
        for (std::ptrdiff_t j = 0; j < i; ++j) u[j] += row[j] * weight;
    }
}

// Loops over columns are elementwise, or sums of fixed
// lanes: their bits do not depend on the width of vectors. At 64 features the triangle has 16 KiB. It is read from
// memory once, for P phi, and then lies in the first cache for the update.
void learn(const LabelUpdate& own, std::ptrdiff_t features, double clip, double most, double* room) {
    double *u = room, *gain = u + features, *rest = gain + features;
    const double decay = own.keep * own.keep, back = 1.0 - decay;
    multiply(own.cov, own.phi, features, u);
    for (std::ptrdiff_t i = 0; i < features; ++i) u[i] = decay * u[i] + back * own.prior[i] * own.phi[i];
    const double s = own.noise + std::max(dot(own.phi, u, features), 0.0), bound = clip * std::sqrt(s);
    const double correction = std::min(std::max(dot(own.theta, own.phi, features), -most), most);
    const double innovation = std::min(std::max(own.residual - own.keep * correction, -bound), bound);
    for (std::ptrdiff_t i = 0; i < features; ++i) gain[i] = u[i] / s;
    for (std::ptrdiff_t i = 0; i < features; ++i) rest[i] = u[i] - s * gain[i];
    for (std::ptrdiff_t i = 0; i < features; ++i) own.theta[i] = own.theta[i] * own.keep + gain[i] * innovation;
    double* row = own.cov;
    for (std::ptrdiff_t i = 0; i < features; row += ++i) {
        const double k = gain[i], v = rest[i];
        for (std::ptrdiff_t j = 0; j <= i; ++j) row[j] = row[j] * decay - (k * u[j] + v * gain[j]);
        row[i] += back * own.prior[i];
    }
}

}  // namespace

LabelKernel STREAMRDE_LABELS() { return learn; }

}  // namespace streamrde
