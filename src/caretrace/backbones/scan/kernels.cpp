// The selective scan (Gu and Dao 2023, arXiv 2312.00752, algorithm 2) and the convolution before it, forward
// and backward, on the CPU. literal.py says the same in ten lines and introduces the words used here.
//
// How it is fast:
// - A vector holds neighbouring channels; the states of those channels stay in registers from step to step.
//   Nothing of size [batch, step, channel, state] is ever written.
// - The forward pass keeps the states at the start of every chunk of kChunk steps. The backward pass walks
//   the chunks from the last to the first and computes the states of each anew, 8 KB at a time.
// - Softplus, skip and gate, and their gradients, are applied on the way.
// - A task is one sample and up to kTaskLanes channels; tasks share nothing, so threads need no locks, and
//   since tasks do not depend on the number of threads, neither does the result, to the last bit.
//
// Arrays are [row, ...] with row = batch * steps + step, and a distance between rows of their own, so that
// inputs and gate may be halves of one array.

#include <algorithm>
#include <memory>
#include <new>

#include "vectors.h"

namespace {

constexpr int kChunk = 16;
constexpr int kTaskVectors = 8;  // vectors of channels in a task

template <typename T> struct Array {
  T* at;
  int64_t stride;  // distance between rows
  T* row(int64_t number) const { return at + number * stride; }
};

}  // namespace

extern "C" {

// Mirrored in compiled.py. T stands for float or double, as the function called says.
struct Rows {
  void* at;
  int64_t stride;
};

struct ScanCall {
  int64_t batch, steps, channels, states, threads;
  Rows inputs, delta, writes, reads, gate;      // in
  void *decay, *skip, *bias;                    // in: [channel, state], [channel], [channel]
  Rows outputs;                                 // out, forward
  void* kept;                                   // states at the start of each chunk, see contract.py; may be null
  Rows d_outputs;                               // in, backward
  Rows d_inputs, d_delta, d_gate;               // out, backward
  void *d_writes, *d_reads;                     // out: [task of a sample, row, state], to be summed
  void *d_decay, *d_skip, *d_bias;              // out: [batch, channel, state], [batch, channel] twice
};

struct ConvolutionCall {
  int64_t batch, steps, channels, width, threads;
  Rows inputs;
  void *kernel, *bias;             // [channel, width], [channel]
  Rows outputs;                    // out, forward: silu of the convolution
  Rows d_outputs, d_inputs;        // in and out, backward
  void *d_kernel, *d_bias;         // out: [batch, channel, width], [batch, channel]
};

}  // extern "C"

namespace {

template <typename T> Array<T> array(const Rows& rows) { return {static_cast<T*>(rows.at), rows.stride}; }

template <typename V> std::unique_ptr<V[]> vectors(int64_t count) { return std::unique_ptr<V[]>(new V[count]()); }

int64_t up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

// What one task needs to know: which sample, and which vectors of channels.
template <typename T> struct Task {
  using V = Vec<T>;
  int64_t sample, number, first, blocks;

  Task(int64_t index, int64_t channels) {
    int64_t per_sample = up(channels, kTaskVectors * kLanes<T>);
    sample = index / per_sample, number = index % per_sample;
    first = number * kTaskVectors * kLanes<T>;
    blocks = std::min<int64_t>(kTaskVectors, up(channels - first, kLanes<T>));
  }
};

template <typename T> int64_t tasks_of(int64_t batch, int64_t channels) {
  return batch * up(channels, kTaskVectors * kLanes<T>);
}

// The part of a chunk that belongs to one vector of channels, after softplus and gate.
template <typename T> struct Slice {
  using V = Vec<T>;
  V step[kChunk], entering[kChunk], inputs[kChunk], read[kChunk];   // Δ, Δ x, x, C · h
  V slope[kChunk], gate[kChunk], gate_slope[kChunk];                // dΔ/draw, silu(z), dsilu/dz
  V d_outputs[kChunk], d_read[kChunk], d_entering[kChunk], d_step[kChunk];
};

template <typename T> class Scan {
 public:
  using V = Vec<T>;

  explicit Scan(const ScanCall& call)
      : call_(call), inputs_(array<T>(call.inputs)), delta_(array<T>(call.delta)),
        writes_(array<T>(call.writes)), reads_(array<T>(call.reads)), gate_(array<T>(call.gate)),
        outputs_(array<T>(call.outputs)), padded_(up(call.states, kGroup) * kGroup),
        blocks_(up(call.channels, kLanes<T>)), chunks_(up(call.steps, kChunk)) {}

  void forward(const Task<T>& task) {
    auto decay = vectors<V>(task.blocks * padded_), hidden = vectors<V>(task.blocks * padded_);
    auto writes = vectors<T>(kChunk * padded_), reads = vectors<T>(kChunk * padded_);
    load_decay(task, decay.get());
    auto slices = vectors<Slice<T>>(task.blocks);
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      int steps = load_selection(task, chunk, writes.get(), reads.get());
      load_slices(task, chunk, steps, slices.get());
      for (int64_t block = 0; block < task.blocks; ++block) {
        V* state = &hidden[block * padded_];
        if (call_.kept) std::copy(state, state + padded_, kept(task, chunk, block));
        for (int64_t n = 0; n < padded_; n += kGroup)
          forward_group(slices[block], steps, &decay[block * padded_ + n], state + n, &writes[n], &reads[n]);
      }
      store_outputs(task, chunk, steps, slices.get());
    }
  }

  void backward(const Task<T>& task) {
    auto decay = vectors<V>(task.blocks * padded_), d_hidden = vectors<V>(task.blocks * padded_);
    auto d_decay = vectors<V>(task.blocks * padded_);
    auto writes = vectors<T>(kChunk * padded_), reads = vectors<T>(kChunk * padded_);
    auto d_writes = vectors<V>(kChunk * padded_), d_reads = vectors<V>(kChunk * padded_);
    auto hidden = vectors<V>((kChunk + 1) * kBackGroup), faded = vectors<V>(kChunk * kBackGroup);
    auto slices = vectors<Slice<T>>(task.blocks);
    V d_skip[kTaskVectors] = {}, d_bias[kTaskVectors] = {};
    load_decay(task, decay.get());
    for (int64_t chunk = chunks_ - 1; chunk >= 0; --chunk) {
      int steps = load_selection(task, chunk, writes.get(), reads.get());
      std::fill_n(d_writes.get(), kChunk * padded_, V{});
      std::fill_n(d_reads.get(), kChunk * padded_, V{});
      load_slices(task, chunk, steps, slices.get());
      load_d_outputs(task, chunk, steps, slices.get());
      // States outside, channels inside: what all channels add to, d_writes and d_reads, stays in the cache.
      for (int64_t n = 0; n < padded_; n += kBackGroup)
        for (int64_t block = 0; block < task.blocks; ++block) {
          int64_t at = block * padded_ + n;
          std::copy_n(kept(task, chunk, block) + n, kBackGroup, hidden.get());
          again_group(slices[block], steps, &decay[at], hidden.get(), faded.get(), &writes[n], &reads[n]);
          backward_group(slices[block], steps, &decay[at], hidden.get(), faded.get(), &writes[n], &reads[n],
                         &d_hidden[at], &d_decay[at], &d_writes[n], &d_reads[n]);
        }
      store_gradients(task, chunk, steps, slices.get(), d_skip, d_bias);
      store_selection(task, chunk, steps, d_writes.get(), d_reads.get());
    }
    store_sums(task, d_decay.get(), d_skip, d_bias);
  }

 private:
  const ScanCall& call_;
  Array<T> inputs_, delta_, writes_, reads_, gate_, outputs_;
  int64_t padded_, blocks_, chunks_;  // states rounded up to whole groups; vectors of channels; chunks

  int64_t row(const Task<T>& task, int64_t chunk) const { return task.sample * call_.steps + chunk * kChunk; }
  int64_t channel(const Task<T>& task, int64_t block) const { return task.first + block * kLanes<T>; }
  int lanes(const Task<T>& task, int64_t block) const {
    return int(std::min<int64_t>(kLanes<T>, call_.channels - channel(task, block)));
  }
  V* kept(const Task<T>& task, int64_t chunk, int64_t block) const {
    int64_t vector = channel(task, block) / kLanes<T>;
    return static_cast<V*>(call_.kept) + ((task.sample * chunks_ + chunk) * blocks_ + vector) * padded_;
  }

  // Decay rates, one vector per state, in powers of two: exp(Δ A) = 2^(Δ A log2(e)). Padding decays at 0.
  void load_decay(const Task<T>& task, V* to) const {
    const T* decay = static_cast<const T*>(call_.decay);
    for (int64_t block = 0; block < task.blocks; ++block)
      for (int64_t n = 0; n < call_.states; ++n)
        for (int lane = 0; lane < lanes(task, block); ++lane)
          to[block * padded_ + n][lane] = decay[(channel(task, block) + lane) * call_.states + n] * kLog2E<T>;
  }

  // Writes and reads of a chunk, padded with zeros to whole groups; returns the steps of the chunk.
  int load_selection(const Task<T>& task, int64_t chunk, T* writes, T* reads) const {
    int steps = int(std::min<int64_t>(kChunk, call_.steps - chunk * kChunk));
    for (int t = 0; t < steps; ++t) {
      std::copy_n(writes_.row(row(task, chunk) + t), call_.states, writes + t * padded_);
      std::copy_n(reads_.row(row(task, chunk) + t), call_.states, reads + t * padded_);
    }
    return steps;
  }

  // What follows goes row by row, and within a row from one vector of channels to the next, as memory lies.
  template <typename Work> void each(const Task<T>& task, int64_t chunk, int steps, const Work& work) const {
    for (int t = 0; t < steps; ++t)
      for (int64_t block = 0; block < task.blocks; ++block)
        work(t, block, row(task, chunk) + t, channel(task, block), lanes(task, block));
  }

  void load_slices(const Task<T>& task, int64_t chunk, int steps, Slice<T>* slices) const {
    const T* bias = static_cast<const T*>(call_.bias);
    each(task, chunk, steps, [&](int t, int64_t block, int64_t row, int64_t at, int many) {
      Slice<T>& slice = slices[block];
      Softplus<T> made = softplus<T>(load(delta_.row(row) + at, many) + load(bias + at, many));
      slice.inputs[t] = load(inputs_.row(row) + at, many);
      slice.step[t] = made.value, slice.slope[t] = made.slope;
      slice.entering[t] = slice.step[t] * slice.inputs[t];
      slice.read[t] = V{};
    });
  }

  static inline void forward_group(Slice<T>& slice, int steps, const V* decay, V* state, const T* writes,
                                   const T* reads, int64_t stride) {
    V hidden[kGroup];
#pragma GCC unroll 16
    for (int n = 0; n < kGroup; ++n) hidden[n] = state[n];
    for (int t = 0; t < steps; ++t, writes += stride, reads += stride) {
      V step = slice.step[t], entering = slice.entering[t], read = slice.read[t];
#pragma GCC unroll 16
      for (int n = 0; n < kGroup; ++n) {
        hidden[n] = power_of_two<T>(step * decay[n]) * hidden[n] + entering * writes[n];
        read += hidden[n] * reads[n];
      }
      slice.read[t] = read;
    }
#pragma GCC unroll 16
    for (int n = 0; n < kGroup; ++n) state[n] = hidden[n];
  }
  void forward_group(Slice<T>& slice, int steps, const V* decay, V* state, const T* writes, const T* reads) {
    forward_group(slice, steps, decay, state, writes, reads, padded_);
  }

  void store_outputs(const Task<T>& task, int64_t chunk, int steps, const Slice<T>* slices) const {
    const T* skip = static_cast<const T*>(call_.skip);
    each(task, chunk, steps, [&](int t, int64_t block, int64_t row, int64_t at, int many) {
      V gate = load(gate_.row(row) + at, many);
      V ungated = slices[block].read[t] + load(skip + at, many) * slices[block].inputs[t];
      store(outputs_.row(row) + at, ungated * gate * sigmoid<T>(gate), many);
    });
  }

  // From the gradient of the outputs to that of what was read, y = C · h + D x.
  void load_d_outputs(const Task<T>& task, int64_t chunk, int steps, Slice<T>* slices) const {
    Array<T> d_outputs = array<T>(call_.d_outputs);
    each(task, chunk, steps, [&](int t, int64_t block, int64_t row, int64_t at, int many) {
      Slice<T>& slice = slices[block];
      V gate = load(gate_.row(row) + at, many), open = sigmoid<T>(gate);
      slice.gate_slope[t] = open * (T(1) + gate * (T(1) - open));
      slice.d_outputs[t] = load(d_outputs.row(row) + at, many);
      slice.d_read[t] = slice.d_outputs[t] * gate * open;
      slice.d_entering[t] = slice.d_step[t] = V{};
    });
  }

  // Forward once more, keeping the states of the chunk and by how much each step lets them fade.
  void again_group(Slice<T>& slice, int steps, const V* decay, V* hidden, V* faded, const T* writes,
                   const T* reads) const {
    V state[kBackGroup];
#pragma GCC unroll 8
    for (int n = 0; n < kBackGroup; ++n) state[n] = hidden[n];
    for (int t = 0; t < steps; ++t, writes += padded_, reads += padded_) {
      V step = slice.step[t], entering = slice.entering[t], read = slice.read[t];
#pragma GCC unroll 8
      for (int n = 0; n < kBackGroup; ++n) {
        V fading = power_of_two<T>(step * decay[n]);
        faded[t * kBackGroup + n] = fading;
        hidden[(t + 1) * kBackGroup + n] = state[n] = fading * state[n] + entering * writes[n];
        read += state[n] * reads[n];
      }
      slice.read[t] = read;
    }
  }

  // The recurrence from the last step to the first. With a[t] = exp(Δ[t] A) and g[t] the gradient of h[t],
  //   g[t] = C[t] dy[t] + a[t+1] g[t+1]        dC[t] = dy[t] h[t]        dB[t] = g[t] Δ[t] x[t]
  //   d(Δ[t] x[t]) = g[t] · B[t]      d(Δ[t] A) = g[t] a[t] h[t-1], and from it dΔ and dA.
  void backward_group(Slice<T>& slice, int steps, const V* decay, const V* hidden, const V* faded,
                      const T* writes, const T* reads, V* d_state, V* d_decay, V* d_writes, V* d_reads) const {
    V gradient[kBackGroup], d_rate[kBackGroup];
#pragma GCC unroll 8
    for (int n = 0; n < kBackGroup; ++n) gradient[n] = d_state[n], d_rate[n] = d_decay[n];
    for (int t = steps - 1; t >= 0; --t) {
      V step = slice.step[t], entering = slice.entering[t], d_read = slice.d_read[t];
      V d_entering = slice.d_entering[t], d_step = slice.d_step[t];
      const T *write = writes + t * padded_, *read = reads + t * padded_;
#pragma GCC unroll 8
      for (int n = 0; n < kBackGroup; ++n) {
        gradient[n] += d_read * read[n];
        d_reads[t * padded_ + n] += d_read * hidden[(t + 1) * kBackGroup + n];
        d_writes[t * padded_ + n] += entering * gradient[n];
        d_entering += gradient[n] * write[n];
        gradient[n] *= faded[t * kBackGroup + n];
        V d_exponent = gradient[n] * hidden[t * kBackGroup + n];
        d_step += d_exponent * decay[n];
        d_rate[n] += d_exponent * step;
      }
      slice.d_entering[t] = d_entering;
      slice.d_step[t] = d_step;
    }
#pragma GCC unroll 8
    for (int n = 0; n < kBackGroup; ++n) d_state[n] = gradient[n], d_decay[n] = d_rate[n];
  }

  void store_gradients(const Task<T>& task, int64_t chunk, int steps, const Slice<T>* slices, V* d_skip,
                       V* d_bias) const {
    Array<T> d_inputs = array<T>(call_.d_inputs), d_delta = array<T>(call_.d_delta), d_gate = array<T>(call_.d_gate);
    const T* skips = static_cast<const T*>(call_.skip);
    each(task, chunk, steps, [&](int t, int64_t block, int64_t row, int64_t at, int many) {
      const Slice<T>& slice = slices[block];
      V inputs = slice.inputs[t], skip = load(skips + at, many);
      V d_step = slice.d_step[t] * kLn2<T> + slice.d_entering[t] * inputs;  // decay counts powers of two
      V d_raw = d_step * slice.slope[t], ungated = slice.read[t] + skip * inputs;
      store(d_inputs.row(row) + at, slice.d_entering[t] * slice.step[t] + slice.d_read[t] * skip, many);
      store(d_delta.row(row) + at, d_raw, many);
      store(d_gate.row(row) + at, slice.d_outputs[t] * ungated * slice.gate_slope[t], many);
      d_skip[block] += slice.d_read[t] * inputs;
      d_bias[block] += d_raw;
    });
  }

  void store_selection(const Task<T>& task, int64_t chunk, int steps, const V* d_writes, const V* d_reads) const {
    int64_t rows = call_.batch * call_.steps, first = task.number * rows + row(task, chunk);
    T* to_writes = static_cast<T*>(call_.d_writes) + first * call_.states;
    T* to_reads = static_cast<T*>(call_.d_reads) + first * call_.states;
    for (int t = 0; t < steps; ++t)
      for (int64_t n = 0; n < call_.states; ++n) {
        to_writes[t * call_.states + n] = sum_of_lanes<T>(d_writes[t * padded_ + n]);
        to_reads[t * call_.states + n] = sum_of_lanes<T>(d_reads[t * padded_ + n]);
      }
  }

  void store_sums(const Task<T>& task, const V* d_decay, const V* d_skip, const V* d_bias) const {
    for (int64_t block = 0; block < task.blocks; ++block) {
      int64_t at = task.sample * call_.channels + channel(task, block);
      int many = lanes(task, block);
      store(static_cast<T*>(call_.d_skip) + at, d_skip[block], many);
      store(static_cast<T*>(call_.d_bias) + at, d_bias[block], many);
      T* to = static_cast<T*>(call_.d_decay) + at * call_.states;
      for (int64_t n = 0; n < call_.states; ++n)
        for (int lane = 0; lane < many; ++lane) to[lane * call_.states + n] = d_decay[block * padded_ + n][lane];
    }
  }
};

// Each output is the silu of the bias and of `width` inputs, the last of them the current step's.
template <typename T> class Convolution {
 public:
  using V = Vec<T>;

  explicit Convolution(const ConvolutionCall& call)
      : call_(call), inputs_(array<T>(call.inputs)), outputs_(array<T>(call.outputs)),
        d_outputs_(array<T>(call.d_outputs)), d_inputs_(array<T>(call.d_inputs)) {}

  // Row by row, and within a row from one vector of channels to the next, as memory lies.
  void forward(const Task<T>& task) {
    auto kernel = vectors<V>(task.blocks * call_.width);
    load_kernel(task, kernel.get());
    for (int64_t t = 0; t < call_.steps; ++t)
      for (int64_t block = 0; block < task.blocks; ++block) {
        Place place = find(task, block);
        V sum = convolved(place, &kernel[block * call_.width], t);
        store(outputs_.row(place.row + t) + place.channel, sum * sigmoid<T>(sum), place.lanes);
      }
  }

  void backward(const Task<T>& task) {
    int64_t width = call_.width;
    auto kernel = vectors<V>(task.blocks * width), d_kernel = vectors<V>(task.blocks * width);
    // d_sum of a step reaches the inputs of the width steps up to it: a window that slides back in time.
    auto windows = vectors<V>(task.blocks * width);
    V d_bias[kTaskVectors] = {};
    load_kernel(task, kernel.get());
    for (int64_t t = call_.steps - 1; t >= 0; --t)
      for (int64_t block = 0; block < task.blocks; ++block) {
        Place place = find(task, block);
        V *weights = &kernel[block * width], *d_weights = &d_kernel[block * width], *window = &windows[block * width];
        V sum = convolved(place, weights, t), open = sigmoid<T>(sum);
        V d_sum = load(d_outputs_.row(place.row + t) + place.channel, place.lanes);
        d_sum *= open * (T(1) + sum * (T(1) - open));
        d_bias[block] += d_sum;
        for (int64_t back = width - 1; back > 0; --back) window[back] = window[back - 1];
        window[0] = d_sum;
        V d_input = {};
        for (int64_t ahead = 0; ahead < width; ++ahead) {
          d_input += weights[width - 1 - ahead] * window[ahead];
          if (t >= ahead) d_weights[width - 1 - ahead] += d_sum * input(place, t - ahead);
        }
        store(d_inputs_.row(place.row + t) + place.channel, d_input, place.lanes);
      }
    for (int64_t block = 0; block < task.blocks; ++block)
      store_sums(task, find(task, block), &d_kernel[block * width], d_bias[block]);
  }

 private:
  struct Place {
    int64_t row, channel;
    int lanes;
  };
  const ConvolutionCall& call_;
  Array<T> inputs_, outputs_, d_outputs_, d_inputs_;

  Place find(const Task<T>& task, int64_t block) const {
    int64_t channel = task.first + block * kLanes<T>;
    return {task.sample * call_.steps, channel, int(std::min<int64_t>(kLanes<T>, call_.channels - channel))};
  }

  void load_kernel(const Task<T>& task, V* to) const {
    for (int64_t block = 0; block < task.blocks; ++block) {
      Place place = find(task, block);
      const T* kernel = static_cast<const T*>(call_.kernel) + place.channel * call_.width;
      for (int64_t at = 0; at < call_.width; ++at)
        for (int lane = 0; lane < place.lanes; ++lane)
          to[block * call_.width + at][lane] = kernel[lane * call_.width + at];
    }
  }

  V input(const Place& place, int64_t t) const {
    return load<T>(inputs_.row(place.row + t) + place.channel, place.lanes);
  }

  V convolved(const Place& place, const V* kernel, int64_t t) const {
    V sum = load(static_cast<const T*>(call_.bias) + place.channel, place.lanes);
    for (int64_t at = std::max<int64_t>(0, call_.width - 1 - t); at < call_.width; ++at)
      sum += kernel[at] * input(place, t - call_.width + 1 + at);
    return sum;
  }

  void store_sums(const Task<T>& task, const Place& place, const V* d_kernel, V d_bias) const {
    int64_t first = task.sample * call_.channels + place.channel;
    store(static_cast<T*>(call_.d_bias) + first, d_bias, place.lanes);
    T* to = static_cast<T*>(call_.d_kernel) + first * call_.width;
    for (int64_t at = 0; at < call_.width; ++at)
      for (int lane = 0; lane < place.lanes; ++lane) to[lane * call_.width + at] = d_kernel[at][lane];
  }
};

// Exceptions may not leave a parallel region, nor a C function: running out of memory becomes a return code.
template <typename T, typename Kernel, typename Call>
int run(const Call& call, void (Kernel::*pass)(const Task<T>&)) {
  int64_t tasks = tasks_of<T>(call.batch, call.channels);
  int failed = 0;
  int threads = int(std::min<int64_t>(call.threads, tasks));
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1) reduction(| : failed)
  for (int64_t index = 0; index < tasks; ++index) {
    FlushDenormals flush;
    try {
      (Kernel(call).*pass)(Task<T>(index, call.channels));
    } catch (const std::bad_alloc&) {
      failed = 1;
    }
  }
  return failed;
}

}  // namespace

extern "C" {

// Tasks into which the channels of a sample are divided: the first axis of d_writes and d_reads.
int64_t tasks_of_a_sample(int64_t channels, int64_t size) { return up(channels, kTaskVectors * kVectorBytes / size); }

int scan_forward_float(const ScanCall* call) { return run<float>(*call, &Scan<float>::forward); }
int scan_forward_double(const ScanCall* call) { return run<double>(*call, &Scan<double>::forward); }
int scan_backward_float(const ScanCall* call) { return run<float>(*call, &Scan<float>::backward); }
int scan_backward_double(const ScanCall* call) { return run<double>(*call, &Scan<double>::backward); }
int convolve_forward_float(const ConvolutionCall* call) { return run<float>(*call, &Convolution<float>::forward); }
int convolve_forward_double(const ConvolutionCall* call) { return run<double>(*call, &Convolution<double>::forward); }
int convolve_backward_float(const ConvolutionCall* call) { return run<float>(*call, &Convolution<float>::backward); }
int convolve_backward_double(const ConvolutionCall* call) { return run<double>(*call, &Convolution<double>::backward); }

}  // extern "C"
