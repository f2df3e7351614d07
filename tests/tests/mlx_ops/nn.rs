//! Activations and losses.

use super::cases::{Case, exact, near};
use mlxc::activations as a;
use mlxc::losses as l;
use mlxc::losses::Reduction::{Mean, None as Each, Sum};

macro_rules! activations {
    ($list:ident: $($name:ident)*) => {
        $($list.push(near(concat!("activation/", stringify!($name)), 4.0, |_, x| vec![a::$name(&x[0])]));)*
    };
}

pub fn cases() -> Vec<Case> {
    let mut c = vec![
        near("activation/leaky_relu", 0.0, |_, x| vec![a::leaky_relu(&x[0], 0.1)]),
        near("activation/elu", 4.0, |_, x| vec![a::elu(&x[0], 0.7)]),
        near("activation/celu", 4.0, |_, x| vec![a::celu(&x[0], 0.7)]),
        exact("activation/softshrink", |_, x| vec![a::softshrink(&x[0], 0.5)]),
        exact("activation/hard_shrink", |_, x| vec![a::hard_shrink(&x[0], 0.5)]),
        exact("activation/hard_tanh", |_, x| vec![a::hard_tanh(&x[0], -1.0, 1.0)]),
        near("activation/log_softmax", 4.0, |_, x| vec![a::log_softmax(&x[0], -1), a::log_softmax(&x[0], 0)]),
        near("activation/softmin", 4.0, |_, x| vec![a::softmin(&x[0], 0)]),
        near("activation/glu", 4.0, |_, x| vec![a::glu(&x[0], -1), a::glu(&x[0], 0)]),
        near("activation/prelu", 2.0, |_, x| vec![a::prelu(&x[0], &x[1])]),
        exact("activation/step", |_, x| vec![a::step(&x[0], 0.5)]),
        near("loss/cross_entropy", 8.0, |_, x| {
            let (y, c, p, w) = (&x[0], &x[1], &x[2], &x[3]);
            vec![
                l::cross_entropy(y, c, None, -1, 0.0, Each),
                l::cross_entropy(y, p, None, -1, 0.0, Each),
                l::cross_entropy(y, c, Some(w), -1, 0.0, Mean),
                l::cross_entropy(y, c, None, -1, 0.1, Sum),
            ]
        }),
        near("loss/binary_cross_entropy", 8.0, |_, x| {
            vec![
                l::binary_cross_entropy(&x[0], &x[1], None, true, Mean),
                l::binary_cross_entropy(&x[2], &x[1], None, false, Each),
            ]
        }),
        near("loss/l1", 4.0, |_, x| vec![l::l1_loss(&x[0], &x[1], Mean), l::l1_loss(&x[0], &x[1], Sum)]),
        near("loss/mse", 4.0, |_, x| vec![l::mse_loss(&x[0], &x[1], Mean)]),
        exact("loss/nll", |_, x| vec![l::nll_loss(&x[0], &x[1], -1, Each)]),
        near("loss/gaussian_nll", 8.0, |_, x| {
            let [a, b, c] = [&x[0], &x[1], &x[2]];
            vec![l::gaussian_nll_loss(a, b, c, false, 1e-6, Mean), l::gaussian_nll_loss(a, b, c, true, 1e-6, Each)]
        }),
        near("loss/kl_div", 8.0, |_, x| vec![l::kl_div_loss(&x[0], &x[1], -1, Each)]),
        near("loss/smooth_l1", 8.0, |_, x| vec![l::smooth_l1_loss(&x[0], &x[1], 0.8, Mean)]),
        near("loss/triplet", 8.0, |_, x| {
            let [a, b, c] = [&x[0], &x[1], &x[2]];
            let loss = |p: f64| l::triplet_loss(a, b, c, &l::Triplet { p, ..l::Triplet::default() }, Each);
            vec![loss(2.0), loss(3.0)]
        }),
        near("loss/hinge", 2.0, |_, x| vec![l::hinge_loss(&x[0], &x[1], Each)]),
        near("loss/huber", 4.0, |_, x| vec![l::huber_loss(&x[0], &x[1], 0.7, Each)]),
        near("loss/log_cosh", 8.0, |_, x| vec![l::log_cosh_loss(&x[0], &x[1], Each)]),
        near("loss/cosine_similarity", 8.0, |_, x| vec![l::cosine_similarity_loss(&x[0], &x[1], 1, 1e-8, Each)]),
        near("loss/margin_ranking", 2.0, |_, x| vec![l::margin_ranking_loss(&x[0], &x[1], &x[2], 0.2, Each)]),
    ];
    activations!(c: relu relu2 relu6 selu gelu gelu_approx gelu_fast_approx silu mish hardswish softplus);
    activations!(c: softsign log_sigmoid tanh sigmoid);
    c
}
