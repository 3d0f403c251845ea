#include "shares.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "threads.hpp"

namespace streamrde {
namespace {

// Rows in order of stream, each stream's in order of arrival, and where each thread's part of them begins.
struct Shares {
    std::vector<std::ptrdiff_t> order, begin;
};

// A thread is worth its start from about so many rows on.
constexpr std::ptrdiff_t rows_per_thread = 2048;

Shares share_out(const Rows& rows, int threads) {
    Shares shares;
    const std::ptrdiff_t count = rows.count;
    shares.order.resize(count);
    const std::int64_t* slot = rows.slots;
    const bool sorted = std::is_sorted(slot, slot + count);
    if (!sorted && count >= rows.slots_in_table / 4) {
        std::vector<std::ptrdiff_t> place(rows.slots_in_table + 1);
        for (std::ptrdiff_t i = 0; i < count; ++i) ++place[slot[i] + 1];
        std::partial_sum(place.begin(), place.end(), place.begin());
        for (std::ptrdiff_t i = 0; i < count; ++i) shares.order[place[slot[i]]++] = i;
    } else {
        std::iota(shares.order.begin(), shares.order.end(), std::ptrdiff_t{0});
        if (!sorted)
            std::stable_sort(shares.order.begin(), shares.order.end(),
                             [slot](std::ptrdiff_t a, std::ptrdiff_t b) { return slot[a] < slot[b]; });
    }
    const std::ptrdiff_t parts =
        std::max<std::ptrdiff_t>(1, std::min<std::ptrdiff_t>(threads, count / rows_per_thread));
    shares.begin.push_back(0);
    for (std::ptrdiff_t part = 1; part < parts; ++part) {
        std::ptrdiff_t cut = std::max(shares.begin.back(), part * count / parts);
        while (cut > shares.begin.back() && cut < count && slot[shares.order[cut]] == slot[shares.order[cut - 1]])
            ++cut;
        shares.begin.push_back(cut);
    }
    shares.begin.push_back(count);
    return shares;
}

template <typename T>
void append_rows(std::vector<T>& to, const std::vector<T>& from, std::ptrdiff_t row, std::ptrdiff_t width) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
}

// What the parts' streams gave, in the order of the rows that caused it.
Outcome join(const std::vector<Outcome>& parts, const Loop& loop) {
    Outcome all;
    const auto merge = [&parts](auto rows_of, auto append) {
        struct From {
            std::int64_t row;
            std::size_t part;
            std::ptrdiff_t place;
        };
        std::vector<From> order;
        for (std::size_t p = 0; p < parts.size(); ++p) {
            const auto& rows = rows_of(parts[p]);
            for (std::size_t i = 0; i < rows.size(); ++i)
                order.push_back({rows[i].row, p, static_cast<std::ptrdiff_t>(i)});
        }
        std::stable_sort(order.begin(), order.end(), [](const From& a, const From& b) { return a.row < b.row; });
        for (const From& from : order) append(parts[from.part], from.place);
    };
    merge([](const Outcome& part) -> const auto& { return part.windows; },
          [&](const Outcome& part, std::ptrdiff_t i) {
              all.windows.push_back(part.windows[i]);
              append_rows(all.logsigs, part.logsigs, i, loop.token_size());
              append_rows(all.values, part.values, i, loop.layout().channels);
          });
    merge([](const Outcome& part) -> const auto& { return part.unused; },
          [&](const Outcome& part, std::ptrdiff_t i) { all.unused.push_back(part.unused[i]); });
    merge([](const Outcome& part) -> const auto& { return part.episodes; },
          [&](const Outcome& part, std::ptrdiff_t i) {
              all.episodes.push_back(part.episodes[i]);
              append_rows(all.origins, part.origins, i, loop.layout().values());
          });
    for (const Outcome& part : parts) {
        all.owing.insert(all.owing.end(), part.owing.begin(), part.owing.end());
        all.cuts.insert(all.cuts.end(), part.cuts.begin(), part.cuts.end());
    }
    return all;
}

}  // namespace

Refusal push_streams(Loop& loop, const Rows& rows, bool drop, int threads, std::int64_t windows, Outcome& outcome) {
    const Shares shares = share_out(rows, threads);
    const std::size_t count = shares.begin.size() - 1;
    const auto indices = [&](std::size_t part) { return shares.order.data() + shares.begin[part]; };
    const auto size = [&](std::size_t part) { return shares.begin[part + 1] - shares.begin[part]; };
    if (!drop) {
        std::vector<Refusal> refusals(count);
        run_parts(count, [&](std::size_t part) {
            refusals[part] = loop.check(rows.table, rows.slots, rows.t, rows.x, indices(part), size(part));
        });
        Refusal earliest;
        for (const Refusal& refusal : refusals)
            if (refusal.fault != Fault::none && (earliest.fault == Fault::none || refusal.row < earliest.row))
                earliest = refusal;
        if (earliest.fault != Fault::none) return earliest;
    }
    std::vector<Outcome> parts(count);
    if (windows != unbounded) windows /= static_cast<std::int64_t>(count);
    run_parts(count, [&](std::size_t part) {
        loop.push(rows.table, rows.slots, rows.t, rows.x, indices(part), size(part), true, windows, parts[part]);
    });
    outcome = join(parts, loop);
    return {};
}

}  // namespace streamrde
