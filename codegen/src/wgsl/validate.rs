//! naga, in this process: modules are parsed and validated as wgpu will, and written as SPIR-V for a look at them.

use mlxc_ir::profile::{Feature, TargetProfile};
use mlxc_ir::{DType, Diagnostic};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Validates a module in naga's dialect for what a profile has.
///
/// # Errors
/// 0821 with naga's message, which shows the line.
pub fn validate(text: &str, profile: &TargetProfile) -> Result<(), Diagnostic> {
    // `pack2x16float` and its inverse are in every implementation.
    let mut capabilities = Capabilities::default() | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, profile.storage.contains(&DType::F16));
    capabilities.set(Capabilities::SHADER_INT64, profile.storage.contains(&DType::I64));
    capabilities.set(Capabilities::SUBGROUP, profile.has(Feature::Subgroups));
    parse(text, capabilities).map(|_| ())
}

/// The module as SPIR-V words.
///
/// # Errors
/// 0821 with naga's message.
pub fn spirv(text: &str) -> Result<Vec<u32>, Diagnostic> {
    let (module, info) = parse(text, Capabilities::all())?;
    let options = naga::back::spv::Options { force_loop_bounding: false, ..Default::default() };
    naga::back::spv::write_vec(&module, &info, &options, None).map_err(|e| refused(&e.to_string()))
}

fn parse(text: &str, capabilities: Capabilities) -> Result<(naga::Module, naga::valid::ModuleInfo), Diagnostic> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| refused(&e.emit_to_string(text)))?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|e| refused(&e.emit_to_string(text)))?;
    Ok((module, info))
}

fn refused(message: &str) -> Diagnostic {
    Diagnostic::new(821, "naga refuses a shader module").note(message.trim_end().to_string())
}
