//! `qmatmul shader FORMAT KERNEL`: the composed WGSL, or what naga makes of it for a backend.

use super::bench;
use super::options::{formats, listed, refuse_given};
use super::switches::Switches;
use super::{Ending, output};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use qmatmul::error::{Error, Result};
use qmatmul::format::{self, Layout};
use qmatmul::gpu::Capability;
use qmatmul::kernel::{
    self, Activations, Caps, Kernel, KernelConfig, MatmulOptions, Operation, Problem, Vendor, compose,
};
use qmatmul::translate::{Target, translate, translate_trusted};

#[derive(clap::Args)]
pub struct Shader {
    /// Format, as in Q4_0
    #[arg(value_parser = formats(), hide_possible_values = true)]
    format: String,
    /// Kernel: dequantize, get_rows, gemv, gemm, gemm_q8, gemm_coop, matmul_software, …
    #[arg(value_parser = kernels(), hide_possible_values = true)]
    kernel: String,
    /// As composed, or for Vulkan, Metal, DXC, FXC, OpenGL
    #[arg(long, value_name = "LANGUAGE", default_value = "wgsl", value_parser = targets())]
    emit: Target,
    /// As the runtime compiles it: loops not bounded, workgroup memory not zeroed, indices not
    /// checked (spirv, msl, hlsl)
    #[arg(long)]
    trusted: bool,
    /// Batch columns to configure for
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Variant of the kernel, as in 4x64
    #[arg(long)]
    variant: Option<String>,
    /// Send each column of the batch to an expert of its own
    #[arg(long)]
    experts: bool,
    /// Rows of the weight to configure for
    #[arg(short, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    m: u32,
    /// Columns of the weight to configure for
    #[arg(short, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// Size of a subgroup
    #[arg(long, value_name = "LANES", default_value_t = 32, value_parser = clap::value_parser!(u32).range(..=128))]
    subgroup: u32,
    /// Who made the GPU, which decides about the first variant
    #[arg(long, value_name = "VENDOR", default_value = "other", value_parser = vendors())]
    vendor: Vendor,
    #[command(flatten, next_help_heading = "Device")]
    switches: Switches,
    /// f32, q24, f16, q8 or int8
    #[arg(long, value_name = "KIND", default_value = "f32", help_heading = "Numbers")]
    activations: Activations,
}

/// The names of all kernels, as completions list them.
fn kernels() -> impl TypedValueParser<Value = String> {
    listed(kernel::KERNELS.iter().map(|kernel| kernel.name.to_owned()).collect())
}

/// A vendor by its name.
fn vendors() -> impl TypedValueParser<Value = Vendor> {
    let names = PossibleValuesParser::new(Vendor::ALL.map(Vendor::name));
    names.map(|name| Vendor::by_name(&name).expect("a possible value"))
}

/// A language by its name.
fn targets() -> impl TypedValueParser<Value = Target> {
    let names = PossibleValuesParser::new(Target::ALL.map(Target::name));
    names.map(|name| Target::by_name(&name).expect("a possible value"))
}

impl Shader {
    pub fn run(&self) -> Result<Ending> {
        let format = format::by_name(&self.format).ok_or_else(|| {
            Error::Argument(format!("no format is called `{}`; there are: {}", self.format, format::names()))
        })?;
        let kernel = kernel::by_name(&self.kernel).ok_or_else(|| {
            let names: Vec<_> = kernel::KERNELS.iter().map(|k| k.name).collect();
            Error::Argument(format!("no kernel is called `{}`; there are: {}", self.kernel, names.join(", ")))
        })?;
        bench::check_size(format, self.m as usize, self.k as usize, self.n as usize)?;
        self.refuse_no_matmul(kernel)?;
        let layout = format.layout(self.k as usize);
        let config = self.config(kernel, &layout)?;
        let source = compose::compose(kernel, &config, &layout.into());
        let translate = if self.trusted { translate_trusted } else { translate };
        output::write_stdout(&translate(&source, self.emit)?)?;
        Ok(Ending::Fine)
    }

    /// Refuses what says how to multiply where the kernel does not multiply.
    fn refuse_no_matmul(&self, kernel: &Kernel) -> Result<()> {
        if kernel.operation == Operation::Matmul {
            return Ok(());
        }
        let given = [
            ("--variant", self.variant.is_some()),
            ("--experts", self.experts),
            ("--activations", self.activations != Activations::F32),
        ];
        refuse_given(&given, format!("on {}: it multiplies nothing", kernel.name))
    }

    /// The configuration of the variant that was asked for, or the first.
    fn config(&self, kernel: &'static Kernel, layout: &Layout) -> Result<KernelConfig> {
        let activations = match (self.activations, kernel.activations) {
            (Activations::F32, [first, ..]) => *first,
            (asked, _) => asked,
        };
        let (rows, cols, batch) = (self.m as usize, self.k as usize, self.n as usize);
        let experts = self.experts;
        let request = Problem { activations, experts, ..Problem::of(layout, rows, cols, batch) };
        let caps = self.caps();
        if kernel.operation != Operation::Matmul {
            return Ok((kernel.configs)(&caps, &request).swap_remove(0));
        }
        let options = MatmulOptions { activations, kernel: Some(kernel), variant: self.variant.clone() };
        Ok(kernel::choose(&caps, layout.format, &request, &options, None)?.config)
    }

    /// A device that only the shader's configuration looks at, less what is switched off.
    fn caps(&self) -> Caps {
        let mut caps = Caps {
            vendor: self.vendor,
            subgroup: Some((self.subgroup, self.subgroup)),
            max_workgroup_memory: 32 << 10,
            max_workgroup: 1024,
            ..Caps::everything()
        };
        if self.subgroup == 0 {
            Capability::Subgroups.take_out(&mut caps);
        }
        self.switches.without.iter().for_each(|capability| capability.take_out(&mut caps));
        caps
    }
}
