//! Compiling ahead, all cores at it.

use super::bind;
use super::pipelines;
use super::runtime::Runtime;
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::MatmulOptions;
use crate::kernel::plan::{Dispatch, Params};
use crate::kernel::shard::DeviceLayout;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

impl Runtime {
    /// Compiles ahead what a matmul with `n` columns will need.
    ///
    /// # Errors
    /// The device's errors.
    pub fn warm_up(&self, w: &Weights, n: usize) -> Result<()> {
        self.warm_up_all(&[(w, n)], &MatmulOptions::default())
    }

    /// Compiles ahead what matmuls with these weights and numbers of columns will need, each
    /// pipeline once and in parallel, and keeps them on disk where the backend can.
    ///
    /// # Errors
    /// As [`Runtime::record_matmuls`].
    pub fn warm_up_all(&self, requests: &[(&Weights, usize)], options: &MatmulOptions) -> Result<()> {
        let plan = |(w, n): &(&Weights, usize)| {
            self.context().owns(w)?;
            Ok((self.context().plan_matmul(w, *n, options)?, w.layout.clone()))
        };
        self.compile(requests.iter().map(plan).collect::<Result<_>>()?)
    }

    /// Compiles what plans for weights of these layouts dispatch.
    pub(super) fn compile(&self, plans: Vec<(Vec<Dispatch>, Arc<DeviceLayout>)>) -> Result<()> {
        let mut wanted = HashMap::new();
        for (plan, layout) in plans {
            for dispatch in plan {
                let key = pipelines::key(dispatch.kernel, &dispatch.config, &layout);
                wanted.entry(key).or_insert((dispatch, layout.clone()));
            }
        }
        let before = self.compiled_pipelines();
        let wanted: Vec<_> = wanted.into_values().collect();
        let compile = |(d, layout): &(Dispatch, Arc<DeviceLayout>)| {
            self.context().pipeline(d.kernel, &d.config, layout)
        };
        let compiled: Vec<_> = wanted.par_iter().map(compile).collect::<Result<_>>()?;
        if self.caps().software && self.compiled_pipelines() > before {
            self.touch(&compiled)?;
        }
        self.context().pipelines().save();
        // Where all was compiled before, nothing has asked the device.
        self.context().check_alive()
    }

    /// Dispatches no workgroups: software drivers compile when something is dispatched first, not
    /// before.
    fn touch(&self, pipelines: &[Arc<wgpu::ComputePipeline>]) -> Result<()> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
        let buffer = || transfer::buffer(self.context(), "nothing", size_of::<Params>() as u64, usage);
        let (input, params, y) = (buffer()?, buffer()?, buffer()?);
        let mut encoder = self.context().encoder();
        self.context().catch_errors(
            || "compiling".into(),
            0,
            || {
                let resource = |i| match i {
                    0 => params.as_entire_binding(),
                    4 => y.as_entire_binding(),
                    _ => input.as_entire_binding(),
                };
                let all = (0..8).map(resource);
                let group = bind::group(self.device(), "nothing", self.context().bindings(), all);
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for pipeline in pipelines {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, &group, &[]);
                    pass.dispatch_workgroups(0, 1, 1);
                }
            },
        )?;
        self.context().submit(encoder)?;
        self.wait()
    }
}
