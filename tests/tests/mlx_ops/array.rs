//! Elementwise ops, reductions, scans, sorts and indices.

use super::cases::{Case, exact, near};
use mlxc::trace::Operand;
use mlxc::{DType, ScatterOp};

macro_rules! methods {
    ($list:ident, $limit:expr, $group:literal: $($name:ident)*) => {
        $($list.push(near(concat!($group, "/", stringify!($name)), $limit, |_, x| vec![x[0].$name()]));)*
    };
}

macro_rules! operators {
    ($list:ident: $($name:ident $op:tt)*) => {
        $($list.push(exact(concat!("binary/", stringify!($name)), |_, x| vec![&x[0] $op &x[1]]));)*
    };
}

pub fn cases() -> Vec<Case> {
    let mut c = vec![
        exact("logic/logical_xor", |_, x| vec![x[0].logical_xor(&x[1])]),
        exact("logic/logical_and", |_, x| vec![x[0].logical_and(&x[1])]),
        exact("logic/logical_or", |_, x| vec![x[0].logical_or(&x[1])]),
        exact("logic/logical_not", |_, x| vec![x[0].logical_not()]),
        exact("logic/isnan", |_, x| vec![x[0].isnan()]),
        exact("logic/isinf", |_, x| vec![x[0].isinf()]),
        exact("logic/isposinf", |_, x| vec![x[0].isposinf()]),
        exact("logic/isneginf", |_, x| vec![x[0].isneginf()]),
        exact("logic/isfinite", |_, x| vec![x[0].isfinite()]),
        exact("logic/isclose", |_, x| vec![x[0].isclose(&x[1], 1e-5, 1e-8, false)]),
        exact("logic/isclose_special", |_, x| vec![x[0].isclose(&x[1], 1e-5, 1e-8, true)]),
        exact("logic/allclose", |_, x| {
            vec![x[0].allclose(&x[1], 1e-5, 1e-8, false), x[0].allclose(&x[0], 1e-5, 1e-8, false)]
        }),
        exact("logic/array_equal", |_, x| vec![x[0].array_equal(&x[1], false), x[0].array_equal(&x[0], false)]),
        exact("logic/nan_to_num", |_, x| {
            vec![x[0].nan_to_num(0.0, None, None), x[0].nan_to_num(1.0, Some(2.0), Some(-3.0))]
        }),
        exact("logic/clip", |_, x| {
            let f = |v: f64| Some(Operand::Float(v));
            vec![x[0].clip(f(-1.0), f(1.0)), x[0].clip(None, f(0.5)), x[0].clip(f(-0.5), None)]
        }),
        exact("logic/where", |_, x| vec![x[0].choose(&x[1], &x[2])]),
        exact("logic/degrees", |_, x| vec![x[0].degrees()]),
        exact("logic/radians", |_, x| vec![x[0].radians()]),
        exact("logic/divmod", |_, x| {
            let (q, r) = x[0].divmod(&x[1]);
            vec![q, r]
        }),
        exact("logic/divmod_int", |_, x| {
            let (q, r) = x[0].divmod(&x[1]);
            vec![q, r]
        }),
        exact("logic/floor_divide", |_, x| vec![x[0].floor_divide(&x[1])]),
        exact("logic/remainder", |_, x| vec![x[0].remainder(&x[1])]),
        exact("logic/remainder_int", |_, x| vec![x[0].remainder(&x[1])]),
        exact("logic/round", |_, x| vec![x[0].round(), x[0].round_to(2), x[0].round_to(-1)]),
        exact("logic/sign", |_, x| vec![x[0].sign()]),
        exact("logic/bitwise", |_, x| {
            let (a, b) = (&x[0], &x[1]);
            vec![a.bitwise_and(b), a.bitwise_or(b), a.bitwise_xor(b), a.left_shift(b), a.right_shift(b)]
        }),
        exact("logic/bitwise_invert", |_, x| vec![x[0].bitwise_invert()]),
        exact("logic/view_same", |_, x| vec![x[0].view(DType::I32), x[0].view(DType::U32)]),
        exact("logic/view_narrow", |_, x| vec![x[0].view(DType::U8), x[0].view(DType::I16)]),
        exact("logic/view_wide", |_, x| vec![x[0].view(DType::F32)]),
        near("binary/power", 4.0, |_, x| vec![x[0].power(&x[1])]),
        near("binary/logaddexp", 4.0, |_, x| vec![x[0].logaddexp(&x[1])]),
        near("binary/arctan2", 4.0, |_, x| vec![x[0].arctan2(&x[1])]),
        exact("binary/maximum", |_, x| vec![x[0].maximum(&x[1])]),
        exact("binary/minimum", |_, x| vec![x[0].minimum(&x[1])]),
        exact("binary/promote", |_, x| vec![&x[0] + &x[1], &x[0] * &x[2], &x[1] + &x[2], &x[1] * 2.5]),
        exact("binary/compare", |_, x| {
            let (a, b) = (&x[0], &x[1]);
            vec![a.equal(b), a.not_equal(b), a.less(b), a.less_equal(b), a.greater(b), a.greater_equal(b)]
        }),
        near("reduce/sum", 4.0, |_, x| vec![x[0].sum(1, false), x[0].sum([0, 2], true), x[0].sum([0, 1, 2], false)]),
        near("reduce/prod", 8.0, |_, x| {
            vec![x[0].prod(1, false), x[0].prod([0, 2], true), x[0].prod([0, 1, 2], false)]
        }),
        exact("reduce/max", |_, x| vec![x[0].max(1, false), x[0].max([0, 2], true), x[0].max([0, 1, 2], false)]),
        exact("reduce/min", |_, x| vec![x[0].min(1, false), x[0].min([0, 2], true), x[0].min([0, 1, 2], false)]),
        near("reduce/mean", 4.0, |_, x| {
            vec![x[0].mean(1, false), x[0].mean([0, 2], true), x[0].mean([0, 1, 2], false)]
        }),
        near("reduce/var", 4.0, |_, x| vec![x[0].var(1, false, 0), x[0].var([0, 2], false, 1)]),
        near("reduce/std", 4.0, |_, x| vec![x[0].std(-1, false, 0), x[0].std(0, true, 1)]),
        exact("reduce/any_all", |_, x| vec![x[0].any(1, false), x[0].all(0, false)]),
        exact("reduce/sum_bool", |_, x| vec![x[0].sum(1, false), x[0].prod(0, false)]),
        near("reduce/logsumexp", 4.0, |_, x| {
            vec![x[0].logsumexp(1, false), x[0].logsumexp([0, 2], true), x[0].logsumexp(-1, false)]
        }),
        near("reduce/softmax", 4.0, |_, x| {
            vec![x[0].softmax_over(1), x[0].softmax_over(-1), x[0].softmax_over([0, 1])]
        }),
        exact("reduce/median", |_, x| vec![x[0].median(1, false), x[0].median([0, 2], false), x[0].median(-1, true)]),
        exact("reduce/arg", |_, x| vec![x[0].argmax(1, false), x[0].argmin(-1, false), x[0].argmax(0, true)]),
        exact("scan/cumsum_bool", |_, x| vec![x[0].cumsum(1, false, true)]),
        exact("scan/cumsum_int", |_, x| vec![x[0].cumsum(0, false, true), x[0].cumprod(1, false, true)]),
        exact("scan/diff", |_, x| vec![x[0].diff(1, 0)]),
        exact("sort/sort", |_, x| vec![x[0].sort(0), x[0].sort(1), x[0].sort(-1)]),
        exact("sort/argsort", |_, x| vec![x[0].argsort(0), x[0].argsort(-1)]),
        exact("sort/special", |_, x| vec![x[0].sort(0)]),
        exact("sort/int", |_, x| vec![x[0].sort(1), x[0].argsort(1)]),
        exact("sort/partition", |_, x| vec![x[0].partition(3, -1)]),
        exact("sort/topk", |_, x| vec![x[0].topk(2, -1)]),
        exact("index/take", |_, x| vec![x[0].take(&x[1], 1), x[0].take(&x[1], 0)]),
        exact("index/take_along_axis", |_, x| vec![x[0].take_along_axis(&x[1], 1)]),
        exact("index/gather", |_, x| {
            // What numpy puts after the axes before the indexed ones, a gather puts first.
            let (i, j) = (&x[1], &x[2]);
            vec![x[0].gather(&[i, j], [0, 1]), x[0].take(i, 1), x[0].gather(&[i, j], [1, 2]).moveaxis(0, 1)]
        }),
        exact("index/set", |_, x| vec![x[0].put_along_axis(&x[1], &x[2], 1)]),
        exact("index/at_add", |_, x| vec![x[0].scatter(&[&x[1]], 0, &x[2], ScatterOp::Add)]),
        exact("index/at_multiply", |_, x| vec![x[0].scatter(&[&x[1]], 0, &x[2], ScatterOp::Multiply)]),
        exact("index/at_maximum", |_, x| vec![x[0].scatter(&[&x[1]], 0, &x[2], ScatterOp::Max)]),
        exact("index/at_minimum", |_, x| vec![x[0].scatter(&[&x[1]], 0, &x[2], ScatterOp::Min)]),
        exact("index/at_two", |_, x| vec![x[0].scatter(&[&x[1], &x[2]], [0, 1], &x[3], ScatterOp::Add)]),
        exact("index/scatter_add_axis", |_, x| vec![x[0].scatter_add_axis(&x[1], &x[2], 1)]),
        exact("index/slice_set", |_, x| vec![x[0].slice_update(&x[1], &[1, 0], &[8, 4], &[3, 2], ScatterOp::Set)]),
        exact("index/slice_add", |_, x| vec![x[0].slice_update(&x[1], &[2, 1], &[5, 4], &[1, 1], ScatterOp::Add)]),
        exact("index/slice_update", |cx, x| {
            let start = cx.full((), 2.0, DType::I32);
            vec![x[0].dynamic_slice_update(&x[1], &start, 0)]
        }),
    ];
    macro_rules! scans {
        ($limit:expr, $($name:ident)*) => {$(
            c.push(near(concat!("scan/", stringify!($name)), $limit, |_, x| {
                let z = &x[0];
                vec![z.$name(1, false, true), z.$name(0, true, true), z.$name(2, false, false), z.$name(2, true, false)]
            }));
        )*};
    }
    scans!(4.0, cumsum cumprod cummax cummin logcumsumexp);
    methods!(c, 0.0, "unary": square floor ceil abs negative sqrt reciprocal);
    methods!(c, 4.0, "unary": exp expm1 sin cos tan arctan sinh cosh tanh arcsinh erf sigmoid);
    methods!(c, 4.0, "unary": log log2 log10 log1p rsqrt arccosh arcsin arccos arctanh erfinv);
    operators!(c: add + subtract - multiply * divide /);
    c
}
