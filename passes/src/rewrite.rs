//! Rebuilding a function node by node: the way every graph pass makes its result without touching its input.

use mlxc_ir::graph::{Function, FunctionBuilder, Node, Op, ValueId};
use mlxc_ir::{Diagnostic, Location};

/// A function being rebuilt from another one.
pub struct Rewriter<'f> {
    /// The function read.
    pub from: &'f Function,
    /// The function written.
    pub to: FunctionBuilder,
    /// New values, by old node and result.
    values: Vec<Vec<ValueId>>,
}

impl<'f> Rewriter<'f> {
    /// Starts with the same symbols and no nodes.
    pub fn new(from: &'f Function) -> Self {
        Rewriter { from, to: FunctionBuilder::like(from), values: Vec::with_capacity(from.nodes.len()) }
    }

    /// The new value of an old one.
    pub fn map(&self, v: ValueId) -> ValueId {
        self.values[v.node as usize][v.index as usize]
    }

    /// Copies a node as it is; parameters are declared again.
    ///
    /// # Errors
    /// What inference says of the new operands.
    pub fn copy(&mut self, node: &Node) -> Result<Vec<ValueId>, Diagnostic> {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| self.map(*v)).collect();
        let made = match &node.op {
            Op::Param(p) => {
                let p = &self.from.params[*p as usize];
                vec![self.to.param(&p.name, p.role, p.ty.clone(), node.at.clone())]
            }
            Op::Call { .. } => self.to.raw(node.op.clone(), &inputs, node.types.to_vec(), node.at.clone()),
            op => vec![self.to.node(op.clone(), &inputs, node.at.clone())?],
        };
        if let Some(name) = &node.name {
            self.to.name(made[0], name.clone());
        }
        Ok(made)
    }

    /// Says what the next old node became.
    pub fn set(&mut self, values: Vec<ValueId>) {
        self.values.push(values);
    }

    /// Runs `f` on every node in order; `None` copies it.
    ///
    /// # Errors
    /// What `f` or inference says.
    pub fn run(
        mut self,
        mut f: impl FnMut(&mut Self, usize, &Node) -> Result<Option<Vec<ValueId>>, Diagnostic>,
    ) -> Result<Function, Diagnostic> {
        let from = self.from;
        for (i, node) in from.nodes.iter().enumerate() {
            let made = match f(&mut self, i, node)? {
                Some(values) => values,
                None => self.copy(node)?,
            };
            self.set(made);
        }
        for r in &from.results {
            let v = self.map(r.value);
            self.to.result(r.name.clone(), v);
        }
        for (p, v) in &from.updates {
            let v = self.map(*v);
            self.to.update(*p, v);
        }
        Ok(self.to.finish())
    }

    /// Appends an op of one result to the new function.
    ///
    /// # Errors
    /// What inference says.
    pub fn op(&mut self, op: Op, inputs: &[ValueId], at: Option<&Location>) -> Result<ValueId, Diagnostic> {
        self.to.node(op, inputs, at.cloned())
    }
}

/// Keeps what the roots need, and every parameter.
///
/// # Errors
/// None in a verified function; the type says so for callers in a chain.
pub fn remove_dead(f: &Function) -> Result<Function, Diagnostic> {
    let mut live = vec![false; f.nodes.len()];
    for v in f.roots() {
        live[v.node as usize] = true;
    }
    for i in (0..f.nodes.len()).rev() {
        if live[i] {
            f.nodes[i].inputs.iter().for_each(|v| live[v.node as usize] = true);
        }
    }
    Rewriter::new(f).run(|_, i, node| {
        // A dead node has no users, so nothing asks for its value.
        let keep = live[i] || matches!(node.op, Op::Param(_));
        Ok(if keep { None } else { Some(vec![ValueId { node: u32::MAX, index: 0 }; node.types.len()]) })
    })
}
