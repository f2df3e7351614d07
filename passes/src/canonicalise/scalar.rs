//! Exact identities of elementwise ops.
//!
//! Floats keep their zeros' signs: `x + 0` is not `x` for `x = -0`, but `x - 0` and `x + -0` are.

use super::{Canon, Simplified, Step};
use mlxc_ir::DType;
use mlxc_ir::graph::{BinaryOp, CompareOp, Literal, Op, UnaryOp, ValueId};

/// One identity that applies to the node, if any does.
pub(super) fn simplify(c: &mut Canon, op: &Op, x: &[ValueId]) -> Simplified {
    // A power of two divides as its reciprocal multiplies: both round the same number.
    if let Op::Binary(BinaryOp::Divide) = op
        && let Some(k) = c.full(x[1]).map(Literal::as_f64).filter(|k| is_power_of_two(*k) && *k != 1.0)
    {
        let ty = c.ty(x[1]).clone();
        let reciprocal = Op::Full { value: Literal::float(1.0 / k), dtype: ty.dtype, shape: ty.shape };
        let reciprocal = c.build(reciprocal, &[])?;
        return Ok(Some(Step::Node(Op::Binary(BinaryOp::Multiply), vec![x[0], reciprocal])));
    }
    Ok(match op {
        Op::Unary(op) => unary(c, *op, x[0]),
        Op::Binary(op) => binary(c, *op, x[0], x[1]),
        Op::Compare(op) => compare(c, *op, x[0], x[1]),
        Op::Cast(to) => cast(c, *to, x[0]),
        Op::Select => select(c, x),
        _ => None,
    })
}

fn unary(c: &Canon, op: UnaryOp, x: ValueId) -> Option<Step> {
    let node = c.def(x)?;
    let inner = *node.inputs.first()?;
    match (op, &node.op) {
        (UnaryOp::Negative, Op::Unary(UnaryOp::Negative))
        | (UnaryOp::LogicalNot, Op::Unary(UnaryOp::LogicalNot))
        | (UnaryOp::BitwiseInvert, Op::Unary(UnaryOp::BitwiseInvert)) => Some(Step::Value(inner)),
        (UnaryOp::Abs | UnaryOp::Square, Op::Unary(UnaryOp::Negative)) => Some(Step::Node(Op::Unary(op), vec![inner])),
        (UnaryOp::Abs, Op::Unary(UnaryOp::Abs | UnaryOp::Square)) if c.dtype(x).is_float() => Some(Step::Value(x)),
        (UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round, _) if c.dtype(x).is_int() => Some(Step::Value(x)),
        (UnaryOp::Relu, Op::Unary(UnaryOp::Relu)) => Some(Step::Value(x)),
        (UnaryOp::LogicalNot, Op::Compare(op)) => {
            let total = c.dtype(inner).is_int() || matches!(op, CompareOp::Equal | CompareOp::NotEqual);
            total.then(|| Step::Node(Op::Compare(negated(*op)), node.inputs.to_vec()))
        }
        _ => None,
    }
}

fn negated(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Equal => CompareOp::NotEqual,
        CompareOp::NotEqual => CompareOp::Equal,
        CompareOp::Less => CompareOp::GreaterEqual,
        CompareOp::LessEqual => CompareOp::Greater,
        CompareOp::Greater => CompareOp::LessEqual,
        CompareOp::GreaterEqual => CompareOp::Less,
    }
}

fn swapped(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        same => same,
    }
}

fn binary(c: &Canon, op: BinaryOp, a: ValueId, b: ValueId) -> Option<Step> {
    use BinaryOp::*;
    // Constants are looked for on the right.
    if op.is_commutative() && c.full(a).is_some() && c.full(b).is_none() {
        return Some(Step::Node(Op::Binary(op), vec![b, a]));
    }
    let dtype = c.dtype(a);
    if a == b {
        match op {
            Maximum | Minimum | LogicalAnd | LogicalOr | BitwiseAnd | BitwiseOr => return Some(Step::Value(a)),
            Multiply => return Some(Step::Node(Op::Unary(UnaryOp::Square), vec![a])),
            Subtract | BitwiseXor if !dtype.is_float() => return Some(full_like(c, a, 0)),
            _ => {}
        }
    }
    let value = c.full(b)?;
    if dtype.is_float() { float_constant(op, a, value.as_f64()) } else { int_constant(c, op, a, value) }
}

fn float_constant(op: BinaryOp, a: ValueId, k: f64) -> Option<Step> {
    use BinaryOp::*;
    let negative = k.is_sign_negative();
    match op {
        Add if k == 0.0 && negative => Some(Step::Value(a)),
        Subtract if k == 0.0 && !negative => Some(Step::Value(a)),
        Multiply | Divide | Power if k == 1.0 => Some(Step::Value(a)),
        Multiply | Divide if k == -1.0 => Some(Step::Node(Op::Unary(UnaryOp::Negative), vec![a])),
        Power if k == 2.0 => Some(Step::Node(Op::Unary(UnaryOp::Square), vec![a])),
        _ => None,
    }
}

/// True for powers of two whose reciprocal every float dtype holds as a normal number.
fn is_power_of_two(k: f64) -> bool {
    let mantissa = k.to_bits() & ((1 << 52) - 1);
    mantissa == 0 && (2f64.powi(-13)..=2f64.powi(13)).contains(&k.abs())
}

fn int_constant(c: &Canon, op: BinaryOp, a: ValueId, k: Literal) -> Option<Step> {
    use BinaryOp::*;
    let bool_operand = c.dtype(a) == DType::Bool;
    match (op, k.as_i64()) {
        (Add | Subtract | BitwiseOr | BitwiseXor | LeftShift | RightShift | LogicalOr, 0) => Some(Step::Value(a)),
        (Multiply | FloorDivide | Power | LogicalAnd, 1) => Some(Step::Value(a)),
        (BitwiseAnd, 1) if bool_operand => Some(Step::Value(a)),
        (Multiply | BitwiseAnd | LogicalAnd, 0) => Some(full_like(c, a, 0)),
        (LogicalOr, 1) => Some(full_like(c, a, 1)),
        (Remainder, 1) => Some(full_like(c, a, 0)),
        _ => None,
    }
}

fn full_like(c: &Canon, a: ValueId, value: i64) -> Step {
    let ty = c.ty(a);
    Step::Node(Op::Full { value: Literal::Int(value), dtype: ty.dtype, shape: ty.shape.clone() }, Vec::new())
}

fn compare(c: &Canon, op: CompareOp, a: ValueId, b: ValueId) -> Option<Step> {
    if a == b && !c.dtype(a).is_float() {
        let ty = c.ty(a);
        let yes = matches!(op, CompareOp::Equal | CompareOp::LessEqual | CompareOp::GreaterEqual);
        let value = Literal::Int(i64::from(yes));
        return Some(Step::Node(Op::Full { value, dtype: DType::Bool, shape: ty.shape.clone() }, Vec::new()));
    }
    // One of two directions: constants on the right, else the greater is written as the lesser exchanged.
    let turn = match (c.full(a), c.full(b)) {
        (Some(_), None) => true,
        (None, Some(_)) => false,
        _ => match op {
            CompareOp::Greater | CompareOp::GreaterEqual => true,
            CompareOp::Equal | CompareOp::NotEqual => c.rank(b) < c.rank(a),
            _ => false,
        },
    };
    turn.then(|| Step::Node(Op::Compare(swapped(op)), vec![b, a]))
}

fn cast(c: &Canon, to: DType, x: ValueId) -> Option<Step> {
    if c.dtype(x) == to {
        return Some(Step::Value(x));
    }
    let (Op::Cast(middle), inner) = c.unary_def(x)? else { return None };
    holds(*middle, c.dtype(inner)).then(|| Step::Node(Op::Cast(to), vec![inner]))
}

/// True if `wide` represents every value of `narrow`.
fn holds(wide: DType, narrow: DType) -> bool {
    if wide == narrow || narrow == DType::Bool {
        return true;
    }
    let bits = |d: DType| 8 * d.bytes() as u32;
    let mantissa = |d: DType| match d {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        _ => 53,
    };
    match (wide.is_float(), narrow.is_float()) {
        (true, true) => wide.bytes() > narrow.bytes(),
        // Every extreme of these integers is far below the exponent limit.
        (true, false) => mantissa(wide) >= bits(narrow) - u32::from(narrow.is_signed_int()),
        (false, true) => false,
        (false, false) if wide == DType::Bool => false,
        (false, false) => match (wide.is_signed_int(), narrow.is_signed_int()) {
            (true, false) => bits(wide) > bits(narrow),
            (false, true) => false,
            _ => bits(wide) >= bits(narrow),
        },
    }
}

fn select(c: &Canon, x: &[ValueId]) -> Option<Step> {
    if x[1] == x[2] {
        return Some(Step::Value(x[1]));
    }
    if let Some(yes) = c.full(x[0]) {
        return Some(Step::Value(if yes.as_f64() != 0.0 { x[1] } else { x[2] }));
    }
    match c.unary_def(x[0])? {
        (Op::Unary(UnaryOp::LogicalNot), inner) => Some(Step::Node(Op::Select, vec![inner, x[2], x[1]])),
        _ => None,
    }
}
