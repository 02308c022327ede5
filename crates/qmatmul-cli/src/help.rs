//! What stands below the options of each verb, and the verbs that write it elsewhere: `completions`
//! and `man`.

use super::options::output_file;
use super::{Cli, Ending, output};
use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use qmatmul::error::{Error, Result};
use qmatmul::file::output as files;
use qmatmul::gpu;
use std::path::PathBuf;

/// Examples, then the exit codes.
macro_rules! below {
    ($($example:literal)*) => {
        concat!(
            "Examples:\n", $("  ", $example, "\n",)*
            "\nExit codes: 0 fine, 1 wrong, 2 usage, 3 device, 4 file, 5 lost, 130 interrupted"
        )
    };
}

pub const CODES: &str = below! {
    "qmatmul check model.gguf      is my GPU right for this file?"
    "qmatmul bench model.gguf      how fast are its matrices?"
};
pub const DEVICES: &str = below! {
    "qmatmul devices"
    "qmatmul devices -f json | jq '.results[].name'"
};
pub const INSPECT: &str = below! {
    "qmatmul inspect model.gguf --metadata"
    "qmatmul inspect checkpoint/ --tensors '*.0.*' -f csv"
};
pub const CHECK: &str = below! {
    "qmatmul check model.gguf --sample 2"
    "qmatmul check --full --report report.json"
};
pub const MATMUL: &str = below! {
    "qmatmul matmul model.gguf blk.0.ffn_up --input x.npy -o y.safetensors"
    "qmatmul matmul checkpoint/ lm_head --input - -o - <x.safetensors >y.safetensors"
};
pub const DEQUANTIZE: &str = below! {
    "qmatmul dequantize model.gguf blk.0.ffn_up -o w.safetensors"
    "qmatmul dequantize checkpoint/ lm_head --device cpu -o w.safetensors"
};
pub const QUANTIZE: &str = below! {
    "qmatmul quantize model-F16.gguf model-Q8_0.gguf --type q8_0"
    "qmatmul quantize checkpoint/ checkpoint-NF4/ --type nf4-dq"
};
pub const BENCH: &str = below! {
    "qmatmul bench -t q4_0,q4_k -m 4096 -k 4096 -n 1,8,512"
    "qmatmul bench model.gguf --compare earlier.jsonl"
};
pub const PEAK: &str = below! {
    "qmatmul peak"
    "qmatmul peak --device 1 -v -f csv"
};
pub const TUNE: &str = below! {
    "qmatmul tune model.gguf"
    "qmatmul tune -t q4_k -m 4096 -k 4096,14336 -n 1,8"
};
pub const SUMMARY: &str = below! {
    "qmatmul summary peak.jsonl bench.jsonl"
    "qmatmul summary --name bench.jsonl"
};
pub const SHADER: &str = below! {
    "qmatmul shader q4_k gemm --emit hlsl -n 64"
    "qmatmul shader q4_k gemv --emit spirv --trusted >gemv.spv"
};
pub const COMPLETIONS: &str = below! {
    "qmatmul completions bash >~/.local/share/bash-completion/completions/qmatmul"
    "qmatmul completions fish >~/.config/fish/completions/qmatmul.fish"
};
pub const MAN: &str = below! {
    "qmatmul man check | man -l -"
    "qmatmul man -o ~/.local/share/man/man1"
};

#[derive(clap::Args)]
pub struct Completions {
    /// The shell; its script completes the devices that this machine has now
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(&self) -> Result<Ending> {
        let mut devices: Vec<String> = ["cpu", "vulkan", "metal", "dx12"].map(str::to_owned).to_vec();
        let adapters = gpu::adapters();
        devices.extend((0..adapters.len()).map(|number| number.to_string()));
        // Words, as a shell takes a name with spaces apart.
        devices
            .extend(adapters.iter().filter_map(|adapter| Some(adapter.name.split(' ').next()?.to_owned())));
        devices.dedup();
        let mut command = with_devices(Cli::command(), &devices);
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut command, "qmatmul", &mut script);
        output::write_stdout(&script)?;
        Ok(Ending::Fine)
    }
}

/// The command whose verbs take one of these devices, as completions list them.
fn with_devices(command: Command, devices: &[String]) -> Command {
    let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| {
            let takes_one = verb.get_arguments().any(|arg| arg.get_id() == "device");
            let values = || PossibleValuesParser::new(devices.to_vec());
            if takes_one { verb.mut_arg("device", |arg| arg.value_parser(values())) } else { verb }
        })
    })
}

#[derive(clap::Args)]
pub struct Man {
    /// A verb; without one, the page of the command
    #[arg(conflicts_with = "output")]
    verb: Option<String>,
    /// Write the pages of all verbs into a folder
    #[arg(short, long, value_name = "FOLDER", value_parser = output_file)]
    output: Option<PathBuf>,
}

impl Man {
    pub fn run(&self) -> Result<Ending> {
        let mut command = Cli::command();
        command.build();
        if let Some(folder) = &self.output {
            std::fs::create_dir_all(folder).map_err(Error::output("creating", folder))?;
            for verb in std::iter::once(&command).chain(command.get_subcommands()) {
                let path = folder.join(format!("{}.1", page_name(verb)));
                let page = page(verb)?;
                files::write(&path, |sink| sink.put(&page))?;
            }
            return Ok(Ending::Fine);
        }
        let verb = match &self.verb {
            None => &command,
            Some(name) => command.find_subcommand(name).ok_or_else(|| {
                let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
                Error::Argument(format!("there is no verb `{name}`; there are: {}", names.join(", ")))
            })?,
        };
        output::write_stdout(&page(verb)?)?;
        Ok(Ending::Fine)
    }
}

/// `qmatmul-check`, as pages of verbs are called.
fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = vec![];
    let man = clap_mangen::Man::new(command.clone());
    man.render(&mut page).map_err(Error::output("writing", "a manual page"))?;
    Ok(page)
}
