// Calls on a table of streams: the twin of windowing/loop.py.
//
// A call touches only the rows and held samples of its slots: calls on disjoint slots may run at the same time, once `reserve`
// has made room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ordering.hpp"

namespace streamrde {

// Of a bounded call, what each row of samples may close without drawing on the others' store.
constexpr std::int64_t windows_of_a_row = 2;

class Loop : public Ordering {
public:
    Loop(Layout layout, Partition partition, std::unique_ptr<Policy> policy, Order order, Kernel kernel,
         WordTable words, Tokens tokens, std::vector<double> fills);

    // Takes rows in order of arrival, or those at `indices` of them. One that cannot be used is counted in its stream's
    // row and skipped; without `drop` the first such is returned at once, and what came before it is done.
    // Of the windows that time closes, each row closes some and all of them together `windows` more. A stream that has none
    // left holds its samples, is one of `owing`, and goes on with `go_on`, or with whatever is next called on it.
    Refusal push(double* rows, const std::int64_t* slots, const double* t, const double* x,
                 const std::ptrdiff_t* indices, std::ptrdiff_t count, bool drop, std::int64_t windows,
                 Outcome& outcome);

    // These close at most `windows`, and `share` of one stream; of the streams in `owing` they are to be called again.
    void advance(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, std::int64_t windows,
                 std::int64_t share, Outcome& outcome);
    void flush(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows, std::int64_t share,
               Outcome& outcome);
    void go_on(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows, std::int64_t share,
               Outcome& outcome);
    void pass_time(double* rows, const std::int64_t* slots, const double* t, std::ptrdiff_t count, Outcome& outcome);
    void close(double* rows, const std::int64_t* slots, std::ptrdiff_t count, Outcome& outcome);

    // The rows and held samples of streams, to undo a push.
    struct Saved {
        std::int64_t slot;
        std::vector<double> row;
        std::unique_ptr<Held> held;
    };
    std::vector<Saved> save(const double* rows, const std::int64_t* slots, std::ptrdiff_t count) const;
    void put_back(double* rows, std::vector<Saved>& saved);

private:
    // Calls `work` on each stream with its share of the windows. Those for which it returns false owe some.
    template <typename Work>
    void share_out(double* rows, const std::int64_t* slots, std::ptrdiff_t count, std::int64_t windows,
                   std::int64_t share, Outcome& outcome, Work work);
    void end_intake(Stream& stream, Held& held);
    // Ends the stream's segment and forgets the times it has reached.
    void restart(Stream& stream);

    // plain.cpp
    bool plain(const double* row) const;
    // Takes rows of one stream as long as they are of the usual kind; how many.
    std::ptrdiff_t push_plain(Stream& stream, const double* t, const double* x, const std::ptrdiff_t* indices,
                              std::ptrdiff_t count) const;

    bool simple_;  // whether rows of the usual kind can be told: see plain.cpp
};

}  // namespace streamrde
