//! Methods made of several ops, at symbolic extents and extents of 0 and 1, against the interpreter.

use super::convolution::{check, traced};
use mlxc::trace::Operand;
use mlxc::{Array, DType, PadMode, ScatterOp, losses, random};

#[test]
fn movement_of_symbolic_extents() {
    for dtype in [DType::F32, DType::BF16, DType::I32, DType::U8, DType::Bool] {
        let module = traced("movement", |cx| {
            let n = cx.dim("N", 0..=19);
            let x = cx.input("x", dtype, (&n, 5, 3));
            let mut count = 0;
            let mut out = |y: Array| {
                count += 1;
                cx.output(&format!("y{count}"), &y);
            };
            out(x.flatten());
            out(x.flatten_axes(1, 2));
            out(x.unflatten(1, [5, 1]));
            out(x.moveaxis(0, 2));
            out(Array::stack(&[&x, &x], 1));
            out(x.tile(&[2, 1, 3]));
            out(x.repeat(3, 0));
            out(x.repeat(2, 1));
            out(x.roll(2, 1));
            out(x.roll(-7, 2));
            out(x.flip([0, 2]));
            out(x.slice_step(1, 4, -1, -2));
            out(x.pad(&[(2, 1), (0, 3), (1, 0)], 1.0));
            out(x.pad_mode(&[(0, 0), (2, 7), (1, 4)], PadMode::Reflect));
            out(x.pad_mode(&[(0, 0), (2, 7), (1, 4)], PadMode::Symmetric));
            out(x.pad_mode(&[(0, 0), (2, 7), (1, 4)], PadMode::Edge));
            out(x.diagonal(1, 1, 2));
            out(x.tril(-1));
            out(x.triu(1));
            x.split_at(&[1, 4], 1).into_iter().for_each(&mut out);
            out(x.full_like(3.0));
            out(cx.eye(&n, 7, -1, dtype));
            out(cx.tri(&n, &n, 2, dtype));
            cx.meshgrid(&[&cx.arange(&n, dtype), &cx.arange(4, dtype)], true).into_iter().for_each(&mut out);
        });
        check(&module, &[&[0], &[1], &[6], &[19]]);
    }
}

#[test]
fn indices_of_symbolic_extents() {
    for dtype in [DType::F32, DType::F16, DType::I32, DType::U64] {
        let module = traced("indices", |cx| {
            let n = cx.dim("N", 1..=19);
            let x = cx.input("x", dtype, (&n, 5));
            let mut count = 0;
            let mut out = |y: Array| {
                count += 1;
                cx.output(&format!("y{count}"), &y);
            };
            let i = cx.input("i", DType::I32, (3, 2));
            let u = cx.input("u", dtype, (3, 2, 5));
            out(x.gather(&[&i], 0));
            out(x.gather(&[&i, &cx.arange(2, DType::I32)], [1, 0]));
            out(x.scatter(&[&i], 0, &u, ScatterOp::Add));
            out(x.scatter(&[&i], 0, 2, ScatterOp::Max));
            out(x.scatter(&[&i, &i], [0, 1], 3, ScatterOp::Set));
            let j = cx.input("j", DType::I32, (&n, 3));
            out(x.put_along_axis(&j, 1, 1));
            out(x.scatter_add_axis(&j, 1, 1));
            out(x.roll(3, 0));
            out(x.roll(-2, 0));
            out(x.sort(0));
            out(x.argsort(1));
            out(x.topk(2, 1));
            out(x.partition(2, -1));
            out(x.cumsum(0, false, true));
            out(x.diff(2, 1));
            let fixed = cx.input("fixed", dtype, (7, 5));
            for how in [ScatterOp::Set, ScatterOp::Add, ScatterOp::Min] {
                out(fixed.slice_update(2, &[1, 0], &[6, 5], &[2, 3], how));
                out(fixed.slice_update(2, &[1, 2], &[6, 4], &[1, 1], how));
            }
            let mask = cx.input("mask", DType::Bool, (7, 5));
            out(fixed.masked_scatter(&mask, &fixed.flatten()));
            out(fixed.as_strided(&[3, 4], &[2, 5], 1));
            let line = fixed.flatten().sort(0);
            out(line.searchsorted(&fixed, false));
            out(line.searchsorted(&fixed, true));
        });
        check(&module, &[&[1], &[2], &[6], &[19]]);
    }
}

#[test]
fn numbers_of_symbolic_extents() {
    for dtype in super::FLOATS {
        let module = traced("numbers", |cx| {
            let n = cx.dim("N", 1..=19);
            let x = cx.input("x", dtype, (&n, 5, 4));
            let y = cx.input("y", dtype, (&n, 5, 4));
            let mut count = 0;
            let mut out = |y: Array| {
                count += 1;
                cx.output(&format!("y{count}"), &y);
            };
            for axis in 0..3 {
                out(x.logsumexp(axis, false));
                out(x.softmax_over(axis));
                out(x.log_softmax(axis));
                out(x.std(axis, true, 0));
                out(x.logcumsumexp(axis, axis == 1, axis != 2));
            }
            out(x.median([1, 2], false));
            out(x.var([0, 2], false, 0));
            out(x.count_nonzero(0, false));
            out(x.clip(Some(Operand::Float(-0.5)), Some(Operand::Array(y.clone()))));
            out(x.isclose(&y, 1e-2, 1e-2, false));
            out(x.nan_to_num(0.0, None, None));
            out(x.round_to(2));
            out(x.tensordot(&y, [0, 2], [0, 2]));
            out(x.inner(&cx.input("z", dtype, (3, 4))));
            out(x.vecdot(&y, -1));
            out(Array::einsum("nij,nkj->nik", &[&x, &y]));
            out(Array::einsum("nij,nij->", &[&x, &x]));
            out(Array::einsum("nij,nik->jk", &[&x, &y]));
            out(x.max_pool(&[3], &[2], &[1]));
            out(x.avg_pool(&[2], &[1], &[0]));
            out(losses::mse_loss(&x, &y, losses::Reduction::Mean));
            out(losses::cross_entropy(&x, &y.softmax_over(1), None, 1, 0.0, losses::Reduction::Sum));
            out(losses::huber_loss(&x, &y, 0.3, losses::Reduction::None));
        });
        check(&module, &[&[1], &[2], &[6], &[19]]);
    }
}

#[test]
fn random_numbers_of_symbolic_extents() {
    let module = traced("random", |cx| {
        let n = cx.dim("N", 1..=19);
        cx.output("extent", &cx.input("extent", DType::Bool, [&n]).logical_not());
        let key = cx.input("key", DType::U32, [2]);
        let (a, b) = random::split2(&key);
        cx.output("bits", &random::bits(&a, (&n, 3), 2));
        cx.output("keys", &random::split(&b, &n));
        cx.output("uniform", &random::uniform(&a, -1.0, 2.0, (&n, 3), DType::F32));
        cx.output("bernoulli", &random::bernoulli(&a, 0.5, [&n]));
        cx.output("order", &random::permutation(&b, &n));
        cx.output("noise", &random::gumbel(&b, (3, &n), DType::F32));
    });
    check(&module, &[&[1], &[2], &[6], &[19]]);
}

/// Every mistake has an id and the line that made it.
#[test]
fn mistakes() {
    type Model = fn(&mlxc::Context, &Array);
    let cases: [(u16, Model); 18] = [
        (125, |_, x| drop(x.cumsum(2, false, true))),
        (127, |cx, x| drop(x.gather(&[&cx.arange(2, DType::I32), &cx.arange(3, DType::I32)], [0, 1]))),
        (128, |_, x| drop(x.unflatten(0, [3, -1]))),
        (146, |cx, x| drop(x.conv2d(&cx.ones((3, 3), DType::F32), [1, 1], [0, 0], [1, 1], 1))),
        (146, |cx, _| {
            let x = cx.ones((1, 5, 4), DType::F32);
            x.conv1d(&cx.ones((6, 2, 3), DType::F32), 1, 0, 1, 1);
        }),
        (141, |_, x| drop(x.max_pool(&[2, 2], &[2], &[0]))),
        (142, |_, x| drop(x.split_sections(3, 0))),
        (143, |_, x| drop(Array::einsum("ij,jk->ik", &[x]))),
        (143, |_, x| drop(Array::einsum("i1->i", &[x]))),
        (144, |cx, x| drop(x.tensordot(&cx.ones((3, 4), DType::F32), 1, 0))),
        (145, |_, x| drop(random::normal(x, 0.0, 1.0, [4], DType::F32))),
        (147, |cx, x| drop(x.gather(&[&cx.arange(2, DType::I32), &cx.arange(2, DType::I32)], [1, -1]))),
        (148, |_, x| drop(x.slice_update(0.0, &[0, 0], &[5, 5], &[1, 1], ScatterOp::Set))),
        (150, |_, x| drop(x.topk(9, 1))),
        (151, |_, x| drop(x.slice(1, 0, 5).view(DType::F64))),
        (152, |cx, _| drop(cx.arange(4, DType::F32).tril(0))),
        (153, |_, x| drop(x.diagonal(0, 1, 1))),
        (155, |cx, _| drop(random::uniform(&cx.random_key(3), 0, 1, [4], DType::F64))),
    ];
    for (id, model) in cases {
        let errors = mlxc::trace("mistakes", |cx| {
            let x = cx.input("x", DType::F32, (4, 6));
            model(cx, &x);
            cx.output("y", &x.exp());
        })
        .expect_err("a mistake is reported");
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(errors.0[0].id, id, "{errors}");
        let at = errors.0[0].at.as_ref().expect("a mistake has a place");
        assert!(at.file.ends_with("composed.rs"), "{errors}");
    }
}
