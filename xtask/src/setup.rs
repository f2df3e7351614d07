//! Installs what a build needs and the machine lacks.
//!
//! rustup brings the pinned toolchain with its own LLVM, which is all that code generation links. What is left is a
//! linker for Rust itself, a GPU, if only an emulated one, the clang that Metal's shaders are compiled with where
//! there is no Mac, an emulator for the code of other processors, and a browser: tests fail without.

use std::path::Path;
use std::process::Command;

/// Something that is looked for, and the Debian packages that bring it.
struct Needed {
    what: &'static str,
    there: fn() -> bool,
    packages: &'static [&'static str],
}

const NEEDED: &[Needed] = &[
    Needed { what: "`cc`", there: has_cc, packages: &["gcc"] },
    Needed { what: "a Vulkan driver", there: has_vulkan, packages: &["mesa-vulkan-drivers", "libvulkan1"] },
    Needed { what: "clang 19", there: has_clang, packages: &["clang-19", "lld-19", "libclang-rt-19-dev"] },
    Needed {
        what: "an emulator of aarch64 with a compiler",
        there: has_aarch64,
        packages: &["qemu-user", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
    Needed { what: "Chromium", there: has_chromium, packages: &["chromium"] },
];

fn has_cc() -> bool {
    starts("cc", &["--version"])
}

/// clang, its linker and the sanitizers' libraries, as the gate for Metal's shaders calls them.
fn has_clang() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let tools = ["clang-19", "clang++-19", "ld.lld-19"].iter().all(|tool| starts(tool, &["--version"]));
    let name = format!("libclang_rt.asan-{}.a", std::env::consts::ARCH);
    // A path where it is found, the bare name where not.
    let found = Command::new("clang-19").args(["--rtlib=compiler-rt", &format!("--print-file-name={name}")]).output();
    tools && found.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_absolute())
}

/// What runs the code for aarch64 elsewhere: qemu, and a C compiler with a library to link, for the program that makes the calls.
fn has_aarch64() -> bool {
    if !cfg!(target_os = "linux") || cfg!(target_arch = "aarch64") {
        return true;
    }
    let compiler = "aarch64-linux-gnu-gcc";
    let found = Command::new(compiler).arg("--print-file-name=libc.a").output();
    starts("qemu-aarch64", &["--version"])
        && found.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_absolute())
}

/// The browser that runs models on its emulated GPU.
fn has_chromium() -> bool {
    !cfg!(target_os = "linux") || starts("chromium", &["--version"])
}

/// A loader of drivers, and a driver that is listed for it. Elsewhere the system brings its own.
fn has_vulkan() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let lists = |folder: &Path, name: &dyn Fn(&str) -> bool| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|f| f.file_name().into_string().ok()).any(|f| name(&f))
    };
    let libraries = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let nested = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let loader = |f: &str| f == "libvulkan.so.1";
    let driver = |f: &str| f.ends_with(".json");
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    (lists(&nested, &loader) || libraries.iter().any(|l| lists(l, &loader)))
        && drivers.iter().any(|d| lists(Path::new(d), &driver))
}

/// Looks for each thing and installs the packages of one that is missing.
///
/// # Errors
/// The command to run by hand, where installing fails.
pub fn run() -> Result<(), String> {
    for Needed { what, there, packages } in NEEDED {
        if there() {
            continue;
        }
        let names = packages.join(" ");
        println!("xtask: {what} is missing; installing {names}");
        let by_hand = format!("{what} is missing: run `apt-get update && apt-get install -y {names}`");
        let install: Vec<&str> = ["install", "-y"].iter().chain(*packages).copied().collect();
        if !starts("apt-get", &["update"]) || !starts("apt-get", &install) || !there() {
            return Err(by_hand);
        }
    }
    for component in ["rustfmt", "clippy"] {
        let tool = if component == "rustfmt" { "fmt" } else { "clippy" };
        if starts("cargo", &[tool, "--version"]) {
            continue;
        }
        println!("xtask: installing the toolchain's {component}");
        if !starts("rustup", &["component", "add", component]) {
            return Err(format!("{component} is missing: run `rustup component add {component}`"));
        }
    }
    Ok(())
}

fn starts(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
}
