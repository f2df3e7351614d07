//! A function as an e-graph: nodes are whole-tensor ops with their attributes, children are tensors.
//!
//! Calls and state updates are barriers: their operands are children, so that no choice makes a cycle through them, but
//! each is unlike any other node and no rule looks at one. Parameters and large constants are leaves. The analysis
//! carries types, whether a value depends on weights alone, and the value of uniform constants; merging classes that
//! disagree is remembered as a conflict, which ends saturation with an error.

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Literal, Op, Param, Role, TensorType, ValueId, infer};
use smallvec::SmallVec;

/// What an e-node computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Head {
    /// A parameter or constant, by its node.
    Leaf(u32),
    /// An operation without effects.
    Op(Op),
    /// A call or state update, by its node.
    Barrier(u32),
    /// One result of the child, which is a call.
    Proj(u32),
}

/// A node of the e-graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ENode {
    /// What is computed.
    pub head: Head,
    /// Operands.
    pub children: SmallVec<[Id; 3]>,
}

impl ENode {
    /// An operation on classes.
    pub fn op(op: Op, children: impl IntoIterator<Item = Id>) -> Self {
        ENode { head: Head::Op(op), children: children.into_iter().collect() }
    }

    /// The operation, if the node is one.
    pub fn as_op(&self) -> Option<&Op> {
        match &self.head {
            Head::Op(op) => Some(op),
            _ => None,
        }
    }
}

impl Language for ENode {
    type Discriminant = &'static str;

    fn discriminant(&self) -> Self::Discriminant {
        match &self.head {
            Head::Leaf(_) => "leaf",
            Head::Op(op) => op.name(),
            Head::Barrier(_) => "barrier",
            Head::Proj(_) => "projection",
        }
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// What is known of every value of a class.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Result types; one but for calls.
    pub types: SmallVec<[TensorType; 1]>,
    /// Depends on weights and constants only.
    pub weight_only: bool,
    /// Every element has this value.
    pub constant: Option<Literal>,
}

/// The analysis: facts of each class, and the first contradiction.
pub struct Types<'f> {
    /// The function the e-graph was made from.
    pub function: &'f Function,
    /// For each parameter, whether it is a weight wherever the function is called.
    pub weights: Vec<bool>,
    /// The first contradiction between rules.
    pub conflict: Option<Diagnostic>,
}

impl Types<'_> {
    fn contradict(&mut self, what: String) {
        if self.conflict.is_none() {
            self.conflict = Some(
                Diagnostic::new(330, format!("rewriting `{}` contradicts itself", self.function.name))
                    .expected("equal types and constants for values that rules call equal")
                    .found(what)
                    .note("this is an error in a rule of the compiler, not in the model"),
            );
        }
    }
}

/// The e-graph of one function.
pub type Graph<'f> = EGraph<ENode, Types<'f>>;

impl Analysis<ENode> for Types<'_> {
    type Data = Facts;

    fn make(g: &mut EGraph<ENode, Self>, node: &ENode, _: Id) -> Facts {
        let f = g.analysis.function;
        let all_weights = |g: &EGraph<ENode, Self>| node.children.iter().all(|c| g[*c].data.weight_only);
        match &node.head {
            Head::Leaf(n) => {
                let n = &f.nodes[*n as usize];
                let weight_only = match n.op {
                    Op::Param(p) => g.analysis.weights[p as usize],
                    _ => true,
                };
                Facts { types: n.types.clone(), weight_only, constant: None }
            }
            Head::Barrier(n) => Facts { types: f.nodes[*n as usize].types.clone(), weight_only: false, constant: None },
            Head::Proj(i) => {
                let types = SmallVec::from_iter(g[node.children[0]].data.types.get(*i as usize).cloned());
                Facts { types, weight_only: false, constant: None }
            }
            Head::Op(op) => {
                let operands: Vec<&TensorType> =
                    node.children.iter().filter_map(|c| g[*c].data.types.first()).collect();
                let types = infer(op, &operands, &f.symbols);
                let weight_only = all_weights(g) && !matches!(op, Op::FromSize { .. });
                let constant = match op {
                    Op::Full { value, .. } => Some(*value),
                    Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => {
                        g[node.children[0]].data.constant
                    }
                    _ => None,
                };
                match types {
                    Ok(types) => Facts { types, weight_only, constant },
                    Err(d) => {
                        g.analysis.contradict(d.to_string());
                        Facts { types: SmallVec::new(), weight_only, constant }
                    }
                }
            }
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        if a.types != b.types {
            let show = |t: &Facts| {
                let all = t.types.iter().map(|t| t.display(&self.function.symbols).to_string());
                all.collect::<Vec<_>>().join(", ")
            };
            let what = format!("{} and {}", show(a), show(&b));
            self.contradict(what);
        }
        if let (Some(x), Some(y)) = (a.constant, b.constant)
            && x != y
        {
            self.contradict(format!("the constants {x:?} and {y:?}"));
        }
        let before = (a.weight_only, a.constant);
        a.weight_only |= b.weight_only;
        a.constant = a.constant.or(b.constant);
        let after = (a.weight_only, a.constant);
        DidMerge(after != before, after != (b.weight_only, b.constant))
    }
}

/// The e-graph of a function and where its values are.
pub struct Built<'f> {
    /// The graph.
    pub graph: Graph<'f>,
    /// Classes of each node's results.
    pub values: Vec<SmallVec<[Id; 1]>>,
}

/// Puts every node of a function into an e-graph.
pub fn build(f: &Function, weights: Vec<bool>) -> Built<'_> {
    let mut graph = Graph::new(Types { function: f, weights, conflict: None });
    let mut values: Vec<SmallVec<[Id; 1]>> = Vec::with_capacity(f.nodes.len());
    for (i, node) in f.nodes.iter().enumerate() {
        let n = i as u32;
        let children = node.inputs.iter().map(|v| values[v.node as usize][v.index as usize]).collect();
        let head = match &node.op {
            Op::Param(_) | Op::Constant(_) => Head::Leaf(n),
            Op::Call { .. } | Op::SliceUpdate { .. } => Head::Barrier(n),
            op => Head::Op(op.clone()),
        };
        let id = graph.add(ENode { head, children });
        values.push(if let Op::Call { .. } = node.op {
            let project = |i| graph.add(ENode { head: Head::Proj(i), children: SmallVec::from_elem(id, 1) });
            (0..node.types.len() as u32).map(project).collect()
        } else {
            SmallVec::from_elem(id, 1)
        });
    }
    graph.rebuild();
    Built { graph, values }
}

/// The type of a class.
pub fn ty<'a>(g: &'a Graph<'_>, id: Id) -> &'a TensorType {
    g[id].data.types.first().expect("a class has the type of its first node")
}

/// The parameter a class is, if it is one.
pub fn param<'f>(g: &Graph<'f>, id: Id) -> Option<(u32, &'f Param)> {
    g[id].iter().find_map(|n| match n.head {
        Head::Leaf(n) => match g.analysis.function.nodes[n as usize].op {
            Op::Param(p) => Some((p, &g.analysis.function.params[p as usize])),
            _ => None,
        },
        _ => None,
    })
}

/// The weight a class is, if it is one: the number of a parameter that every caller passes a weight.
pub fn weight(g: &Graph<'_>, id: Id) -> Option<u32> {
    let (p, param) = param(g, id)?;
    let stored = matches!(param.role, Role::Weight(_) | Role::Block) && param.ty.const_shape().is_some();
    (stored && g.analysis.weights[p as usize]).then_some(p)
}

/// The value of a node's result, for reports.
pub fn value_name(g: &Graph<'_>, node: u32) -> String {
    g.analysis.function.value_name(ValueId::of(node as usize))
}
