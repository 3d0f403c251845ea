// Enumerations and structures that Python has too.
//
// The text of each declaration is exported (see module.cpp), and Python compares it with its own when it is imported; see
// kernels/layout.py. So the names, their order and their numbers stand in one place here, and cannot drift apart from those
// there.
#pragma once

// STREAMRDE_ENUM(enum Fault, fault, none, late) declares `enum Fault { none, late }` and the text `fault_names`.
#define STREAMRDE_ENUM(declaration, name, ...) \
    declaration{__VA_ARGS__}; \
    inline constexpr char name##_names[] = #__VA_ARGS__

// STREAMRDE_STRUCT(Cut, cut, double a; double b;) declares `struct Cut { double a; double b; }` and the text `cut_fields`.
#define STREAMRDE_STRUCT(type, name, ...) \
    struct type { \
        __VA_ARGS__ \
    }; \
    inline constexpr char name##_fields[] = #__VA_ARGS__
