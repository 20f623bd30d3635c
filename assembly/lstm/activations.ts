// Sigmoid and tanh of four numbers at once, alone and in the products an LSTM cell needs. The same bits in every build
// and engine: nothing but sums, products and quotients of IEEE 754, and whole-number work on their bits.
//
// NaN is not kept: it becomes a number at the end of the range. What may be NaN is checked before it comes here.

// Constants stand in memory, four times each: an engine that keeps them in registers runs out of them and spills.
const ONE = memory.data<f32>([1.0, 1.0, 1.0, 1.0]);
const MINUS_LOG2_E = memory.data<f32>([-1.44269502, -1.44269502, -1.44269502, -1.44269502]);
const TWICE_LOG2_E = memory.data<f32>([2.88539004, 2.88539004, 2.88539004, 2.88539004]);
/** Exponents of a sigmoid: 2^126 and 2^-126 are the last powers that are neither infinite nor subnormal. */
const SIGMOID_MOST = memory.data<f32>([126.0, 126.0, 126.0, 126.0]);
const SIGMOID_LEAST = memory.data<f32>([-126.0, -126.0, -126.0, -126.0]);
/** Exponents of a tanh, which is 1 in f32 from 2^26 on; so small that its power times a sigmoid's stays finite long enough. */
const TANH_MOST = memory.data<f32>([30.0, 30.0, 30.0, 30.0]);
const TANH_LEAST = memory.data<f32>([-30.0, -30.0, -30.0, -30.0]);
/** 1.5 x 2^23: added to a number, it leaves the nearest whole number in the low bits. */
const ROUND = memory.data<f32>([12582912.0, 12582912.0, 12582912.0, 12582912.0]);
// 2^r = 1 + r (P1 + r (P2 + ...)) on [-1/2, 1/2], relative error below 1e-7: the smallest largest error, found by
// iteratively reweighted least squares on 3,000 Chebyshev nodes.
const P1 = memory.data<f32>([0.693147004, 0.693147004, 0.693147004, 0.693147004]);
const P2 = memory.data<f32>([0.240222424, 0.240222424, 0.240222424, 0.240222424]);
const P3 = memory.data<f32>([0.0555073358, 0.0555073358, 0.0555073358, 0.0555073358]);
const P4 = memory.data<f32>([0.00967151299, 0.00967151299, 0.00967151299, 0.00967151299]);
const P5 = memory.data<f32>([0.00132647273, 0.00132647273, 0.00132647273, 0.00132647273]);

/** Functions of four numbers. A class, since only a method may carry the mark that has it inlined. */
// biome-ignore lint/complexity/noStaticOnlyClass: see above
export class Four {
  /** a b + c, rounded twice: a fused one is not the same everywhere. */
  @inline
  static multiplyAdd(a: v128, b: v128, c: v128): v128 {
    return f32x4.add(f32x4.mul(a, b), c);
  }

  /** 2^y, relative error below 2e-7, for y clamped to [least, most]; least < 0 < most. */
  @inline
  private static power2(y: v128, least: usize, most: usize): v128 {
    // Bits of floats as whole numbers: signed, those above `most` are greater; unsigned, those below `least` are.
    y = i32x4.min_u(i32x4.min_s(y, v128.load(most)), v128.load(least));
    const shifted = f32x4.add(y, v128.load(ROUND));
    const r = f32x4.sub(y, f32x4.sub(shifted, v128.load(ROUND)));
    let p = Four.multiplyAdd(v128.load(P5), r, v128.load(P4));
    p = Four.multiplyAdd(p, r, v128.load(P3));
    p = Four.multiplyAdd(p, r, v128.load(P2));
    p = Four.multiplyAdd(p, r, v128.load(P1));
    p = Four.multiplyAdd(p, r, v128.load(ONE));
    return i32x4.add(p, i32x4.shl(shifted, 23));
  }

  /** 2^(-x log2 e): sigmoid(x) is 1 / (1 + this). */
  @inline
  private static sigmoidPower(x: v128): v128 {
    return Four.power2(f32x4.mul(x, v128.load(MINUS_LOG2_E)), SIGMOID_LEAST, SIGMOID_MOST);
  }

  /** 2^(2 x log2 e): tanh(x) is (this - 1) / (this + 1). */
  @inline
  private static tanhPower(x: v128): v128 {
    return Four.power2(f32x4.mul(x, v128.load(TWICE_LOG2_E)), TANH_LEAST, TANH_MOST);
  }

  /** Logistic sigmoid, absolute error below 1.2e-7, in [0, 1]. */
  @inline
  static sigmoid(x: v128): v128 {
    const one = v128.load(ONE);
    return f32x4.div(one, f32x4.add(one, Four.sigmoidPower(x)));
  }

  /** Hyperbolic tangent, absolute error below 1.5e-7, in [-1, 1]. */
  @inline
  static tanh(x: v128): v128 {
    const one = v128.load(ONE);
    const power = Four.tanhPower(x);
    return f32x4.div(f32x4.sub(power, one), f32x4.add(power, one));
  }

  /** scale sigmoid(x), with one quotient. */
  @inline
  static scaledSigmoid(scale: v128, x: v128): v128 {
    return f32x4.div(scale, f32x4.add(v128.load(ONE), Four.sigmoidPower(x)));
  }

  /** sigmoid(x) tanh(y), with one quotient; absolute error below 2e-7, in [-1, 1]. */
  @inline
  static sigmoidTanh(x: v128, y: v128): v128 {
    const one = v128.load(ONE);
    const power = Four.tanhPower(y);
    const below = f32x4.mul(f32x4.add(one, Four.sigmoidPower(x)), f32x4.add(power, one));
    return f32x4.div(f32x4.sub(power, one), below);
  }
}
