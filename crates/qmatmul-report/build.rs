//! What the command says of itself in its machine output: the commit and the version of wgpu that
//! it was built with, where they can be known.

use std::path::Path;
use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // A package that lies within some other project's tree is not of its commit.
    let is_ours = Path::new("../../.git").exists();
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_ours) {
        println!("cargo::rustc-env=QMATMUL_COMMIT={commit}");
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // In the workspace, and in a package.
    for lock in ["../../Cargo.lock", "Cargo.lock"].map(Path::new).into_iter().filter(|lock| lock.exists()) {
        println!("cargo::rerun-if-changed={}", lock.display());
        let text = std::fs::read_to_string(lock).unwrap_or_default();
        let version =
            text.split_once("name = \"wgpu\"\nversion = \"").and_then(|(_, rest)| rest.split('"').next());
        if let Some(version) = version {
            println!("cargo::rustc-env=QMATMUL_WGPU={version}");
            break;
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}
