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
        if (own[count_sum] == 0) {
            std::fill_n(own, sums_of_a_channel, 0.0);
            own[first_sum] = own[least_sum] = own[greatest_sum] = value;
            own[began_sum] = t;
        }
        own[count_sum] += 1;
        const double elapsed = t - own[began_sum];
        const double dx = value - own[mean_sum], dt = elapsed - own[mean_time_sum];
        own[mean_sum] += dx / own[count_sum];
        own[mean_time_sum] += dt / own[count_sum];
        own[squares_sum] += dx * (value - own[mean_sum]);
        own[time_squares_sum] += dt * (elapsed - own[mean_time_sum]);
        own[products_sum] += dx * (elapsed - own[mean_time_sum]);
        own[least_sum] = std::min(own[least_sum], value);
        own[greatest_sum] = std::max(own[greatest_sum], value);
        own[last_sum] = value;
        own[ended_sum] = t;
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
        const double count = own[count_sum];
        out[0] = count;
        if (count == 0) {
            std::fill_n(out + 1, summaries_of_a_channel - 1, std::numeric_limits<double>::quiet_NaN());
            continue;
        }
        out[1] = own[first_sum];
        out[2] = own[last_sum];
        out[3] = own[mean_sum];
        out[4] = own[least_sum];
        out[5] = own[greatest_sum];
        out[6] = std::sqrt(own[squares_sum] / count);
        out[7] = own[time_squares_sum] > 0 ? own[products_sum] / own[time_squares_sum] : 0.0;
        out[8] = std::max(end - own[ended_sum], 0.0);
    }
}

}  // namespace streamrde
