//! The tracing front end: model code that reads like MLX's and builds Graph IR.
//!
//! [`trace`] runs a closure once with a [`Context`] and gives a module of one entry; [`trace_module`] gives one of
//! several that share weights and states. Arrays are handles to values; every operation is typed where it is written, and
//! an error names that very line. After the first error of an expression its results are silent, so that one mistake is
//! one diagnostic.
//!
//! ```
//! use mlxc::{DType, trace};
//!
//! let module = trace("block", |cx| {
//!     let s = cx.dim("S", 1..=4096);
//!     let x = cx.input("x", DType::BF16, (&s, 2048));
//!     let w = cx.weight("norm.weight", DType::BF16, [2048]);
//!     let n = &x * (x.square().mean(-1, true) + 1e-5).rsqrt() * &w;
//!     cx.output("y", &n.silu());
//! })?;
//! assert_eq!(module.weights.len(), 1);
//! # Ok::<(), mlxc::Errors>(())
//! ```

mod arrange;
mod array;
mod composite;
mod convolution;
mod creation;
mod einsum;
mod indexing;
mod logic;
mod movement;
mod product;
mod promote;
mod quantize;
mod quantized;
pub mod random;
mod shape;
mod sorting;
mod statistics;

pub use arrange::PadMode;
pub use array::{Array, Operand};
pub use composite::Scoring;
pub use convolution::Convolution;
pub use promote::{promote, weak};
pub use quantized::Quantized;
pub use shape::{Dim, IntoAxes, IntoShape};

use crate::error::Errors;
use crate::quantization::Quantization;
use mlxc_ir::graph::{
    Dense, FunctionBuilder, Module, Op, Role, State as StateDecl, SymbolKind, TensorType, ValueId, Weight,
};
use mlxc_ir::{DType, Diagnostic, Location, Range, Scheme, Size, SymId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

/// Traces one entry.
///
/// # Errors
/// Every mistake in the model code, each at its own line.
#[track_caller]
pub fn trace(name: &str, model: impl FnOnce(&Context)) -> Result<Module, Errors> {
    trace_module(|m| m.entry(name, model))
}

/// Traces a module of several entries.
///
/// # Errors
/// Every mistake in the model code, each at its own line.
pub fn trace_module(build: impl FnOnce(&ModuleTracer)) -> Result<Module, Errors> {
    let tracer = ModuleTracer { shared: Rc::default() };
    build(&tracer);
    let shared = Rc::try_unwrap(tracer.shared).map_or_else(|rc| rc.take(), RefCell::into_inner);
    if !shared.errors.is_empty() {
        return Err(Errors(shared.errors));
    }
    mlxc_ir::graph::verify::verify(&shared.module).map_err(Errors)?;
    Ok(shared.module)
}

#[derive(Default)]
struct Shared {
    module: Module,
    errors: Vec<Diagnostic>,
    quantization: Quantization,
    code_states: bool,
}

/// Collects the entries of one module.
pub struct ModuleTracer {
    shared: Rc<RefCell<Shared>>,
}

impl ModuleTracer {
    /// Says which layers of the entries traced from here on have quantised weights.
    pub fn quantize(&self, quantization: &Quantization) {
        self.shared.borrow_mut().quantization = quantization.clone();
    }

    /// Lets layers keep their key-value states in 8-bit codes, in the entries traced from here on.
    pub fn code_states(&self) {
        self.shared.borrow_mut().code_states = true;
    }

    /// Traces one entry. Weights and states of one name are one, whichever entry declares them.
    #[track_caller]
    pub fn entry(&self, name: &str, model: impl FnOnce(&Context)) {
        let at = here();
        if self.shared.borrow().module.functions.iter().any(|f| f.name == name) {
            let d = Diagnostic::new(120, format!("two entries are called `{name}`")).at(at);
            self.shared.borrow_mut().errors.push(d);
            return;
        }
        let cx = Context { inner: Rc::new(Inner::new(name, self.shared.clone())) };
        model(&cx);
        let function = cx.inner.finish();
        self.shared.borrow_mut().module.functions.push(function);
    }
}

#[track_caller]
fn here() -> Location {
    Location::of(std::panic::Location::caller())
}

/// A state: its current version, and which values are older ones.
struct StateSlot {
    param: u32,
    name: String,
    current: ValueId,
}

pub(crate) struct Inner {
    builder: RefCell<FunctionBuilder>,
    shared: Rc<RefCell<Shared>>,
    states: RefCell<HashMap<u32, StateSlot>>,
    /// Versions of states that have a successor, and where it was made.
    replaced: RefCell<HashMap<ValueId, (String, Location)>>,
    weights: RefCell<HashMap<u32, ValueId>>,
}

impl Inner {
    fn new(name: &str, shared: Rc<RefCell<Shared>>) -> Self {
        Inner {
            builder: RefCell::new(FunctionBuilder::new(name)),
            shared,
            states: RefCell::default(),
            replaced: RefCell::default(),
            weights: RefCell::default(),
        }
    }

    fn finish(&self) -> mlxc_ir::graph::Function {
        let mut builder = self.builder.borrow().clone();
        let mut updates: Vec<(u32, ValueId)> = self
            .states
            .borrow()
            .values()
            .filter(|s| builder.function().param_of(s.current).is_none())
            .map(|s| (s.param, s.current))
            .collect();
        updates.sort_unstable();
        updates.into_iter().for_each(|(p, v)| builder.update(p, v));
        builder.finish()
    }

    pub(crate) fn error(&self, d: Diagnostic, at: &Location) {
        let d = if d.at.is_none() { d.at(at.clone()) } else { d };
        // Entries that share a layer make its mistake once each.
        let errors = &mut self.shared.borrow_mut().errors;
        if !errors.contains(&d) {
            errors.push(d);
        }
    }

    pub(crate) fn ty(&self, v: ValueId) -> TensorType {
        self.builder.borrow().function().ty(v).clone()
    }

    /// Appends a node; on error says so and gives nothing.
    pub(crate) fn node(&self, op: Op, inputs: &[ValueId], at: &Location) -> Option<ValueId> {
        for v in inputs {
            if let Some((name, place)) = self.replaced.borrow().get(v) {
                let old = self.builder.borrow().function().node(*v).at.clone();
                let mut d = Diagnostic::new(121, format!("state `{name}` is read after it was updated"))
                    .expected(format!("the version made at {place}"));
                if let Some(old) = old {
                    d = d.found(format!("the version made at {old}"));
                }
                self.error(d, at);
                return None;
            }
        }
        let made = self.builder.borrow_mut().node(op, inputs, Some(at.clone()));
        match made {
            Ok(v) => Some(v),
            Err(d) => {
                self.error(d, at);
                None
            }
        }
    }

    pub(crate) fn symbol_names(&self) -> Vec<mlxc_ir::graph::Symbol> {
        self.builder.borrow().function().symbols.clone()
    }

    pub(crate) fn require(&self, fact: Size) {
        let bounds = fact.bounds(&self.builder.borrow().function().ranges());
        let known = self.builder.borrow().function().requires.contains(&fact);
        if bounds.lo < 0 && !known {
            self.builder.borrow_mut().require(fact);
        }
    }

    pub(crate) fn name_value(&self, v: ValueId, name: &str) {
        self.builder.borrow_mut().name(v, name);
    }

    /// The symbol of a host scalar's value.
    pub(crate) fn scalar_symbol(&self, v: ValueId) -> Option<SymId> {
        match self.builder.borrow().function().param_of(v).map(|p| p.role) {
            Some(Role::Scalar(id)) => Some(id),
            _ => None,
        }
    }

    fn replace_state(&self, state: u32, new: ValueId, at: &Location) {
        if let Some(slot) = self.states.borrow_mut().get_mut(&state) {
            let old = std::mem::replace(&mut slot.current, new);
            self.replaced.borrow_mut().insert(old, (slot.name.clone(), at.clone()));
        }
    }
}

/// What the traced closure declares its inputs, weights, states and outputs with.
#[derive(Clone)]
pub struct Context {
    inner: Rc<Inner>,
}

impl Context {
    /// A symbolic extent with inclusive bounds.
    #[track_caller]
    pub fn dim(&self, name: &str, range: RangeInclusive<i64>) -> Dim {
        self.dim_multiple(name, range, 1)
    }

    /// A symbolic extent whose every value is a multiple of `multiple`.
    #[track_caller]
    pub fn dim_multiple(&self, name: &str, range: RangeInclusive<i64>, multiple: i64) -> Dim {
        let at = here();
        let (lo, hi) = range.into_inner();
        let most = i64::from(u32::MAX / 2);
        if lo < 0 || hi < lo || hi > most || multiple < 1 {
            let d = Diagnostic::new(122, format!("bounds of `{name}` are out of order"))
                .expected(format!("0 <= lower <= upper <= {most} and a multiple of at least 1"))
                .found(format!("{lo}..={hi} in multiples of {multiple}"));
            self.inner.error(d, &at);
            return Dim::from(1i64);
        }
        Dim::symbol(self.inner.builder.borrow_mut().symbol(name, Range::new(lo, hi), multiple, SymbolKind::Size))
    }

    fn declare(&self, name: &str, role: Role, ty: TensorType, at: Location) -> Array {
        let duplicate = self.inner.builder.borrow().function().params.iter().any(|p| &*p.name == name);
        if duplicate {
            self.inner.error(Diagnostic::new(120, format!("two parameters are called `{name}`")), &at);
        }
        let v = self.inner.builder.borrow_mut().param(name, role, ty, Some(at));
        Array::new(&self.inner, Some(v))
    }

    /// An input, given anew each step.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl IntoShape) -> Array {
        let shape = shape.into_shape().into_iter().map(|d| d.0).collect();
        self.declare(name, Role::Input, TensorType { dtype, shape }, here())
    }

    /// A host-known scalar input (i32, shape []): a position or a length. Windows and attention use it without a
    /// load, and one compiled step serves every value.
    #[track_caller]
    pub fn scalar(&self, name: &str, range: RangeInclusive<i64>) -> Array {
        let (lo, hi) = range.into_inner();
        let (v, _) = self.inner.builder.borrow_mut().scalar(name, Range::new(lo, hi), Some(here()));
        Array::new(&self.inner, Some(v))
    }

    /// A weight, by its checkpoint name; the same name is the same weight in every entry.
    #[track_caller]
    pub fn weight(&self, name: &str, dtype: DType, shape: impl IntoShape) -> Array {
        let at = here();
        let ty = TensorType { dtype, shape: shape.into_shape().into_iter().map(|d| d.0).collect() };
        if ty.const_shape().is_none() {
            self.inner.error(Diagnostic::new(123, format!("weight `{name}` has a symbolic extent")), &at);
            return Array::new(&self.inner, None);
        }
        let number = {
            let mut shared = self.inner.shared.borrow_mut();
            match shared.module.weights.iter().position(|w| &*w.name == name) {
                Some(n) if shared.module.weights[n].ty != ty => {
                    let d = Diagnostic::new(124, format!("weight `{name}` is declared with another type"))
                        .expected(shared.module.weights[n].ty.display(&[]).to_string())
                        .found(ty.display(&[]).to_string())
                        .at(at);
                    shared.errors.push(d);
                    return Array::new(&self.inner, None);
                }
                Some(n) => n as u32,
                None => {
                    shared.module.weights.push(Weight { name: name.into(), ty: ty.clone() });
                    shared.module.weights.len() as u32 - 1
                }
            }
        };
        if let Some(v) = self.inner.weights.borrow().get(&number) {
            return Array::new(&self.inner, Some(*v));
        }
        let a = self.declare(name, Role::Weight(number), ty, at);
        if let Some(v) = a.value() {
            self.inner.weights.borrow_mut().insert(number, v);
        }
        a
    }

    /// How the weight of the layer `prefix` with rows of `inputs` is quantised, and the dtype of its scales where it was
    /// quantised before; `None` for a dense weight. A layer whose rows are no whole groups of the scheme a config names is an
    /// error, `MLXC0941`.
    #[track_caller]
    pub(crate) fn quantized(&self, prefix: &str, inputs: i64) -> Option<(Scheme, Option<DType>)> {
        let (scheme, scales) = {
            let shared = self.inner.shared.borrow();
            (shared.quantization.scheme(prefix, inputs)?, shared.quantization.scale_dtype())
        };
        if scheme.groups(inputs).is_none() {
            let d = Diagnostic::new(941, format!("`{prefix}` cannot be quantised as the model's config says"))
                .expected(format!("rows of whole groups of {}", scheme.group()))
                .found(format!("rows of {inputs}"));
            self.inner.error(d, &here());
            return None;
        }
        Some((scheme, scales))
    }

    /// True if key-value states are to be kept in 8-bit codes.
    pub(crate) fn codes_states(&self) -> bool {
        self.inner.shared.borrow().code_states
    }

    /// A state: zero at first, kept from step to step, updated in place.
    #[track_caller]
    pub fn state(&self, name: &str, dtype: DType, shape: impl IntoShape) -> State {
        let at = here();
        let ty = TensorType { dtype, shape: shape.into_shape().into_iter().map(|d| d.0).collect() };
        if ty.const_shape().is_none() {
            self.inner.error(Diagnostic::new(123, format!("state `{name}` has a symbolic extent")), &at);
        }
        let number = {
            let mut shared = self.inner.shared.borrow_mut();
            match shared.module.states.iter().position(|s| &*s.name == name) {
                Some(n) => {
                    if shared.module.states[n].ty != ty {
                        let d = Diagnostic::new(124, format!("state `{name}` is declared with another type"))
                            .expected(shared.module.states[n].ty.display(&[]).to_string())
                            .found(ty.display(&[]).to_string())
                            .at(at.clone());
                        shared.errors.push(d);
                    }
                    n as u32
                }
                None => {
                    shared.module.states.push(StateDecl { name: name.into(), ty: ty.clone() });
                    shared.module.states.len() as u32 - 1
                }
            }
        };
        if !self.inner.states.borrow().contains_key(&number) {
            let a = self.declare(name, Role::State(number), ty, at);
            let v = a.value().expect("a declaration gives a value");
            let param = self.inner.builder.borrow().function().params.len() as u32 - 1;
            self.inner.states.borrow_mut().insert(number, StateSlot { param, name: name.into(), current: v });
        }
        State { inner: self.inner.clone(), number }
    }

    /// An array whose every element is `value`.
    #[track_caller]
    pub fn full(&self, shape: impl IntoShape, value: f64, dtype: DType) -> Array {
        let shape = shape.into_shape().into_iter().map(|d| d.0).collect();
        let op = Op::Full { value: array::literal(value, dtype), dtype, shape };
        Array::new(&self.inner, self.inner.node(op, &[], &here()))
    }

    /// A constant array of f32.
    #[track_caller]
    pub fn constant(&self, values: &[f32], shape: &[i64]) -> Array {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dense = Dense { dtype: DType::F32, shape: shape.to_vec(), bytes };
        Array::new(&self.inner, self.inner.node(Op::Constant(Arc::new(dense)), &[], &here()))
    }

    /// 0, 1, 2, … along a new axis.
    #[track_caller]
    pub fn arange(&self, n: impl Into<Dim>, dtype: DType) -> Array {
        let op = Op::Iota { dtype, shape: vec![n.into().0], axis: 0 };
        Array::new(&self.inner, self.inner.node(op, &[], &here()))
    }

    /// Declares a result.
    #[track_caller]
    pub fn output(&self, name: &str, value: &Array) {
        let at = here();
        let Some(v) = value.value() else { return };
        if self.inner.builder.borrow().function().results.iter().any(|r| &*r.name == name) {
            self.inner.error(Diagnostic::new(120, format!("two outputs are called `{name}`")), &at);
            return;
        }
        self.inner.builder.borrow_mut().result(name, v);
    }
}

/// A state of the traced function.
#[derive(Clone)]
pub struct State {
    inner: Rc<Inner>,
    number: u32,
}

impl State {
    /// The current version.
    pub fn read(&self) -> Array {
        let v = self.inner.states.borrow().get(&self.number).map(|s| s.current);
        Array::new(&self.inner, v)
    }

    /// Writes `update` over the window that begins at `start` along `axis` and gives the new version; older versions may
    /// not be read after it. With a host scalar as start the runtime checks that the window fits before each step.
    #[track_caller]
    pub fn update(&self, update: &Array, start: &Array, axis: i32) -> Array {
        let at = here();
        let old = self.read();
        let (Some(x), Some(u), Some(s)) = (old.value(), update.value(), start.value()) else {
            return Array::new(&self.inner, None);
        };
        let Some(axis) = old.axis(axis, &at) else { return Array::new(&self.inner, None) };
        let (whole, part) = (self.inner.ty(x), self.inner.ty(u));
        if let (Some(id), Some(n)) = (self.inner.scalar_symbol(s), part.shape.get(axis)) {
            let room = whole.shape[axis].clone() - n.clone() - Size::symbol(id);
            self.inner.require(room);
        }
        let op = Op::SliceUpdate { axes: vec![axis as u32] };
        let Some(new) = self.inner.node(op, &[x, u, s], &at) else { return Array::new(&self.inner, None) };
        self.inner.replace_state(self.number, new, &at);
        Array::new(&self.inner, Some(new))
    }
}
