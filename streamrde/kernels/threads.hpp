// Work that is split over threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <thread>
#include <vector>

namespace streamrde {

// Below this many multiply-adds a thread costs more than it saves.
constexpr double work_per_thread = 2e6;

// How many threads so many multiply-adds on so many streams are worth: one at least, and `threads` at most.
inline std::size_t threads_for(double work, std::ptrdiff_t streams, int threads) {
    const auto worth = static_cast<std::ptrdiff_t>(std::min(work / work_per_thread, 1e6));
    return static_cast<std::size_t>(
        std::clamp<std::ptrdiff_t>(std::min(worth, streams), 1, std::max<std::ptrdiff_t>(threads, 1)));
}

// Calls run(0), run(1), ... run(count - 1), each in a thread of its own; where there are no more threads, in this one.
// Memory that runs out in any of them is reported when all have ended.
template <typename Run>
inline void run_parts(std::size_t count, const Run& run) {
    if (count == 1) return run(0);
    std::vector<char> failed(count, 0);
    const auto guarded = [&](std::size_t part) {
        try {
            run(part);
        } catch (const std::bad_alloc&) {
            failed[part] = 1;
        }
    };
    std::vector<std::thread> others;
    others.reserve(count);
    std::size_t part = 1;
    try {
        for (; part < count; ++part) others.emplace_back(guarded, part);
    } catch (const std::exception&) {
        for (; part < count; ++part) guarded(part);
    }
    guarded(0);
    for (std::thread& other : others) other.join();
    if (std::find(failed.begin(), failed.end(), 1) != failed.end()) throw std::bad_alloc();
}

}  // namespace streamrde
