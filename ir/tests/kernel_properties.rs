//! Properties over generated kernels: text round trips, and the prover never proves what is false.

#![allow(clippy::unwrap_used)]

use mlxc_ir::DType::{self, BF16, F32, I32, U32};
use mlxc_ir::kernel::{
    Access, BufferData, Ix, KernelBuilder, Options, Scalar, Subgroup, Type, Val, parse, print, run, verify,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

#[derive(Clone, Debug)]
enum Tree {
    Leaf(i64),
    Node(u8, i64, Box<Tree>, Box<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (-40i64..200).prop_map(Tree::Leaf);
    leaf.prop_recursive(5, 40, 2, |inner| {
        (any::<u8>(), 1i64..20, inner.clone(), inner).prop_map(|(op, c, a, b)| Tree::Node(op, c, a.into(), b.into()))
    })
}

fn index<'k>(k: &'k KernelBuilder, t: &Tree, vars: &[Ix<'k>]) -> Ix<'k> {
    match t {
        Tree::Leaf(n) if *n >= 0 && *n % 3 != 0 => vars[*n as usize % vars.len()],
        Tree::Leaf(n) => k.int(*n / 3),
        Tree::Node(op, c, a, b) => {
            let a = index(k, a, vars);
            match op % 8 {
                0 => a + index(k, b, vars),
                1 => a - index(k, b, vars),
                2 => a * *c,
                3 => a * -*c,
                4 => a.div(*c),
                5 => a.rem(*c),
                6 => a.min(index(k, b, vars)),
                _ => a.max(index(k, b, vars)),
            }
        }
    }
}

fn value<'k>(k: &'k KernelBuilder, t: &Tree, ty: Type, leaves: &dyn Fn(Type, i64) -> Val<'k>) -> Val<'k> {
    let d = ty.dtype();
    let (op, c, a, b) = match t {
        Tree::Leaf(n) => return leaves(ty, *n),
        Tree::Node(op, c, a, b) => (*op, *c, a, b),
    };
    let x = value(k, a, ty, leaves);
    let y = |t: Type| value(k, b, t, leaves);
    match op % 16 {
        0 => x + y(ty),
        1 => x - y(ty),
        2 => x * y(ty),
        3 => x / y(ty),
        4 => x.max(y(ty)),
        5 => -x,
        6 if d.is_int() => !x & y(ty),
        6 => x.abs(),
        7 if d.is_int() => x << y(ty),
        7 => x.exp(),
        8 if d.is_int() => (x ^ y(ty)) | x,
        8 => x.fma(y(ty), x),
        9 => x.lt(y(ty)).select(x, y(ty)),
        10 => {
            let other = if d == F32 { I32 } else { F32 };
            y(Type::vector(other, ty.lanes())).cast(d)
        }
        11 if ty.lanes() == 1 => y(Type::vector(d, 8)).hsum(),
        11 => y(Type::scalar(d)).splat(ty.lanes()),
        12 if ty.lanes() == 1 => y(Type::vector(d, 4)).extract(k.int(c % 4)),
        12 => y(ty).shuffle(ty.lanes(), |l| (l + c).rem(i64::from(ty.lanes()))),
        13 if d == F32 => y(Type::vector(U32, ty.lanes())).bits(ty),
        13 if d == I32 => y(Type::vector(F32, ty.lanes())).bits(ty),
        14 if d.is_float() => x.mad(y(ty), x),
        15 if ty.lanes() == 4 => {
            k.vector(&[y(Type::scalar(d)), leaves(Type::scalar(d), c), leaves(Type::scalar(d), 5), y(Type::scalar(d))])
        }
        _ => x + y(ty),
    }
}

fn build(trees: &[Tree], indices: &[Tree]) -> mlxc_ir::kernel::Kernel {
    let k = KernelBuilder::new("generated");
    let s = k.sym("S", 3..=40, 1);
    let a = k.arg("a", F32);
    let x = k.buffer("x", F32, &[s], Access::Read);
    let y = k.buffer("y", I32, &[s], Access::Write);
    k.phase("p", &[("i", s), ("j", k.int(5))], 1, Subgroup::None, |axes| {
        let v = k.var("v", k.constant(1.5, F32));
        let leaves = |ty: Type, n: i64| {
            let d = ty.dtype();
            let scalar = match n.rem_euclid(6) {
                0 if d == F32 => a,
                1 if d == F32 => x.at([axes[0]]).load(),
                2 if d == F32 => v.get(),
                3 => axes[1].to_val(d),
                4 if d == F32 => k.bits((n as u64).wrapping_mul(0x9e37_79b9) & 0xffff_ffff, F32),
                _ => k.int_constant(n, d),
            };
            if ty.lanes() == 1 { scalar } else { scalar.splat(ty.lanes()) }
        };
        for (n, t) in indices.iter().enumerate() {
            let i = k.let_index("n", index(&k, t, &[s, axes[0], axes[1]]));
            k.if_(i.lt(s - n as i64), || v.set(v.get() + 1.0));
        }
        for (n, t) in trees.iter().enumerate() {
            let ty = [Type::scalar(F32), Type::vector(F32, 4), Type::scalar(I32), Type::vector(BF16, 16)][n % 4];
            k.let_("t", value(&k, t, ty, &leaves));
        }
        y.at([axes[0]]).store(k.int_constant(0, DType::I32));
    });
    k.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn text_round_trips(trees in prop::collection::vec(tree(), 4), indices in prop::collection::vec(tree(), 2)) {
        let k = build(&trees, &indices);
        let text = print(&k);
        let again = parse(&text, "generated").unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(&print(&again[0]), &text);
        // Equal in meaning, not only in print: the same statements over the same arenas, as far as they are used.
        prop_assert_eq!(verify(&k).is_ok(), verify(&again[0]).is_ok());
    }

    #[test]
    fn nothing_false_is_proved(t in tree(), guard in tree(), extent in 1i64..60, lo in 0i64..5, step in 1i64..7) {
        // One store at a generated index, guarded by a generated condition, inside a loop.
        let k = KernelBuilder::new("range");
        let s = k.sym("S", 1..=12, 1);
        let m = k.sym("M", 4..=16, 4);
        let y = k.buffer("y", F32, &[k.int(extent)], Access::Update);
        k.phase("p", &[("i", s)], 1, Subgroup::None, |axes| {
            k.for_("c", k.int(lo), m, step, false, |c| {
                let vars = [s, axes[0], m, c];
                let at = index(&k, &t, &vars);
                let limit = index(&k, &guard, &vars);
                k.if_(limit.le(axes[0]), || y.at([at]).store(k.constant(1.0, F32)));
            });
        });
        let k = k.finish();
        if verify(&k).is_ok() {
            for s in [1, 2, 3, 7, 12] {
                for m in [4, 8, 12, 16] {
                    let mut data = [BufferData::zeros(F32, extent as usize)];
                    let scalars = [("S", Scalar::Int(s)), ("M", Scalar::Int(m))];
                    match run(&k, &mut data, &scalars, &Options::default()) {
                        // Groups may race: only ranges are claimed.
                        Err(e) if e.id != 553 => panic!("{e}\n{}", print(&k)),
                        _ => {}
                    }
                }
            }
        }
    }
}

#[test]
fn the_prover_is_not_idle() {
    let mut proved = 0;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let t = tree().new_tree(&mut runner).unwrap().current();
        let k = KernelBuilder::new("range");
        let s = k.sym("S", 1..=12, 1);
        let y = k.buffer("y", F32, &[k.int(60)], Access::Update);
        k.phase("p", &[("i", s)], 1, Subgroup::None, |axes| {
            y.at([index(&k, &t, &[s, axes[0]])]).store(k.constant(1.0, F32));
        });
        proved += u32::from(verify(&k.finish()).is_ok());
    }
    assert!(proved > 60, "{proved} of 300");
}
