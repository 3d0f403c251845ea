// What a model is given of a window: the twin of windowing/aggregation.py, windowing/summaries.py,
// windowing/resonators.py and windowing/pulses.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "layout.hpp"
#include "variant.hpp"
#include "word_table.hpp"

namespace streamrde {

// Columns of a channel's sums; see windowing/summaries.py.
namespace summary {
STREAMRDE_ENUM(enum Sum, sum, count, first, last, mean, squares, least, greatest, began, ended, mean_time, time_squares,
               products);
}
// Columns of a channel's resonators; see windowing/resonators.py.
namespace wave {
STREAMRDE_ENUM(enum Trace, trace, begun, time, value, life);
STREAMRDE_ENUM(enum Wave, wave, real, imaginary, energy, changes);
}  // namespace wave
// Columns of a channel's activities after its trace; see windowing/pulses.py.
namespace beat {
STREAMRDE_ENUM(enum Pulse, pulse, activity, peak, inside, events);
}
constexpr int traces_of_a_channel = wave::life + 1, waves_of_a_band = wave::changes + 1;
constexpr int columns_of_a_pulse = beat::events + 1, directions = 3, levels = 16;
constexpr int sums_of_a_channel = summary::products + 1;
constexpr int summaries_of_a_channel = 9;

// One size of range, whose latest products stand in a ring; see `Part` in windowing/aggregation.py.
struct Part {
    std::ptrdiff_t earlier, later;  // places among the parts; -1 for a single window
    std::int64_t delay, slots;
    int depth;
    std::ptrdiff_t size, place;
    Kernel kernel;
};

// One log-signature of a token.
struct ScaleLog {
    std::ptrdiff_t part;  // -1: of the window itself
    int depth;
    Kernel kernel;
    WordTable words;
};

// What turns and decays: angular frequencies, decays, and the longest steps that matter. The last is what fades.
struct Speeds {
    std::vector<double> turns, decays, longest;

    std::size_t size() const { return turns.size(); }
};

// What a step of time does to all of these.
struct Powers {
    double step = -1.0;
    std::vector<double> real, imaginary, gain, x, y;
};

// A call makes them once for steps of one length.
struct Factors {
    Powers bands, pulses;
};

class Tokens {
public:
    std::vector<Part> parts;
    std::vector<ScaleLog> scales;
    std::ptrdiff_t rings = 0, sums = 0, waves = 0, pulses = 0;  // where they begin in a row
    bool ends = false, summaries = false;
    Speeds bands, constants;                 // of each band; of each time constant's activity, then of its peak
    int channels = 0, path = 0, values = 0;  // data channels; channels of the path, and those without time

    std::size_t size() const;

    std::size_t band_count() const { return bands.size() - 1; }
    std::size_t constant_count() const { return (constants.size() - 1) / 2; }
    bool observes() const { return summaries || band_count() || constant_count(); }
    // Numbers of a channel's resonators, and of its activities.
    std::ptrdiff_t wave_size() const { return traced(waves_of_a_band * band_count()); }
    std::ptrdiff_t pulse_size() const { return traced(columns_of_a_pulse * directions * constant_count()); }
    // Takes a sample's observed channels into the sums, the resonators and the activities of a row.
    void summarise(double* row, double t, const double* data, const double* observed, Factors& factors) const;
    void forget(double* row) const;
    // Writes the token of the segment's window `number`, from 0, which ends at time `end` where the path has `values`.
    void make(double* row, std::int64_t number, const double* signature, double end, const double* values,
              double* out) const;

private:
    void add_to_sums(double* row, double t, const double* data, const double* observed) const;
    void turn(double* own, double dt, double dx, Powers& powers) const;
    void beat(double* own, double dt, double dx, Powers& powers) const;
    void write_waves(const double* row, double* out) const;
    void write_pulses(const double* row, double* out) const;
    static std::ptrdiff_t traced(std::size_t columns) {
        return columns ? static_cast<std::ptrdiff_t>(traces_of_a_channel + columns) : 0;
    }
    double* product(double* row, const Part& part, std::int64_t number) const {
        return row + rings + part.place + number % part.slots * part.size;
    }
};

}  // namespace streamrde
