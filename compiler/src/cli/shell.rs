//! `mlxc completions` and `mlxc man`: what shells and man read, from the command line's own declaration.

use super::args::{Cli, Completions, Man};
use super::{Outcome, file_error, print, write_file};
use clap::CommandFactory;

pub fn completions(a: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(a.shell, &mut Cli::command(), "mlxc", &mut text);
    print(&String::from_utf8_lossy(&text))
}

pub fn man(a: &Man) -> Outcome {
    let mut all = vec![("mlxc.1".to_string(), page(Cli::command())?)];
    let mut root = Cli::command();
    root.build();
    for c in root.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("mlxc-{}", c.get_name());
        all.push((format!("{name}.1"), page(c.clone().name(name))?));
    }
    let Some(folder) = &a.output else {
        return print(&String::from_utf8_lossy(&all[0].1));
    };
    std::fs::create_dir_all(folder).map_err(|e| file_error(&folder.display().to_string(), &e))?;
    all.iter().try_for_each(|(name, text)| write_file(&folder.join(name), text))
}

fn page(command: clap::Command) -> Result<Vec<u8>, mlxc::Diagnostic> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).map_err(|e| file_error("a manual page", &e))?;
    Ok(text)
}
