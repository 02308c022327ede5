//! A request as dispatches, as commands, and as a result that is read back.

use super::context::Context;
use super::memory::{self, Buffer};
use super::record::{BoundProgram, Io};
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::types::Batch;
use crate::kernel::{MatmulOptions, Problem, op, plan, shapes};
use std::ops::Range;

/// A request with one result.
pub(crate) enum Task<'a> {
    /// Activations `[n, k]`.
    Matmul(&'a [f32], &'a MatmulOptions),
    /// Activations `[n, k]`, and the experts `[n, per]` of each.
    Experts(&'a [f32], &'a [u32], &'a MatmulOptions),
    /// Rows to decode.
    Dequantize(Range<usize>),
    /// Row numbers to look up.
    GetRows(&'a [u32]),
}

/// The value behind a result's end that must still be there afterwards.
pub(crate) const CANARY: f32 = 12_345.679;

/// f32 elements of x or y that a plan is made for at most: more than any buffer holds, and few
/// enough for a list of dispatches.
const PLANNED_ELEMENTS: usize = 1 << 36;

impl Context {
    /// Refuses weights of another runtime.
    pub fn owns(&self, w: &Weights) -> Result<()> {
        match w.owner == self.id() {
            true => self.check(),
            false => {
                let name = w.name();
                Err(Error::Argument(format!(
                    "the weights `{name}` were uploaded to another runtime: upload them to this one"
                )))
            }
        }
    }

    /// The dispatches of a task and the number of its results.
    pub fn plan(&self, w: &Weights, task: &Task) -> Result<(Vec<plan::Dispatch>, usize)> {
        self.owns(w)?;
        let caps = self.caps();
        Ok(match task {
            Task::Matmul(x, options) => {
                let n = shapes::batch(w.name(), w.cols(), x.len())?;
                (self.plan_matmul(w, n, options)?, n * w.rows())
            }
            Task::Experts(x, experts, options) => {
                let n = shapes::batch(w.name(), w.cols(), x.len())?;
                let per = experts.len() / n.max(1);
                (self.plan_experts(w, experts.len(), per, options)?, experts.len() * (w.rows() / w.experts()))
            }
            Task::Dequantize(rows) => {
                (op::dequantize::plan(w.shape(), rows.clone(), caps)?, rows.len() * w.cols())
            }
            Task::GetRows(rows) => (op::get_rows::plan(w.shape(), rows.len(), caps)?, rows.len() * w.cols()),
        })
    }

    pub fn plan_matmul(&self, w: &Weights, n: usize, options: &MatmulOptions) -> Result<Vec<plan::Dispatch>> {
        self.plan_adding(w, (n, false), options)
    }

    /// [`Context::plan_matmul`], of a product that is added to what y holds if the second of
    /// `batch` is true.
    pub fn plan_adding(
        &self,
        w: &Weights,
        batch: (usize, bool),
        options: &MatmulOptions,
    ) -> Result<Vec<plan::Dispatch>> {
        let (columns, edge) = (batch.0, w.rows().max(w.cols()));
        if columns.saturating_mul(edge) > PLANNED_ELEMENTS {
            let what = format!("a matmul with `{}` and {columns} columns of {edge} elements", w.name());
            let (wanted, limit) = (columns.saturating_mul(edge) as u64, PLANNED_ELEMENTS as u64);
            return Err(Error::LimitExceeded { what, wanted, limit });
        }
        let choose = |request: &Problem| self.choose(w.format(), request, options);
        let batch = Batch { columns, accumulate: batch.1 };
        op::matmul::plan(w.shape(), batch, options.activations, &choose, self.caps())
    }

    pub fn plan_experts(
        &self,
        w: &Weights,
        slots: usize,
        per: usize,
        options: &MatmulOptions,
    ) -> Result<Vec<plan::Dispatch>> {
        let choose = |request: &Problem| self.choose(w.format(), request, options);
        let slots = op::experts::Slots { count: slots, per };
        op::experts::plan(w.shape(), slots, options.activations, &choose, self.caps())
    }

    /// Runs one task, waiting for it. The result is followed by `margin` elements that no kernel
    /// may touch: they held
    /// [`CANARY`] before, as did the rest, so that a result that was not written shows.
    pub fn run(&self, w: &Weights, task: &Task, margin: usize) -> Result<Vec<f32>> {
        let (encoder, staging, count) = self.commands(w, task, margin)?;
        transfer::submit_and_read_blocking(self, encoder, &staging, count)
    }

    pub async fn run_async(&self, w: &Weights, task: &Task<'_>) -> Result<Vec<f32>> {
        let (encoder, staging, count) = self.commands(w, task, 0)?;
        transfer::submit_and_read(self, encoder, &staging, count).await
    }

    /// An encoder with the task and the copy of its results, where they will be read, and how many
    /// there are.
    fn commands(
        &self,
        w: &Weights,
        task: &Task,
        margin: usize,
    ) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let (plan, count) = self.plan(w, task)?;
        let named = |what: &str| format!("{what} for `{}`", w.name());
        let x = match task {
            Task::Matmul(x, _) | Task::Experts(x, ..) => transfer::filled(self, &named("activations"), x)?,
            Task::Dequantize(_) => transfer::filled(self, &named("no activations"), &[0u32])?,
            Task::GetRows(rows) => transfer::filled(self, &named("row numbers"), rows)?,
        };
        let experts = match task {
            Task::Experts(_, experts, _) => Some(transfer::filled(self, &named("experts"), experts)?),
            _ => None,
        };
        let inputs: Vec<_> = [Some(&x), experts.as_ref()].into_iter().flatten().collect();
        self.encode_result((w, &inputs), count, margin, |y| {
            let io = Io { x: &x, y, experts: experts.as_deref() };
            BoundProgram::new(self, w, &io, &plan).map(|prepared| vec![prepared])
        })
    }

    /// An encoder with `count` results of `w` and `inputs`, of what `prepare` makes ready to write
    /// them.
    pub fn encode_result(
        &self,
        (w, inputs): (&Weights, &[&Buffer]),
        count: usize,
        margin: usize,
        prepare: impl FnOnce(&wgpu::Buffer) -> Result<Vec<BoundProgram>>,
    ) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let count = count + margin;
        let what = format!("results of `{}`", w.name());
        let y = transfer::buffer(self, &what, count as u64 * 4, transfer::OUTPUT)?;
        if margin > 0 {
            let canaries = vec![CANARY; count];
            let write = || self.queue().write_buffer(&y, 0, bytemuck::cast_slice(&canaries));
            self.catch_errors(|| format!("clearing {what}"), 0, write)?;
        }
        let mut encoder = self.encoder();
        BoundProgram::encode_all(&prepare(&y)?, &mut encoder);
        let staging = transfer::stage(self, &mut encoder, &what, &y, count as u64 * 4)?;
        memory::hold(&encoder, inputs.iter().copied().chain([&y]).map(|b| b.reservation().clone()).collect());
        Ok((encoder, staging, count))
    }
}

/// Refuses buffers that are too small for a matmul with `w`, or the same.
pub(super) fn check_buffers(w: &Weights, x: (&wgpu::Buffer, usize), y: (&wgpu::Buffer, usize)) -> Result<()> {
    if x.0 == y.0 {
        let name = w.name();
        return Err(Error::Argument(format!("a matmul with `{name}` cannot write into its own activations")));
    }
    for (what, (buffer, elements)) in [("x", x), ("y", y)] {
        let wanted = (elements as u64).saturating_mul(4);
        if buffer.size() < wanted {
            let what = format!("buffer {what} of a matmul with `{}`", w.name());
            return Err(Error::shape(what, format!("{wanted} bytes"), format!("{} bytes", buffer.size())));
        }
    }
    Ok(())
}

/// Kernels and variants in order, each once.
pub(super) fn names(plan: &[plan::Dispatch]) -> String {
    let mut names: Vec<_> = plan.iter().map(plan::Dispatch::name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.join("+")
}
