// What a model is given of a window: the twin of windowing/aggregation.py, windowing/summaries.py and
// windowing/resonators.py.
#include "tokens.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamrde {

namespace {

// See windowing/resonators.py for these numbers.
constexpr int degree = 9;
constexpr double rest = 1e-12, steps = 4096.0;

// Makes the factors of a step of dt seconds, rounded to 12 bits, unless they are at hand.
void prepare(const Bands& bands, double dt, Factors& factors) {
    int exponent;
    const double mantissa = std::frexp(dt, &exponent);
    const double step = std::ldexp(std::floor(mantissa * steps + 0.5) / steps, exponent);
    if (step == factors.step) return;
    factors.step = step;
    const std::size_t all = bands.count + 1;
    for (std::vector<double>* own : {&factors.real, &factors.imaginary, &factors.gain, &factors.x, &factors.y})
        own->resize(all);
    double *a = factors.real.data(), *b = factors.imaginary.data(), *x = factors.x.data(), *y = factors.y.data();
    double largest = 0.0;
    for (std::size_t k = 0; k < all; ++k) {
        const double own = std::min(step, bands.longest[k]);
        x[k] = -(bands.decays[k] * own);
        y[k] = bands.turns[k] * own;
        largest = std::max(largest, std::max(-x[k], y[k]));
    }
    std::frexp(largest, &exponent);
    const int halvings = std::max(0, exponent + 3);
    const double scale = std::ldexp(1.0, -halvings);
    for (std::size_t k = 0; k < all; ++k) {
        x[k] *= scale;
        y[k] *= scale;
        a[k] = 1.0;
        b[k] = 0.0;
    }
    for (int j = degree; j > 0; --j) {
        const double part = 1.0 / j;
        for (std::size_t k = 0; k < all; ++k) {
            const double real = 1.0 + (a[k] * x[k] - b[k] * y[k]) * part;
            b[k] = (a[k] * y[k] + b[k] * x[k]) * part;
            a[k] = real;
        }
    }
    for (int j = 0; j < halvings; ++j)
        for (std::size_t k = 0; k < all; ++k) {
            const double real = a[k] * a[k] - b[k] * b[k];
            b[k] = 2.0 * (a[k] * b[k]);
            a[k] = real;
        }
    for (std::size_t k = 0; k < bands.count; ++k)
        factors.gain[k] = (1.0 - (a[k] * a[k] + b[k] * b[k])) / (2.0 * bands.decays[k]);
}

}  // namespace

std::size_t Tokens::size() const {
    std::size_t total = 0;
    for (const ScaleLog& scale : scales) total += scale.words.size();
    if (ends) total += values;
    if (summaries) total += static_cast<std::size_t>(channels) * summaries_of_a_channel;
    total += 2 * static_cast<std::size_t>(channels) * bands.count;
    return total;
}

void Tokens::forget(double* row) const {
    if (summaries) std::fill_n(row + sums, channels * sums_of_a_channel, 0.0);
    std::fill_n(row + waves, channels * wave_size(), 0.0);
}

void Tokens::summarise(double* row, double t, const double* data, const double* observed, Factors& factors) const {
    if (summaries) add_to_sums(row, t, data, observed);
    if (!bands.count) return;
    for (int i = 0; i < channels; ++i) {
        if (!(observed[i] > 0)) continue;
        double* own = row + waves + i * wave_size();
        if (own[wave::begun] != 0) turn(own, t - own[wave::time], data[i] - own[wave::value], factors);
        own[wave::begun] = 1.0;
        own[wave::time] = t;
        own[wave::value] = data[i];
    }
}

void Tokens::turn(double* own, double dt, double dx, Factors& factors) const {
    prepare(bands, dt, factors);
    const std::size_t count = bands.count;
    const double fade = factors.real[count];
    const double *turn_real = factors.real.data(), *turn_imaginary = factors.imaginary.data();
    const double* gain = factors.gain.data();
    const double life = own[wave::life] = own[wave::life] * fade + dt;
    double* real = own + traces_of_a_channel;
    double *imaginary = real + count, *energy = imaginary + count, *changes = energy + count;
    for (std::size_t k = 0; k < count; ++k) {
        energy[k] = energy[k] * fade + (real[k] * real[k] + imaginary[k] * imaginary[k]) * gain[k];
        double a = (real[k] * turn_real[k] - imaginary[k] * turn_imaginary[k]) + dx;
        double b = real[k] * turn_imaginary[k] + imaginary[k] * turn_real[k];
        const bool rests = (a * a + b * b) * life < rest * energy[k];
        a = rests ? 0.0 : a;
        b = rests ? 0.0 : b;
        changes[k] = changes[k] * fade + ((a > 0) != (real[k] > 0) ? 1.0 : 0.0);
        real[k] = a;
        imaginary[k] = b;
    }
}

void Tokens::add_to_sums(double* row, double t, const double* data, const double* observed) const {
    for (int i = 0; i < channels; ++i) {
        if (!(observed[i] > 0)) continue;
        double* own = row + sums + i * sums_of_a_channel;
        const double value = data[i];
        if (own[summary::count] == 0) {
            std::fill_n(own, sums_of_a_channel, 0.0);
            own[summary::first] = own[summary::least] = own[summary::greatest] = value;
            own[summary::began] = t;
        }
        own[summary::count] += 1;
        const double elapsed = t - own[summary::began];
        const double dx = value - own[summary::mean], dt = elapsed - own[summary::mean_time];
        own[summary::mean] += dx / own[summary::count];
        own[summary::mean_time] += dt / own[summary::count];
        own[summary::squares] += dx * (value - own[summary::mean]);
        own[summary::time_squares] += dt * (elapsed - own[summary::mean_time]);
        own[summary::products] += dx * (elapsed - own[summary::mean_time]);
        own[summary::least] = std::min(own[summary::least], value);
        own[summary::greatest] = std::max(own[summary::greatest], value);
        own[summary::last] = value;
        own[summary::ended] = t;
    }
}

void Tokens::make(double* row, std::int64_t number, const double* signature, double end, const double* path_values,
                  double* out) const {
    for (const Part& part : parts) {
        double* now = product(row, part, number);
        if (part.later < 0) {
            std::copy_n(signature, part.size, now);
            continue;
        }
        const double* last_windows = product(row, parts[part.later], number);
        if (number < part.delay) {
            std::copy_n(last_windows, part.size, now);  // the range is all there is
            continue;
        }
        std::copy_n(product(row, parts[part.earlier], number - part.delay), part.size, now);
        part.kernel.join(path, part.depth, now, last_windows);
    }
    for (const ScaleLog& scale : scales) {
        const double* own = scale.part < 0 ? signature : product(row, parts[scale.part], number);
        scale.kernel.log(path, scale.depth, own, scale.words.words(), out);
        out += scale.words.size();
    }
    if (ends) out = std::copy_n(path_values, values, out);
    for (int i = 0; summaries && i < channels; ++i, out += summaries_of_a_channel) {
        const double* own = row + sums + i * sums_of_a_channel;
        const double count = own[summary::count];
        out[0] = count;
        if (count == 0) {
            std::fill_n(out + 1, summaries_of_a_channel - 1, std::numeric_limits<double>::quiet_NaN());
            continue;
        }
        out[1] = own[summary::first];
        out[2] = own[summary::last];
        out[3] = own[summary::mean];
        out[4] = own[summary::least];
        out[5] = own[summary::greatest];
        out[6] = std::sqrt(own[summary::squares] / count);
        out[7] = own[summary::time_squares] > 0 ? own[summary::products] / own[summary::time_squares] : 0.0;
        out[8] = std::max(end - own[summary::ended], 0.0);
    }
    const std::size_t count = bands.count, all = channels * count;
    for (int i = 0; i < channels && count; ++i, out += count) {
        const double* own = row + waves + i * wave_size();
        const double life = own[wave::life];
        const double *energy = own + traces_of_a_channel + 2 * count, *changes = energy + count;
        double total = 0.0;
        for (std::size_t k = 0; k < count; ++k) total += energy[k];
        for (std::size_t k = 0; k < count; ++k) {
            const double none = std::numeric_limits<double>::quiet_NaN();
            out[k] = life > 0 ? changes[k] / (2.0 * life) : none;
            out[all + k] = total > 0 ? std::sqrt(energy[k] / total) : none;
        }
    }
}

}  // namespace streamrde
