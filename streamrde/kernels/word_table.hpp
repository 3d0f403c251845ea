// Which coefficients of a logarithm are read, and the products they are sums of.
#pragma once

#include <cstdint>
#include <vector>

#include "variant.hpp"

namespace streamrde {

// For the words at the given places of a row (see algebra-inl.hpp): their lengths, and for the word uv, v of length 1, 2,
// ..., the places of u and of v. With the first letter running fastest, the place of uv within its level is that of u
// plus C^|u| times that of v.
class WordTable {
public:
    template <typename Index>
    WordTable(int channels, int depth, const Index* places, std::ptrdiff_t count) {
        std::vector<std::ptrdiff_t> power(depth + 1, 1), offset(depth + 2, 0);
        for (int k = 1; k <= depth; ++k) {
            power[k] = power[k - 1] * channels;
            offset[k + 1] = offset[k] + power[k];
        }
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            int k = 1;
            while (places[i] >= offset[k + 1]) ++k;
            const std::ptrdiff_t within = places[i] - offset[k];
            places_.push_back(static_cast<std::int32_t>(places[i]));
            lengths_.push_back(k);
            for (int j = 1; j < k; ++j) {
                splits_.push_back(static_cast<std::int32_t>(offset[k - j] + within % power[k - j]));
                splits_.push_back(static_cast<std::int32_t>(offset[j] + within / power[k - j]));
            }
        }
    }

    Words words() const {
        return {static_cast<std::ptrdiff_t>(places_.size()), places_.data(), lengths_.data(), splits_.data()};
    }
    std::size_t size() const { return places_.size(); }

private:
    std::vector<std::int32_t> places_, lengths_, splits_;
};

}  // namespace streamrde
