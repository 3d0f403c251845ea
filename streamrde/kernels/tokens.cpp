// What a model is given of a window: the twin of windowing/aggregation.py and windowing/summaries.py.
#include "tokens.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamrde {

std::size_t Tokens::size() const {
    std::size_t total = 0;
    for (const ScaleLog& scale : scales) total += scale.words.size();
    if (ends) total += values;
    if (summaries) total += static_cast<std::size_t>(channels) * summaries_of_a_channel;
    return total;
}

void Tokens::forget(double* row) const {
    if (summaries) std::fill_n(row + sums, channels * sums_of_a_channel, 0.0);
}

void Tokens::summarise(double* row, double t, const double* data, const double* observed) const {
    if (!summaries) return;
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
    if (!summaries) return;
    for (int i = 0; i < channels; ++i, out += summaries_of_a_channel) {
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
}

}  // namespace streamrde
