// What a model is given of a window: the twin of windowing/aggregation.py, windowing/summaries.py,
// windowing/resonators.py and windowing/pulses.py.
#include "tokens.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamrde {

namespace {

// See windowing/resonators.py and windowing/pulses.py for these numbers.
constexpr int degree = 9;
constexpr double rest = 1e-12, steps = 4096.0;
constexpr double rise = 0.7, fall = 0.5, tiny = 0x1p-960;
constexpr double none = std::numeric_limits<double>::quiet_NaN();

// Makes the powers of a step of dt seconds, rounded to 12 bits, all but the gains; false if they are at hand.
bool prepare(const Speeds& speeds, double dt, Powers& powers) {
    int exponent;
    const double mantissa = std::frexp(dt, &exponent);
    const double step = std::ldexp(std::floor(mantissa * steps + 0.5) / steps, exponent);
    if (step == powers.step) return false;
    powers.step = step;
    const std::size_t all = speeds.size();
    for (std::vector<double>* own : {&powers.real, &powers.imaginary, &powers.gain, &powers.x, &powers.y})
        own->resize(all);
    double *a = powers.real.data(), *b = powers.imaginary.data(), *x = powers.x.data(), *y = powers.y.data();
    double largest = 0.0;
    for (std::size_t k = 0; k < all; ++k) {
        const double own = std::min(step, speeds.longest[k]);
        x[k] = -(speeds.decays[k] * own);
        y[k] = speeds.turns[k] * own;
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
    return true;
}

}  // namespace

std::size_t Tokens::size() const {
    std::size_t total = 0;
    for (const ScaleLog& scale : scales) total += scale.words.size();
    if (ends) total += values;
    if (summaries) total += static_cast<std::size_t>(channels) * summaries_of_a_channel;
    total += 2 * static_cast<std::size_t>(channels) * band_count();
    return total + (constant_count() ? levels : 0);
}

void Tokens::forget(double* row) const {
    if (summaries) std::fill_n(row + sums, channels * sums_of_a_channel, 0.0);
    std::fill_n(row + waves, channels * wave_size(), 0.0);
    std::fill_n(row + pulses, channels * pulse_size(), 0.0);
}

void Tokens::summarise(double* row, double t, const double* data, const double* observed, Factors& factors) const {
    if (summaries) add_to_sums(row, t, data, observed);
    const auto follow = [&](double* first, std::ptrdiff_t size, auto move) {
        for (int i = 0; size && i < channels; ++i) {
            if (!(observed[i] > 0)) continue;
            double* own = first + i * size;
            if (own[wave::begun] != 0) move(own, t - own[wave::time], data[i] - own[wave::value]);
            own[wave::begun] = 1.0;
            own[wave::time] = t;
            own[wave::value] = data[i];
        }
    };
    follow(row + waves, wave_size(), [&](double* own, double dt, double dx) { turn(own, dt, dx, factors.bands); });
    follow(row + pulses, pulse_size(), [&](double* own, double dt, double dx) { beat(own, dt, dx, factors.pulses); });
}

void Tokens::turn(double* own, double dt, double dx, Powers& powers) const {
    const std::size_t count = band_count();
    if (prepare(bands, dt, powers))
        for (std::size_t k = 0; k < count; ++k) {
            const double a = powers.real[k], b = powers.imaginary[k];
            powers.gain[k] = (1.0 - (a * a + b * b)) / (2.0 * bands.decays[k]);
        }
    const double fade = powers.real[count];
    const double *turn_real = powers.real.data(), *turn_imaginary = powers.imaginary.data();
    const double* gain = powers.gain.data();
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

void Tokens::beat(double* own, double dt, double dx, Powers& powers) const {
    const std::size_t count = constant_count(), block = directions * count;
    if (prepare(constants, dt, powers))
        for (std::size_t k = 0; k < count; ++k) {
            const double spent = constants.decays[k] * std::min(powers.step, constants.longest[k]);
            powers.gain[k] = (1.0 - powers.real[k]) / spent;
        }
    const double fade = powers.real[2 * count];
    const double *of_activity = powers.real.data(), *of_peak = of_activity + count, *gain = powers.gain.data();
    own[wave::life] = own[wave::life] * fade + dt;
    const double variations[directions] = {std::abs(dx), std::max(dx, 0.0), std::max(-dx, 0.0)};
    for (int direction = 0; direction < directions; ++direction) {
        double* activity = own + traces_of_a_channel + direction * count;
        double *peak = activity + block, *inside = peak + block, *events = inside + block;
        const double variation = variations[direction];
        for (std::size_t k = 0; k < count; ++k) {
            double a = activity[k] * of_activity[k] + variation * gain[k];
            a = a < tiny ? 0.0 : a;
            double p = std::max(peak[k] * of_peak[k], a);
            p = p < tiny ? 0.0 : p;
            const double begins = inside[k] == 0 && a > rise * p ? 1.0 : 0.0;
            events[k] = events[k] * fade + begins;
            inside[k] = a < fall * p ? 0.0 : std::max(inside[k], begins);
            activity[k] = a;
            peak[k] = p;
        }
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
    if (band_count()) {
        write_waves(row, out);
        out += 2 * static_cast<std::size_t>(channels) * band_count();
    }
    if (constant_count()) write_pulses(row, out);
}

void Tokens::write_waves(const double* row, double* out) const {
    const std::size_t count = band_count(), all = channels * count;
    for (int i = 0; i < channels; ++i, out += count) {
        const double* own = row + waves + i * wave_size();
        const double life = own[wave::life];
        const double *energy = own + traces_of_a_channel + 2 * count, *changes = energy + count;
        double total = 0.0;
        for (std::size_t k = 0; k < count; ++k) total += energy[k];
        for (std::size_t k = 0; k < count; ++k) {
            out[k] = life > 0 ? changes[k] / (2.0 * life) : none;
            out[all + k] = total > 0 ? std::sqrt(energy[k] / total) : none;
        }
    }
}

void Tokens::write_pulses(const double* row, double* out) const {
    const std::size_t block = directions * constant_count();
    std::vector<double> rates;
    rates.reserve(channels * block);
    for (int i = 0; i < channels; ++i) {
        const double* own = row + pulses + i * pulse_size();
        const double* events = own + traces_of_a_channel + beat::events * block;
        for (std::size_t k = 0; own[wave::life] > 0 && k < block; ++k) rates.push_back(events[k] / own[wave::life]);
    }
    std::sort(rates.begin(), rates.end());
    for (std::size_t j = 0; j < levels; ++j)
        out[j] = rates.empty() ? none : rates[(2 * j + 1) * rates.size() / (2 * levels)];
}

}  // namespace streamrde
