//! Accuracy of every elementary function, over dense sweeps of f32 and at the special values.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_ir::kernel::MathFn;
use run::{Memory, compiled, execute, kernel, runnable};

const WIDTH: usize = 16;

fn apply(function: MathFn, profile: &str, x: &[f32], y: &[f32]) -> Vec<f32> {
    let call = match function.arity() {
        1 => format!("{}(x[c, 0 +: 16])", function.name()),
        _ => format!("{}(x[c, 0 +: 16], z[c, 0 +: 16])", function.name()),
    };
    let text = format!(
        "kernel apply {{
           sym N in 1..=16777216
           buf x: f32[N, 16] read
           buf z: f32[N, 16] read
           buf y: f32[N, 16] write
           phase main grid(c: N) {{
             y[c, 0 +: 16] = {call}
           }}
         }}"
    );
    let kernel = kernel(&text);
    let code = compiled(&kernel, profile);
    let rows = x.len().div_ceil(WIDTH);
    let pad = |v: &[f32]| {
        let mut v = v.to_vec();
        v.resize(rows * WIDTH, 0.5);
        Memory::from(&v)
    };
    let mut buffers = [pad(x), pad(y), Memory::new(rows * WIDTH * 4)];
    execute(&kernel, &code, &[rows as u64], &mut buffers);
    let mut out = buffers[2].to::<f32>();
    out.truncate(x.len());
    out
}

/// Distance in units of the last place of the correctly rounded result.
fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if rounded.is_nan() || got.is_nan() {
        return if rounded.is_nan() == got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if rounded == got {
        return if rounded.is_finite() { (f64::from(got) - want).abs() / ulp(rounded) } else { 0.0 };
    }
    if want.abs() < f64::from(f32::MIN_POSITIVE) {
        // A subnormal result may be 0.
        return if got.abs() <= f32::MIN_POSITIVE { 0.0 } else { f64::INFINITY };
    }
    if rounded.is_infinite() || got.is_infinite() {
        let near = (want.abs() / f64::from(f32::MAX) - 1.0).abs() < 1e-6;
        return if near { 1.0 } else { f64::INFINITY };
    }
    (f64::from(got) - want).abs() / ulp(rounded)
}

fn ulp(x: f32) -> f64 {
    let exponent = (x.abs().max(f32::MIN_POSITIVE).to_bits() >> 23) as i32 - 127;
    2f64.powi(exponent - 23)
}

/// erf by its series near 0 and by a continued fraction for erfc, to about 1e-15.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
            if n > 200.0 {
                break;
            }
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a > 6.0 {
        1.0
    } else {
        let mut fraction = 0.0;
        for k in (1..=120).rev() {
            fraction = f64::from(k) / 2.0 / (a + fraction);
        }
        1.0 - (-a * a).exp() / (a + fraction) / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

/// By Newton's method on erf, from a bisection.
fn erfinv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return y * f64::INFINITY;
    }
    let a = y.abs();
    let (mut lo, mut hi) = (0.0, 6.0);
    for _ in 0..40 {
        let mid = (lo + hi) / 2.0;
        if erf(mid) < a { lo = mid } else { hi = mid }
    }
    let mut x = (lo + hi) / 2.0;
    if a < 0.1 {
        x = a * std::f64::consts::PI.sqrt() / 2.0;
    }
    for _ in 0..4 {
        x -= (erf(x) - a) / (std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp());
    }
    x.copysign(y)
}

fn reference(function: MathFn, x: f64, y: f64) -> f64 {
    match function {
        MathFn::Exp => x.exp(),
        MathFn::Exp2 => x.exp2(),
        MathFn::Expm1 => x.exp_m1(),
        MathFn::Log => x.ln(),
        MathFn::Log2 => x.log2(),
        MathFn::Log10 => x.log10(),
        MathFn::Log1p => x.ln_1p(),
        MathFn::Sin => x.sin(),
        MathFn::Cos => x.cos(),
        MathFn::Tan => x.tan(),
        MathFn::Asin => x.asin(),
        MathFn::Acos => x.acos(),
        MathFn::Atan => x.atan(),
        MathFn::Sinh => x.sinh(),
        MathFn::Cosh => x.cosh(),
        MathFn::Tanh => x.tanh(),
        // The standard library's own asinh and acosh lose digits far out.
        MathFn::Asinh if x.abs() > 1e6 => (x.abs().ln() + std::f64::consts::LN_2).copysign(x),
        MathFn::Asinh => {
            let a = x.abs();
            (a + a * a / (1.0 + (a * a + 1.0).sqrt())).ln_1p().copysign(x)
        }
        MathFn::Acosh if x > 1e6 => x.ln() + std::f64::consts::LN_2,
        MathFn::Acosh if x < 1.0 => f64::NAN,
        MathFn::Acosh => {
            let t = x - 1.0;
            (t + (2.0 * t + t * t).sqrt()).ln_1p()
        }
        MathFn::Atanh => (0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p()).copysign(x),
        MathFn::Erf => erf(x),
        MathFn::Erfinv => erfinv(x),
        MathFn::Rsqrt => 1.0 / x.sqrt(),
        MathFn::Pow => x.powf(y),
        MathFn::Atan2 => x.atan2(y),
        MathFn::Fmod => x % y,
    }
}

const SPECIAL: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    1e-30,
    16777216.0,
    0.99999994,
    1.0000001,
    1e10,
    88.72283,
];

/// Every `stride`th f32 of both signs.
fn sweep(stride: u32) -> Vec<f32> {
    let mut all: Vec<f32> = (0..=f32::INFINITY.to_bits())
        .step_by(stride as usize)
        .flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)])
        .collect();
    all.extend(SPECIAL);
    all
}

fn allowed(function: MathFn) -> f64 {
    match function {
        MathFn::Fmod => 0.0,
        MathFn::Exp | MathFn::Exp2 | MathFn::Log | MathFn::Pow => 1.0,
        MathFn::Asin | MathFn::Atan2 => 3.0,
        MathFn::Tan | MathFn::Erfinv => 4.0,
        _ => 2.0,
    }
}

fn worst(function: MathFn, profile: &str, x: &[f32], y: &[f32]) -> (f64, f32, f32, f32, f64) {
    let got = apply(function, profile, x, y);
    let mut worst = (-1.0, 0.0, 0.0, 0.0, 0.0);
    for ((x, y), got) in x.iter().zip(y).zip(got) {
        let want = reference(function, f64::from(*x), f64::from(*y));
        let off = ulps(got, want);
        if off > worst.0 {
            worst = (off, *x, *y, got, want);
        }
    }
    worst
}

#[test]
fn every_function_is_within_its_ulp() {
    let stride = if std::env::var_os("MLXC_DENSE").is_some() { 61 } else { 4099 };
    let x = sweep(stride);
    let y: Vec<f32> = vec![0.5; x.len()];
    let mut failures = Vec::new();
    for function in MathFn::ALL.iter().filter(|f| f.arity() == 1) {
        for profile in runnable() {
            let (off, x, _, got, want) = worst(*function, profile, &x, &y);
            println!("{} {profile}: {off:.3} ulp at {x:e}: {got:e}, {want:e}", function.name());
            // Without fma every step of a polynomial rounds twice.
            let slack = if profile == "x86-64-v2" { 1.0 } else { 0.0 };
            if off > allowed(*function) + slack {
                failures.push(format!("{} {profile}: {off:.3} ulp at {x:e}: {got:e}, not {want:e}", function.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn functions_of_two_are_within_their_ulp() {
    let mut random = run::Random::new(7);
    let mut pairs: Vec<(f32, f32)> = SPECIAL.iter().flat_map(|x| SPECIAL.iter().map(move |y| (*x, *y))).collect();
    for _ in 0..200_000 {
        pairs.push((f32::from_bits(random.bits() as u32), f32::from_bits(random.bits() as u32)));
        pairs.push((random.unit() * 8.0, random.unit() * 8.0));
        pairs.push(((random.unit() * 3.0).exp(), random.unit() * 40.0));
        pairs.push(((random.unit() * 9.0).round(), (random.unit() * 9.0).round()));
    }
    let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let mut failures = Vec::new();
    for function in [MathFn::Pow, MathFn::Atan2, MathFn::Fmod] {
        for profile in runnable() {
            let (off, x, y, got, want) = worst(function, profile, &x, &y);
            println!("{} {profile}: {off:.3} ulp at {x:e}, {y:e}: {got:e}, {want:e}", function.name());
            if off > allowed(function) {
                failures.push(format!("{} {profile}: {off:.3} at {x:e}, {y:e}: {got:e}, {want:e}", function.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn zeros_keep_their_sign() {
    use MathFn::*;
    for function in [Expm1, Log1p, Sin, Tan, Asin, Atan, Sinh, Tanh, Asinh, Atanh, Erf, Erfinv] {
        let got = apply(function, runnable()[0], &[0.0, -0.0], &[1.0, 1.0]);
        assert_eq!([got[0].to_bits(), got[1].to_bits()], [0, 0x8000_0000], "{}", function.name());
    }
}
