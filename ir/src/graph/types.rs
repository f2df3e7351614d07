//! Tensor types, symbols, functions and modules: the Graph IR as data.

use crate::diagnostic::Location;
use crate::graph::op::Op;
use mlxc_package::{DType, Range, Size, SymId};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// dtype and shape of one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<Size>,
}

impl TensorType {
    /// A type of constant shape.
    pub fn constant(dtype: DType, shape: &[i64]) -> Self {
        TensorType { dtype, shape: shape.iter().map(|n| Size::constant(*n)).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> Size {
        self.shape.iter().fold(Size::constant(1), |n, d| n * d.clone())
    }

    /// Largest number of bytes, given the symbols' intervals.
    pub fn max_bytes(&self, symbols: &[Symbol]) -> u64 {
        let hi = self.elements().bounds(&ranges(symbols)).hi.max(0) as u64;
        hi.saturating_mul(self.dtype.bytes())
    }

    /// The shape, if no extent depends on a symbol.
    pub fn const_shape(&self) -> Option<Vec<i64>> {
        self.shape.iter().map(Size::as_const).collect()
    }

    /// Prints with the function's symbol names: `bf16[S, 2048]`.
    pub fn display<'a>(&'a self, symbols: &'a [Symbol]) -> impl fmt::Display + 'a {
        DisplayType { ty: self, symbols }
    }
}

struct DisplayType<'a> {
    ty: &'a TensorType,
    symbols: &'a [Symbol],
}

impl fmt::Display for DisplayType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.ty.dtype)?;
        for (i, d) in self.ty.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", d.display(&|id| symbol_name(self.symbols, id)))?;
        }
        f.write_str("]")
    }
}

/// The name of a symbol, or `?n` for one that is not declared.
pub fn symbol_name(symbols: &[Symbol], id: SymId) -> String {
    symbols.get(id.0 as usize).map_or_else(|| format!("?{}", id.0), |s| s.name.to_string())
}

/// The intervals of a list of symbols.
pub fn ranges(symbols: &[Symbol]) -> Vec<Range> {
    symbols.iter().map(|s| s.range).collect()
}

/// What fixes a symbol's value when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SymbolKind {
    /// An extent of an input.
    Size,
    /// The value of an i32[] input that the host knows (a position, a live length). It never stands in a shape.
    Scalar,
}

/// A named integer with bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Name in text forms, an identifier.
    pub name: Arc<str>,
    /// Inclusive bounds, at least 0.
    pub range: Range,
    /// Every value is a multiple of this; at least 1.
    pub multiple: i64,
    /// Where the value comes from.
    pub kind: SymbolKind,
}

/// What an argument is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Given anew each step.
    Input,
    /// An i32[] input that is also the symbol's value.
    Scalar(SymId),
    /// A weight of the module.
    Weight(u32),
    /// A state of the module, donated: it has one successor per step.
    State(u32),
    /// A parameter of a block function: whatever the caller passes.
    Block,
}

/// A function's parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Name in text forms and packages.
    pub name: Arc<str>,
    /// What it is.
    pub role: Role,
    /// Its type.
    pub ty: TensorType,
}

/// A value: one result of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    /// Position in the function's nodes.
    pub node: u32,
    /// Which of the node's results.
    pub index: u32,
}

impl ValueId {
    /// The first result of a node.
    pub fn of(node: usize) -> Self {
        ValueId { node: node as u32, index: 0 }
    }
}

/// One operation applied to values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands; each comes from an earlier node.
    pub inputs: SmallVec<[ValueId; 3]>,
    /// One type for each result.
    pub types: SmallVec<[TensorType; 1]>,
    /// The user's name for the (first) result.
    pub name: Option<Arc<str>>,
    /// The user's line.
    pub at: Option<Location>,
}

/// A named result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name in text forms and packages.
    pub name: Arc<str>,
    /// The value.
    pub value: ValueId,
}

/// A function: an entry point or a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Name; entries are called by it.
    pub name: String,
    /// Symbols of its shapes and host scalars.
    pub symbols: Vec<Symbol>,
    /// Parameters.
    pub params: Vec<Param>,
    /// Nodes, operands before users.
    pub nodes: Vec<Node>,
    /// Results, in order.
    pub results: Vec<Output>,
    /// The last version of each state parameter that is updated: (parameter, value).
    pub updates: Vec<(u32, ValueId)>,
    /// Facts the runtime checks before each step: every size is at least 0.
    pub requires: Vec<Size>,
    /// True for a block function, false for an entry.
    pub is_block: bool,
}

impl Function {
    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.nodes[value.node as usize].types[value.index as usize]
    }

    /// The node that makes a value.
    pub fn node(&self, value: ValueId) -> &Node {
        &self.nodes[value.node as usize]
    }

    /// Number of symbols' intervals, in order.
    pub fn ranges(&self) -> Vec<Range> {
        ranges(&self.symbols)
    }

    /// For each node, the nodes that use one of its values (with repetitions), in order.
    pub fn users(&self) -> Vec<Vec<u32>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                users[input.node as usize].push(i as u32);
            }
        }
        users
    }

    /// The parameter a value is, if it is one.
    pub fn param_of(&self, value: ValueId) -> Option<&Param> {
        match self.node(value).op {
            Op::Param(i) => self.params.get(i as usize),
            _ => None,
        }
    }

    /// A name for a value: the user's, the parameter's, or op and number.
    pub fn value_name(&self, value: ValueId) -> String {
        let node = self.node(value);
        match (&node.name, &node.op) {
            (_, Op::Param(i)) => self.params[*i as usize].name.to_string(),
            (Some(name), _) => name.to_string(),
            (None, op) => format!("{}_{}", op.name(), value.node),
        }
    }

    /// Every value the caller sees: results, then state updates.
    pub fn roots(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.results.iter().map(|o| o.value).chain(self.updates.iter().map(|(_, v)| *v))
    }
}

/// A weight: constant over the life of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Checkpoint name.
    pub name: Arc<str>,
    /// Type, of constant shape.
    pub ty: TensorType,
}

/// A state: kept from step to step, zero at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Name.
    pub name: Arc<str>,
    /// Type, of constant shape.
    pub ty: TensorType,
}

/// Entries and blocks that share weights and state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Weights, by number.
    pub weights: Vec<Weight>,
    /// States, by number.
    pub states: Vec<State>,
    /// Functions; entries and the blocks they call.
    pub functions: Vec<Function>,
}

impl Module {
    /// The functions a caller can run.
    pub fn entries(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|f| !f.is_block)
    }
}
