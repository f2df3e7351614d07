//! Runs compiled kernels: maps a blob executable, binds buffers and scalars, and calls every phase.

#![allow(dead_code)]

mod emulated;

use mlxc_codegen::blob::CodeBlob;
use mlxc_codegen::legalise::{Legal, legalise};
use mlxc_codegen::llvm::{CpuCode, Options, PhaseCode, compile};
use mlxc_codegen::profiles;
use mlxc_ir::DType;
use mlxc_ir::kernel::{ArgKind, Index, IndexId, Kernel, Step, VarId, parse};
use std::collections::BTreeMap;

/// Code mapped read and execute.
pub struct Mapped {
    base: *mut u8,
    length: usize,
}

impl Mapped {
    pub fn new(blob: &CodeBlob) -> Self {
        let length = blob.bytes.len().next_multiple_of(4096).max(4096);
        // SAFETY: a fresh private mapping, written within its length before it becomes executable.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
            .cast::<u8>();
            assert!(!base.is_null() && base as isize != -1);
            std::ptr::copy_nonoverlapping(blob.bytes.as_ptr(), base, blob.bytes.len());
            assert_eq!(libc::mprotect(base.cast(), length, libc::PROT_READ | libc::PROT_EXEC), 0);
            Mapped { base, length }
        }
    }

    /// # Safety
    /// The record must be the one the function was compiled for.
    pub unsafe fn call(&self, offset: u64, record: &[u64], slot: *mut u8, lo: i64, hi: i64) {
        type Thunk = unsafe extern "C" fn(*const u64, *mut u8, i64, i64);
        // SAFETY: the offset is that of an exported thunk.
        unsafe {
            let thunk: Thunk = std::mem::transmute(self.base.add(offset as usize));
            thunk(record.as_ptr(), slot, lo, hi);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe {
            libc::munmap(self.base.cast(), self.length);
        }
    }
}

#[derive(Clone, Copy)]
#[repr(align(256))]
struct Line([u8; 256]);

/// Bytes aligned as the runtime's buffers are.
#[derive(Clone)]
pub struct Memory {
    lines: Vec<Line>,
    length: usize,
}

impl Memory {
    pub fn new(length: usize) -> Self {
        Memory { lines: vec![Line([0xA5; 256]); length.div_ceil(256) + 1], length }
    }

    pub fn from<T: bytemuck::NoUninit>(values: &[T]) -> Self {
        let bytes = bytemuck::cast_slice::<T, u8>(values);
        let mut memory = Memory::new(bytes.len());
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: lines are plain bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }

    pub fn pointer(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    pub fn to<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(&self) -> Vec<T> {
        self.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }

    /// Bytes past the end that nothing may touch.
    pub fn guard_intact(&self) -> bool {
        let all = self.lines.iter().flat_map(|l| l.0);
        all.skip(self.length).all(|b| b == 0xA5)
    }
}

/// The only kernel of a text.
pub fn kernel(text: &str) -> Kernel {
    let mut all = parse(text, "test").unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

pub fn legal(kernel: &Kernel, profile: &str) -> Legal {
    legalise(kernel, &profiles::by_name(profile).unwrap()).unwrap_or_else(|d| panic!("{}", d[0]))
}

pub fn compiled(kernel: &Kernel, profile: &str) -> CpuCode {
    let profile = profiles::by_name(profile).unwrap();
    let legal = legalise(kernel, &profile).unwrap_or_else(|d| panic!("{}", d[0]));
    compile(&[legal], &profile, &Options { threads: 1, ..Options::default() }).unwrap_or_else(|d| panic!("{d}"))
}

/// The profiles this machine can run, best first; NEON alone where it is emulated.
pub fn runnable() -> Vec<&'static str> {
    if emulated::is_on() {
        return vec!["aarch64-neon"];
    }
    ["x86-64-v4-fp16", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64-neon"]
        .into_iter()
        .filter(|n| profiles::runs_here(profiles::cpu_target(n).unwrap()))
        .collect()
}

pub fn evaluate(kernel: &Kernel, id: IndexId, vars: &BTreeMap<VarId, i64>) -> i64 {
    let go = |i| evaluate(kernel, i, vars);
    match kernel.index.get(id) {
        Index::Const(c) => c,
        Index::Var(v) => vars[&v],
        Index::Builtin(_) => 0,
        Index::Add(a, b) => go(a) + go(b),
        Index::Scale(a, by) => go(a) * by,
        Index::Div(a, by) => go(a) / by,
        Index::DivBy(a, b) => go(a) / go(b),
        Index::Mod(a, by) => go(a) % by,
        Index::Min(a, b) => go(a).min(go(b)),
        Index::Max(a, b) => go(a).max(go(b)),
        Index::Clamp(..) => panic!("not a launch value"),
    }
}

/// Values of symbols and index arguments from the scalar words: symbols first, then arguments.
pub fn launch_values(kernel: &Kernel, scalars: &[u64]) -> BTreeMap<VarId, i64> {
    let mut vars = BTreeMap::new();
    let symbols = kernel.symbols.iter().map(|s| Some(s.var));
    let args = kernel.args.iter().map(|a| match a.kind {
        ArgKind::Index { var, .. } => Some(var),
        ArgKind::Scalar(_) => None,
    });
    for (var, word) in symbols.chain(args).zip(scalars) {
        if let Some(var) = var {
            vars.insert(var, *word as i64);
        }
    }
    vars
}

/// Elements of a buffer.
pub fn elements(kernel: &Kernel, buffer: usize, scalars: &[u64]) -> usize {
    let vars = launch_values(kernel, scalars);
    kernel.buffers[buffer].shape.iter().map(|d| evaluate(kernel, *d, &vars) as usize).product()
}

pub fn dtype(kernel: &Kernel, buffer: usize) -> DType {
    kernel.buffers[buffer].dtype
}

/// One call of a phase's function.
pub struct Call {
    pub offset: u64,
    pub lo: i64,
    pub hi: i64,
    pub group_bytes: u64,
    /// Counters of the serial steps around the phase.
    pub counters: Vec<u64>,
}

/// Runs every phase, its tasks in uneven chunks, last chunk first.
pub fn execute(kernel: &Kernel, code: &CpuCode, scalars: &[u64], buffers: &mut [Memory]) {
    assert_eq!(scalars.len(), kernel.symbols.len() + kernel.args.len());
    assert_eq!(buffers.len(), kernel.buffers.len());
    let mut calls = Vec::new();
    let mut vars = launch_values(kernel, scalars);
    steps(kernel, &kernel.steps, code, &mut Vec::new(), &mut vars, &mut code.phases.iter(), &mut calls);
    if emulated::is_on() {
        return emulated::execute(code, scalars, buffers, &calls);
    }
    let mapped = Mapped::new(&code.blob);
    let addresses: Vec<u64> = buffers.iter_mut().map(|b| b.pointer() as u64).collect();
    for call in &calls {
        let record = [&addresses, scalars, &call.counters].concat();
        let mut slot = Memory::new(call.group_bytes as usize);
        // SAFETY: the record holds what the kernel declares, in its order.
        unsafe { mapped.call(call.offset, &record, slot.pointer(), call.lo, call.hi) };
        assert!(slot.guard_intact(), "a store past the end of group memory");
    }
    assert!(buffers.iter().all(Memory::guard_intact), "a store past the end of a buffer");
}

/// The calls of a list of steps, in order.
fn steps(
    kernel: &Kernel,
    list: &[Step],
    code: &CpuCode,
    counters: &mut Vec<u64>,
    vars: &mut BTreeMap<VarId, i64>,
    phases: &mut std::slice::Iter<'_, PhaseCode>,
    calls: &mut Vec<Call>,
) {
    for step in list {
        match step {
            Step::Phase(phase) => {
                let compiled = phases.next().unwrap();
                assert_eq!(compiled.phase, &*phase.name);
                let offset = code.blob.offset(&compiled.symbol).unwrap();
                let mut hi: i64 = phase.grid.iter().map(|(_, e)| evaluate(kernel, *e, vars)).product();
                while hi > 0 {
                    let lo = (hi - 1 - hi / 3).max(0);
                    let group_bytes = compiled.group_bytes;
                    calls.push(Call { offset, lo, hi, group_bytes, counters: counters.clone() });
                    hi = lo;
                }
            }
            Step::Serial { var, lo, hi, step, body } => {
                let (lo, hi) = (evaluate(kernel, *lo, vars), evaluate(kernel, *hi, vars));
                let saved = phases.clone();
                for i in (lo..hi).step_by(*step as usize) {
                    *phases = saved.clone();
                    vars.insert(*var, i);
                    counters.push(i as u64);
                    steps(kernel, body, code, counters, vars, phases, calls);
                    counters.pop();
                }
            }
        }
    }
}

/// A small deterministic generator.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In −1..1.
    pub fn unit(&mut self) -> f32 {
        ((self.bits() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}
