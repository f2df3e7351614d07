//! A model as a folder for browsers: what a static server hands out, and the loader that runs it.
//!
//! | file | holds |
//! |---|---|
//! | `plan.json` | the plan as packages have it, the places of weights, the names of the files in `text/`, the tokens that end a text |
//! | `shaders/SYMBOL.wgsl` | one module a phase |
//! | `weights-N.bin` | the weights one behind the other, each at a multiple of 256 bytes, cut into pieces |
//! | `text/` | tokenizer and configuration of the checkpoint |
//! | `mlxc.js`, `mlxc/`, `mlxc.d.ts` | the loader, an ES module, and its types |

mod pieces;

use crate::code::{Legalised, modules};
use crate::error::Errors;
use crate::files::folder_beside;
use crate::generate::end_tokens;
use crate::packaging::{Extras, Packaging};
use crate::pipeline::Compiled;
use crate::weights::Weights;
use mlxc_codegen::gpu_profiles::ShaderLanguage;
use mlxc_codegen::wgsl::Header;
use mlxc_ir::{Diagnostic, Location};
use pieces::Pieces;
use serde_json::{Value, json};
use std::path::Path;

/// Name of the target, which is the `webgpu` profile in another form.
pub const TARGET: &str = "web";
/// Bytes of one piece of the weights, at most.
pub const PIECE_BYTES: u64 = 256 << 20;

const FORMAT: &str = "mlxc-web";
const VERSION: u32 = 1;
const PLAN: &str = "plan.json";

/// The loader's files.
const LOADER: &[(&str, &str)] = &[
    ("mlxc.js", include_str!("../../../runtime/web/mlxc.js")),
    ("mlxc.d.ts", include_str!("../../../runtime/web/mlxc.d.ts")),
    ("mlxc/error.js", include_str!("../../../runtime/web/mlxc/error.js")),
    ("mlxc/generate.js", include_str!("../../../runtime/web/mlxc/generate.js")),
    ("mlxc/gpu.js", include_str!("../../../runtime/web/mlxc/gpu.js")),
    ("mlxc/model.js", include_str!("../../../runtime/web/mlxc/model.js")),
    ("mlxc/sampler.js", include_str!("../../../runtime/web/mlxc/sampler.js")),
    ("mlxc/session.js", include_str!("../../../runtime/web/mlxc/session.js")),
    ("mlxc/signature.js", include_str!("../../../runtime/web/mlxc/signature.js")),
    ("mlxc/size.js", include_str!("../../../runtime/web/mlxc/size.js")),
    ("mlxc/tensor.js", include_str!("../../../runtime/web/mlxc/tensor.js")),
    ("mlxc/tokenizer.js", include_str!("../../../runtime/web/mlxc/tokenizer.js")),
    ("mlxc/weights.js", include_str!("../../../runtime/web/mlxc/weights.js")),
];

/// Refuses a target folder that holds something else. One that an earlier build for browsers made is replaced.
///
/// # Errors
/// `MLXC0954`.
pub fn check_folder(folder: &Path) -> Result<(), Diagnostic> {
    let is_ours = || {
        let text = std::fs::read(folder.join(PLAN)).ok()?;
        let plan: Value = serde_json::from_slice(&text).ok()?;
        Some(plan["format"] == FORMAT)
    };
    if !folder.exists() || is_ours() == Some(true) {
        return Ok(());
    }
    Err(Diagnostic::new(954, "the target exists already and was not made for browsers by this compiler")
        .at(Location::new(folder.display().to_string(), 0, 0))
        .expected("a new folder, or one of an earlier build")
        .found(if folder.is_dir() { "another folder" } else { "a file" }))
}

/// Writes a compilation for the `webgpu` profile as a folder. The weights are in files of at most `piece` bytes
/// ([`PIECE_BYTES`]), a multiple of 256. `done` is told the bytes of each weight as it is written.
///
/// # Errors
/// `MLXC0954` a folder of something else, `MLXC0955` a file that cannot be written, or what the weights say. Then the
/// folder is as it was.
///
/// # Panics
/// If the compilation is for another profile.
pub fn save(
    folder: &Path,
    compiled: &Compiled,
    weights: &dyn Weights,
    extras: &Extras,
    piece: u64,
    done: &mut dyn FnMut(u64),
) -> Result<(), Errors> {
    check_folder(folder)?;
    let Legalised::Gpu(legal) = &compiled.legal else { panic!("invariant: shaders are of GPU kernels") };
    let made = folder_beside(folder).map_err(unwritable(folder))?;
    for (name, text) in LOADER {
        write(made.path(), name, text.as_bytes())?;
    }
    for m in modules(legal, ShaderLanguage::Wgsl, Header::Browser) {
        write(made.path(), &format!("shaders/{}.wgsl", m.entry), m.text.as_bytes())?;
    }
    let mut text = Vec::new();
    for (name, bytes) in extras.iter().filter(|(name, _)| name.starts_with("text/")) {
        write(made.path(), name, bytes)?;
        text.push(name);
    }
    let packaging = Packaging::new(std::slice::from_ref(compiled));
    let mut pieces = Pieces::new(made.path(), piece);
    let mut members = Vec::new();
    packaging.each_weight(weights, &mut |member, bytes| {
        let offset = pieces.write(bytes)?;
        members.push(json!({"name": member, "offset": offset, "bytes": bytes.len()}));
        done(bytes.len() as u64);
        Ok(())
    })?;
    let member = |name: &str| extras.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice());
    let plan = json!({
        "format": FORMAT,
        "version": VERSION,
        "compiler": env!("CARGO_PKG_VERSION"),
        "text": text,
        "end_tokens": end_tokens(&member)?,
        "weights": {"pieces": pieces.finish()?, "members": members},
        "plan": packaging.plan(),
    });
    write(made.path(), PLAN, plan.to_string().as_bytes())?;
    replace(folder, made)
}

/// Puts what was made in the place of what is there.
fn replace(folder: &Path, made: tempfile::TempDir) -> Result<(), Errors> {
    let old = folder_beside(folder).map_err(unwritable(folder))?;
    let aside = old.path().join("old");
    let had = folder.exists();
    if had {
        std::fs::rename(folder, &aside).map_err(unwritable(folder))?;
    }
    if let Err(e) = std::fs::rename(made.path(), folder) {
        if had {
            // What was there goes back; the error that is told is the first one.
            let _ = std::fs::rename(&aside, folder);
        }
        return Err(unwritable(folder)(e).into());
    }
    // It has another name now.
    let _ = made.keep();
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, bytes)).map_err(unwritable(&path))
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> Diagnostic + '_ {
    move |e| {
        Diagnostic::new(955, "a file for browsers cannot be written")
            .at(Location::new(path.display().to_string(), 0, 0))
            .found(e.to_string())
    }
}
