//! One graph with an op of each kind that indexes, orders or reads bits, for tests of the text form.

use mlxc_ir::graph::{FunctionBuilder, Module, Op, Role, ScanOp, ScatterOp, SymbolKind, TensorType};
use mlxc_ir::{DType, Range, Size};

/// The module.
pub fn module() -> Module {
    let mut b = FunctionBuilder::new("every");
    let n = Size::symbol(b.symbol("N", Range::new(4, 9), 1, SymbolKind::Size));
    let c = Size::constant;
    let mut input =
        |name: &str, dtype: DType, shape: Vec<Size>| b.param(name, Role::Input, TensorType { dtype, shape }, None);
    let x = input("x", DType::F32, vec![n.clone(), c(6)]);
    let i = input("i", DType::I32, vec![c(3)]);
    let along = input("along", DType::I32, vec![n.clone(), c(2)]);
    let values = input("values", DType::F32, vec![n.clone(), c(2)]);
    let rows = input("rows", DType::F32, vec![c(3), c(6)]);
    let key = input("key", DType::U32, vec![c(2)]);
    let windows = Op::Windows { axes: vec![0, 1], sizes: vec![2, 3], strides: vec![1, 2], dilations: vec![3, 1] };
    let mut ops = vec![
        (windows, vec![x]),
        (Op::Bitcast(DType::I32), vec![x]),
        (Op::ArgSort { axis: 1 }, vec![x]),
        (Op::GatherNd { axes: vec![0, 1] }, vec![x, i, i]),
        (Op::RandomBits { shape: vec![n, c(5)], width: 2 }, vec![key]),
    ];
    ops.extend(ScanOp::ALL.iter().map(|op| {
        let reverse = *op == ScanOp::Max;
        (Op::Scan { op: *op, axis: 1, reverse, exclusive: !reverse }, vec![x])
    }));
    for reduce in ScatterOp::ALL.iter().copied() {
        ops.push((Op::Scatter { axes: vec![0], reduce }, vec![x, rows, i]));
        ops.push((Op::ScatterAlong { axis: 1, reduce }, vec![x, along, values]));
    }
    for (k, (op, inputs)) in ops.into_iter().enumerate() {
        let v = b.node(op, &inputs, None).unwrap_or_else(|e| panic!("{e}"));
        b.result(format!("y{k}"), v);
    }
    Module { functions: vec![b.finish()], ..Module::default() }
}
