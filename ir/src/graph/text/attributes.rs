//! Ops as a name and a list of attributes, and back: the one table that printer and parser share.

use crate::graph::op::{
    Activation, ArgOp, BinaryOp, CompareOp, Dense, Literal, Op, Real, ReduceOp, ScanOp, ScatterOp, UnaryOp,
};
use crate::quantize::Scheme;
use mlxc_package::{DType, Size};
use std::sync::Arc;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Size(Size),
    Sizes(Vec<Size>),
    Real(f64),
    Word(String),
    Text(String),
}

impl Value {
    fn int(v: i64) -> Self {
        Value::Size(Size::constant(v))
    }

    fn ints(v: impl IntoIterator<Item = i64>) -> Self {
        Value::Sizes(v.into_iter().map(Size::constant).collect())
    }

    fn flag(v: bool) -> Self {
        Value::Word(v.to_string())
    }
}

type List = Vec<(&'static str, Value)>;

fn literal(l: Literal) -> Value {
    match l {
        Literal::Float(r) => Value::Real(r.get()),
        Literal::Int(i) => Value::int(i),
    }
}

/// The attributes of an op, in the order they print.
pub(super) fn of(op: &Op) -> List {
    let axes = |a: &[u32]| Value::ints(a.iter().map(|x| i64::from(*x)));
    let word = |d: DType| Value::Word(d.name().into());
    match op {
        Op::Param(i) => vec![("index", Value::int(i64::from(*i)))],
        Op::Full { value, dtype, shape } => {
            vec![("value", literal(*value)), ("dtype", word(*dtype)), ("shape", Value::Sizes(shape.clone()))]
        }
        Op::Constant(d) => vec![
            ("dtype", word(d.dtype)),
            ("shape", Value::ints(d.shape.iter().copied())),
            ("bytes", Value::Text(d.bytes.iter().map(|b| format!("{b:02x}")).collect())),
        ],
        Op::Iota { dtype, shape, axis } => vec![
            ("dtype", word(*dtype)),
            ("shape", Value::Sizes(shape.clone())),
            ("axis", Value::int(i64::from(*axis))),
        ],
        Op::FromSize { size, dtype } => vec![("size", Value::Size(size.clone())), ("dtype", word(*dtype))],
        Op::Cast(d) | Op::Bitcast(d) => vec![("dtype", word(*d))],
        Op::Broadcast { shape } | Op::Reshape { shape } => vec![("shape", Value::Sizes(shape.clone()))],
        Op::Transpose { perm } => vec![("axes", axes(perm))],
        Op::Slice { start, stop, step } => vec![
            ("start", Value::Sizes(start.clone())),
            ("stop", Value::Sizes(stop.clone())),
            ("step", Value::ints(step.iter().copied())),
        ],
        Op::Reverse { axes: a } => vec![("axes", axes(a))],
        Op::Windows { axes: a, sizes, strides, dilations } => vec![
            ("axes", axes(a)),
            ("sizes", Value::ints(sizes.iter().copied())),
            ("strides", Value::ints(strides.iter().copied())),
            ("dilations", Value::ints(dilations.iter().copied())),
        ],
        Op::Pad { low, high, value } => vec![
            ("low", Value::ints(low.iter().copied())),
            ("high", Value::ints(high.iter().copied())),
            ("value", literal(*value)),
        ],
        Op::Concat { axis } | Op::Gather { axis } | Op::TakeAlong { axis } | Op::ArgSort { axis } => {
            vec![("axis", Value::int(i64::from(*axis)))]
        }
        Op::GatherNd { axes: a } => vec![("axes", axes(a))],
        Op::Scatter { axes: a, reduce } => vec![("axes", axes(a)), ("reduce", Value::Word(reduce.name().into()))],
        Op::ScatterAlong { axis, reduce } => {
            vec![("axis", Value::int(i64::from(*axis))), ("reduce", Value::Word(reduce.name().into()))]
        }
        Op::Scan { axis, reverse, exclusive, .. } => vec![
            ("axis", Value::int(i64::from(*axis))),
            ("reverse", Value::flag(*reverse)),
            ("exclusive", Value::flag(*exclusive)),
        ],
        Op::RandomBits { shape, width } => {
            vec![("shape", Value::Sizes(shape.clone())), ("width", Value::int(i64::from(*width)))]
        }
        Op::DynamicSlice { axes: a, sizes } => vec![("axes", axes(a)), ("sizes", Value::Sizes(sizes.clone()))],
        Op::SliceUpdate { axes: a } => vec![("axes", axes(a))],
        Op::Reduce { axes: a, keepdims, .. } => vec![("axes", axes(a)), ("keepdims", Value::flag(*keepdims))],
        Op::ArgReduce { axis, keepdims, .. } => {
            vec![("axis", Value::int(i64::from(*axis))), ("keepdims", Value::flag(*keepdims))]
        }
        Op::MatMul { transpose_a, transpose_b } => {
            vec![("transpose_a", Value::flag(*transpose_a)), ("transpose_b", Value::flag(*transpose_b))]
        }
        Op::Int8MatMul { group } => vec![("group", Value::int(i64::from(*group)))],
        Op::Dequantize { scheme, dtype } => {
            vec![("scheme", Value::Text(scheme.to_string())), ("dtype", word(*dtype))]
        }
        Op::RmsNorm { eps } | Op::LayerNorm { eps } => vec![("eps", Value::Real(eps.get()))],
        Op::Rope { dims, traditional, base, scale } => vec![
            ("dims", Value::int(i64::from(*dims))),
            ("traditional", Value::flag(*traditional)),
            ("base", Value::Real(base.get())),
            ("scale", Value::Real(scale.get())),
        ],
        Op::Sdpa { scale, causal, mask, offset, window, softcap } => {
            let mut list = vec![
                ("scale", Value::Real(scale.get())),
                ("causal", Value::flag(*causal)),
                ("mask", Value::flag(*mask)),
                ("offset", Value::flag(*offset)),
            ];
            list.extend(window.map(|w| ("window", Value::int(i64::from(w)))));
            list.extend(softcap.map(|c| ("softcap", Value::Real(c.get()))));
            list
        }
        Op::Gated(a) => vec![("activation", Value::Word(a.name().into()))],
        Op::Call { function, results, updates } => vec![
            ("function", Value::int(i64::from(*function))),
            ("results", Value::int(i64::from(*results))),
            ("updates", axes(updates)),
        ],
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Softmax => Vec::new(),
    }
}

/// What an attribute should have been.
pub(super) type Wanted = (&'static str, &'static str);

struct Reader<'a>(&'a [(String, Value)]);

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    fn int(&self, key: &'static str) -> Result<i64, Wanted> {
        match self.get(key) {
            Some(Value::Size(s)) => s.as_const().ok_or((key, "a whole number")),
            _ => Err((key, "a whole number")),
        }
    }

    fn axis(&self, key: &'static str) -> Result<u32, Wanted> {
        u32::try_from(self.int(key)?).map_err(|_| (key, "a whole number of at least 0"))
    }

    fn sizes(&self, key: &'static str) -> Result<Vec<Size>, Wanted> {
        match self.get(key) {
            Some(Value::Sizes(s)) => Ok(s.clone()),
            _ => Err((key, "a list of sizes")),
        }
    }

    fn ints(&self, key: &'static str) -> Result<Vec<i64>, Wanted> {
        self.sizes(key)?.iter().map(|s| s.as_const().ok_or((key, "a list of whole numbers"))).collect()
    }

    fn axes(&self, key: &'static str) -> Result<Vec<u32>, Wanted> {
        self.ints(key)?.into_iter().map(|n| u32::try_from(n).map_err(|_| (key, "a list of axes"))).collect()
    }

    fn flag(&self, key: &'static str) -> Result<bool, Wanted> {
        match self.get(key) {
            Some(Value::Word(w)) if w == "true" => Ok(true),
            Some(Value::Word(w)) if w == "false" => Ok(false),
            _ => Err((key, "true or false")),
        }
    }

    fn real(&self, key: &'static str) -> Result<Real, Wanted> {
        match self.get(key) {
            Some(Value::Real(x)) => Ok(Real::new(*x)),
            _ => Err((key, "a float")),
        }
    }

    fn literal(&self, key: &'static str) -> Result<Literal, Wanted> {
        match self.get(key) {
            Some(Value::Real(x)) => Ok(Literal::float(*x)),
            Some(Value::Size(s)) => s.as_const().map(Literal::Int).ok_or((key, "a number")),
            _ => Err((key, "a number")),
        }
    }

    fn word(&self, key: &'static str, wanted: &'static str) -> Result<&str, Wanted> {
        match self.get(key) {
            Some(Value::Word(w)) => Ok(w),
            _ => Err((key, wanted)),
        }
    }

    fn dtype(&self, key: &'static str) -> Result<DType, Wanted> {
        let word = self.word(key, "a dtype")?;
        let wanted = if super::parse::is_complex(word) { "a dtype that is not complex" } else { "a dtype" };
        word.parse().map_err(|()| (key, wanted))
    }

    fn bytes(&self, key: &'static str) -> Result<Vec<u8>, Wanted> {
        let Some(Value::Text(t)) = self.get(key) else { return Err((key, "a string of hexadecimal digits")) };
        let digits = t.as_bytes();
        if digits.len() % 2 != 0 {
            return Err((key, "an even number of hexadecimal digits"));
        }
        let digit = |b: u8| (b as char).to_digit(16).ok_or((key, "hexadecimal digits"));
        digits.chunks_exact(2).map(|p| Ok((digit(p[0])? * 16 + digit(p[1])?) as u8)).collect()
    }
}

/// The op of a name with attributes; `None` for a name that is not known.
pub(super) fn build(name: &str, attributes: &[(String, Value)]) -> Option<Result<Op, Wanted>> {
    let r = Reader(attributes);
    // `sum` of bools and `max` of arrays share no name with binary ops, so the first hit is the only one.
    if let Some(op) = UnaryOp::from_name(name) {
        return Some(Ok(Op::Unary(op)));
    }
    if let Some(op) = BinaryOp::from_name(name) {
        return Some(Ok(Op::Binary(op)));
    }
    if let Some(op) = CompareOp::from_name(name) {
        return Some(Ok(Op::Compare(op)));
    }
    if let Some(op) = ReduceOp::from_name(name) {
        return Some((|| Ok(Op::Reduce { op, axes: r.axes("axes")?, keepdims: r.flag("keepdims")? }))());
    }
    if let Some(op) = ArgOp::from_name(name) {
        return Some((|| Ok(Op::ArgReduce { op, axis: r.axis("axis")?, keepdims: r.flag("keepdims")? }))());
    }
    if let Some(op) = ScanOp::from_name(name) {
        return Some((|| {
            let (axis, reverse, exclusive) = (r.axis("axis")?, r.flag("reverse")?, r.flag("exclusive")?);
            Ok(Op::Scan { op, axis, reverse, exclusive })
        })());
    }
    let reduce = || {
        let word = r.word("reduce", "a reduction of a scatter")?;
        ScatterOp::from_name(word).ok_or(("reduce", "a reduction of a scatter"))
    };
    let op = || -> Result<Option<Op>, Wanted> {
        Ok(Some(match name {
            "param" => Op::Param(r.axis("index")?),
            "full" => Op::Full { value: r.literal("value")?, dtype: r.dtype("dtype")?, shape: r.sizes("shape")? },
            "constant" => {
                let (dtype, shape, bytes) = (r.dtype("dtype")?, r.ints("shape")?, r.bytes("bytes")?);
                Op::Constant(Arc::new(Dense { dtype, shape, bytes }))
            }
            "iota" => Op::Iota { dtype: r.dtype("dtype")?, shape: r.sizes("shape")?, axis: r.axis("axis")? },
            "from_size" => {
                let Some(Value::Size(size)) = r.get("size").cloned() else { return Err(("size", "a size")) };
                Op::FromSize { size, dtype: r.dtype("dtype")? }
            }
            "select" => Op::Select,
            "cast" => Op::Cast(r.dtype("dtype")?),
            "bitcast" => Op::Bitcast(r.dtype("dtype")?),
            "broadcast" => Op::Broadcast { shape: r.sizes("shape")? },
            "reshape" => Op::Reshape { shape: r.sizes("shape")? },
            "transpose" => Op::Transpose { perm: r.axes("axes")? },
            "slice" => Op::Slice { start: r.sizes("start")?, stop: r.sizes("stop")?, step: r.ints("step")? },
            "reverse" => Op::Reverse { axes: r.axes("axes")? },
            "windows" => Op::Windows {
                axes: r.axes("axes")?,
                sizes: r.ints("sizes")?,
                strides: r.ints("strides")?,
                dilations: r.ints("dilations")?,
            },
            "pad" => Op::Pad { low: r.ints("low")?, high: r.ints("high")?, value: r.literal("value")? },
            "concat" => Op::Concat { axis: r.axis("axis")? },
            "take" => Op::Gather { axis: r.axis("axis")? },
            "take_along" => Op::TakeAlong { axis: r.axis("axis")? },
            "gather" => Op::GatherNd { axes: r.axes("axes")? },
            "scatter" => Op::Scatter { axes: r.axes("axes")?, reduce: reduce()? },
            "scatter_along" => Op::ScatterAlong { axis: r.axis("axis")?, reduce: reduce()? },
            "argsort" => Op::ArgSort { axis: r.axis("axis")? },
            "random_bits" => Op::RandomBits { shape: r.sizes("shape")?, width: r.axis("width")? },
            "dynamic_slice" => Op::DynamicSlice { axes: r.axes("axes")?, sizes: r.sizes("sizes")? },
            "slice_update" => Op::SliceUpdate { axes: r.axes("axes")? },
            "matmul" => Op::MatMul { transpose_a: r.flag("transpose_a")?, transpose_b: r.flag("transpose_b")? },
            "int8_matmul" => Op::Int8MatMul { group: r.axis("group")? },
            "dequantize" => {
                let Some(Value::Text(text)) = r.get("scheme") else { return Err(("scheme", "a quoted scheme")) };
                let scheme: Scheme = text.parse().map_err(|_| ("scheme", "BITS,GROUP,MODE of a known scheme"))?;
                Op::Dequantize { scheme, dtype: r.dtype("dtype")? }
            }
            "rms_norm" => Op::RmsNorm { eps: r.real("eps")? },
            "layer_norm" => Op::LayerNorm { eps: r.real("eps")? },
            "softmax" => Op::Softmax,
            "rope" => Op::Rope {
                dims: r.axis("dims")?,
                traditional: r.flag("traditional")?,
                base: r.real("base")?,
                scale: r.real("scale")?,
            },
            "sdpa" => Op::Sdpa {
                scale: r.real("scale")?,
                causal: r.flag("causal")?,
                mask: r.flag("mask")?,
                offset: r.flag("offset")?,
                window: r.get("window").map(|_| r.axis("window")).transpose()?,
                softcap: r.get("softcap").map(|_| r.real("softcap")).transpose()?,
            },
            "gated" => {
                let word = r.word("activation", "an activation")?;
                Op::Gated(Activation::from_name(word).ok_or(("activation", "an activation"))?)
            }
            "call" => {
                Op::Call { function: r.axis("function")?, results: r.axis("results")?, updates: r.axes("updates")? }
            }
            _ => return Ok(None),
        }))
    };
    op().transpose()
}
