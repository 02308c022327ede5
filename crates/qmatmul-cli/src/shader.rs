//! `qmatmul shader FORMAT KERNEL`: the composed WGSL, or what naga makes of it for a backend.

use super::{Common, Verdict, output};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use qmatmul::error::{Error, Result};
use qmatmul::format::{self, Layout};
use qmatmul::gpu::Capability;
use qmatmul::kernel::{
    self, Activations, Caps, Kernel, KernelConfig, MatmulOptions, Operation, Problem, compose,
};
use qmatmul::translate::{Target, translate};

#[derive(clap::Args)]
pub struct Shader {
    /// Format, as in Q4_0
    format: String,
    /// Kernel: dequantize, get_rows, gemv, gemm, gemm_q8, gemm_coop, matmul_software, …
    kernel: String,
    /// What to print: the shader as composed, SPIR-V 1.3, Metal's language 3.1, HLSL for shader
    /// model 6.2 (DXC), or HLSL for shader model 5.1 as wgpu hands it to FXC
    #[arg(long, default_value = "wgsl", value_parser = targets())]
    emit: Target,
    /// Batch columns to configure for
    #[arg(short, default_value_t = 1)]
    n: u32,
    /// Variant of the kernel, as in 4x64
    #[arg(long)]
    variant: Option<String>,
    /// Send each column of the batch to an expert of its own
    #[arg(long)]
    experts: bool,
    /// Rows of the weight to configure for
    #[arg(short, default_value_t = 4096)]
    m: u32,
    /// Columns of the weight to configure for
    #[arg(short, default_value_t = 4096)]
    k: u32,
    /// Size of a subgroup
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(..=128))]
    subgroup: u32,
}

/// A language by its name.
fn targets() -> impl TypedValueParser<Value = Target> {
    let names = PossibleValuesParser::new(Target::ALL.map(Target::name));
    names.map(|name| Target::by_name(&name).expect("a possible value"))
}

impl Shader {
    pub fn run(&self, common: &Common) -> Result<Verdict> {
        let format = format::by_name(&self.format).ok_or_else(|| {
            Error::Argument(format!("no format is called `{}`; there are: {}", self.format, format::names()))
        })?;
        let kernel = kernel::by_name(&self.kernel).ok_or_else(|| {
            let names: Vec<_> = kernel::KERNELS.iter().map(|k| k.name).collect();
            Error::Argument(format!("no kernel is called `{}`; there are: {}", self.kernel, names.join(", ")))
        })?;
        let layout = format.layout(self.k as usize);
        let config = self.config(common, kernel, &layout)?;
        let source = compose::compose(kernel, &config, &layout.into());
        output::write_stdout(&translate(&source, self.emit)?)?;
        Ok(Verdict::Fine)
    }

    /// The configuration of the variant that was asked for, or the first.
    fn config(&self, common: &Common, kernel: &'static Kernel, layout: &Layout) -> Result<KernelConfig> {
        let activations = match (common.activations, kernel.activations) {
            (Activations::F32, [first, ..]) => *first,
            (asked, _) => asked,
        };
        let (rows, cols, batch) = (self.m as usize, self.k as usize, self.n as usize);
        let experts = self.experts;
        let request = Problem { activations, experts, ..Problem::of(layout, rows, cols, batch) };
        let caps = self.caps(common);
        if kernel.operation != Operation::Matmul {
            return Ok((kernel.configs)(&caps, &request).swap_remove(0));
        }
        let options = MatmulOptions { activations, kernel: Some(kernel), variant: self.variant.clone() };
        Ok(kernel::choose(&caps, layout.format, &request, &options, None)?.config)
    }

    /// A device that only the shader's configuration looks at, less what is switched off.
    fn caps(&self, common: &Common) -> Caps {
        let mut caps = Caps {
            subgroup: Some((self.subgroup, self.subgroup)),
            max_workgroup_memory: 32 << 10,
            max_workgroup: 1024,
            ..Caps::everything()
        };
        if self.subgroup == 0 {
            Capability::Subgroups.take_out(&mut caps);
        }
        common.switches.without.iter().for_each(|capability| capability.take_out(&mut caps));
        caps
    }
}
