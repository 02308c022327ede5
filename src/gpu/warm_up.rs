//! Compiling ahead, all cores at it.

use super::bind;
use super::context::Context;
use super::pipelines::{Cell, Compiled};
use super::program::Program;
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::MatmulOptions;
use crate::kernel::compose::Access;
use crate::kernel::program::Tokens;
use crate::kernel::shard::DeviceLayout;
use std::sync::Arc;

/// Compiles ahead what matmuls with these weights and numbers of columns will need.
pub(super) async fn all(
    context: &Context,
    requests: &[(&Weights, usize)],
    options: &MatmulOptions,
) -> Result<()> {
    let program = |(w, n): &(&Weights, usize)| {
        context.owns(w)?;
        let mut program = context.program(Tokens::Exactly(*n));
        let (x, y) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
        program.matmul(w, x, y, options)?;
        Ok(program)
    };
    let programs = requests.iter().map(program).collect::<Result<Vec<_>>>()?;
    context.compile_programs(&programs).await
}

impl Context {
    /// Compiles what these programs dispatch.
    pub(super) async fn compile_programs(&self, programs: &[Program]) -> Result<()> {
        let any = Arc::new(DeviceLayout::from(crate::format::F32.layout(1)));
        let mut cells = vec![];
        for program in programs {
            cells.extend(program.plan().all_dispatches().map(|dispatch| {
                let layout = dispatch.weight.map_or(&any, |weight| &program.weights()[weight].layout);
                Cell { kernel: dispatch.kernel, config: dispatch.config.clone(), layout: layout.clone() }
            }));
        }
        let compiled = self.compile(cells)?;
        if self.caps().software && !compiled.is_empty() {
            self.touch(&compiled).await?;
        }
        self.pipelines().save();
        // Where all was compiled before, nothing has asked the device.
        self.check_alive()?;
        self.settle().await
    }

    /// Dispatches no workgroups: software drivers compile when something is dispatched first, not
    /// before.
    async fn touch(&self, compiled: &[Arc<Compiled>]) -> Result<()> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
        let buffer = || transfer::buffer(self, "nothing", NOTHING_BYTES, usage);
        let (read, written) = (buffer()?, buffer()?);
        let mut encoder = self.encoder();
        self.catch_errors(
            || "compiling".into(),
            0,
            || {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for one in compiled {
                    let resources = one.bindings.iter().map(|declared| {
                        let is_written = declared.access == Access::Write;
                        let buffer = if is_written { &written } else { &read };
                        (declared.number, bind::part(buffer, 0, NOTHING_BYTES))
                    });
                    let group = bind::group(self.device(), "nothing", &one.layout, resources);
                    let offsets = one.bindings.iter().filter(|declared| declared.name == bind::SPAN);
                    pass.set_pipeline(&one.pipeline);
                    pass.set_bind_group(0, &group, &vec![0; offsets.count()]);
                    pass.dispatch_workgroups(0, 1, 1);
                }
            },
        )?;
        self.submit(encoder)?;
        self.wait().await
    }
}

/// Bytes of any parameters and more.
const NOTHING_BYTES: u64 = 1024;
