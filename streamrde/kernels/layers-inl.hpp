// What models of layers have in common on one instruction set: memory, activations, scaled tokens.
#pragma once

#include <cmath>
#include <cstddef>

#include "products-inl.hpp"
#include "stepper.hpp"

namespace streamrde {
namespace {

// Registers allow so many streams at a time in a layer.
#if defined(__AVX512F__)
constexpr int group = 4;
#else
constexpr int group = 2;
#endif

template <typename T>
T* buffer(std::size_t size) {
    thread_local Numbers<T> memory;
    if (memory.size() < size) memory = Numbers<T>(size);
    return memory.data();
}

template <typename T, typename A>
void activate_with(T* values, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; i += lanes_of<T>) store(values + i, A::template of<T>(load(values + i)));
}

template <typename T>
void activate(Activation activation, T* values, std::ptrdiff_t count) {
    switch (activation) {
        case Activation::identity:
            return;
        case Activation::relu:
            return activate_with<T, Relu>(values, count);
        case Activation::tanh:
            return activate_with<T, Tanh>(values, count);
        case Activation::silu:
            return activate_with<T, Silu>(values, count);
        case Activation::softplus:
            return activate_with<T, Softplus>(values, count);
        case Activation::gelu:
            return activate_with<T, Gelu>(values, count);
    }
}

// An entry of a token as the field takes it: see inference/token_scaling.py.
template <typename T>
T scaled(const Scaling& model, double entry, int j) {
    double value = (entry - model.shift.data()[j]) * model.scale.data()[j];
    if (j >= model.summaries && std::isnan(value)) value = 0;
    if (model.clip) value = value < -model.clip ? -model.clip : value > model.clip ? model.clip : value;
    return static_cast<T>(value);
}

}  // namespace
}  // namespace streamrde
