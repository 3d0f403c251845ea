"""Slow, obvious oracles. Imports nothing of streamrde.

A truncated tensor is a dictionary from words (tuples of letters) to coefficients; the empty word is level 0.
"""

from __future__ import annotations

import cmath
import itertools
import math
from fractions import Fraction

import numpy as np


def words(channels, depth):
    """All words of length 1 to depth, by length, then lexicographically."""
    return [w for k in range(1, depth + 1) for w in itertools.product(range(channels), repeat=k)]


def score_tracker(scores, first, alpha, step, late, least=None):
    """Thresholds and misses of scores, each learned `late` scores after its threshold was issued.

    `first` is the threshold that h = 1 stands for, or a function of the scores learned so far, at least `least`.
    """
    h, largest, issued, missed, learned = 1.0, 0.0, [], [], []
    base = first if callable(first) else lambda _: first
    least = first if least is None else least

    def learn(k):
        nonlocal h, largest
        if math.isnan(scores[k]):
            missed.append(False)
            return
        missed.append(bool(scores[k] > issued[k]))
        learned.append(scores[k])
        largest = max(largest, scores[k])
        most = 1.0 + (1.0 if largest <= least else 1.0 + math.log(largest / least))
        h = min(h + step * (missed[-1] - alpha), most)

    for k in range(len(scores)):
        if k >= late:
            learn(k - late)
        issued.append(base(learned) * h if h <= 1 else base(learned) * math.exp(h - 1))
    for k in range(max(len(scores) - late, 0), len(scores)):
        learn(k)
    return issued, missed


def stream_scale(scores, usual):
    """Scale of a stream after its scores: the root of a mean that counts `usual` twice and forgets by .98."""
    total = weight = 0.0
    for score in scores:
        now = math.sqrt((2 * usual**2 + total) / (2 + weight))
        total, weight = 0.98 * total + min(score, 10 * now) ** 2, 0.98 * weight + 1
    return math.sqrt((2 * usual**2 + total) / (2 + weight))


def lyndon_words(channels, depth):
    """The words strictly smaller than all their proper rotations."""
    return [w for w in words(channels, depth) if all(w < w[i:] + w[:i] for i in range(1, len(w)))]


def multiply(a, b, depth):
    """Concatenation product."""
    product = {}
    for u, p in a.items():
        for v, q in b.items():
            if len(u) + len(v) <= depth:
                product[u + v] = product.get(u + v, 0) + p * q
    return product


def exp(increment, depth):
    """Signature of a straight piece: at a word the product of its increments, over its length's factorial."""
    tensor = {(): 1}
    for w in words(len(increment), depth):
        tensor[w] = math.prod(increment[i] for i in w) / math.factorial(len(w))
    return tensor


def signature(path, depth):
    """Chen's identity, piece by piece."""
    path = np.asarray(path)
    tensor = {(): 1}
    for increment in np.diff(path if path.dtype == object else path.astype(float), axis=0):
        tensor = multiply(tensor, exp(increment, depth), depth)
    return tensor


def log(tensor, depth):
    """log(1 + X) = X - X^2/2 + X^3/3 - ..."""
    x = {w: c for w, c in tensor.items() if w}
    power, total = {(): 1}, {}
    for n in range(1, depth + 1):
        power = multiply(power, x, depth)
        for w, c in power.items():
            total[w] = total.get(w, 0) + (-1) ** (n + 1) * c / n
    return total


def logsignature(path, depth):
    """Coefficients of the tensor logarithm at the Lyndon words; of a path of Fractions exactly."""
    tensor = log(signature(path, depth), depth)
    return np.array([tensor.get(w, 0) for w in lyndon_words(np.shape(path)[1], depth)])


def exact(path):
    """The points as Fractions, which every float is."""
    return np.array([[Fraction(float(v)) for v in point] for point in path], dtype=object)


def window_paths(t, x, *, every=None, count=None, align="first", interpolation="linear", fill=None):
    """The windows of a stream as lists of points (time since the first sample, channels), and their edges.

    Walks the path point by point. Edges are k * every after the first sample, or at multiples of `every`; a path point
    is put on every edge that the path passes.
    """
    t, x = np.asarray(t, dtype=float), np.array(x, dtype=float)
    held = np.zeros(x.shape[1]) if fill is None else np.asarray(fill, dtype=float)
    for row in x:
        row[np.isnan(row)] = held[np.isnan(row)]
        held = row
    u = t - t[0]
    here, edges, windows = np.append(0.0, x[0]), [t[0]], []
    window, k, increments, pieces = [here], 1, 0, 0
    first_edge = 0.0 if align == "first" else math.floor(t[0] / every + 1e-9) * every - t[0]

    def go(to):
        nonlocal here, pieces
        here = to
        window.append(to)
        pieces += 1

    def close(at):
        nonlocal window, k, pieces, increments
        windows.append(np.array(window))
        edges.append(at)
        window, k, pieces, increments = [here], k + 1, 0, 0

    for i in range(1, len(t)):
        begin, target = here, np.append(u[i], x[i])
        if interpolation == "hold":
            target = np.append(u[i], begin[1:])
        closed_here = False
        while every and first_edge + k * every <= u[i] + 1e-9 * every:
            edge = first_edge + k * every
            if abs(edge - u[i]) <= 1e-9 * every:
                go(target)
                closed_here = True
            else:
                go(begin + (edge - begin[0]) / (target[0] - begin[0]) * (target - begin))
            close(t[0] + edge)
        if not closed_here:
            go(target)
        if interpolation == "hold":
            go(np.append(u[i], x[i]))
        increments += 1
        if count and increments == count:
            close(t[i])
    if pieces:
        close(t[-1])
    return np.array(edges), windows


def vector_field(z, weights, hidden):
    """The matrix F(z) of a perceptron [(W, b), ...] with relu, tanh before the last layer, and none after it."""
    for weight, bias in weights[:-2]:
        z = np.maximum(weight @ z + bias, 0)
    weight, bias = weights[-2]
    z = np.tanh(weight @ z + bias)
    weight, bias = weights[-1]
    return (weight @ z + bias).reshape(hidden, -1)


def log_ode(z, weights, logsigs, solver, first_stage="own"):
    """Hidden states (K + 1, H) by the written-out formulas of torchdiffeq's solvers with one step per window."""
    states = [z]
    for k, own in enumerate(logsigs):
        first = logsigs[k - 1] if first_stage == "previous" and k else own

        def f(z, logsig=own):
            return vector_field(z, weights, len(z)) @ logsig

        k1 = f(z, first)
        if solver == "euler":
            z = z + k1
        elif solver == "midpoint":
            z = z + f(z + k1 / 2)
        else:
            k2 = f(z + k1 / 3)
            k3 = f(z + k2 - k1 / 3)
            k4 = f(z + k1 - k2 + k3)
            z = z + (k1 + 3 * k2 + 3 * k3 + k4) / 8
        states.append(z)
    return np.array(states)


def put_in_order(rows, *, lateness=0.0, duplicates="first", merge=False):
    """Samples (t, x) of one stream in order of time, and what became of each row, by the rules in plain words.

    A row waits until no row may come before it any more: until one came that is later by more than `lateness`. It is
    late if one after it was taken, and a duplicate if one at its time was.
    """
    waiting, samples, fates, top, taken = {}, [], [], -math.inf, -math.inf
    for t, x in rows:
        if not math.isfinite(t) or any(math.isinf(v) for v in x):
            fates.append("rejected")
            continue
        if t < taken or t == taken:
            fates.append("late" if t < taken else "duplicate")
            continue
        if t in waiting:
            before = waiting[t]
            if not merge:
                fates.append("duplicate")
                waiting[t] = list(x) if duplicates == "last" else before
                continue
            both = any(not math.isnan(a) and not math.isnan(b) for a, b in zip(before, x, strict=True))
            fates.append("duplicate" if both else "merged")
            first, second = (x, before) if duplicates == "last" else (before, x)
            waiting[t] = [b if math.isnan(a) else a for a, b in zip(first, second, strict=True)]
            continue
        fates.append("samples")
        waiting[t] = list(x)
        top = max(top, t)
        for ready in sorted(waiting):
            if ready < top - lateness or (ready == top - lateness and not merge and duplicates != "last"):
                samples.append((ready, waiting.pop(ready)))
                taken = ready
    return samples + sorted(waiting.items()), fates


def fill_straight(t, x, fill):
    """Missing values of a stream whose channels are each straight between their observations.

    A channel has its fill value before its first observation, and its last value after its last one.
    """
    filled = np.array(x, dtype=float)
    for channel, column in enumerate(filled.T):
        known = [i for i in range(len(t)) if not math.isnan(column[i])]
        for i in range(len(t)):
            before = [k for k in known if k <= i]
            after = [k for k in known if k > i]
            if i in known:
                continue
            if not before:
                column[i] = fill[channel]
            elif not after:
                column[i] = column[before[-1]]
            else:
                a, b = before[-1], after[0]
                share = (t[i] - t[a]) / (t[b] - t[a])
                column[i] = (1 - share) * column[a] + share * column[b]
    return filled


def matrix_exponential(matrix):
    """Taylor's series of the matrix over 2^10, squared 10 times, in extended precision."""
    a = np.asarray(matrix, dtype=np.longdouble) / 2**10
    total = term = np.eye(len(a), dtype=np.longdouble)
    for n in range(1, 25):
        term = term @ a / n
        total = total + term
    for _ in range(10):
        total = total @ total
    return total.astype(np.float64)


def area_under_roc(positive, score):
    """Pair by pair."""
    pairs = [
        (a, b) for a, p in zip(score, positive, strict=True) for b, q in zip(score, positive, strict=True) if p > q
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def average_precision(positive, score):
    """Threshold by threshold, from the highest."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = [p for p, s in zip(positive, score, strict=True) if s >= threshold]
        recall = sum(chosen) / sum(positive)
        area += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    return area


def calibration_error(true, probability, bins=15):
    """Bin by bin."""
    error = 0.0
    for i in range(bins):
        rows = [
            (max(p), p.index(max(p)) == y)
            for y, p in zip(true, probability, strict=True)
            if i / bins < max(p) <= (i + 1) / bins
        ]
        if rows:
            confidence, accuracy = (sum(column) / len(rows) for column in zip(*rows, strict=True))
            error += abs(confidence - accuracy) * len(rows) / len(true)
    return error


def macro_f1(true, predicted):
    """Class by class, of those that occur or were predicted."""
    scores = []
    for c in set(true) | set(predicted):
        hits = sum(t == p == c for t, p in zip(true, predicted, strict=True))
        precision, recall = hits / max(1, predicted.count(c)), hits / max(1, true.count(c))
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(scores) / len(scores)


def novelty(logsig, tensors, channels, depth, windows):
    """The p-value of one window: coefficients in the order of `lyndon_words`, tensors by name."""
    own = {name.removeprefix("novelty."): tensor for name, tensor in tensors.items()}
    words = lyndon_words(channels, depth)
    g = {
        word: math.copysign(abs(value) ** (1 / len(word)), value) * scale
        for word, value, scale in zip(words, logsig, own["scale"], strict=True)
    }
    blocks = []
    for k in range(1, depth + 1):
        level = [g[word] for word in words if len(word) == k]
        rms = math.sqrt(sum(value**2 for value in level) / len(level) + 1e-6)
        blocks.append([value / rms for value in level])
    sizes = [
        sum(value**2 for word, value in g.items() if len(word) == k and channel in word)
        for k in range(min(2, depth), depth + 1)
        for channel in range(1, channels)
    ]
    blocks.append([math.log(size + 1e-6) for size in [*sizes, g[0,] ** 2]])
    score, begin = 0.0, 0
    for i, block in enumerate(blocks):
        stop = begin + len(block)
        u = (np.array(block) - own["center"][begin:stop]) * own["spread"][begin:stop]
        begin = stop
        precision = own["rest"][i] * (np.eye(len(u)) - own[f"axes.{i}"] @ own[f"axes.{i}"].T)
        distance, tail = max(u @ precision @ u, 0.0), own["tails"][i]
        score -= np.interp(distance, tail, own["log_p"])
        if distance > tail[-1]:
            score += own["slope"][i] * math.log(distance / tail[-1])
    if score > own["tails"][-1][-1]:
        return 1 / (windows + 1)
    return math.exp(np.interp(score, own["tails"][-1], own["log_p"]))


def bet(p):
    """The integral over e in [0, 1] of e p^(e - 1), by the midpoint rule."""
    e = (np.arange(20_000) + 0.5) / 20_000
    return (e * p ** (e - 1)).mean()


def drift(p, *, novel, alarm):
    """How many p-values are novel, and how often the capital of a gambler who starts anew from 1 reaches the alarm."""
    capital, alarms = 1.0, 0
    for value in p:
        capital = max(capital, 1.0) * bet(value)
        if math.log(capital) >= alarm:
            capital, alarms = 1.0, alarms + 1
    return sum(value < novel for value in p), alarms


def oscillations(t, x, frequencies, damping):
    """Return oscillations per second and shares of the amplitude in each band, by sums over all jumps before."""
    rates, energies = [], []
    for frequency in frequencies:
        w, g = 2 * np.pi * frequency, 2 * np.pi * frequency * damping
        z = np.array([(np.exp((1j * w - g) * (at - t[: k + 1])) * np.diff(x[: k + 1], prepend=x[0])).sum()
                      for k, at in enumerate(t)])  # fmt: skip
        signs = z.real > 0
        rates.append((signs[1:] != signs[:-1]).sum() / (2 * (t[-1] - t[0])))
        energies.append((np.abs(z[:-1]) ** 2 * -np.expm1(-2 * g * np.diff(t)) / (2 * g)).sum())
    return np.array(rates), np.sqrt(np.array(energies) / np.sum(energies))


def pulses(t, x, constants):
    """Return pulses per second for each time constant and direction, by integrals over all of the path before."""
    rates = []
    for constant in constants:
        for part in (abs, lambda dx: max(dx, 0.0), lambda dx: max(-dx, 0.0)):
            peaks, inside, count = [0.0], False, 0
            for k in range(1, len(t)):
                activity = sum(
                    part(x[j] - x[j - 1]) / (t[j] - t[j - 1]) * constant
                    * (math.exp((t[j] - t[k]) / constant) - math.exp((t[j - 1] - t[k]) / constant))
                    for j in range(1, k + 1)
                )  # fmt: skip
                peaks = [peak * math.exp((t[k - 1] - t[k]) / (16 * constant)) for peak in peaks] + [activity]
                if not inside and activity > 0.7 * max(peaks):
                    inside, count = True, count + 1
                elif inside and activity < 0.5 * max(peaks):
                    inside = False
            rates.append(count / (t[-1] - t[0]))
    return rates


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def times(weight, v, bias=None):
    return [
        sum(w * own for w, own in zip(row, v, strict=True)) + (bias[i] if bias else 0.0) for i, row in enumerate(weight)
    ]


def normed(x, factors):
    size = math.sqrt(sum(v * v for v in x) / len(x) + 1e-6)
    return [g * v / size for g, v in zip(factors, x, strict=True)]


class Stack:
    """A stack, number by number, from its tensors as nested lists."""

    def __init__(self, kind, blocks, width, tensors, clip):
        self.kind, self.width, self.tensors, self.clip = kind, width, tensors, clip
        self.h = [[0.0] * 8 * width for _ in range(blocks)]  # as many as any recurrence needs
        self.c = [[0.0] * width for _ in range(blocks)]
        self.lasts = []

    def step(self, token, time):
        """Return the mean of the outputs so far, and the last one."""
        shift, scale = self.tensors["token.shift"], self.tensors["logsig.scale"]
        token = [
            max(-self.clip, min(self.clip, (v - m) * s)) * math.sqrt(len(token))
            for v, m, s in zip(token, shift, scale, strict=True)
        ]
        x = times(self.tensors["field.input.weight"], token, self.tensors["field.input.bias"])
        for block in range(len(self.h)):
            own = {
                name.removeprefix(f"field.blocks.{block}."): tensor
                for name, tensor in self.tensors.items()
                if name.startswith(f"field.blocks.{block}.")
            }
            parts = {name.removeprefix("recurrence."): tensor for name, tensor in own.items()}
            y = getattr(self, self.kind)(block, normed(x, own["before.weight"]), parts, time)
            x = [a + b for a, b in zip(x, y, strict=True)]
            up = times(own["up.weight"], normed(x, own["between.weight"]), own["up.bias"])
            half = len(up) // 2
            gated = [p * sigmoid(p) * q for p, q in zip(up[:half], up[half:], strict=True)]
            x = [a + b for a, b in zip(x, times(own["down.weight"], gated, own["down.bias"]), strict=True)]
        self.lasts.append(normed(x, self.tensors["field.last.weight"]))
        return [sum(column) / len(self.lasts) for column in zip(*self.lasts, strict=True)], self.lasts[-1]

    def rg_lru(self, block, u, own, time):
        gates = times(own["gates.weight"], u, own["gates.bias"])
        value = times(own["value.weight"], u)
        for j in range(self.width):
            a = math.exp(-2 * math.log(1 + math.exp(own["rate"][j])) * sigmoid(gates[j]) * time)
            gain = math.sqrt(1 - a * a + 1e-6)
            self.h[block][j] = a * self.h[block][j] + gain * sigmoid(gates[self.width + j]) * value[j]
        return times(own["out.weight"], self.h[block][: self.width])

    def min_gru(self, block, u, own, time):
        gate = times(own["gate.weight"], u, own["gate.bias"])
        value = times(own["value.weight"], u, own["value.bias"])
        for j in range(self.width):
            a = (1 - sigmoid(gate[j])) ** time
            self.h[block][j] = a * self.h[block][j] + (1 - a) * value[j]
        return times(own["out.weight"], self.h[block][: self.width])

    def lru(self, block, u, own, time):
        drive, count = times(own["drive.weight"], u), len(own["rate"])
        for j in range(count):
            factor = cmath.exp((-math.exp(own["rate"][j]) + 1j * math.exp(own["angle"][j])) * time)
            gain = math.sqrt(1 - abs(factor) ** 2 + 1e-6)
            self.h[block][j] = factor * self.h[block][j] + gain * (drive[j] + 1j * drive[count + j])
        state = [complex(h).real for h in self.h[block][:count]] + [complex(h).imag for h in self.h[block][:count]]
        return [y + s * v for y, s, v in zip(times(own["out.weight"], state), own["skip"], u, strict=True)]

    def gru(self, block, u, own, time):
        a = times(own["cell.weight_ih_l0"], u, own["cell.bias_ih_l0"])
        b = times(own["cell.weight_hh_l0"], self.h[block][: self.width], own["cell.bias_hh_l0"])
        n = self.width
        for j in range(n):
            keep = sigmoid(a[n + j] + b[n + j])
            new = math.tanh(a[2 * n + j] + sigmoid(a[j] + b[j]) * b[2 * n + j])
            self.h[block][j] = (1 - keep) * new + keep * self.h[block][j]
        return self.h[block][:n]

    def lstm(self, block, u, own, time):
        a = times(own["cell.weight_ih_l0"], u, own["cell.bias_ih_l0"])
        b = times(own["cell.weight_hh_l0"], self.h[block][: self.width], own["cell.bias_hh_l0"])
        n, gates = self.width, [p + q for p, q in zip(a, b, strict=True)]
        for j in range(n):
            new = sigmoid(gates[j]) * math.tanh(gates[2 * n + j])
            self.c[block][j] = sigmoid(gates[n + j]) * self.c[block][j] + new
            self.h[block][j] = sigmoid(gates[3 * n + j]) * math.tanh(self.c[block][j])
        return self.h[block][:n]

    def s4d(self, block, u, own, time):
        """The zero-order hold of x' = a x + u, y = 2 Re sum c x, as in S4D's code."""
        y, width = [own["skip"][j] * u[j] for j in range(self.width)], self.width
        for n in range(8):
            for j in range(width):
                place = n * width + j
                a = -math.exp(own["rate"][place]) + 1j * own["angle"][place]
                factor = cmath.exp(a * math.exp(own["step"][j]) * time)
                self.h[block][place] = factor * self.h[block][place] + (factor - 1) / a * u[j]
                c = own["out.weight"][0][n][j] + 1j * own["out.weight"][1][n][j]
                y[j] += 2 * (c * self.h[block][place]).real
        return y

    def slice(self, block, u, own, time):
        entries, value = (times(own[f"{p}.weight"], u, own[f"{p}.bias"]) for p in ("generator", "value"))
        count = len(own["rate"])
        for k in range(count):
            m = [[entries[(i * 4 + j) * count + k] for j in range(4)] for i in range(4)]
            stretch = math.sqrt(sum(((m[i][j] + m[j][i]) / 2) ** 2 for i in range(4) for j in range(4)) + 1e-6)
            for i in range(4):
                m[i][i] -= stretch + math.exp(own["rate"][k])
            # Small steps of Taylor's series: exp(M) = exp(M / 100)^100.
            h = [self.h[block][i * count + k] for i in range(4)]
            for _ in range(100):
                term = list(h)
                for n in range(1, 9):
                    term = [x * time / 100 / n for x in times(m, term)]
                    h = [a + b for a, b in zip(h, term, strict=True)]
            for i in range(4):
                self.h[block][i * count + k] = h[i] + value[i * count + k] * time
        return times(own["out.weight"], self.h[block][: 4 * count])

    def rde(self, block, u, own, time):
        drive, n = times(own["drive.weight"], u, own["drive.bias"]), self.width
        h = self.h[block][:n]

        def slope(z):
            inner = times(own["hidden.weight"], z, own["hidden.bias"])
            return times(own["move.weight"], [math.tanh(p) * q for p, q in zip(inner, drive, strict=True)])

        rates = [math.log(1 + math.exp(v)) * time for v in own["rate"]]
        # The midpoint rule for y = exp(rate s) h.
        middle = [math.exp(-r / 2) * (a + time / 2 * b) for r, a, b in zip(rates, h, slope(h), strict=True)]
        y = [a + math.exp(r / 2) * time * b for r, a, b in zip(rates, h, slope(middle), strict=True)]
        self.h[block][:n] = [math.exp(-r) * v for r, v in zip(rates, y, strict=True)]
        return times(own["out.weight"], self.h[block][:n])
