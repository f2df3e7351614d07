//! Values as a user knows them.

use mlxc_ir::graph::{Function, Op, Role, ValueId};

/// True for floats of 16 bits.
pub(super) fn is_half(dtype: mlxc_ir::DType) -> bool {
    matches!(dtype, mlxc_ir::DType::F16 | mlxc_ir::DType::BF16)
}

/// A value in words: the user's name, the parameter it is, or the op that computes it.
pub(super) fn describe(f: &Function, mut v: ValueId) -> String {
    // A view of something with a name is known by that name.
    while f.node(v).name.is_none()
        && (f.node(v).op.is_view() || matches!(f.node(v).op, Op::Cast(_)))
        && !f.node(v).inputs.is_empty()
    {
        v = f.node(v).inputs[0];
    }
    let node = f.node(v);
    match (&node.name, &node.op) {
        (_, Op::Param(i)) => {
            let p = &f.params[*i as usize];
            let role = match p.role {
                Role::Input | Role::Scalar(_) => "input",
                Role::Weight(_) => "weight",
                Role::State(_) => "state",
                Role::Block => "parameter",
            };
            format!("{role} `{}`", p.name)
        }
        (Some(name), _) => format!("`{name}`"),
        (None, Op::Constant(_)) => "a constant array".into(),
        (None, Op::Full { .. }) => "an array of one value".into(),
        (None, Op::Iota { .. }) => "`arange`".into(),
        (None, op) => format!("the result of `{}`", op.name()),
    }
}
