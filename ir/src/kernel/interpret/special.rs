//! Functions the standard library lacks.

use std::f64::consts::PI;

/// The error function: its series near 0, a continued fraction beyond (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || a > 6.5 {
        return if x.is_nan() { x } else { x.signum() };
    }
    if a < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    let mut tail = 0.0;
    for n in (1..120).rev() {
        tail = f64::from(n) / 2.0 / (a + tail);
    }
    x.signum() * (1.0 - (-a * a).exp() / (PI.sqrt() * (a + tail)))
}

/// The inverse of [`erf`]: Winitzki's estimate refined by Newton's method.
pub(super) fn erfinv(y: f64) -> f64 {
    if y.abs() >= 1.0 || y.is_nan() || y == 0.0 {
        return match y {
            1.0 => f64::INFINITY,
            -1.0 => f64::NEG_INFINITY,
            0.0 => y,
            _ => f64::NAN,
        };
    }
    let l = (-y * y).ln_1p();
    let t = 2.0 / (PI * 0.147) + l / 2.0;
    let mut x = ((t * t - l / 0.147).sqrt() - t).sqrt().copysign(y);
    for _ in 0..4 {
        x -= (erf(x) - y) * PI.sqrt() / 2.0 * (x * x).exp();
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (x, y) in [(0.5, 0.5204998778130465), (1.0, 0.8427007929497149), (3.0, 0.9999779095030014)] {
            assert!((erf(x) - y).abs() < 1e-15, "erf({x}) = {}", erf(x));
            assert!((erfinv(y) - x).abs() < 1e-9 * x, "erfinv({y}) = {}", erfinv(y));
        }
    }
}
