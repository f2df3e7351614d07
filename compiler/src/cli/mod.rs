//! The command line: one file a command. Only here are diagnostics rendered.

pub mod args;
mod bench;
mod build;
mod cache;
mod calibrate;
mod check;
mod convert;
mod devices;
mod dump;
mod embed;
mod explain;
mod generate;
mod perplexity;
mod plan;
mod progress;
mod run;
mod shell;
mod verify;

use args::{ActivationsArg, BuildArgs, Cli, Command, LevelArg};
use mlxc::Errors;
use mlxc::pipeline::{Activations, Level};
use mlxc::source::Build;
use mlxc_package::plan::Plan;
use mlxc_package::{Package, Target};
use mlxc_runtime::Device;
use std::process::ExitCode;

/// Why a command ended without success.
pub enum Failure {
    /// Something given was wrong.
    Errors(Errors),
    /// A comparison found a difference, or a check something to warn of; what it was is printed already.
    Verification,
}

impl<T: Into<Errors>> From<T> for Failure {
    fn from(e: T) -> Self {
        Failure::Errors(e.into())
    }
}

/// The result of a command.
pub type Outcome = Result<(), Failure>;

/// Runs a command; the exit code is 0, 1 for an error, 3 for a verification that failed or a check with warnings.
pub fn run(cli: Cli) -> ExitCode {
    let level = match cli.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = match &cli.log {
        Some(filter) => match tracing_subscriber::EnvFilter::try_new(filter) {
            Ok(f) => f,
            Err(e) => {
                eprintln!("error: MLXC0950: the log filter is not understood\n  found {e}");
                return ExitCode::from(2);
            }
        },
        None => tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(tracing_subscriber::fmt::time::uptime())
        .with_target(false)
        .init();
    let outcome = match cli.command {
        Command::Compile(a) => build::compile(&a),
        Command::Inspect(a) => build::inspect(&a),
        Command::Bench(a) => bench::run(&a),
        Command::Calibrate(a) => calibrate::run(&a),
        Command::Convert(a) => convert::run(&a),
        Command::Generate(a) => generate::run(&a),
        Command::Chat(a) => generate::chat(&a),
        Command::Perplexity(a) => perplexity::run(&a),
        Command::Embed(a) => embed::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Dump(a) => dump::run(&a),
        Command::Explain(a) => explain::run(&a),
        Command::Plan(a) => plan::run(&a),
        Command::Check(a) => check::run(&a),
        Command::Verify(a) => verify::run(&a),
        Command::Devices(a) => devices::run(&a),
        Command::Cache(a) => cache::run(&a),
        Command::Completions(a) => shell::completions(&a),
        Command::Man(a) => shell::man(&a),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Verification) => ExitCode::from(3),
        Err(Failure::Errors(errors)) => {
            for d in errors.0 {
                eprintln!("error: {d}");
            }
            ExitCode::FAILURE
        }
    }
}

impl BuildArgs {
    /// The build these arguments describe, for the target that a device runs unless they name one.
    pub fn build_for(&self, device: Device) -> Result<Build, mlxc::Errors> {
        let mut build = self.build();
        if self.options.target.is_empty() && !build.is_package() {
            build.targets = mlxc::devices::targets_of(device)?;
        }
        Ok(build)
    }

    /// The target of a package that these arguments ask for, else its first, and that target's plan.
    pub fn plan_of<'p>(&self, package: &'p Package) -> Result<(String, &'p Plan), Failure> {
        let targets = &package.manifest().targets;
        let Some(name) = self.options.target.first() else {
            return Ok((targets.first().map_or_else(String::new, |t| t.name.clone()), package.plan()));
        };
        target_in(package, name).map(|t| (t.name.clone(), package.plan_of(t)))
    }

    /// The targets of a package that these arguments ask for, else all.
    pub fn targets_of<'p>(&self, package: &'p Package) -> Result<Vec<&'p Target>, Failure> {
        if self.options.target.is_empty() {
            return Ok(package.manifest().targets.iter().collect());
        }
        self.options.target.iter().map(|name| target_in(package, name)).collect()
    }

    /// The build these arguments describe.
    pub fn build(&self) -> Build {
        Build {
            model: self.model.clone(),
            targets: if self.options.target.is_empty() { vec!["cpu".into()] } else { self.options.target.clone() },
            dtype: self.options.dtype,
            context: self.options.context,
            prefill_chunk: self.options.prefill_chunk,
            quantize: self.options.quantize,
            quantize_layers: self.options.quantize_layer.clone(),
            kv_bits: self.options.kv_bits,
            random_weights: self.options.random_weights,
            level: match self.options.numerics {
                LevelArg::Exact => Level::Exact,
                LevelArg::Strict => Level::Strict,
            },
            activations: match self.options.activations {
                ActivationsArg::Exact => Activations::Exact,
                ActivationsArg::Int8 => Activations::Int8,
            },
            fuse: !self.options.no_fuse,
            outline: !self.options.no_outline,
            max_scratch: self.options.max_scratch,
            profiles: self.options.profile.clone(),
            tuning: self.options.tuning.clone(),
            strip: false,
            untrusted: self.options.untrusted,
            cache: !self.options.no_cache,
        }
    }
}

/// A package's target by its name or an alias of it.
fn target_in<'p>(package: &'p Package, name: &str) -> Result<&'p Target, Failure> {
    // Aliases are the names of profiles.
    let name = mlxc::Options::for_target(name)?.profile.name;
    let targets = &package.manifest().targets;
    targets.iter().find(|t| t.name == name).ok_or_else(|| {
        mlxc::Diagnostic::new(924, "the package holds no code for the target")
            .expected(targets.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "))
            .found(name)
            .into()
    })
}

/// Prints to standard output; a reader that closed the pipe ends the program quietly.
pub fn print(text: &str) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(file_error("standard output", &e).into()),
    }
}

/// An input or output error of a file.
pub fn file_error(path: &str, e: &std::io::Error) -> mlxc::Diagnostic {
    mlxc::Diagnostic::new(906, "a file cannot be read or written")
        .at(mlxc::Location::new(path, 0, 0))
        .found(e.to_string())
}

/// Writes a file whole or not at all: into a temporary file beside it, renamed at the end.
pub fn write_file(path: &std::path::Path, bytes: &[u8]) -> Outcome {
    use std::io::Write;
    let name = path.display().to_string();
    let mut file = mlxc::files::beside(path).map_err(|e| file_error(&name, &e))?;
    file.write_all(bytes).map_err(|e| file_error(&name, &e))?;
    file.persist(path).map_err(|e| file_error(&name, &e.error))?;
    Ok(())
}
