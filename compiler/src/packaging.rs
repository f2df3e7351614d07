//! Writing compilations of one module into one package.
//!
//! Each target has a plan of its own; weights that two plans store alike are one member.

use crate::error::Errors;
use crate::pipeline::{Compiled, package_error};
use crate::weights::Weights;
use mlxc_codegen::gpu_profiles;
use mlxc_ir::{Diagnostic, Layout};
use mlxc_package::plan::Plan;
use mlxc_package::{Package, PackageWriter};
use mlxc_passes::schedule::StoredWeight;
use mlxc_passes::storage::Source;
use std::borrow::Cow;
use std::path::Path;

/// Further members of a package: name and bytes.
pub type Extras = Vec<(String, Vec<u8>)>;

/// Compilations of one module, to be written as one package. The first is the one that tools show unless asked for
/// another.
pub struct Packaging<'a> {
    compiled: Vec<&'a Compiled>,
    plans: Vec<Plan>,
    /// Every stored weight once, its compilation and its member.
    stored: Vec<(usize, &'a StoredWeight, String)>,
}

/// The member of a target's plan.
pub fn plan_member(number: usize, target: &str) -> String {
    if number == 0 { "plan".into() } else { format!("plans/{target}") }
}

impl<'a> Packaging<'a> {
    /// Lays out the members of some compilations of one module.
    pub fn new(compiled: &'a [Compiled]) -> Self {
        let mut out = Packaging { compiled: compiled.iter().collect(), plans: Vec::new(), stored: Vec::new() };
        let mut known: Vec<(&Source, Layout, String)> = Vec::new();
        for (i, c) in compiled.iter().enumerate() {
            let mut plan = c.scheduled.plan.clone();
            for (w, planned) in c.scheduled.weights.iter().zip(&mut plan.weights) {
                let same = known.iter().find(|(source, layout, _)| *source == &w.source && *layout == w.layout);
                let member = match same {
                    Some((_, _, member)) => member.clone(),
                    None => {
                        let member = format!("weights/{}", known.len());
                        known.push((&w.source, w.layout, member.clone()));
                        out.stored.push((i, w, member.clone()));
                        member
                    }
                };
                planned.member = member;
            }
            out.plans.push(plan);
        }
        out
    }

    /// Bytes of all weights, as stored.
    pub fn weight_bytes(&self) -> u64 {
        let bytes = |(i, _, member): &(usize, &StoredWeight, String)| {
            self.plans[*i].weights.iter().find(|w| w.member == *member).map_or(0, |w| w.bytes)
        };
        self.stored.iter().map(bytes).sum()
    }

    /// Writes the package to a file, one weight at a time; `done` is told the bytes of each weight as it is written.
    ///
    /// # Errors
    /// What the weights or the file system say; then no file is left behind.
    pub fn save(
        &self,
        path: &Path,
        weights: &dyn Weights,
        extras: &Extras,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Errors> {
        let mut writer = PackageWriter::create(path).map_err(package_error)?;
        self.fill(&mut writer, weights, extras, done)?;
        writer.finish(&self.fingerprint()).map_err(package_error)?;
        Ok(())
    }

    /// The bytes of the package.
    ///
    /// # Errors
    /// What the weights say.
    pub fn bytes(&self, weights: &dyn Weights, extras: &Extras) -> Result<Vec<u8>, Errors> {
        let mut writer = PackageWriter::in_memory();
        self.fill(&mut writer, weights, extras, &mut |_| {})?;
        Ok(writer.finish_bytes(&self.fingerprint()).map_err(package_error)?)
    }

    /// The first compilation's plan, with the members of its weights.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plans[0]
    }

    /// Calls `write` with each member of weights and its bytes, one at a time.
    pub(crate) fn each_weight(
        &self,
        weights: &dyn Weights,
        write: &mut dyn FnMut(&str, &[u8]) -> Result<(), Diagnostic>,
    ) -> Result<(), Errors> {
        for (i, w, member) in &self.stored {
            write(member, &self.compiled[*i].stored(w, weights)?)?;
        }
        Ok(())
    }

    fn fingerprint(&self) -> String {
        let all: Vec<String> = self.compiled.iter().map(|c| c.options.fingerprint()).collect();
        all.join("+")
    }

    fn fill(
        &self,
        writer: &mut PackageWriter,
        weights: &dyn Weights,
        extras: &Extras,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Errors> {
        for (i, (c, plan)) in self.compiled.iter().zip(&self.plans).enumerate() {
            let member = plan_member(i, c.target());
            writer.add_plan(&member, plan).map_err(package_error)?;
            let features = gpu_profiles::required(&c.options.profile);
            writer.add_target(&c.code.target(&c.options.profile, &member, &features)).map_err(package_error)?;
        }
        for (name, bytes) in extras {
            writer.add(name, bytes).map_err(package_error)?;
        }
        self.each_weight(weights, &mut |member, bytes| {
            writer.add(member, bytes).map_err(package_error)?;
            done(bytes.len() as u64);
            Ok(())
        })
    }
}

impl Compiled {
    /// Name of the target.
    pub fn target(&self) -> &str {
        &self.options.profile.name
    }

    /// Writes the package of this compilation alone, see [`Packaging::save`].
    ///
    /// # Errors
    /// As [`Packaging::save`].
    pub fn save(
        &self,
        path: &Path,
        weights: &dyn Weights,
        extras: &Extras,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Errors> {
        Packaging::new(std::slice::from_ref(self)).save(path, weights, extras, done)
    }

    /// The package in memory.
    ///
    /// # Errors
    /// What the weights say.
    pub fn package(&self, weights: &dyn Weights, extras: &Extras) -> Result<Package, Errors> {
        Ok(Package::from_bytes(self.package_bytes(weights, extras)?).map_err(package_error)?)
    }

    /// The bytes of the package.
    ///
    /// # Errors
    /// What the weights say.
    pub fn package_bytes(&self, weights: &dyn Weights, extras: &Extras) -> Result<Vec<u8>, Errors> {
        Packaging::new(std::slice::from_ref(self)).bytes(weights, extras)
    }

    /// A weight's bytes as stored.
    fn stored(&self, w: &StoredWeight, weights: &dyn Weights) -> Result<Vec<u8>, Diagnostic> {
        let shape: Vec<u64> = w.ty.const_shape().unwrap_or_default().iter().map(|n| *n as u64).collect();
        let plain = self.plain(&w.source, weights)?;
        Ok(w.layout.store(&plain, &shape, w.ty.dtype.bytes() as usize))
    }

    /// The bytes of a source, row-major.
    fn plain<'w>(&'w self, source: &'w Source, weights: &'w dyn Weights) -> Result<Cow<'w, [u8]>, Diagnostic> {
        let original = |n: u32| {
            let weight = &self.traced.weights[n as usize];
            weights.read(&weight.name, &weight.ty)
        };
        Ok(match source {
            Source::Constant(d) => Cow::Borrowed(&d.bytes),
            Source::Original(n) => original(*n)?,
            Source::Joined(parts) => {
                let mut rows = Vec::new();
                for p in parts {
                    rows.extend_from_slice(&original(*p)?);
                }
                Cow::Owned(rows)
            }
            Source::Rows { of, rows, first, count } => {
                let whole = self.plain(of, weights)?;
                let row = whole.len() / (*rows).max(1) as usize;
                let range = *first as usize * row..(first + count) as usize * row;
                match whole {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
                }
            }
        })
    }
}
