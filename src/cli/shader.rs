//! `qmatmul shader FORMAT KERNEL`: the composed WGSL, or what naga makes of it for a backend.

use super::{Common, Verdict, output};
use crate::error::{Error, Result};
use crate::format::{self, Format};
use crate::kernel::{self, Activations, Caps, Config, Kernel, Request, compose};
use crate::translate::{Target, translate};

#[derive(clap::Args)]
pub struct Shader {
    /// Format, as in Q4_0
    format: String,
    /// Kernel: dequantize, get_rows, gemv, gemm, gemm_q8, gemm_coop, matmul_rows, …
    kernel: String,
    /// What to print
    #[arg(long, default_value = "wgsl")]
    emit: Target,
    /// Batch columns to configure for
    #[arg(short, default_value_t = 1)]
    n: usize,
    /// Variant of the kernel, as in 4x64
    #[arg(long)]
    variant: Option<String>,
    /// Send each column of the batch to an expert of its own
    #[arg(long)]
    experts: bool,
    /// Rows of the weight to configure for
    #[arg(short, default_value_t = 4096)]
    m: usize,
    /// Columns of the weight to configure for
    #[arg(short, default_value_t = 4096)]
    k: usize,
    /// Size of a subgroup
    #[arg(long, default_value_t = 32)]
    subgroup: u32,
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
        let config = self.config(common, kernel, format)?;
        let source = compose::compose(kernel, &config, format);
        output::write_stdout(&translate(&source, self.emit)?)?;
        Ok(Verdict::Fine)
    }

    /// The configuration of the variant that was asked for, or the first.
    fn config(&self, common: &Common, kernel: &Kernel, format: &Format) -> Result<Config> {
        let activations = match (common.activations, kernel.activations) {
            (Activations::F32, [first, ..]) => *first,
            (asked, _) => asked,
        };
        let request = Request {
            rows: self.m,
            cols: self.k,
            batch: self.n,
            activations,
            experts: self.experts,
            codes: format.has_codes(),
        };
        let configs = (kernel.configs)(&self.caps(common), &request);
        let names: Vec<_> = configs.iter().map(|c| c.variant.clone()).collect();
        let wanted = |c: &Config| self.variant.as_ref().is_none_or(|v| *v == c.variant);
        configs.into_iter().find(wanted).ok_or_else(|| {
            Error::Argument(format!(
                "kernel {} has no such variant; there are: {}",
                kernel.name,
                names.join(", ")
            ))
        })
    }

    /// A device that only the shader's configuration looks at.
    fn caps(&self, common: &Common) -> Caps {
        let subgroups = !common.no_subgroups && self.subgroup > 0;
        Caps {
            software: false,
            subgroup: subgroups.then_some((self.subgroup, self.subgroup)),
            int64: true,
            f16: true,
            cooperative: Some(16),
            max_groups: 65_535,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            binding_alignment: 256,
            max_workgroup_memory: 32 << 10,
            max_workgroup: 256,
            max_loops: None,
        }
    }
}
