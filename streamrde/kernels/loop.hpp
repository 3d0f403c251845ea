// The way of a sample through a stream's row: order, window edges, the update, and the windows that close.
//
// The compiled twin of windowing/cutting.py and windowing/order.py, row by row instead of array by array, with the same
// arithmetic in the same order: this file is compiled without contraction of a * b + c, so both give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "variant.hpp"
#include "word_table.hpp"

namespace streamrde {

// Where things stand in a stream's row; see inference/table.py.
struct Layout {
    std::ptrdiff_t width, x, signature;
    int channels;  // of the data; the path has one more, time
    int depth;
};

struct Policy {
    bool every;       // windows of equal duration, else of equal count
    double seconds;   // every
    bool epoch;       // every: edges at multiples of `seconds`, else since the stream's first sample
    std::int64_t n;   // count
    bool hold;        // interpolation, else linear
};

// Windows that closed, in the order of the rows that closed them, and streams that began.
struct Closed {
    std::vector<std::int64_t> slot, window;
    std::vector<double> start, end;
    std::vector<double> logsigs;  // one after the other
    std::vector<std::int64_t> began;
    std::vector<double> first;  // first samples of the streams that began, missing values filled
};

enum class Fault : int { none = 0, unusable, late, duplicate };

struct Refusal {
    Fault fault = Fault::none;
    std::ptrdiff_t row = 0;
    int column = 0;      // unusable: 0 is the time, then the channels
    double bound = 0.0;  // late, duplicate: the time that the row had to be after
};

class Loop {
public:
    Loop(Layout layout, Policy policy, Kernel kernel, WordTable words);

    // The first row that cannot be used, in order of arrival; nothing changes.
    Refusal check(double* rows, const std::int64_t* slots, const double* t, const double* x, std::ptrdiff_t count) const;

    // Takes rows in order of arrival. One that cannot be used is counted in its stream's row and skipped.
    void push(double* rows, const std::int64_t* slots, const double* t, const double* x, std::ptrdiff_t count,
              Closed& closed) const;

    std::size_t words() const { return words_.size(); }
    const Layout& layout() const { return layout_; }

private:
    Refusal judge(const double* row, double t, const double* x) const;
    void begin(double* row, std::int64_t slot, double t, const double* x, Closed& closed) const;
    void extend(double* row, std::int64_t slot, double t, const double* x, Closed& closed, double* work) const;
    void close(double* row, std::int64_t slot, double end, Closed& closed) const;

    Layout layout_;
    Policy policy_;
    Kernel kernel_;
    WordTable words_;
    std::ptrdiff_t signature_size_;
};

}  // namespace streamrde
