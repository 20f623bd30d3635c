// The LSTM of assembly/lstm in C++ vectors of LANES floats: the same formulae and activations, compiled with fused
// multiply-add. A server on stdin and stdout: `KIND CALLS` is answered by median and 99.9th percentile of a call, ns.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), may_alias));

/** Vectors of sums at once: enough to hide the latency of a fused multiply-add. */
constexpr int TILE = 8;

static int inputs, hidden, outputs, steps;
static std::vector<float> cell, head, xs, h, c, gates, y;
/** A guest's state and answer, outside the kernel's own buffers. */
static std::vector<float> state, answer;

static inline vec splat(float x) { return x - (vec){0}; }
static inline vec &at(float *p, int i) { return *(vec *)(p + i * LANES); }
static inline const vec &at(const float *p, int i) { return *(const vec *)(p + i * LANES); }

static inline vec power2(vec y, float bound) {
  y = y > splat(bound) ? splat(bound) : y;
  y = y < splat(-bound) ? splat(-bound) : y;
  const vec shifted = y + 12582912.0f;
  const vec r = y - (shifted - 12582912.0f);
  vec p = 0.00132647273f * r + 0.00967151299f;
  p = p * r + 0.0555073358f;
  p = p * r + 0.240222424f;
  p = p * r + 0.693147004f;
  p = p * r + 1.0f;
  return (vec)((ivec)p + ((ivec)shifted << 23));
}
static inline vec sigmoid_power(vec x) { return power2(x * -1.44269502f, 126.0f); }
static inline vec tanh_power(vec x) { return power2(x * 2.88539004f, 30.0f); }
static inline vec sigmoid_tanh(vec x, vec z) {
  const vec power = tanh_power(z);
  return (power - 1.0f) / ((1.0f + sigmoid_power(x)) * (power + 1.0f));
}

static inline void accumulate(const float *v, int n, const float *w, int columns, vec sums[TILE]) {
  for (int k = 0; k < n; ++k, w += columns)
    for (int j = 0; j < TILE; ++j) sums[j] += v[k] * at(w, j);
}

static void step(const float *x) {
  const int columns = 4 * hidden;
  for (int from = 0; from < columns; from += TILE * LANES) {
    vec sums[TILE];
    for (int j = 0; j < TILE; ++j) sums[j] = at(&cell[(inputs + hidden) * columns + from], j);
    accumulate(x, inputs, &cell[from], columns, sums);
    accumulate(h.data(), hidden, &cell[inputs * columns + from], columns, sums);
    for (int j = 0; j < TILE; ++j) at(&gates[from], j) = sums[j];
  }
  for (int u = 0; u < hidden; u += LANES) {
    const vec kept = at(&c[u], 0) / (1.0f + sigmoid_power(at(&gates[hidden + u], 0)));
    const vec now = kept + sigmoid_tanh(at(&gates[u], 0), at(&gates[2 * hidden + u], 0));
    at(&c[u], 0) = now;
    at(&h[u], 0) = sigmoid_tanh(at(&gates[3 * hidden + u], 0), now);
  }
}

static void answer_of_state() {
  int from = 0;
  for (; from + TILE * LANES <= outputs; from += TILE * LANES) {
    vec sums[TILE];
    for (int j = 0; j < TILE; ++j) sums[j] = at(&head[hidden * outputs + from], j);
    accumulate(h.data(), hidden, &head[from], outputs, sums);
    for (int j = 0; j < TILE; ++j) at(&y[from], j) = sums[j];
  }
  for (; from < outputs; from += LANES) { // the buffers end with room for one vector
    vec sum = at(&head[hidden * outputs + from], 0);
    for (int k = 0; k < hidden; ++k) sum += h[k] * at(&head[k * outputs + from], 0);
    at(&y[from], 0) = sum;
  }
}

static void window() {
  std::fill(h.begin(), h.end(), 0.0f);
  std::fill(c.begin(), c.end(), 0.0f);
  for (int t = 0; t < steps; ++t) step(&xs[t * inputs]);
  answer_of_state();
}

static void stateful() {
  std::memcpy(h.data(), state.data(), hidden * 4);
  std::memcpy(c.data(), state.data() + hidden, hidden * 4);
  step(xs.data());
  answer_of_state();
  std::memcpy(state.data(), h.data(), hidden * 4);
  std::memcpy(state.data() + hidden, c.data(), hidden * 4);
  std::memcpy(answer.data(), y.data(), outputs * 4);
}

/** A fixed chain of divisions and roots, so that figures of other machines and moments can be compared. */
static void calibrate() {
  volatile double x = 0;
  for (int i = 1; i <= 1000; ++i) x = x + __builtin_sqrt(i) / (x + 1);
}

static double now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int, char **args) {
  FILE *file = std::fopen(args[1], "rb");
  int32_t shape[4];
  if (!file || std::fread(shape, 4, 4, file) != 4) return 1;
  inputs = shape[0], hidden = shape[1], outputs = shape[2], steps = shape[3];
  cell.resize((inputs + hidden + 1) * 4 * hidden);
  head.resize((hidden + 1) * outputs);
  head.reserve(head.size() + LANES);
  xs.resize(steps * inputs);
  for (auto *part : {&cell, &head, &xs})
    if (std::fread(part->data(), 4, part->size(), file) != part->size()) return 1;
  std::fclose(file);
  h.resize(hidden), c.resize(hidden), gates.resize(4 * hidden), y.resize(outputs + LANES);
  state.resize(2 * hidden), answer.resize(outputs);
  char kind[16];
  int calls;
  while (std::scanf("%15s %d", kind, &calls) == 2) {
    if (std::strcmp(kind, "outputs") == 0) {
      window();
      for (int j = 0; j < outputs; ++j) std::printf("%.9g ", y[j]);
      std::printf("\n");
    } else {
      void (*work)() = std::strcmp(kind, "window") == 0 ? window : std::strcmp(kind, "stateful") == 0 ? stateful : calibrate;
      std::vector<double> times(calls);
      for (double &time : times) {
        const double from = now_ns();
        work();
        time = now_ns() - from;
      }
      std::sort(times.begin(), times.end());
      std::printf("%.1f %.1f\n", times[calls / 2], times[(int)(calls * 0.999)]);
    }
    std::fflush(stdout);
  }
}
