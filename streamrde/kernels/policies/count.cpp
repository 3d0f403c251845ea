// Windows of equally many samples: the twin of windowing/policies/count.py.
#include "policy.hpp"

namespace streamrde {
namespace {

class Count final : public Policy {
public:
    explicit Count(double n) : Policy(0.0, true), n_(n) {}

    bool closes(const OpenWindow& window, const LogSignature&) const override { return window.samples == n_; }
    Quiet quiet(const OpenWindow&) const override { return {-never, never, n_}; }

private:
    double n_;
};

const bool known = register_policy("count", [](const double* numbers, std::size_t count) -> std::unique_ptr<Policy> {
    if (count != 1 || !(numbers[0] >= 1)) return nullptr;
    return std::make_unique<Count>(numbers[0]);
});

}  // namespace
}  // namespace streamrde
