//! What untrusted bytes reach: none of these may panic or hang, whatever it is given.

use mlxc::minimalloc;
use mlxc::models::Config;
use mlxc_ir::graph::{text, verify};
use mlxc_ir::kernel;
use mlxc_package::Package;
use mlxc_passes::memory;
use mlxc_runtime::npy;

/// Opens a package, reads every member's checksum and finds what each target runs.
pub fn package(bytes: &[u8]) {
    if let Ok(p) = Package::from_bytes(bytes.to_vec()) {
        let _ = p.verify();
        for target in &p.manifest().targets {
            let _ = (p.plan_of(target), p.modules(target));
        }
    }
}

/// Parses and verifies a graph; one that is accepted prints and parses again.
pub fn graph_text(source: &str) {
    let Ok(module) = text::parse(source, "fuzz.graph") else { return };
    if verify::verify(&module).is_ok() {
        let printed = text::print(&module);
        let again = text::parse(&printed, "printed.graph").unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert_eq!(text::print(&again), printed, "what was printed parses to the same");
    }
}

/// Parses and verifies kernels.
pub fn kernel_text(source: &str) {
    for k in kernel::parse(source, "fuzz.kernel").unwrap_or_default() {
        let _ = kernel::verify(&k);
    }
}

/// Parses a model's configuration.
pub fn config_json(source: &str) {
    let _ = Config::parse(source, "config.json");
}

/// Reads an array.
pub fn npy(bytes: &[u8]) {
    if let Ok(t) = npy::from_bytes(bytes) {
        let again = npy::from_bytes(&npy::to_bytes(t.view())).expect("what was written reads back");
        assert_eq!((again.shape(), again.bytes()), (t.shape(), t.bytes()));
    }
}

/// Reads buffers; those that are accepted are placed, and written and read again.
pub fn buffers(bytes: &[u8]) {
    let Ok(b) = minimalloc::read(bytes, "fuzz.csv") else { return };
    let placed = memory::minimise(&b.intervals, 200);
    assert_eq!(memory::check(&b.intervals, &placed.placement), Ok(()));
    let again = minimalloc::read(&minimalloc::write(&b, &placed.placement.offsets), "written.csv");
    assert_eq!(again.as_ref(), Ok(&b), "what was written reads back");
    let _ = memory::fit(&b.intervals, placed.bound.saturating_sub(1), 200);
}
