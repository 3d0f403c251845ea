// What a model is given of a window: the twin of windowing/aggregation.py, windowing/summaries.py and
// windowing/resonators.py.
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
constexpr int traces_of_a_channel = wave::life + 1, waves_of_a_band = wave::changes + 1;
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

// Frequency bands: angular frequency, damping, and the longest step that matters. After the last band comes what fades.
struct Bands {
    std::size_t count = 0;
    std::vector<double> turns, decays, longest;
};

// What a step of time does to the resonators of all bands. A call makes it once for steps of one length.
struct Factors {
    double step = -1.0;
    std::vector<double> real, imaginary, gain, x, y;
};

class Tokens {
public:
    std::vector<Part> parts;
    std::vector<ScaleLog> scales;
    std::ptrdiff_t rings = 0, sums = 0, waves = 0;  // where they begin in a row
    bool ends = false, summaries = false;
    Bands bands;
    int channels = 0, path = 0, values = 0;  // data channels; channels of the path, and those without time

    std::size_t size() const;

    // Numbers of a channel's resonators.
    std::ptrdiff_t wave_size() const {
        return bands.count ? static_cast<std::ptrdiff_t>(traces_of_a_channel + waves_of_a_band * bands.count) : 0;
    }
    // Takes a sample's observed channels into the sums and the resonators of a row.
    void summarise(double* row, double t, const double* data, const double* observed, Factors& factors) const;
    void forget(double* row) const;
    // Writes the token of the segment's window `number`, from 0, which ends at time `end` where the path has `values`.
    void make(double* row, std::int64_t number, const double* signature, double end, const double* values,
              double* out) const;

private:
    void add_to_sums(double* row, double t, const double* data, const double* observed) const;
    void turn(double* own, double dt, double dx, Factors& factors) const;
    double* product(double* row, const Part& part, std::int64_t number) const {
        return row + rings + part.place + number % part.slots * part.size;
    }
};

}  // namespace streamrde
