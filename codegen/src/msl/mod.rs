//! The MSL writer: prints a legal GPU kernel as Metal Shading Language 3.1, a module a phase, and decides nothing.
//!
//! Buffer i of the kernel is `[[buffer(1 + i)]]`; the scalars of a launch are one structure at `[[buffer(0)]]`:
//! symbols, arguments, then counters of serial steps, each one word. A module has the arguments its phase reads.
//! Group arrays are declared in the body, as arguments for them would need a length that nobody sets. The pragmas on
//! top keep floats to what the text says; every conversion is written out, and elementary functions are the precise
//! ones, which later compilers honour without them.

use std::collections::BTreeSet;

use mlxc_ir::DType;
use mlxc_ir::kernel::{ArgKind, Builtin, ExprId, Index, Kernel, Memory, Phase, Type, VarId};

use crate::legalise::{GpuLegal, GpuPhase, Storage};
use crate::shader::{Indices, Ix, Names};

mod expr;
mod memory;
mod reserved;
mod stmt;
mod tile;

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name of the phase.
    pub phase: String,
    /// Name of its entry point.
    pub entry: String,
    /// MSL.
    pub text: String,
}

/// Prints a kernel, one module a phase, in the order of [`Kernel::phases`].
pub fn write(legal: &GpuLegal) -> Vec<Module> {
    legal
        .kernel()
        .phases()
        .into_iter()
        .zip(legal.phases())
        .map(|(ir, phase)| Module {
            phase: phase.name.clone(),
            entry: phase.entry.clone(),
            text: Writer::new(legal, ir, phase).module(),
        })
        .collect()
}

/// Prints one phase. Statements are printed first; what they turn out to need is declared above them.
struct Writer<'l> {
    legal: &'l GpuLegal,
    k: &'l Kernel,
    ir: &'l Phase,
    phase: &'l GpuPhase,
    names: Names,
    out: String,
    indent: usize,
    /// Names of built-in values that are read.
    builtins: BTreeSet<&'static str>,
    scalars: bool,
    tiles: bool,
}

const LANE: &str = "lane";
const GROUP: &str = "group_id";
const GROUPS: &str = "group_count";
const SIMDGROUP: &str = "simdgroup_id";
const SIMD_LANE: &str = "simd_lane";
const SIMD_WIDTH: &str = "simd_width";
/// Values a lane is given: name, attribute, type; in the order in which they are declared.
const BUILTINS: [(&str, &str, &str); 6] = [
    (GROUP, "threadgroup_position_in_grid", "uint3"),
    (GROUPS, "threadgroups_per_grid", "uint3"),
    (LANE, "thread_index_in_threadgroup", "uint"),
    (SIMDGROUP, "simdgroup_index_in_threadgroup", "uint"),
    (SIMD_LANE, "thread_index_in_simdgroup", "uint"),
    (SIMD_WIDTH, "threads_per_simdgroup", "uint"),
];
const SCALARS: &str = "scalars";

impl<'l> Writer<'l> {
    fn new(legal: &'l GpuLegal, ir: &'l Phase, phase: &'l GpuPhase) -> Self {
        let own = BUILTINS.iter().map(|(name, ..)| *name).chain([phase.entry.as_str()]);
        let names = reserved::NAMES.iter().copied().chain(own);
        let vectors: Vec<String> = reserved::vectors().collect();
        let names = Names::new(names.chain(vectors.iter().map(String::as_str)), SCALARS);
        Writer {
            legal,
            k: legal.kernel(),
            ir,
            phase,
            names,
            out: String::new(),
            indent: 1,
            builtins: BTreeSet::new(),
            scalars: false,
            tiles: false,
        }
    }

    fn line(&mut self, text: &str) {
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn builtin(&mut self, name: &'static str) -> &'static str {
        self.builtins.insert(name);
        name
    }

    /// Binds a value, unless it is a name, a part of one, or a literal already.
    fn bind(&mut self, base: &str, ty: &str, value: String) -> String {
        if value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
            return value;
        }
        let name = self.names.fresh(base);
        self.line(&format!("const {ty} {name} = {value};"));
        name
    }

    fn module(mut self) -> String {
        // Named before anything in the body, so that they keep their names.
        for s in &self.phase.storage {
            self.names.memory(self.k, s.memory);
        }
        let fields = self.fields();
        self.group_arrays();
        self.axes();
        self.block(&self.ir.body);
        let body = std::mem::take(&mut self.out);
        self.indent = 0;
        self.header();
        if self.scalars {
            self.structure(&fields);
        }
        let arguments = self.arguments();
        self.line(&format!("kernel void {}(", self.phase.entry));
        self.line(&format!("    {}) {{", arguments.join(",\n    ")));
        self.out.push_str(&body);
        self.line("}");
        self.out
    }

    fn header(&mut self) {
        let comment = self.k.comment.iter().map(|c| c.replace(['\n', '\r'], " "));
        // A line that ended in a backslash would go on.
        let comment: String = comment.map(|c| format!(": {}", c.trim().trim_end_matches('\\'))).collect();
        self.line(&format!("// {}, {}{comment}", self.k.name, self.phase.name));
        self.line("#include <metal_stdlib>");
        if self.tiles {
            self.line("#include <metal_simdgroup_matrix>");
        }
        self.line("using namespace metal;");
        self.line("#pragma METAL fp math_mode(safe)");
        self.line("#pragma METAL fp contract(off)");
        self.out.push('\n');
    }

    /// Names and types of the launch's scalars, in order.
    fn fields(&mut self) -> Vec<(String, &'static str)> {
        let k = self.k;
        let mut fields = Vec::new();
        let index = |w: &mut Self, var: VarId| (w.names.scalar(var, k.var_name(var)), "uint");
        for s in &k.symbols {
            fields.push(index(self, s.var));
        }
        for (i, a) in k.args.iter().enumerate() {
            fields.push(match a.kind {
                ArgKind::Index { var, .. } => index(self, var),
                ArgKind::Scalar(d) => (self.names.argument(i, &a.name), scalar_type(d)),
            });
        }
        for var in &self.phase.counters {
            fields.push(index(self, *var));
        }
        fields
    }

    fn structure(&mut self, fields: &[(String, &'static str)]) {
        self.line("struct Scalars {");
        for (name, ty) in fields {
            self.line(&format!("  {ty} {name};"));
        }
        self.line("};");
        self.out.push('\n');
    }

    fn arguments(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        if self.scalars {
            all.push(format!("constant Scalars& {SCALARS} [[buffer(0)]]"));
        }
        for s in &self.phase.storage {
            let Memory::Buffer(b) = s.memory else { continue };
            let name = self.names.memory(self.k, s.memory);
            let space = self.space(s.memory);
            let element = element_type(s, self.k.memory_dtype(s.memory));
            all.push(format!("{space} {element}* {name} [[buffer({})]]", b.index() + 1));
        }
        let read = BUILTINS.iter().filter(|(name, ..)| self.builtins.contains(name));
        all.extend(read.map(|(name, attribute, ty)| format!("{ty} {name} [[{attribute}]]")));
        // A kernel has at least one argument.
        if all.is_empty() {
            let (name, attribute, ty) = BUILTINS[2];
            all.push(format!("{ty} {name} [[{attribute}]]"));
        }
        all
    }

    /// Address space of a memory, and whether it is only read.
    fn space(&self, memory: Memory) -> &'static str {
        match memory {
            Memory::Buffer(b) if self.legal.is_read_only(b) => "device const",
            Memory::Buffer(_) => "device",
            Memory::Group(_) => "threadgroup",
        }
    }

    fn group_arrays(&mut self) {
        for s in &self.phase.storage {
            let Memory::Group(g) = s.memory else { continue };
            let name = self.names.memory(self.k, s.memory);
            let g = self.k.group(g);
            let element = element_type(s, g.dtype);
            let elements = g.shape.iter().map(|d| u64::from(*d)).product::<u64>();
            // As for the widest vector of it.
            let align = 4 * g.dtype.bytes();
            self.line(&format!("alignas({align}) threadgroup {element} {name}[{elements}];"));
        }
    }

    /// The group's place in the grid.
    fn axes(&mut self) {
        let axes = &self.ir.grid;
        if !self.phase.linear {
            for ((var, extent), component) in axes.iter().rev().zip(["x", "y", "z"]) {
                let group = self.builtin(GROUP);
                let name = self.names.var(*var, self.k.var_name(*var));
                match self.k.index.get(*extent) {
                    Index::Const(1) => self.line(&format!("const uint {name} = 0u;")),
                    _ => self.line(&format!("const uint {name} = {group}.{component};")),
                }
            }
            return;
        }
        let extents: Vec<Ix> = axes.iter().map(|(_, e)| self.index(*e)).collect();
        let total = extents.iter().cloned().reduce(Ix::times).unwrap_or(Ix::Const(1)).text();
        let (group, groups) = (self.builtin(GROUP), self.builtin(GROUPS));
        let at = self.names.fresh("group");
        self.line(&format!("const uint {at} = {group}.y * {groups}.x + {group}.x;"));
        self.line(&format!("if ({at} >= {total}) {{"));
        self.line("  return;");
        self.line("}");
        let mut rest = Ix::name(at);
        for (position, ((var, _), extent)) in axes.iter().zip(extents).enumerate().rev() {
            let name = self.names.var(*var, self.k.var_name(*var));
            let value = if position == 0 { rest.clone() } else { rest.clone().modulo(extent.clone()) };
            self.line(&format!("const uint {name} = {};", value.text()));
            rest = rest.over(extent);
        }
    }
}

impl Indices for Writer<'_> {
    fn kernel(&self) -> &Kernel {
        self.k
    }

    fn variable(&mut self, var: VarId) -> String {
        let name = self.names.var(var, self.k.var_name(var));
        self.scalars |= name.starts_with(SCALARS);
        name
    }

    fn position(&mut self, builtin: Builtin) -> String {
        let name = self.builtin(match builtin {
            Builtin::Lane => LANE,
            Builtin::SubgroupId => SIMDGROUP,
            Builtin::SubgroupLane => SIMD_LANE,
            Builtin::SubgroupWidth => SIMD_WIDTH,
        });
        name.to_string()
    }

    fn clamped(&mut self, value: ExprId, lo: Ix, last: Ix) -> Ix {
        let dtype = self.k.expr(value).ty.dtype();
        let value = self.expr(value).text;
        let (lo, last) = (lo.text(), last.text());
        Ix::name(match (dtype.is_signed_int(), dtype.bytes()) {
            (false, 4) => format!("clamp({value}, {lo}, {last})"),
            (false, 1 | 2) => format!("clamp(uint({value}), {lo}, {last})"),
            (true, 4) => format!("uint(clamp({value}, int({lo}), int({last})))"),
            (true, 1 | 2) => format!("uint(clamp(int({value}), int({lo}), int({last})))"),
            (_, _) => format!("uint(clamp({value}, {0}({lo}), {0}({last})))", scalar_type(dtype)),
        })
    }
}

/// Type of an element of a memory.
fn element_type(s: &Storage, dtype: DType) -> &'static str {
    match (s.atomic, dtype) {
        (false, d) => scalar_type(d),
        (true, DType::I32) => "atomic_int",
        (true, _) => "atomic_uint",
    }
}

/// A scalar type's name.
fn scalar_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::I8 => "char",
        DType::U8 => "uchar",
        DType::I16 => "short",
        DType::U16 => "ushort",
        DType::I32 => "int",
        DType::U32 => "uint",
        DType::I64 => "long",
        DType::U64 => "ulong",
        DType::F16 => "half",
        DType::BF16 => "bfloat",
        DType::F32 => "float",
        other => panic!("invariant: legal kernels compute on types the target has, not {other}"),
    }
}

/// A type's name.
fn type_name(ty: Type) -> String {
    let one = scalar_type(ty.dtype());
    match ty {
        Type::Tile { rows, columns, .. } => format!("simdgroup_{one}{columns}x{rows}"),
        Type::Value { lanes: 1, .. } => one.to_string(),
        Type::Value { lanes, .. } => format!("{one}{lanes}"),
    }
}
