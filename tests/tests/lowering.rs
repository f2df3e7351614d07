//! Kernels of the templates against the interpreter.

use mlxc_ir::graph::interpret::Tensor;
use mlxc_ir::graph::{
    Activation, BinaryOp, Function, FunctionBuilder, Literal, Op, ReduceOp, Role, SymbolKind, TensorType, UnaryOp,
    ValueId,
};
use mlxc_ir::{DType, Range, Scheme, Size};
use mlxc_tests::kernels::{Random, arguments, kernels};

mod machine;

use machine::{check, check_for, profile};

fn c(n: i64) -> Size {
    Size::constant(n)
}

struct B(FunctionBuilder);

impl B {
    fn new(name: &str) -> Self {
        B(FunctionBuilder::new(name))
    }

    fn symbol(&mut self, name: &str, hi: i64) -> Size {
        Size::symbol(self.0.symbol(name, Range::new(1, hi), 1, SymbolKind::Size))
    }

    fn input(&mut self, name: &str, dtype: DType, shape: &[Size]) -> ValueId {
        self.0.param(name, Role::Input, TensorType { dtype, shape: shape.to_vec() }, None)
    }

    fn weight(&mut self, name: &str, dtype: DType, shape: &[i64]) -> ValueId {
        let n = self.0.function().params.len() as u32;
        self.0.param(name, Role::Weight(n), TensorType::constant(dtype, shape), None)
    }

    fn op(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.0.node(op, inputs, None).expect("the test's graph is well typed")
    }

    fn out(mut self, values: &[ValueId]) -> Function {
        for (i, v) in values.iter().enumerate() {
            self.0.result(format!("y{i}"), *v);
        }
        self.0.finish()
    }
}

fn norm_chain(dtype: DType, n: i64) -> Function {
    let mut b = B::new("norms");
    let s = b.symbol("S", 9);
    let x = b.input("x", dtype, &[s.clone(), c(n)]);
    let r = b.input("r", dtype, &[s.clone(), c(n)]);
    let w = b.weight("w", dtype, &[n]);
    let sum = b.op(Op::Binary(BinaryOp::Add), &[x, r]);
    let y = b.op(Op::RmsNorm { eps: 1e-5.into() }, &[sum, w]);
    b.out(&[sum, y])
}

#[test]
fn a_residual_joins_the_norm_after_it() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for n in [1, 7, 16, 64, 100] {
            let f = norm_chain(dtype, n);
            assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1);
            check(&f, &profile(), &arguments(&f, &[5], 3), 4.0);
        }
    }
}

#[test]
fn softmax_and_layer_norm_are_one_kernel() {
    for n in [1, 5, 32, 77] {
        let mut b = B::new("softmax");
        let s = b.symbol("S", 9);
        let x = b.input("x", DType::F32, &[c(2), s.clone(), c(n)]);
        let y = b.op(Op::Softmax, &[x]);
        let f = b.out(&[y]);
        assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1);
        check(&f, &profile(), &arguments(&f, &[4], 5), 4.0);

        let mut b = B::new("layer_norm");
        let s = b.symbol("S", 9);
        let x = b.input("x", DType::BF16, &[s.clone(), c(n)]);
        let w = b.weight("w", DType::BF16, &[n]);
        let g = b.weight("b", DType::BF16, &[n]);
        let y = b.op(Op::LayerNorm { eps: 1e-5.into() }, &[x, w, g]);
        let f = b.out(&[y]);
        assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1);
        check(&f, &profile(), &arguments(&f, &[3], 6), 4.0);
    }
}

fn linear(dtype: DType, rows: Option<i64>, n: i64, k: i64) -> Function {
    let mut b = B::new("linear");
    let s = rows.map_or_else(|| b.symbol("S", 40), c);
    let x = b.input("x", dtype, &[s.clone(), c(k)]);
    let w = b.weight("w", dtype, &[n, k]);
    let bias = b.weight("bias", dtype, &[n]);
    let y = b.op(Op::MatMul { transpose_a: false, transpose_b: true }, &[x, w]);
    let bias = b.op(Op::Broadcast { shape: vec![s, c(n)] }, &[bias]);
    let y = b.op(Op::Binary(BinaryOp::Add), &[y, bias]);
    let y = b.op(Op::Unary(UnaryOp::Silu), &[y]);
    b.out(&[y])
}

#[test]
fn products_with_epilogues_at_odd_sizes() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (n, k) in [(64, 32), (37, 5), (32, 1), (96, 33), (1, 16)] {
            for rows in [Some(1), Some(3), None] {
                let f = linear(dtype, rows, n, k);
                assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1, "{n} {k} {rows:?}");
                let symbols: Vec<i64> = f.symbols.iter().map(|_| 17).collect();
                check(&f, &profile(), &arguments(&f, &symbols, 9), 4.0);
            }
        }
    }
}

/// Each profile's tile: rows, and lanes of its two vectors of columns. What is summed stays in registers.
#[test]
fn register_tiles_are_as_large_as_the_registers_allow() {
    for (name, rows, lanes) in [
        ("x86-64-v4-fp16", 14, 16),
        ("x86-64-v4-bf16", 14, 16),
        ("x86-64-v4", 14, 16),
        ("x86-64-v3", 6, 8),
        ("x86-64-v2", 6, 4),
        ("aarch64-neon", 14, 4),
    ] {
        let profile = mlxc_codegen::profiles::by_name(name).expect("a known profile");
        let mut b = B::new("product");
        let s = b.symbol("S", 40);
        let (x, w) = (b.input("x", DType::F32, &[s, c(32)]), b.weight("w", DType::F32, &[64, 32]));
        let y = b.op(Op::MatMul { transpose_a: false, transpose_b: true }, &[x, w]);
        let (_, partition, _) = kernels(&b.out(&[y]), &profile, true);
        let kernel = &partition.groups[0].built.kernel;
        let text = mlxc_ir::kernel::print(kernel);
        assert!(text.contains(&format!("f32x{lanes}[{rows}, 2]")), "{name}:\n{text}");
        let legal = mlxc_codegen::legalise::legalise(kernel, &profile).expect("the kernel is legal");
        let assembly = mlxc_codegen::llvm::print_assembly(&legal).expect("the kernel compiles");
        let spilled = |l: &&str| match name {
            "aarch64-neon" => l.trim_start().starts_with("st") && l.contains("\tq") && l.contains("[sp"),
            _ => l.contains("mm") && l.trim_end().ends_with("(%rsp)"),
        };
        let all: Vec<&str> = assembly.lines().filter(spilled).collect();
        assert!(all.is_empty(), "{name}: {all:?}");
    }
}

/// The profile with matrix tiles.
fn tiled() -> mlxc_ir::TargetProfile {
    mlxc_codegen::profiles::by_name("x86-64-v4-amx").expect("a known profile")
}

/// Rows that fill no tile, columns that fill no panel, inner extents of one stretch and of several.
#[test]
fn products_in_matrix_tiles() {
    for (n, k) in [(64, 32), (37, 96), (1, 64), (288, 1088)] {
        for (rows, symbol) in [(Some(2), 2), (Some(16), 16), (Some(130), 130), (None, 1), (None, 33)] {
            if k > 100 && symbol > 40 {
                continue;
            }
            let f = linear(DType::BF16, rows, n, k);
            let (_, partition, _) = kernels(&f, &tiled(), true);
            assert!(mlxc_ir::kernel::print(&partition.groups[0].built.kernel).contains("mma("), "{n} {k} {rows:?}");
            let symbols: Vec<i64> = f.symbols.iter().map(|_| symbol).collect();
            check_for(&tiled(), &f, &arguments(&f, &symbols, 9), 4.0);
        }
    }
    // An inner extent that is no multiple of a tile's multiplies in vectors.
    let f = linear(DType::BF16, Some(20), 64, 40);
    let text = mlxc_ir::kernel::print(&kernels(&f, &tiled(), true).1.groups[0].built.kernel);
    assert!(!text.contains("mma("), "{text}");
}

/// A product with random codes, and its arguments.
fn quantised(scheme: Scheme, dtype: DType, rows: i64, n: i64, k: i64) -> (Function, Vec<Tensor>) {
    quantised_by(Op::MatMul { transpose_a: false, transpose_b: true }, scheme, dtype, rows, n, k)
}

fn quantised_by(product: Op, scheme: Scheme, dtype: DType, rows: i64, n: i64, k: i64) -> (Function, Vec<Tensor>) {
    let (words, groups) = (k * i64::from(scheme.bits()) / 32, k / i64::from(scheme.group()));
    let mut b = B::new("quantised");
    let x = b.input("x", dtype, &[c(rows), c(k)]);
    let w = b.weight("w", DType::U32, &[n, words]);
    let parts = [w, b.weight("scales", dtype, &[n, groups]), b.weight("biases", dtype, &[n, groups])];
    let dense = b.op(Op::Dequantize { scheme, dtype }, &parts);
    let y = b.op(product, &[x, dense]);
    let y = b.op(Op::Unary(UnaryOp::Silu), &[y]);
    let f = b.out(&[y]);
    let mut args = arguments(&f, &[], 13);
    let mut random = Random::new(rows as u64);
    let codes: Vec<i64> = (0..n * words).map(|_| (random.bits() & 0xFFFF_FFFF) as i64).collect();
    args[1] = Tensor::ints(DType::U32, &[n as usize, words as usize], &codes);
    (f, args)
}

/// One row streams the words of the weights, several unpack them.
#[test]
fn products_with_quantised_weights() {
    for (scheme, dtype) in [("4,64", DType::BF16), ("8,32", DType::F32), ("3,64", DType::BF16), ("6,32", DType::F16)] {
        for rows in [1, 5, 17] {
            let (f, args) = quantised(scheme.parse().expect("a scheme"), dtype, rows, 37, 128);
            assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1);
            check(&f, &profile(), &args, 8.0);
        }
    }
}

/// Several rows multiply unpacked codes in matrix tiles, a group at a time.
#[test]
fn quantised_products_in_matrix_tiles() {
    for scheme in ["4,64", "8,32", "3,128"] {
        for (rows, n, k) in [(5, 37, 128), (33, 64, 640), (130, 32, 256)] {
            let (f, args) = quantised(scheme.parse().expect("a scheme"), DType::BF16, rows, n, k);
            let (_, partition, _) = kernels(&f, &tiled(), true);
            assert!(mlxc_ir::kernel::print(&partition.groups[0].built.kernel).contains("mma("), "{scheme} {rows}");
            check_for(&tiled(), &f, &args, 8.0);
        }
    }
}

/// Inputs multiply in three digits where four 8-bit products take less than a third of the time of others, and in one where
/// they are rounded. Any inner extent, more rows than a block.
#[test]
fn quantised_products_of_8_bit_integers() {
    let profile = mlxc_codegen::profiles::by_name("x86-64-v4-fp16").expect("a known profile");
    for scheme in ["4,64", "8,32", "2,128", "4,32", "8,128"].map(|s| s.parse::<Scheme>().expect("a scheme")) {
        let rounded = Op::Int8MatMul { group: scheme.group() };
        for product in [Op::MatMul { transpose_a: false, transpose_b: true }, rounded] {
            for (dtype, rows, n, k) in [
                (DType::BF16, 1, 37, 384),
                (DType::F32, 1, 64, 128),
                (DType::F16, 5, 37, 256),
                (DType::F32, 17, 33, 1152),
                (DType::BF16, 140, 32, 128),
            ] {
                let (f, args) = quantised_by(product.clone(), scheme, dtype, rows, n, k);
                let (_, partition, _) = kernels(&f, &profile, true);
                assert_eq!(partition.groups.len(), 1, "{scheme} {rows}");
                let text = mlxc_ir::kernel::print(&partition.groups[0].built.kernel);
                assert!(text.contains("dot4("), "{scheme} {rows}:\n{text}");
                check_for(&profile, &f, &args, 8.0);
            }
        }
    }
}

#[test]
fn reductions_over_any_axes() {
    for axes in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
        for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Prod, ReduceOp::Min] {
            for keepdims in [false, true] {
                let mut b = B::new("reduce");
                let x = b.input("x", DType::F32, &[c(3), c(5), c(19)]);
                let y = b.op(Op::Unary(UnaryOp::Square), &[x]);
                let y = b.op(Op::Reduce { op, axes: axes.clone(), keepdims }, &[y]);
                let y = b.op(Op::Unary(UnaryOp::Sqrt), &[y]);
                let f = b.out(&[y]);
                assert_eq!(kernels(&f, &profile(), true).1.groups.len(), 1);
                check(&f, &profile(), &arguments(&f, &[], 11), 8.0);
            }
        }
    }
}

#[test]
fn views_fuse_into_what_reads_them() {
    let mut b = B::new("views");
    let s = b.symbol("S", 9);
    let x = b.input("x", DType::F32, &[s.clone(), c(24)]);
    let y = b.op(Op::Reshape { shape: vec![s.clone(), c(4), c(6)] }, &[x]);
    let y = b.op(Op::Transpose { perm: vec![1, 0, 2] }, &[y]);
    let y = b.op(Op::Reverse { axes: vec![2] }, &[y]);
    let y = b.op(Op::Unary(UnaryOp::Exp), &[y]);
    let z =
        b.op(Op::Slice { start: vec![c(0), c(0), c(1)], stop: vec![c(4), s.clone(), c(6)], step: vec![2, 1, 2] }, &[y]);
    let p = b.op(Op::Pad { low: vec![0, 1, 2], high: vec![1, 0, 3], value: Literal::float(0.5) }, &[z]);
    let q = b.op(Op::Concat { axis: 2 }, &[y, y]);
    let t = b.op(Op::Concat { axis: 0 }, &[y, y]);
    let i = b.op(Op::Iota { dtype: DType::F32, shape: vec![c(4), s.clone(), c(6)], axis: 1 }, &[]);
    let i = b.op(Op::Binary(BinaryOp::Multiply), &[i, y]);
    let f = b.out(&[y, z, p, q, t, i]);
    check(&f, &profile(), &arguments(&f, &[5], 13), 4.0);
}

#[test]
fn gathers_and_windows() {
    let mut b = B::new("gather");
    let s = b.symbol("S", 9);
    let table = b.weight("table", DType::BF16, &[11, 20]);
    let ids = b.input("ids", DType::I32, std::slice::from_ref(&s));
    let (pos, _) = b.0.scalar("pos", Range::new(0, 5), None);
    let rows = b.op(Op::Gather { axis: 0 }, &[table, ids]);
    let columns = b.op(Op::Gather { axis: 1 }, &[table, ids]);
    let window = b.op(Op::DynamicSlice { axes: vec![0], sizes: vec![c(4), c(20)] }, &[table, pos]);
    let twice = b.op(Op::Binary(BinaryOp::Add), &[rows, rows]);
    let best = b.op(Op::ArgReduce { op: mlxc_ir::graph::ArgOp::Max, axis: 1, keepdims: false }, &[columns]);
    let f = b.out(&[twice, columns, window, best]);
    check(&f, &profile(), &arguments(&f, &[6, 3], 17), 4.0);
}

/// A Llama block over a key-value state, from composites.
pub fn block(dtype: DType, one: bool) -> Function {
    let (d, h, hkv, hd, ff, cap) = (64, 4, 2, 32, 96, 48);
    let mut b = B::new("block");
    let s = if one { c(1) } else { b.symbol("S", 20) };
    let (pos, id) = b.0.scalar("pos", Range::new(0, cap - 1), None);
    b.0.require(c(cap) - Size::symbol(id) - s.clone());
    let x = b.input("x", dtype, &[s.clone(), c(d)]);
    let n1 = b.weight("norm1", dtype, &[d]);
    let wqkv = b.weight("wqkv", dtype, &[(h + 2 * hkv) * hd, d]);
    let wo = b.weight("wo", dtype, &[d, h * hd]);
    let n2 = b.weight("norm2", dtype, &[d]);
    let wgu = b.weight("wgu", dtype, &[2 * ff, d]);
    let wd = b.weight("wd", dtype, &[d, ff]);
    let cache = TensorType::constant(dtype, &[1, hkv, cap, hd]);
    let kc = b.0.param("k_cache", Role::State(0), cache.clone(), None);
    let vc = b.0.param("v_cache", Role::State(1), cache, None);
    let first_state = b.0.function().params.len() as u32 - 2;
    let product = Op::MatMul { transpose_a: false, transpose_b: true };
    let norm = Op::RmsNorm { eps: 1e-5.into() };
    let xn = b.op(norm.clone(), &[x, n1]);
    let qkv = b.op(product.clone(), &[xn, wqkv]);
    let heads = |b: &mut B, lo: i64, n: i64| {
        let slice = Op::Slice { start: vec![c(0), c(lo)], stop: vec![s.clone(), c(lo + n * hd)], step: vec![1, 1] };
        let v = b.op(slice, &[qkv]);
        let v = b.op(Op::Reshape { shape: vec![c(1), s.clone(), c(n), c(hd)] }, &[v]);
        b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[v])
    };
    let (q, k, v) = (heads(&mut b, 0, h), heads(&mut b, h * hd, hkv), heads(&mut b, (h + hkv) * hd, hkv));
    let rope = Op::Rope { dims: hd as u32, traditional: false, base: 10000.0.into(), scale: 1.0.into() };
    let (q, k) = (b.op(rope.clone(), &[q, pos]), b.op(rope, &[k, pos]));
    let k1 = b.op(Op::SliceUpdate { axes: vec![2] }, &[kc, k, pos]);
    let v1 = b.op(Op::SliceUpdate { axes: vec![2] }, &[vc, v, pos]);
    let scale = (1.0 / (hd as f64).sqrt()).into();
    let o = b.op(
        Op::Sdpa { scale, causal: true, mask: false, offset: true, window: None, softcap: None },
        &[q, k1, v1, pos],
    );
    let o = b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[o]);
    let o = b.op(Op::Reshape { shape: vec![s.clone(), c(h * hd)] }, &[o]);
    let o = b.op(product.clone(), &[o, wo]);
    let r = b.op(Op::Binary(BinaryOp::Add), &[x, o]);
    let xn = b.op(norm, &[r, n2]);
    let gu = b.op(product.clone(), &[xn, wgu]);
    let half = |b: &mut B, lo: i64| {
        b.op(Op::Slice { start: vec![c(0), c(lo)], stop: vec![s.clone(), c(lo + ff)], step: vec![1, 1] }, &[gu])
    };
    let (g, u) = (half(&mut b, 0), half(&mut b, ff));
    let a = b.op(Op::Gated(Activation::Silu), &[g, u]);
    let down = b.op(product, &[a, wd]);
    let y = b.op(Op::Binary(BinaryOp::Add), &[r, down]);
    b.0.update(first_state, k1);
    b.0.update(first_state + 1, v1);
    b.out(&[y])
}

/// Chunks of keys that end within a tile, keys in rows; and a block, with keys in panels.
#[test]
fn attention_in_matrix_tiles() {
    for (heads, shared, queries, keys) in [(4, 1, 17, 150), (2, 2, 40, 33), (3, 1, 6, 64)] {
        let mut b = B::new("attention");
        let s = b.symbol("S", queries);
        let q = b.input("q", DType::BF16, &[c(1), c(heads), s, c(64)]);
        let k = b.input("k", DType::BF16, &[c(1), c(shared), c(keys), c(64)]);
        let v = b.input("v", DType::BF16, &[c(1), c(shared), c(keys), c(32)]);
        let causal = queries <= keys;
        let op = Op::Sdpa { scale: 0.125.into(), causal, mask: false, offset: false, window: None, softcap: None };
        let y = b.op(op, &[q, k, v]);
        let f = b.out(&[y]);
        let (_, partition, _) = kernels(&f, &tiled(), true);
        assert!(mlxc_ir::kernel::print(&partition.groups[0].built.kernel).contains("mma("), "{heads} {keys}");
        for s in [1, queries] {
            check_for(&tiled(), &f, &arguments(&f, &[s], 5), 8.0);
        }
    }
    let f = block(DType::BF16, false);
    for (s, position) in [(1, 0), (20, 11)] {
        check_for(&tiled(), &f, &arguments(&f, &[s, position], 21), 8.0);
    }
}

#[test]
fn a_block_is_at_most_seven_kernels_and_right() {
    for dtype in [DType::F32, DType::BF16] {
        for one in [true, false] {
            let f = block(dtype, one);
            let count = kernels(&f, &profile(), true).1.groups.len();
            assert!(count <= 7, "{count} kernels");
            let symbols: &[&[i64]] = if one { &[&[0], &[13], &[47]] } else { &[&[17, 0], &[5, 21], &[20, 28]] };
            for s in symbols {
                let mut args = arguments(&f, s, 23);
                for (p, a) in f.params.iter().zip(&mut args) {
                    if p.name.starts_with('w') {
                        let smaller: Vec<f64> = a.to_floats().iter().map(|v| v * 0.2).collect();
                        *a = Tensor::floats(dtype, &a.shape.clone(), &smaller);
                    }
                }
                check(&f, &profile(), &args, 8.0);
            }
        }
    }
}

/// A reshape that merges a symbolic inner extent renames memory; what it renames is stored first.
#[test]
fn a_reshape_without_affine_indices_stores_what_it_renames() {
    let mut b = B::new("merged");
    let s = b.symbol("S", 9);
    let x = b.input("x", DType::F32, &[s.clone(), c(4), c(5)]);
    let y = b.op(Op::Transpose { perm: vec![2, 0, 1] }, &[x]);
    let y = b.op(Op::Unary(UnaryOp::Exp), &[y]);
    let y = b.op(Op::Reshape { shape: vec![s * c(5), c(4)] }, &[y]);
    let y = b.op(Op::Unary(UnaryOp::Sin), &[y]);
    let f = b.out(&[y]);
    let f = mlxc_passes::canonicalise::canonicalise(&f).expect("the function is canonical");
    let f = mlxc_passes::prepare::prepare(&f).expect("the function is prepared");
    check(&f, &profile(), &arguments(&f, &[7], 29), 4.0);
}

/// Scans, sorts, scatters, windows and random bits, where every load of what nobody stored is an error.
#[test]
fn lines_and_indices() {
    let f = mlxc_tests::every::module().functions.remove(0);
    for n in [4, 9] {
        check(&f, &profile(), &arguments(&f, &[n], 31), 8.0);
    }
}

/// A product in blocks, with a tail in every direction and an epilogue.
#[test]
fn products_of_computed_factors() {
    let mut b = B::new("blocks");
    let n = b.symbol("N", 40);
    let (x, y) = (b.input("x", DType::F32, &[n.clone(), c(17)]), b.input("y", DType::F32, &[c(37), c(17)]));
    let x = b.op(Op::Unary(UnaryOp::Square), &[x]);
    let z = b.op(Op::MatMul { transpose_a: false, transpose_b: true }, &[x, y]);
    let z = b.op(Op::Unary(UnaryOp::Relu), &[z]);
    b.0.result("z", z);
    let f = b.0.finish();
    let (_, partition, _) = kernels(&f, &profile(), true);
    let templates: Vec<&str> = partition.groups.iter().map(|g| g.built.template).collect();
    // Where blocks are narrow, a factor that several need may be computed before.
    assert_eq!(templates.last(), Some(&"product"));
    for n in [1, 40] {
        check(&f, &profile(), &arguments(&f, &[n], 37), 8.0);
    }
}
