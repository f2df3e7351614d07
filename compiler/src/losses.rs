//! Loss functions of MLX's `nn.losses`.
//!
//! Operands of a loss have one shape unless it says otherwise; others broadcast. A [`Reduction`] says what becomes of the
//! losses of single elements.

use crate::trace::{Array, Operand};
use mlxc_ir::Diagnostic;

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They stay.
    None,
    /// Their mean, of shape [].
    Mean,
    /// Their sum, of shape [].
    Sum,
}

#[track_caller]
fn reduced(loss: Array, reduction: Reduction) -> Array {
    let axes = loss.all_axes();
    match reduction {
        Reduction::None => loss,
        Reduction::Mean => loss.mean(axes, false),
        Reduction::Sum => loss.sum(axes, false),
    }
}

/// Cross entropy of `logits` along an axis: MLX's `cross_entropy`. Targets are class indices (without the axis) or
/// probabilities (with it); weights have the losses' shape.
///
/// # Errors
/// `MLXC0156` for a label smoothing outside `0..1`.
#[track_caller]
pub fn cross_entropy(
    logits: &Array,
    targets: &Array,
    weights: Option<&Array>,
    axis: i32,
    label_smoothing: f64,
    reduction: Reduction,
) -> Array {
    if !(0.0..1.0).contains(&label_smoothing) {
        let d = Diagnostic::new(156, "label smoothing is out of range").expected("0 <= smoothing < 1");
        return logits.refuse(d.found(label_smoothing.to_string()));
    }
    let logits = logits - logits.max(axis, true);
    let score = if targets.ndim() == logits.ndim() {
        (&logits * targets).sum(axis, false)
    } else {
        logits.take_along_axis(&targets.expand_dims(axis), axis).squeeze(axis)
    };
    let total = logits.logsumexp(axis, false);
    let mut loss = if label_smoothing > 0.0 {
        let smoothed = logits.mean(axis, false).negative() * label_smoothing;
        total - score * (1.0 - label_smoothing) + smoothed
    } else {
        total - score
    };
    if let Some(w) = weights {
        loss = loss * w;
    }
    reduced(loss, reduction)
}

/// Binary cross entropy of logits, or of probabilities whose logarithms are at least -100: MLX's
/// `binary_cross_entropy`.
#[track_caller]
pub fn binary_cross_entropy(
    inputs: &Array,
    targets: &Array,
    weights: Option<&Array>,
    with_logits: bool,
    reduction: Reduction,
) -> Array {
    let mut loss = if with_logits {
        inputs.logaddexp(0.0) - inputs * targets
    } else {
        let clipped = |x: Array| x.log().maximum(-100.0);
        let (yes, no) = (clipped(inputs.clone()), clipped(1.0 - inputs));
        (targets * yes + (1.0 - targets) * no).negative()
    };
    if let Some(w) = weights {
        loss = loss * w;
    }
    reduced(loss, reduction)
}

/// `|x - y|`: MLX's `l1_loss`.
#[track_caller]
pub fn l1_loss(predictions: &Array, targets: &Array, reduction: Reduction) -> Array {
    reduced((predictions - targets).abs(), reduction)
}

/// `(x - y)²`: MLX's `mse_loss`.
#[track_caller]
pub fn mse_loss(predictions: &Array, targets: &Array, reduction: Reduction) -> Array {
    reduced((predictions - targets).square(), reduction)
}

/// The negated log probability of the target class along an axis: MLX's `nll_loss`.
#[track_caller]
pub fn nll_loss(inputs: &Array, targets: &Array, axis: i32, reduction: Reduction) -> Array {
    let picked = inputs.take_along_axis(&targets.expand_dims(axis), axis).squeeze(axis);
    reduced(picked.negative(), reduction)
}

/// Negative log likelihood of targets under normal distributions of given means and variances, at least `eps`; `full`
/// adds the constant: MLX's `gaussian_nll_loss`.
#[track_caller]
pub fn gaussian_nll_loss(
    inputs: &Array,
    targets: &Array,
    vars: &Array,
    full: bool,
    eps: f64,
    reduction: Reduction,
) -> Array {
    let vars = vars.maximum(eps);
    let mut loss = (vars.log() + (targets - inputs).square() / &vars) * 0.5;
    if full {
        loss = loss + 0.5 * (2.0 * std::f64::consts::PI).ln();
    }
    reduced(loss, reduction)
}

/// Kullback-Leibler divergence of log probabilities along an axis: MLX's `kl_div_loss`.
#[track_caller]
pub fn kl_div_loss(inputs: &Array, targets: &Array, axis: i32, reduction: Reduction) -> Array {
    reduced((targets.exp() * (targets - inputs)).sum(axis, false), reduction)
}

/// Squared below `beta`, absolute beyond: MLX's `smooth_l1_loss`.
#[track_caller]
pub fn smooth_l1_loss(predictions: &Array, targets: &Array, beta: f64, reduction: Reduction) -> Array {
    let d = (predictions - targets).abs();
    let loss = d.less(beta).choose(d.square() * 0.5 / beta, &d - 0.5 * beta);
    reduced(loss, reduction)
}

/// Parameters of a triplet loss; the default is MLX's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Triplet {
    /// The axis of distances.
    pub axis: i32,
    /// Degree of the norm.
    pub p: f64,
    /// How much nearer the positive must be.
    pub margin: f64,
    /// Added to the sums of powers.
    pub eps: f64,
}

impl Default for Triplet {
    fn default() -> Self {
        Triplet { axis: -1, p: 2.0, margin: 1.0, eps: 1e-6 }
    }
}

/// `max(|a - p| - |a - n| + margin, 0)` in a norm along an axis: MLX's `triplet_loss`.
#[track_caller]
pub fn triplet_loss(
    anchors: &Array,
    positives: &Array,
    negatives: &Array,
    how: &Triplet,
    reduction: Reduction,
) -> Array {
    let distance = |other: &Array| {
        let terms = (anchors - other).abs();
        let square = how.p == 2.0;
        let powers = if square { terms.square() } else { terms.power(how.p) };
        let sum = powers.sum(how.axis, false) + how.eps;
        if square { sum.sqrt() } else { sum.power(1.0 / how.p) }
    };
    let loss = (distance(positives) - distance(negatives) + how.margin).maximum(0.0);
    reduced(loss, reduction)
}

/// `max(1 - x * y, 0)`, targets -1 or 1: MLX's `hinge_loss`.
#[track_caller]
pub fn hinge_loss(inputs: &Array, targets: &Array, reduction: Reduction) -> Array {
    reduced((1.0 - inputs * targets).maximum(0.0), reduction)
}

/// Squared up to `delta`, linear beyond: MLX's `huber_loss`.
#[track_caller]
pub fn huber_loss(inputs: &Array, targets: &Array, delta: f64, reduction: Reduction) -> Array {
    let errors = (inputs - targets).abs();
    let quadratic = errors.minimum(delta);
    let linear = &errors - &quadratic;
    reduced(quadratic.square() * 0.5 + linear * delta, reduction)
}

/// `log(cosh(x - y))`: MLX's `log_cosh_loss`.
#[track_caller]
pub fn log_cosh_loss(inputs: &Array, targets: &Array, reduction: Reduction) -> Array {
    let errors = inputs - targets;
    reduced(errors.logaddexp(errors.negative()) - std::f64::consts::LN_2, reduction)
}

/// Cosine of the angle along an axis, the product of the norms at least `eps`: MLX's `cosine_similarity_loss`.
#[track_caller]
pub fn cosine_similarity_loss(x1: &Array, x2: &Array, axis: i32, eps: f64, reduction: Reduction) -> Array {
    let norms = x1.norm(axis, false) * x2.norm(axis, false);
    reduced((x1 * x2).sum(axis, false) / norms.maximum(Operand::Float(eps)), reduction)
}

/// `max(-y * (a - b) + margin, 0)`, targets -1 or 1: MLX's `margin_ranking_loss`.
#[track_caller]
pub fn margin_ranking_loss(
    inputs1: &Array,
    inputs2: &Array,
    targets: &Array,
    margin: f64,
    reduction: Reduction,
) -> Array {
    reduced((targets.negative() * (inputs1 - inputs2) + margin).maximum(0.0), reduction)
}
