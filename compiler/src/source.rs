//! From what a user names (a folder, a package, a text graph) to a package that can be run.

use crate::cache::KernelCache;
use crate::calibrate::Calibration;
use crate::checkpoint::check_unread;
use crate::error::Errors;
use crate::models::{Architecture, Config, EntryOptions, trace_model};
use crate::packaging::{Extras, Packaging};
use crate::pipeline::{Activations, Compiled, Level, Options, compile_targets, compile_with};
use crate::quantization::{Quantization, Quantizing};
use crate::tune::Tuning;
use crate::weights::{Checkpoint, NoWeights, RandomWeights, Weights};
use mlxc_codegen::llvm::CodeStore;
use mlxc_ir::graph::Module;
use mlxc_ir::{DType, Diagnostic, Location, Scheme};
use mlxc_package::{OpenOptions, Package};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder's model: its config, and how its weights are read.
struct Described {
    config: Config,
    dtype: DType,
    quantization: Quantization,
}

/// What a build is given.
#[derive(Clone, Debug)]
pub struct Build {
    /// Folder, package or text graph.
    pub model: PathBuf,
    /// Names of the targets, the first the one that tools show; `cpu` is this machine.
    pub targets: Vec<String>,
    /// dtype; the checkpoint's own unless given.
    pub dtype: Option<DType>,
    /// Tokens of the key-value state; the smaller of 4096 and the model's own unless given.
    pub context: Option<i64>,
    /// Tokens of one prefill step.
    pub prefill_chunk: i64,
    /// Scheme of every layer whose rows are whole groups.
    pub quantize: Option<Scheme>,
    /// Schemes of layers by pattern, none for dense; the last that fits decides.
    pub quantize_layers: Vec<(String, Option<Scheme>)>,
    /// Bits of an element of the key-value state: 8 keeps codes with a scale and a bias for each token and head; the model's
    /// dtype unless given.
    pub kv_bits: Option<u8>,
    /// Seed of random weights, instead of the checkpoint's.
    pub random_weights: Option<u64>,
    /// Numerics.
    pub level: Level,
    /// Activations of products with quantised weights.
    pub activations: Activations,
    /// Fuse.
    pub fuse: bool,
    /// Outline repeated blocks.
    pub outline: bool,
    /// Largest scratch, in bytes.
    pub max_scratch: Option<u64>,
    /// Files of measured figures, each for one of the targets.
    pub profiles: Vec<PathBuf>,
    /// A file of measured sizes of kernels, for one of the targets.
    pub tuning: Option<PathBuf>,
    /// Leave out the members that dump, verify and explain read.
    pub strip: bool,
    /// Refuse native code in a package.
    pub untrusted: bool,
    /// Find machine code of earlier compilations in the user's kernel cache, and keep this one's there.
    pub cache: bool,
}

impl Build {
    /// A build of a model with every choice at its default. Nothing is kept for the next one.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Build {
            model: model.into(),
            targets: vec!["cpu".into()],
            dtype: None,
            context: None,
            prefill_chunk: 512,
            quantize: None,
            quantize_layers: Vec::new(),
            kv_bits: None,
            random_weights: None,
            level: Level::Strict,
            activations: Activations::Exact,
            fuse: true,
            outline: true,
            max_scratch: None,
            profiles: Vec::new(),
            tuning: None,
            strip: false,
            untrusted: false,
            cache: false,
        }
    }

    /// True if the model is a package already.
    pub fn is_package(&self) -> bool {
        self.model.is_file() && self.model.extension().is_some_and(|e| e == "mlxc")
    }

    /// True if the result is a folder for browsers, see [`crate::web`].
    pub fn is_for_browsers(&self) -> bool {
        self.targets.iter().any(|t| t == crate::web::TARGET)
    }

    /// Opens a package.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open_package(&self) -> Result<Package, Errors> {
        let options = OpenOptions { untrusted: self.untrusted };
        Ok(Package::open_with(&self.model, options).map_err(crate::pipeline::package_error)?)
    }

    /// The text of a folder's config.json, and the name of the file.
    pub(crate) fn config(&self) -> Result<(String, String), Diagnostic> {
        let path = self.model.join("config.json");
        Ok((read(&path)?, path.display().to_string()))
    }

    /// What a folder's files say of the model.
    fn described(&self) -> Result<Described, Errors> {
        let (text, file) = self.config()?;
        self.describe(Config::parse(&text, &file)?, &file)
    }

    fn describe(&self, mut config: Config, file: &str) -> Result<Described, Errors> {
        if let Architecture::Encoder(e) = &mut config.architecture {
            // Where sentence-transformers says how a text becomes one vector.
            for (name, pooling) in [("1_Pooling/config.json", true), ("modules.json", false)] {
                let path = self.model.join(name);
                if path.is_file() {
                    let (text, file) = (read(&path)?, path.display().to_string());
                    if pooling { e.read_pooling(&text, &file) } else { e.read_modules(&text, &file) }?;
                }
            }
        }
        let quantization = self.quantization(&config, file)?;
        let dtype = self.dtype.unwrap_or(config.dtype);
        Ok(Described { config, dtype, quantization })
    }

    /// The dtype of weights and how layers are quantised.
    pub(crate) fn described_quantization(&self) -> Result<(DType, Quantization), Errors> {
        self.described().map(|d| (d.dtype, d.quantization))
    }

    /// How layers are quantised: as the checkpoint has them, or as the caller asks.
    fn quantization(&self, config: &Config, file: &str) -> Result<Quantization, Errors> {
        // Without weights there is the config alone: enough to compile, and what random weights are made by.
        let absent = self.random_weights.is_some() || !Checkpoint::is_in(&self.model);
        let found = match (&config.quantization, absent) {
            (Some(q), true) => Some(Quantization::of_config(q, file)?),
            (None, true) => None,
            (q, false) => {
                let checkpoint = Checkpoint::open(&self.model)?;
                let scales =
                    checkpoint.names().find(|n| n.ends_with(".scales")).and_then(|n| checkpoint.float_dtype(n));
                Quantization::of_checkpoint(q.as_ref(), checkpoint.names(), scales, file)?
            }
        };
        let asked = self.quantize.is_some() || !self.quantize_layers.is_empty();
        if let Some(found) = found {
            if asked {
                return Err(Diagnostic::new(942, "the checkpoint is quantised already")
                    .at(Location::new(file, 0, 0))
                    .expected("a dense checkpoint where quantisation is asked for")
                    .into());
            }
            return Ok(found);
        }
        let start = self.quantize.map_or_else(Quantization::default, Quantization::uniform);
        let rules = self.quantize_layers.iter();
        Ok(rules.cloned().try_fold(start, |q, (pattern, scheme)| q.with_rule(&pattern, scheme))?)
    }

    /// Traces or parses the model.
    ///
    /// # Errors
    /// `MLXC0903` if the path is none of the forms, `MLXC0920` an unreadable file, or what the model code says.
    pub fn trace(&self) -> Result<Module, Errors> {
        if self.model.is_dir() {
            return self.trace_described(&self.described()?);
        }
        if self.model.extension().is_some_and(|e| e == "graph") {
            let text = read(&self.model)?;
            return Ok(mlxc_ir::graph::text::parse_source(&text, &self.model.display().to_string())?);
        }
        let found = if self.model.exists() { "another kind of file" } else { "nothing" };
        Err(Diagnostic::new(903, "the model cannot be opened")
            .at(Location::new(self.model.display().to_string(), 0, 0))
            .expected("a Hugging Face folder, a package (.mlxc) or a text graph (.graph)")
            .found(found)
            .into())
    }

    fn trace_described(&self, d: &Described) -> Result<Module, Errors> {
        let context = self.context.unwrap_or_else(|| d.config.max_position_embeddings.min(4096));
        let coded_states = self.kv_bits == Some(8);
        let options = EntryOptions { dtype: d.dtype, chunk: self.prefill_chunk, context, coded_states };
        trace_model(&d.config, options, &d.quantization)
    }

    /// Traces a folder's model by a config that was read already.
    ///
    /// # Errors
    /// As [`Build::trace`].
    pub(crate) fn trace_config(&self, config: Config, file: &str) -> Result<Module, Errors> {
        self.trace_described(&self.describe(config, file)?)
    }

    /// The options of the compilation, one a target.
    ///
    /// # Errors
    /// A target that is not known, `MLXC0991` a limit of the cache that is no number, `MLXC0926` a target that is named twice, `MLXC0953` others beside `web`, `MLXC0973` a profile of
    /// none of them, or what [`Tuning`] says.
    pub fn options(&self) -> Result<Vec<Options>, Errors> {
        if self.is_for_browsers() && self.targets.len() > 1 {
            return Err(Diagnostic::new(953, "a folder for browsers holds no code for other targets")
                .expected("the target `web` alone")
                .found(self.targets.join(", "))
                .into());
        }
        let cache = if self.cache { KernelCache::of_user()?.map(Arc::new) } else { None };
        let mut all: Vec<Options> = Vec::new();
        for name in &self.targets {
            let mut options = Options::for_target(name)?;
            if all.iter().any(|o| o.profile.name == options.profile.name) {
                return Err(Diagnostic::new(926, "a target is named twice")
                    .expected("each target once")
                    .found(options.profile.name)
                    .into());
            }
            options.level = self.level;
            options.activations = self.activations;
            options.fuse = self.fuse;
            options.outline = self.outline;
            options.max_scratch = self.max_scratch;
            options.store = cache.clone().map(|c| c as Arc<dyn CodeStore>);
            all.push(options);
        }
        for path in &self.profiles {
            let figures = Calibration::read(path)?;
            let Some(options) = all.iter_mut().find(|o| o.profile.name == figures.target) else {
                return Err(Diagnostic::new(973, "a profile is of another target")
                    .at(Location::new(path.display().to_string(), 0, 0))
                    .expected(all.iter().map(|o| o.profile.name.as_str()).collect::<Vec<_>>().join(", "))
                    .found(figures.target)
                    .into());
            };
            figures.apply(&mut options.profile);
        }
        if let Some(path) = &self.tuning {
            Tuning::read(path)?.apply(&mut all, path)?;
        }
        if all.is_empty() {
            return Err(Diagnostic::new(901, "no target is named").expected("cpu, or a profile's name").into());
        }
        Ok(all)
    }

    /// Traces and compiles for the first target.
    ///
    /// # Errors
    /// What tracing or a stage says.
    pub fn compile(&self, stage: &mut dyn FnMut(&'static str)) -> Result<Compiled, Errors> {
        stage("trace");
        let module = self.trace()?;
        compile_with(&module, &self.options()?[0], stage)
    }

    /// Traces, and compiles for every target.
    ///
    /// # Errors
    /// What tracing or a stage says.
    pub fn compile_all(&self, stage: &mut dyn FnMut(&'static str)) -> Result<Vec<Compiled>, Errors> {
        stage("trace");
        let module = self.trace()?;
        compile_targets(&module, &self.options()?, stage)
    }

    /// The weights of a module that was traced from this model.
    ///
    /// # Errors
    /// A missing or damaged checkpoint, or one with tensors that the module does not read.
    pub fn weights(&self, module: &Module) -> Result<Box<dyn Weights>, Errors> {
        if !self.model.is_dir() {
            return Ok(match self.random_weights {
                Some(seed) => Box::new(RandomWeights { seed }),
                None => Box::new(NoWeights),
            });
        }
        let d = self.described()?;
        let dense: Box<dyn Weights> = match self.random_weights {
            Some(seed) => Box::new(RandomWeights { seed }),
            None => {
                let checkpoint = Checkpoint::open(&self.model)?;
                check_unread(&checkpoint, module)?;
                Box::new(checkpoint)
            }
        };
        let as_they_are = d.quantization.is_none() || d.quantization.is_stored();
        Ok(if as_they_are { dense } else { Box::new(Quantizing::new(dense, d.dtype, d.quantization)) })
    }

    /// Members beside code and weights: what turns tokens into text, and what explains the package.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn extras(&self, compiled: &[Compiled]) -> Result<Extras, Errors> {
        let mut out = Extras::new();
        let text =
            ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"];
        for name in text {
            let path = self.model.join(name);
            if self.model.is_dir() && path.is_file() {
                out.push((format!("text/{name}"), read(&path)?.into_bytes()));
            }
        }
        let Some(first) = compiled.first().filter(|_| !self.strip) else { return Ok(out) };
        out.push(("ir/graph".into(), mlxc_ir::graph::text::print(&first.traced).into_bytes()));
        out.push(("ir/lowered".into(), mlxc_ir::graph::text::print(&first.decomposed).into_bytes()));
        for c in compiled {
            let kernels: String = c.scheduled.kernels.iter().map(mlxc_ir::kernel::print).collect();
            out.push((kernels_member(c.target()), kernels.into_bytes()));
            let refused = serde_json::to_vec(&crate::reasons::collect(c)).expect("reasons are plain data");
            out.push((crate::reasons::member(c.target()), refused));
        }
        let rules = serde_json::to_vec(&crate::rewrites::collect(first)).expect("rules are plain data");
        out.push((crate::rewrites::MEMBER.into(), rules));
        Ok(out)
    }

    /// A package that can be run: the file itself, or a compilation into a temporary file that goes away with it.
    ///
    /// # Errors
    /// What opening or compiling says.
    pub fn package(&self, stage: &mut dyn FnMut(&'static str)) -> Result<Arc<Package>, Errors> {
        if self.is_package() {
            return Ok(Arc::new(self.open_package()?));
        }
        let compiled = self.compile_all(stage)?;
        stage("write");
        let folder = tempfile::tempdir()
            .map_err(|e| Diagnostic::new(904, "no temporary folder can be made").found(e.to_string()))?;
        let path = folder.path().join("model.mlxc");
        let weights = self.weights(&compiled[0].traced)?;
        Packaging::new(&compiled).save(&path, &*weights, &self.extras(&compiled)?, &mut |_| {})?;
        // The mapping outlives the name.
        Ok(Arc::new(Package::open(&path).map_err(crate::pipeline::package_error)?))
    }
}

/// The member of a target's Kernel IR.
pub fn kernels_member(target: &str) -> String {
    format!("ir/kernels/{target}")
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|e| {
        Diagnostic::new(920, "a file of the model cannot be read")
            .at(Location::new(path.display().to_string(), 0, 0))
            .found(e.to_string())
    })
}
