// Vectors of numbers and the few functions the scan needs of them.
//
// GCC's and Clang's vector types turn into whatever the processor has (AVX-512, AVX2, NEON), so nothing here
// is written twice but the exponential, for which AVX-512 has instructions of its own.

#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kGroup = 16;  // 32 registers: 16 hold a state, 16 are left to work with
#else
constexpr int kVectorBytes = 32, kGroup = 8;
#endif
// The backward pass holds the gradients of a state and of its decay, and its arrays must fit the first cache.
constexpr int kBackGroup = 8;

template <typename T> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));
};
template <> struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Bits __attribute__((vector_size(kVectorBytes)));
};
template <typename T> using Vec = typename VectorOf<T>::Type;
template <typename T> constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <typename T> inline Vec<T> load(const T* from, int lanes) {
  Vec<T> made = {};
  if (lanes == kLanes<T>) std::memcpy(&made, from, sizeof made);
  else for (int lane = 0; lane < lanes; ++lane) made[lane] = from[lane];
  return made;
}

template <typename T> inline void store(T* to, Vec<T> given, int lanes) {
  if (lanes == kLanes<T>) std::memcpy(to, &given, sizeof given);
  else for (int lane = 0; lane < lanes; ++lane) to[lane] = given[lane];
}

template <typename T> inline T sum_of_lanes(Vec<T> given) {
  T lanes[kLanes<T>];
  std::memcpy(lanes, &given, sizeof given);
  for (int half = kLanes<T> / 2; half; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// 2^f = 1 + f q(f) for |f| <= 1/2. That the first term is exactly 1 matters: a state that fades slowly is
// multiplied thousands of times by a number close to 1, so the error must vanish with f. Relative error
// 5e-9 with the Chebyshev interpolant for float, below the last bit with the Taylor series for double.
inline Vec<float> power_of_two_near_one(Vec<float> f) {
  Vec<float> q = f * 1.54531629e-4f + 1.33908634e-3f;
  q = q * f + 9.61808256e-3f;
  q = q * f + 5.55035711e-2f;
  q = q * f + 2.40226508e-1f;
  q = q * f + 6.93147188e-1f;
  return q * f + 1.0f;
}

inline Vec<double> power_of_two_near_one(Vec<double> f) {
  constexpr double terms[] = {6.778726354822543e-14,  1.3691488853904124e-12, 2.5678435993488196e-11,
                              4.44553827187081e-10,   7.054911620801121e-09,  1.0178086009239696e-07,
                              1.3215486790144305e-06, 1.5252733804059838e-05, 1.5403530393381606e-4,
                              1.3333558146428441e-3,  9.618129107628477e-3,   5.5504108664821576e-2,
                              2.402265069591007e-1,   6.931471805599453e-1,   1.0};
  Vec<double> q = f * 0.0;  // so that what is not a number stays so
  for (double term : terms) q = q * f + term;
  return q;
}

template <typename T> struct Exponent;
template <> struct Exponent<float> {
  static constexpr float kLowest = -126, kHighest = 127, kMagic = 12582912.0f;  // 1.5 * 2^23
  static constexpr int kMantissa = 23;
};
template <> struct Exponent<double> {
  static constexpr double kLowest = -1022, kHighest = 1023, kMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
};

// 2^x, to a few units in the last place. Where x leaves the range of the exponent the result is the smallest
// or largest number instead of 0 or infinity; what is not a number stays so.
template <typename T> inline Vec<T> power_of_two(Vec<T> x) {
  using E = Exponent<T>;
  typedef typename VectorOf<T>::Bits Bits;
  x = x < E::kLowest ? Vec<T>{} + E::kLowest : x;
  x = x > E::kHighest ? Vec<T>{} + E::kHighest : x;
  // Adding the magic number pushes the fraction out of the mantissa: rounds, and leaves the integer in the
  // lowest bits, from where a shift moves it into the exponent.
  Vec<T> shifted = x + E::kMagic;
  Vec<T> result = power_of_two_near_one(x - (shifted - E::kMagic));
  return (Vec<T>)((Bits)result + ((Bits)shifted << E::kMantissa));
}

#if defined(__AVX512F__)
template <> inline Vec<float> power_of_two<float>(Vec<float> x) {
  __m512 whole = _mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return (Vec<float>)_mm512_scalef_ps((__m512)power_of_two_near_one(x - (Vec<float>)whole), whole);
}
#endif

template <typename T> constexpr T kLog2E = T(1.4426950408889634074);
template <typename T> constexpr T kLn2 = T(0.69314718055994530942);

// 1 / x for x between 1 and 6. Division has one slow unit; an estimate and a step of Newton's method do.
template <typename T> inline Vec<T> reciprocal(Vec<T> x) { return T(1) / x; }
#if defined(__AVX512F__)
template <> inline Vec<float> reciprocal<float>(Vec<float> x) {
  Vec<float> estimate = (Vec<float>)_mm512_rcp14_ps((__m512)x);
  return estimate * (2.0f - x * estimate);
}
#endif

// exp(-|x|): never above 1, so that nothing below overflows.
template <typename T> inline Vec<T> decayed(Vec<T> x) { return power_of_two<T>((x < T(0) ? x : -x) * kLog2E<T>); }

template <typename T> inline Vec<T> sigmoid(Vec<T> x) {
  Vec<T> y = decayed<T>(x);
  return (x < T(0) ? y : Vec<T>{} + T(1)) * reciprocal<T>(T(1) + y);
}

template <typename T> struct Softplus {
  Vec<T> value, slope;
};

// log(1 + exp(x)) = max(x, 0) + log1p(y) with y = exp(-|x|), and log1p(y) = 2 artanh(y / (2 + y)), whose
// series needs few terms since y / (2 + y) <= 1/3; it keeps its relative precision where x is far below 0.
// The slope is the sigmoid of x. One reciprocal serves both.
template <typename T> inline Softplus<T> softplus(Vec<T> x) {
  Vec<T> y = decayed<T>(x), one = T(1) + y, two = T(2) + y, both = reciprocal<T>(one * two);
  Vec<T> s = y * one * both, square = s * s, series = {};
#pragma GCC unroll 17
  for (int odd = sizeof(T) == 4 ? 13 : 33; odd > 0; odd -= 2) series = series * square + T(1) / T(odd);
  return {(x < T(0) ? Vec<T>{} : x) + T(2) * s * series, (x < T(0) ? y : Vec<T>{} + T(1)) * two * both};
}

// States that have faded to nearly nothing would otherwise be denormal numbers, a hundred times slower.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }
 private:
  unsigned before_;
#else
  FlushDenormals() {}
#endif
};
