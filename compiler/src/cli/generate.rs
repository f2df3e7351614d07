//! `mlxc generate` and `mlxc chat`.

use super::args::{BuildArgs, Chat, Generate, RunArgs, SamplingArgs, SpeedArgs};
use super::progress::Progress;
use super::{Outcome, file_error, print};
use mlxc::generate::{Prompt, Request, TextModel, Written};
use mlxc::report::human;
use mlxc::{Diagnostic, Errors, Location};
use mlxc_text::{Message, PenaltyOptions, SamplerOptions};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

pub fn run(a: &Generate) -> Outcome {
    let prompts = prompts(a)?;
    request(Prompt::Tokens(Vec::new()), &a.sampling).check()?;
    let mut model = load(&a.build, &a.run, &a.speed)?;
    if a.prompts.is_some() {
        for (text, most) in prompts {
            let mut request = request(prompt(text, a.chat), &a.sampling);
            request.max_tokens = most.unwrap_or(request.max_tokens);
            let written = model.generate(&request, &mut |_| {})?;
            let line = serde_json::to_string(&written).expect("a report is plain data");
            print(&format!("{line}\n"))?;
        }
        return save_cache(&model, &a.speed);
    }
    let (text, _) = prompts.into_iter().next().expect("one prompt where no file has several");
    let request = request(prompt(text.clone(), a.chat), &a.sampling);
    if a.json {
        let written = model.generate(&request, &mut |_| {})?;
        let text = serde_json::to_string_pretty(&written).expect("a report is plain data");
        print(&format!("{text}\n"))?;
        return save_cache(&model, &a.speed);
    }
    let mut out = std::io::stdout().lock();
    // A closed pipe is noticed at the end: the figures still go to standard error.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
    let written = stream(&mut model, &request, &mut out)?;
    figures(&written);
    save_cache(&model, &a.speed)
}

/// The prompts asked for, with the tokens to write where a prompt says so itself.
fn prompts(a: &Generate) -> Result<Vec<(String, Option<usize>)>, Errors> {
    let read = |path: &Path| -> Result<String, Errors> {
        Ok(std::fs::read_to_string(path).map_err(|e| file_error(&path.display().to_string(), &e))?)
    };
    if let Some(path) = &a.prompts {
        let place = |line: usize| Location::new(path.display().to_string(), line as u32 + 1, 0);
        let lines = read(path)?;
        let lines = lines.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        return lines
            .map(|(i, line)| {
                if !line.trim_start().starts_with('{') {
                    return Ok((line.to_string(), None));
                }
                let wrong = |found: String| {
                    Diagnostic::new(946, "a line of the prompts is not understood")
                        .at(place(i))
                        .expected("an object with `prompt`, a text, and perhaps `max_tokens`, a number")
                        .found(found)
                };
                let value: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
                let prompt = value["prompt"].as_str().ok_or_else(|| wrong("no `prompt`".into()))?;
                let most = match &value["max_tokens"] {
                    serde_json::Value::Null => None,
                    v => Some(v.as_u64().ok_or_else(|| wrong(format!("`max_tokens` {v}")))? as usize),
                };
                Ok((prompt.to_string(), most))
            })
            .collect();
    }
    let text = match (&a.prompt_file, a.prompt.as_deref()) {
        (Some(path), _) => read(path)?,
        (None, Some("-")) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| file_error("standard input", &e))?;
            text
        }
        (None, text) => text.unwrap_or_default().to_string(),
    };
    Ok(vec![(text, None)])
}

fn prompt(text: String, chat: bool) -> Prompt {
    if chat { Prompt::Messages(vec![Message::new("user", text)]) } else { Prompt::Text(text) }
}

fn request(prompt: Prompt, a: &SamplingArgs) -> Request {
    Request {
        prompt,
        max_tokens: a.max_tokens,
        penalties: PenaltyOptions {
            last: a.penalty_context,
            repetition: a.repetition_penalty,
            presence: a.presence_penalty,
            frequency: a.frequency_penalty,
            bias: a.logit_bias.clone(),
        },
        sampler: SamplerOptions {
            temperature: a.temperature,
            top_p: a.top_p,
            top_k: a.top_k,
            min_p: a.min_p,
            xtc_probability: a.xtc_probability,
            xtc_threshold: a.xtc_threshold,
            seed: a.seed,
        },
        stop: a.stop.clone(),
        ignore_eos: a.ignore_eos,
    }
}

/// Compiles or opens, loads, and joins the draft model and the prompt cache.
fn load(build: &BuildArgs, run: &RunArgs, speed: &SpeedArgs) -> Result<TextModel, Errors> {
    let progress = Progress::new();
    let options = super::run::load_options(run);
    let package = build.build_for(run.device)?.package(&mut |s| progress.stage(s))?;
    progress.stage("load");
    let mut model = TextModel::load(package, &options)?;
    if let Some(path) = &speed.draft_model {
        progress.stage("draft model");
        let mut draft = build.build_for(run.device)?;
        draft.model.clone_from(path);
        (draft.quantize, draft.quantize_layers) = (None, Vec::new());
        let draft = TextModel::load(draft.package(&mut |s| progress.stage(s))?, &options)?;
        model = model.with_draft(draft, speed.draft_tokens)?;
    }
    if let Some(path) = &speed.prompt_cache {
        model.load_cache(path)?;
    }
    progress.finish();
    Ok(model)
}

fn save_cache(model: &TextModel, speed: &SpeedArgs) -> Outcome {
    if let Some(path) = &speed.save_prompt_cache {
        model.save_cache(path)?;
    }
    Ok(())
}

fn stream(model: &mut TextModel, request: &Request, out: &mut impl Write) -> Result<Written, Errors> {
    let written = model.generate(request, &mut |s| {
        let _ = write!(out, "{s}").and_then(|()| out.flush());
    })?;
    let _ = writeln!(out).and_then(|()| out.flush());
    Ok(written)
}

fn figures(written: &Written) {
    let drafted = match written.drafted_tokens {
        0 => String::new(),
        n => format!(", accepted {} of {n} drafted", written.accepted_tokens),
    };
    eprintln!(
        "prompt {} tokens ({} known) at {:.1} tokens/s, wrote {} tokens at {:.1} tokens/s{drafted}, loaded in {:.3} s, \
         peak memory {}",
        written.prompt_tokens.len(),
        written.reused_tokens,
        written.prefill_tokens_per_second,
        written.tokens.len(),
        written.decode_tokens_per_second,
        written.load_seconds,
        human(written.peak_rss_bytes)
    );
}

pub fn chat(a: &Chat) -> Outcome {
    request(Prompt::Tokens(Vec::new()), &a.sampling).check()?;
    let mut model = load(&a.build, &a.run, &a.speed)?;
    if model.template()?.is_none() {
        return Err(Diagnostic::new(917, "the model has no chat template")
            .note("`mlxc generate` continues a text")
            .into());
    }
    let first: Vec<Message> = a.system.iter().map(|s| Message::new("system", s.clone())).collect();
    let mut messages = first.clone();
    let talks = std::io::stdin().is_terminal();
    let mut out = std::io::stdout().lock();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if talks {
            let _ = write!(out, "> ").and_then(|()| out.flush());
        }
        let Some(line) = lines.next() else { break };
        let line = line.map_err(|e| file_error("standard input", &e))?;
        match line.trim() {
            "" => continue,
            "/exit" => break,
            "/reset" => {
                messages.clone_from(&first);
                continue;
            }
            text => messages.push(Message::new("user", text)),
        }
        let request = request(Prompt::Messages(messages.clone()), &a.sampling);
        let written = stream(&mut model, &request, &mut out)?;
        messages.push(Message::new("assistant", written.text));
    }
    save_cache(&model, &a.speed)
}
