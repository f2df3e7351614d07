//! Appends nodes to a function with inferred types.

use crate::diagnostic::{Diagnostic, Location};
use crate::graph::infer::infer;
use crate::graph::op::Op;
use crate::graph::types::{Function, Node, Output, Param, Role, Symbol, SymbolKind, TensorType, ValueId};
use mlxc_package::{DType, Range, Size, SymId};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Builds one function node by node.
#[derive(Clone, Debug, Default)]
pub struct FunctionBuilder {
    function: Function,
}

impl FunctionBuilder {
    /// An empty function.
    pub fn new(name: impl Into<String>) -> Self {
        FunctionBuilder { function: Function { name: name.into(), ..Function::default() } }
    }

    /// An empty function with the symbols, parameters' roles excluded, of another one.
    pub fn like(other: &Function) -> Self {
        FunctionBuilder {
            function: Function {
                name: other.name.clone(),
                symbols: other.symbols.clone(),
                requires: other.requires.clone(),
                is_block: other.is_block,
                ..Function::default()
            },
        }
    }

    /// The function so far.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// The function so far, for changes that need no inference.
    pub fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    /// Declares a symbol.
    pub fn symbol(&mut self, name: &str, range: Range, multiple: i64, kind: SymbolKind) -> SymId {
        self.function.symbols.push(Symbol { name: name.into(), range, multiple, kind });
        SymId(self.function.symbols.len() as u32 - 1)
    }

    /// Declares a parameter and gives its value.
    pub fn param(&mut self, name: &str, role: Role, ty: TensorType, at: Option<Location>) -> ValueId {
        self.function.params.push(Param { name: name.into(), role, ty: ty.clone() });
        let op = Op::Param(self.function.params.len() as u32 - 1);
        self.push(op, SmallVec::new(), smallvec![ty], at)
    }

    /// Declares a host-known scalar: an i32[] parameter that is also a symbol.
    pub fn scalar(&mut self, name: &str, range: Range, at: Option<Location>) -> (ValueId, SymId) {
        let id = self.symbol(name, range, 1, SymbolKind::Scalar);
        let ty = TensorType { dtype: DType::I32, shape: Vec::new() };
        (self.param(name, Role::Scalar(id), ty, at), id)
    }

    /// Appends a node of one result.
    ///
    /// # Errors
    /// What [`infer`](crate::graph::infer) says, with the place.
    pub fn node(&mut self, op: Op, inputs: &[ValueId], at: Option<Location>) -> Result<ValueId, Diagnostic> {
        let types = {
            let operands: Vec<&TensorType> = inputs.iter().map(|v| self.function.ty(*v)).collect();
            infer(&op, &operands, &self.function.symbols).map_err(|d| match &at {
                Some(at) => d.at(at.clone()),
                None => d,
            })?
        };
        Ok(self.push(op, SmallVec::from_slice(inputs), types, at))
    }

    /// Appends a call of a function of the module; gives its results, then its updates.
    pub fn call(&mut self, function: u32, callee: &Function, inputs: &[ValueId], at: Option<Location>) -> Vec<ValueId> {
        let op = Op::Call {
            function,
            results: callee.results.len() as u32,
            updates: callee.updates.iter().map(|(p, _)| *p).collect(),
        };
        let types: Vec<TensorType> = callee.roots().map(|v| callee.ty(v).clone()).collect();
        self.raw(op, inputs, types, at)
    }

    /// Appends a node whose result types are known already; gives its results.
    pub fn raw(&mut self, op: Op, inputs: &[ValueId], types: Vec<TensorType>, at: Option<Location>) -> Vec<ValueId> {
        let n = types.len() as u32;
        let node = self.push(op, SmallVec::from_slice(inputs), types.into(), at).node;
        (0..n).map(|index| ValueId { node, index }).collect()
    }

    fn push(
        &mut self,
        op: Op,
        inputs: SmallVec<[ValueId; 3]>,
        types: SmallVec<[TensorType; 1]>,
        at: Option<Location>,
    ) -> ValueId {
        self.function.nodes.push(Node { op, inputs, types, name: None, at });
        ValueId::of(self.function.nodes.len() - 1)
    }

    /// Names a value's node after the user's variable.
    pub fn name(&mut self, value: ValueId, name: impl Into<Arc<str>>) {
        self.function.nodes[value.node as usize].name = Some(name.into());
    }

    /// Declares a result.
    pub fn result(&mut self, name: impl Into<Arc<str>>, value: ValueId) {
        self.function.results.push(Output { name: name.into(), value });
    }

    /// Says which value is the last version of a state parameter.
    pub fn update(&mut self, param: u32, value: ValueId) {
        self.function.updates.push((param, value));
    }

    /// Adds a fact the runtime checks before each step: `size >= 0`.
    pub fn require(&mut self, size: Size) {
        self.function.requires.push(size);
    }

    /// The finished function.
    pub fn finish(self) -> Function {
        self.function
    }
}
