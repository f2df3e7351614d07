//! The WGSL writer: prints a legal GPU kernel as shader modules, one a phase, and decides nothing.
//!
//! Buffer i of the kernel is `@group(0) @binding(1 + i)`; the scalars of a launch are one uniform buffer at binding 0:
//! symbols, arguments, then counters of serial steps, each one word. A module declares the buffers its phase accesses.

use std::collections::BTreeSet;
use std::fmt::Write;

use mlxc_ir::DType;
use mlxc_ir::kernel::{ArgKind, Builtin, ExprId, Kernel, Memory, Phase, VarId};

use crate::legalise::{GpuLegal, GpuPhase, Storage};
use crate::shader::{Indices, Ix, Names};

mod expr;
mod memory;
mod stmt;
mod validate;

use memory::Helper;
pub use validate::{spirv, validate};

/// Which dialect the module's directives are in: naga refuses `enable subgroups;`, browsers demand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// For naga, as in wgpu.
    Naga,
    /// For browsers, and for Dawn elsewhere.
    Browser,
}

/// A shader module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name of the phase.
    pub phase: String,
    /// Name of its entry point.
    pub entry: String,
    /// WGSL.
    pub text: String,
}

/// Prints a kernel, one module a phase, in the order of [`Kernel::phases`].
pub fn write(legal: &GpuLegal, header: Header) -> Vec<Module> {
    legal
        .kernel()
        .phases()
        .into_iter()
        .zip(legal.phases())
        .map(|(ir, phase)| Module {
            phase: phase.name.clone(),
            entry: phase.entry.clone(),
            text: Writer::new(legal, ir, phase).module(header),
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
    /// Functions that are called.
    helpers: BTreeSet<Helper>,
    /// Bits of floats that cannot be written as literals.
    bits: BTreeSet<u32>,
    f16: bool,
    subgroups: bool,
    scalars: bool,
}

const LANE: &str = "lane";
const GROUP: &str = "group_id";
const GROUPS: &str = "group_count";
const SUBGROUP_ID: &str = "subgroup_id";
const SUBGROUP_LANE: &str = "subgroup_lane";
const SUBGROUP_WIDTH: &str = "subgroup_width";
/// Values a lane is given: name, builtin, type; in the order in which they are declared.
const BUILTINS: [(&str, &str, &str); 6] = [
    (GROUP, "workgroup_id", "vec3<u32>"),
    (GROUPS, "num_workgroups", "vec3<u32>"),
    (LANE, "local_invocation_index", "u32"),
    (SUBGROUP_ID, "subgroup_id", "u32"),
    (SUBGROUP_LANE, "subgroup_invocation_id", "u32"),
    (SUBGROUP_WIDTH, "subgroup_size", "u32"),
];
const SCALARS: &str = "scalars";

/// Called by the writer, and newer than the list of built-in functions.
const CALLED: &[&str] = &[
    "workgroupBarrier",
    "storageBarrier",
    "workgroupUniformLoad",
    "subgroupAdd",
    "subgroupMin",
    "subgroupMax",
    "subgroupAnd",
    "subgroupOr",
    "subgroupXor",
    "subgroupAny",
    "subgroupAll",
    "subgroupBroadcast",
    "subgroupShuffleXor",
    "i64",
    "u64",
    "Scalars",
];

impl<'l> Writer<'l> {
    fn new(legal: &'l GpuLegal, ir: &'l Phase, phase: &'l GpuPhase) -> Self {
        Writer {
            legal,
            k: legal.kernel(),
            ir,
            phase,
            names: Names::new(reserved(&phase.entry), SCALARS),
            out: String::new(),
            indent: 1,
            builtins: BTreeSet::new(),
            helpers: BTreeSet::new(),
            bits: BTreeSet::new(),
            f16: false,
            subgroups: false,
            scalars: false,
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
        self.subgroups |= name.starts_with("subgroup");
        name
    }

    /// Binds a value, unless it is a name, a part of one, or a literal already.
    fn bind(&mut self, base: &str, value: String) -> String {
        if value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') {
            return value;
        }
        let name = self.names.fresh(base);
        self.line(&format!("let {name} = {value};"));
        name
    }

    fn module(mut self, header: Header) -> String {
        // Named before anything in the body, so that they keep their names.
        for s in &self.phase.storage {
            self.names.memory(self.k, s.memory);
        }
        let fields = self.fields();
        self.axes();
        self.block(&self.ir.body);
        let body = std::mem::take(&mut self.out);
        self.indent = 0;
        if self.scalars {
            self.uniform(&fields);
        }
        self.declarations();
        let declarations = std::mem::take(&mut self.out);
        self.directives(header);
        self.out.push_str(&declarations);
        self.functions();
        self.line(&format!("@compute @workgroup_size({})", self.ir.lanes));
        let parameters: Vec<String> = BUILTINS
            .iter()
            .filter(|(name, ..)| self.builtins.contains(name))
            .map(|(name, builtin, ty)| format!("@builtin({builtin}) {name}: {ty}"))
            .collect();
        self.line(&format!("fn {}({}) {{", self.phase.entry, parameters.join(", ")));
        self.out.push_str(&body);
        self.line("}");
        self.out
    }

    fn directives(&mut self, header: Header) {
        let comment = self.k.comment.iter().map(|c| c.replace(['\n', '\r'], " "));
        let comment: String = comment.map(|c| format!(": {}", c.trim())).collect();
        self.line(&format!("// {}, {}{comment}", self.k.name, self.phase.name));
        if self.f16 {
            self.line("enable f16;");
        }
        if self.subgroups && header == Header::Browser {
            self.line("enable subgroups;");
        }
        if self.builtins.contains(SUBGROUP_ID) && header == Header::Browser {
            self.line("requires subgroup_id;");
        }
        self.out.push('\n');
    }

    /// Names and types of the launch's scalars, in order.
    fn fields(&mut self) -> Vec<(String, &'static str)> {
        let k = self.k;
        let mut fields = Vec::new();
        let index = |w: &mut Self, var: VarId| (w.names.scalar(var, k.var_name(var)), "u32");
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

    fn uniform(&mut self, fields: &[(String, &'static str)]) {
        self.line("struct Scalars {");
        for (name, ty) in fields {
            self.line(&format!("  {name}: {ty},"));
        }
        self.line("}");
        self.out.push('\n');
        self.line(&format!("@group(0) @binding(0) var<uniform> {SCALARS}: Scalars;"));
    }

    fn declarations(&mut self) {
        for s in &self.phase.storage {
            let name = self.names.memory(self.k, s.memory);
            let element = self.element(s);
            match s.memory {
                Memory::Buffer(b) => {
                    let access = if self.legal.is_read_only(b) { "read" } else { "read_write" };
                    let binding = b.index() + 1;
                    self.line(&format!(
                        "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;"
                    ));
                }
                Memory::Group(g) => {
                    let g = self.k.group(g);
                    let elements = g.shape.iter().map(|d| u64::from(*d)).product::<u64>();
                    let units = if s.words { g.bytes().div_ceil(4) } else { elements }.div_ceil(u64::from(s.unit));
                    self.line(&format!("var<workgroup> {name}: array<{element}, {units}>;"));
                }
            }
        }
        // Not a constant to the compiler, which would refuse it as a float.
        for bits in std::mem::take(&mut self.bits) {
            self.line(&format!("var<private> bits_{bits:08x}: u32 = 0x{bits:08x}u;"));
        }
        self.out.push('\n');
    }

    /// Type of an element of the declared array.
    fn element(&mut self, s: &Storage) -> String {
        let dtype = if s.words { DType::U32 } else { self.k.memory_dtype(s.memory) };
        self.f16 |= dtype == DType::F16;
        let one = scalar_type(dtype);
        match (s.atomic, s.unit) {
            (true, _) => format!("atomic<{one}>"),
            (_, 1) => one.to_string(),
            (_, n) => format!("vec{n}<{one}>"),
        }
    }

    /// The group's place in the grid.
    fn axes(&mut self) {
        let axes = &self.ir.grid;
        if !self.phase.linear {
            for ((var, _), component) in axes.iter().rev().zip(["x", "y", "z"]) {
                let group = self.builtin(GROUP);
                let name = self.names.var(*var, self.k.var_name(*var));
                self.line(&format!("let {name} = {group}.{component};"));
            }
            return;
        }
        let extents: Vec<Ix> = axes.iter().map(|(_, e)| self.index(*e)).collect();
        let total = extents.iter().cloned().reduce(Ix::times).unwrap_or(Ix::Const(1)).text();
        let (group, groups) = (self.builtin(GROUP), self.builtin(GROUPS));
        let at = self.names.fresh("group");
        self.line(&format!("let {at} = {group}.y * {groups}.x + {group}.x;"));
        self.line(&format!("if ({at} >= {total}) {{"));
        self.line("  return;");
        self.line("}");
        let mut rest = Ix::name(at);
        for (position, ((var, _), extent)) in axes.iter().zip(extents).enumerate().rev() {
            let name = self.names.var(*var, self.k.var_name(*var));
            let value = if position == 0 { rest.clone() } else { rest.clone().modulo(extent.clone()) };
            self.line(&format!("let {name} = {};", value.text()));
            rest = rest.over(extent);
        }
    }

    fn functions(&mut self) {
        for helper in std::mem::take(&mut self.helpers) {
            let _ = writeln!(self.out, "{}\n", helper.text());
        }
    }
}

/// Names that mean something to WGSL or to the writer.
fn reserved(entry: &str) -> impl Iterator<Item = &str> {
    let words = naga::keywords::wgsl::RESERVED.iter().chain(naga::keywords::wgsl::BUILTIN_IDENTIFIERS);
    let own = BUILTINS.iter().map(|(name, ..)| *name).chain([entry]);
    words.chain(CALLED).copied().chain(Helper::ALL.iter().map(|h| h.name())).chain(own)
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
            Builtin::SubgroupId => SUBGROUP_ID,
            Builtin::SubgroupLane => SUBGROUP_LANE,
            Builtin::SubgroupWidth => SUBGROUP_WIDTH,
        });
        name.to_string()
    }

    fn clamped(&mut self, value: ExprId, lo: Ix, last: Ix) -> Ix {
        let dtype = self.k.expr(value).ty.dtype();
        let value = self.expr(value).text;
        let bound = |ix: Ix| match (dtype, ix) {
            (DType::U32, ix) => ix.text(),
            (DType::I32, Ix::Const(c)) => format!("{c}i"),
            (DType::I32, ix) => format!("i32({})", ix.text()),
            (DType::U64, ix) => format!("u64({})", ix.text()),
            (_, ix) => format!("i64({})", ix.text()),
        };
        let clamped = format!("max(min({value}, {}), {})", bound(last), bound(lo));
        Ix::name(if dtype == DType::U32 { clamped } else { format!("u32({clamped})") })
    }
}

/// A scalar type's name; only types of 32 bits, f16 and 64-bit integers reach the writer.
fn scalar_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::I32 => "i32",
        DType::U32 => "u32",
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::I64 => "i64",
        DType::U64 => "u64",
        other => panic!("invariant: legal kernels compute on types the target has, not {other}"),
    }
}
