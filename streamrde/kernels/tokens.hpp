// What a model is given of a window: the twin of windowing/aggregation.py and windowing/summaries.py.
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

class Tokens {
public:
    std::vector<Part> parts;
    std::vector<ScaleLog> scales;
    std::ptrdiff_t rings = 0, sums = 0;  // where they begin in a row
    bool ends = false, summaries = false;
    int channels = 0, path = 0, values = 0;  // data channels; channels of the path, and those without time

    std::size_t size() const;

    // Takes a sample's observed channels into the sums of a row.
    void summarise(double* row, double t, const double* data, const double* observed) const;
    void forget(double* row) const;
    // Writes the token of the segment's window `number`, from 0, which ends at time `end` where the path has `values`.
    void make(double* row, std::int64_t number, const double* signature, double end, const double* values,
              double* out) const;

private:
    double* product(double* row, const Part& part, std::int64_t number) const {
        return row + rings + part.place + number % part.slots * part.size;
    }
};

}  // namespace streamrde
