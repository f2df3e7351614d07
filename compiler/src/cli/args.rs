//! The command line, declared.

use clap::{Args, Parser, Subcommand, ValueEnum};
use mlxc::{DType, Scheme};
use mlxc_runtime::Device;
use std::path::PathBuf;

/// An ahead-of-time graph compiler and kernel fuser for MLX-style model code.
///
/// MODEL is a Hugging Face folder (config.json, safetensors, tokenizer.json), a package (.mlxc) or a graph in text form
/// (.graph). Exit codes: 0 success, 1 an error in what was given, 2 a wrong command line, 3 a verification that
/// failed or a check with warnings.
#[derive(Parser, Debug)]
#[command(name = "mlxc", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Say what is being done; twice for more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say what is being done, with the time since the start: a level (`info`: stages; `debug`: each function and kernel) or a
    /// filter such as `mlxc_passes=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Compile a model into one package.
    Compile(Compile),
    /// Measure steps and kernels beside the machine's limits.
    Bench(Bench),
    /// Measure this machine's rates into a file for --profile.
    Calibrate(Calibrate),
    /// Write a checkpoint anew, quantised or in another dtype, to a folder other tools read.
    Convert(Convert),
    /// Write text.
    Generate(Generate),
    /// Talk with a model: a message a line, `/reset` begins anew, `/exit` ends.
    Chat(Chat),
    /// Mean negative log-likelihood of a text.
    Perplexity(Perplexity),
    /// Turn texts into vectors.
    Embed(Embed),
    /// Run one entry on .npy files.
    Run(Run),
    /// Print a stage of the compilation.
    Dump(Dump),
    /// Say what was fused, what was not and why, and where memory goes.
    Explain(Explain),
    /// Say what is worth a look in a model, before anything is compiled.
    Check(Check),
    /// List entries with their launches and memory.
    Inspect(Inspect),
    /// Compare compiled code with the interpreter.
    Verify(Verify),
    /// Place buffers of one's own in an arena.
    Plan(Plan),
    /// List devices: what they have and which targets they run.
    Devices(Devices),
    /// Show or clear the cache of compiled CPU kernels.
    ///
    /// It lies in `kernels` in the folder that MLXC_CACHE names, else in mlxc's among the user's caches; MLXC_CACHE=off turns it
    /// off. MLXC_CACHE_BYTES is its limit, 1 GiB unless given.
    Cache(Cache),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// Print the manual page, or write all pages to a folder.
    Man(Man),
}

/// Options of every command that may compile.
#[derive(Args, Debug, Clone)]
pub struct BuildArgs {
    /// Hugging Face folder, package or text graph.
    pub model: PathBuf,
    /// How to build it.
    #[command(flatten)]
    pub options: BuildOptions,
}

/// How a model is built.
#[derive(Args, Debug, Clone)]
pub struct BuildOptions {
    /// Targets, separated by commas: `cpu` for this machine (unless another is given), `metal`, `vulkan`, `webgpu`, or
    /// a profile's name. A package may hold several; what shows one shows the first. `web`, alone, makes `compile` write a
    /// folder for browsers.
    #[arg(long, value_name = "TARGETS", value_delimiter = ',')]
    pub target: Vec<String>,
    /// dtype of weights and activations; the checkpoint's own unless given.
    #[arg(long, value_parser = dtype)]
    pub dtype: Option<DType>,
    /// Tokens the key-value state holds; the smaller of 4096 and the model's own unless given.
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<i64>,
    /// Tokens of one prefill step.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub prefill_chunk: i64,
    /// Quantise the weights: BITS,GROUP (affine 2, 3, 4, 5, 6 or 8 bits; groups of 32, 64 or 128), mxfp4, mxfp8 or nvfp4.
    #[arg(long, value_name = "BITS,GROUP[,MODE]")]
    pub quantize: Option<Scheme>,
    /// Quantise the layers that fit a pattern otherwise (`*` fits anything), or keep them dense with `none`; the last that
    /// fits decides.
    #[arg(long, value_name = "PATTERN=SCHEME", value_parser = layer_scheme)]
    pub quantize_layer: Vec<(String, Option<Scheme>)>,
    /// Keep keys and values in codes of so many bits (8), with a scale and a bias for each token and head.
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(8..=8))]
    pub kv_bits: Option<u8>,
    /// Random weights from a seed; config.json is all that is read.
    #[arg(long, value_name = "SEED")]
    pub random_weights: Option<u64>,
    /// Numerics: `strict` lets precision inside a kernel exceed the stated dtype, `exact` rounds every op.
    #[arg(long, value_enum, default_value_t = LevelArg::Strict)]
    pub numerics: LevelArg,
    /// What products with quantised weights read of their inputs: `exact` all of it, `int8` each group rounded to 8-bit
    /// integers with one scale, which is faster where such integers multiply faster and changes results by about a percent.
    #[arg(long, value_enum, default_value_t = ActivationsArg::Exact)]
    pub activations: ActivationsArg,
    /// One kernel an op.
    #[arg(long)]
    pub no_fuse: bool,
    /// Compile repeated blocks each on its own.
    #[arg(long)]
    pub no_outline: bool,
    /// Refuse native code in a package: it can be listed and explained, not run on the CPU.
    #[arg(long)]
    pub untrusted: bool,
    /// Compile every kernel anew and keep none, see `mlxc cache`.
    #[arg(long)]
    pub no_cache: bool,
    /// Fail if an entry needs more scratch memory.
    #[arg(long, value_name = "BYTES")]
    pub max_scratch: Option<u64>,
    /// Decide by the figures that `mlxc calibrate` measured instead of the target's own; once for each target.
    #[arg(long, value_name = "FILE")]
    pub profile: Vec<PathBuf>,
    /// Size kernels as a file says that `mlxc compile --tune` wrote.
    #[arg(long, value_name = "FILE")]
    pub tuning: Option<PathBuf>,
}

/// A numerics level.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelArg {
    /// Every op rounds to its dtype.
    Exact,
    /// Never less precise than stated.
    Strict,
}

/// Activations of products with quantised weights.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationsArg {
    /// As they are.
    Exact,
    /// Rounded to 8-bit integers.
    Int8,
}

/// `mlxc compile`.
#[derive(Args, Debug)]
pub struct Compile {
    /// What to compile.
    #[command(flatten)]
    pub build: BuildArgs,
    /// The package to write, or the folder for browsers.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Measure other sizes of kernels first, at most so many, and write those that are faster to the file of --tuning. The first
    /// target is a CPU that this machine is.
    #[arg(long, value_name = "STEPS", requires = "tuning")]
    pub tune: Option<usize>,
    /// Leave out what dump, verify and explain read.
    #[arg(long)]
    pub strip: bool,
    /// Print a report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// Hugging Face folder, package or text graph.
    #[arg(required_unless_present = "suite")]
    pub model: Option<PathBuf>,
    /// How to build it.
    #[command(flatten)]
    pub options: BuildOptions,
    /// Measure a fixed set of workloads instead of a model, or the groups named: A elementwise chains, B norms, C softmax and
    /// attention, D products, E a Llama block, F a whole model in 4 bits.
    #[arg(long, value_name = "GROUPS", num_args = 0..=1, default_missing_value = "ABCDEF", conflicts_with = "model")]
    pub suite: Option<String>,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Tokens of the prompt; 0 for none.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub prefill: usize,
    /// Decode steps after it.
    #[arg(long, value_name = "STEPS", default_value_t = 32)]
    pub decode: usize,
    /// Copy the weights to huge pages instead of reading the package's mapping.
    #[arg(long)]
    pub copied: bool,
    /// Repetitions of the prompt, or of each entry of a package that writes no text.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// Write the launches of the last steps as a trace for Chrome's about:tracing or Perfetto.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc calibrate`.
#[derive(Args, Debug)]
pub struct Calibrate {
    /// The CPU target whose code measures.
    #[arg(long, default_value = "cpu")]
    pub target: String,
    /// Threads; all the process may use unless given.
    #[arg(long)]
    pub threads: Option<usize>,
    /// The file to write.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// `mlxc convert`.
#[derive(Args, Debug)]
pub struct Convert {
    /// What to convert: --dtype, --quantize and --quantize-layer say to what.
    #[command(flatten)]
    pub build: BuildArgs,
    /// The folder to make.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Bytes of tensors in one safetensors file, at most, unless one tensor has more.
    #[arg(long, value_name = "BYTES", default_value_t = mlxc::convert::SHARD_BYTES)]
    pub shard_bytes: u64,
}

/// Where to run.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Device: `cpu`; `gpu` for the best GPU, `gpu:N` for one that `mlxc devices` lists; `auto` for a GPU if there is one
    /// that the package has code for, else the CPU.
    #[arg(long, default_value = "cpu")]
    pub device: Device,
    /// Threads; all the process may use unless given.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// How tokens are chosen.
#[derive(Args, Debug, Clone)]
pub struct SamplingArgs {
    /// 0 takes the likeliest token; higher is freer.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Sample from the smallest set of tokens with this total probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Sample from this many likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Drop tokens less likely than this share of the likeliest.
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// How often to leave out all top choices but the least likely of them (XTC).
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0)]
    pub xtc_probability: f32,
    /// Probability from which on a token is a top choice.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.1)]
    pub xtc_threshold: f32,
    /// Divide positive logits of seen tokens by this, multiply negative ones; 1 changes nothing.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// Subtract this from the logits of seen tokens.
    #[arg(long, value_name = "LOGIT", default_value_t = 0.0, allow_negative_numbers = true)]
    pub presence_penalty: f32,
    /// Subtract this from the logits of seen tokens for each time they were seen.
    #[arg(long, value_name = "LOGIT", default_value_t = 0.0, allow_negative_numbers = true)]
    pub frequency_penalty: f32,
    /// Tokens of the past the penalties look at; 0 for all.
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    pub penalty_context: usize,
    /// Add to the logit of a token: ID=LOGIT, with -inf to forbid it.
    #[arg(long, value_name = "ID=LOGIT", value_parser = bias, allow_hyphen_values = true)]
    pub logit_bias: Vec<(u32, f32)>,
    /// End the text before this string; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the sampler.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Tokens to write, at most.
    #[arg(long, default_value_t = 128)]
    pub max_tokens: usize,
    /// Go on past the end-of-text token.
    #[arg(long)]
    pub ignore_eos: bool,
}

/// A draft model and a prompt cache.
#[derive(Args, Debug, Clone)]
pub struct SpeedArgs {
    /// A small model of the same tokenizer that proposes tokens for the model to check.
    #[arg(long, value_name = "MODEL")]
    pub draft_model: Option<PathBuf>,
    /// Tokens the draft model proposes at a time.
    #[arg(long, value_name = "TOKENS", default_value_t = 4)]
    pub draft_tokens: usize,
    /// Begin with the keys and values of a prompt that was processed before.
    #[arg(long, value_name = "FILE")]
    pub prompt_cache: Option<PathBuf>,
    /// Write the keys and values of all tokens processed, for --prompt-cache.
    #[arg(long, value_name = "FILE")]
    pub save_prompt_cache: Option<PathBuf>,
}

/// `mlxc generate`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["prompt", "prompt_file", "prompts"])))]
pub struct Generate {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Text to continue, as it is; `-` reads it from standard input.
    #[arg(long)]
    pub prompt: Option<String>,
    /// A file with the text to continue.
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// A file of prompts, one a line: plain text, or JSON objects with `prompt` (and `max_tokens`, if wanted). Results are
    /// JSON, one a line, in the order of the prompts.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Put the prompt through the model's chat template.
    #[arg(long)]
    pub chat: bool,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// What makes it faster.
    #[command(flatten)]
    pub speed: SpeedArgs,
    /// Print one JSON object at the end instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc chat`.
#[derive(Args, Debug)]
pub struct Chat {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the model is told first.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// What makes it faster.
    #[command(flatten)]
    pub speed: SpeedArgs,
}

/// `mlxc perplexity`.
#[derive(Args, Debug)]
pub struct Perplexity {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The text.
    #[arg(long)]
    pub text: PathBuf,
    /// Targets a window; windows follow each other without overlap.
    #[arg(long, default_value_t = 256)]
    pub window: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc embed`.
#[derive(Args, Debug)]
pub struct Embed {
    /// The model: an encoder.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// A text; may be given more than once.
    #[arg(long)]
    pub text: Vec<String>,
    /// A file of texts, one a line; empty lines are skipped.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Cut a text that is longer than the context instead of refusing it.
    #[arg(long)]
    pub truncate: bool,
    /// Write a .npy file, f32 with a row for each text, instead of JSON on standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `mlxc run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// The entry.
    #[arg(long)]
    pub entry: String,
    /// An input, as name=file.npy.
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    pub input: Vec<(String, PathBuf)>,
    /// An output, as name=file.npy.
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    pub output: Vec<(String, PathBuf)>,
}

/// `mlxc dump`.
#[derive(Args, Debug)]
pub struct Dump {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// The stage; `stages` lists them.
    #[arg(long)]
    pub stage: String,
    /// Only the kernel of this name, where the stage has kernels.
    #[arg(long)]
    pub kernel: Option<String>,
    /// JSON, where the stage has it (plan).
    #[arg(long)]
    pub json: bool,
    /// A file instead of standard output.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `mlxc explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Only this entry.
    #[arg(long)]
    pub entry: Option<String>,
    /// Why two values are not in one kernel: names of values in any stage, kernels, weights or states.
    #[arg(long, num_args = 2, value_names = ["NAME", "NAME"])]
    pub why_not: Option<Vec<String>>,
    /// The memory plan.
    #[arg(long)]
    pub memory: bool,
    /// Draw the memory plan into a file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a page that shows kernels with their code, for every target given, rules and memory.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["why_not", "memory", "json"])]
    pub html: Option<PathBuf>,
    /// Write kernels and values as a graph for Graphviz.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["why_not", "memory", "json"])]
    pub dot: Option<PathBuf>,
    /// Show on the page the times of a trace that `bench --trace` wrote.
    #[arg(long, value_name = "FILE", requires = "html")]
    pub trace: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc check`.
#[derive(Args, Debug)]
pub struct Check {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// Buffers in MiniMalloc's form: a CSV file with the columns id, lower, upper and size, in any order. A buffer lives from
    /// time lower to just before time upper. Other columns are ignored.
    pub buffers: PathBuf,
    /// Find offsets within so many bytes, or say whether there are none; without it, the arena is made as small as it can be.
    #[arg(long, value_name = "BYTES")]
    pub capacity: Option<u64>,
    /// The file to write: id, lower, upper, size and offset of each buffer.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Steps of the exact search, at most.
    #[arg(long, default_value_t = 2_000_000)]
    pub steps: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc devices`.
#[derive(Args, Debug)]
pub struct Devices {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc cache`.
#[derive(Args, Debug)]
pub struct Cache {
    /// Remove every kernel.
    #[arg(long)]
    pub clear: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `mlxc completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `mlxc man`.
#[derive(Args, Debug)]
pub struct Man {
    /// A folder for the pages of all commands.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `mlxc verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// The model.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Where to run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Value of every symbolic extent in the comparison.
    #[arg(long, default_value_t = 5)]
    pub size: i64,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn dtype(text: &str) -> Result<DType, String> {
    match text.parse() {
        Ok(d @ (DType::F32 | DType::BF16 | DType::F16)) => Ok(d),
        _ => Err("expected f32, bf16 or f16".into()),
    }
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("expected NAME=FILE".into()),
    }
}

fn layer_scheme(text: &str) -> Result<(String, Option<Scheme>), String> {
    let (pattern, scheme) = text.split_once('=').ok_or("expected PATTERN=SCHEME")?;
    let scheme = if scheme == "none" { None } else { Some(scheme.parse().map_err(|e| format!("{e}"))?) };
    Ok((pattern.into(), scheme))
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let (id, logit) = text.split_once('=').ok_or("expected ID=LOGIT")?;
    let id = id.parse().map_err(|_| format!("`{id}` is no token id"))?;
    let logit = logit.parse().map_err(|_| format!("`{logit}` is no number"))?;
    Ok((id, logit))
}
