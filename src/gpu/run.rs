//! A request as dispatches, as commands, and as a result that is read back.

use super::context::Context;
use super::memory::{self, Buffer};
use super::program::{Program, Slice};
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::program::{Element, Tokens, View};
use crate::kernel::{MatmulOptions, shapes};
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

    /// The program of a task.
    pub fn task(&self, w: &Weights, task: &Task) -> Result<TaskProgram> {
        self.owns(w)?;
        let (rows, cols) = (w.rows(), w.cols());
        let tokens = match task {
            Task::Matmul(x, _) | Task::Experts(x, ..) => shapes::batch(w.name(), cols, x.len())?,
            Task::Dequantize(_) => 1,
            Task::GetRows(rows) => rows.len(),
        };
        let mut program = self.program(Tokens::Exactly(tokens));
        let (mut inputs, y, count);
        match task {
            Task::Matmul(_, options) => {
                (inputs, y, count) = (vec![program.slot("x", cols)], program.slot("y", rows), tokens * rows);
                program.matmul(w, inputs[0], y, options)?;
            }
            Task::Experts(_, experts, options) => {
                let (per, rows) = (experts.len() / tokens.max(1), rows / w.experts());
                inputs = vec![program.slot("x", cols)];
                inputs.push(program.slot_of("experts", per, Element::U32));
                (y, count) = (program.slot("y", rows), experts.len() * rows);
                program.matmul_experts(w, inputs[0], inputs[1], y, options)?;
            }
            Task::Dequantize(rows) => {
                (inputs, y, count) = (vec![], program.slot("y", cols), rows.len() * cols);
                program.dequantize(w, rows.clone(), y)?;
            }
            Task::GetRows(rows) => {
                inputs = vec![program.slot_of("row numbers", 1, Element::U32)];
                (y, count) = (program.slot("y", cols), rows.len() * cols);
                program.get_rows(w, inputs[0], y)?;
            }
        }
        Ok(TaskProgram { program, inputs, y, count })
    }

    /// Runs one task, waiting for it. The result is followed by `margin` elements that no kernel
    /// may touch: they held
    /// [`CANARY`] before, as did the rest, so that a result that was not written shows.
    pub async fn run(&self, w: &Weights, task: &Task<'_>, margin: usize) -> Result<Vec<f32>> {
        let (encoder, staging, count) = self.commands(w, task, margin)?;
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
        let named = |what: &str| format!("{what} for `{}`", w.name());
        let buffers = match task {
            Task::Matmul(x, _) => vec![transfer::filled(self, &named("activations"), x)?],
            Task::Experts(x, experts, _) => {
                let x = transfer::filled(self, &named("activations"), x)?;
                vec![x, transfer::filled(self, &named("experts"), experts)?]
            }
            Task::Dequantize(_) => vec![],
            Task::GetRows(rows) => vec![transfer::filled(self, &named("row numbers"), rows)?],
        };
        self.encode_result(w.name(), &self.task(w, task)?, &buffers, margin)
    }

    /// An encoder with a program for the inputs `buffers` and the copy of its results, where they
    /// will be read, and how many there are. `name` is that of the weight.
    pub fn encode_result(
        &self,
        name: &str,
        task: &TaskProgram,
        buffers: &[Buffer],
        margin: usize,
    ) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let count = task.count + margin;
        let what = format!("results of `{name}`");
        let y = transfer::buffer(self, &what, count as u64 * 4, transfer::OUTPUT)?;
        if margin > 0 {
            let canaries = vec![CANARY; count];
            let write = || self.queue().write_buffer(&y, 0, bytemuck::cast_slice(&canaries));
            self.catch_errors(|| format!("clearing {what}"), 0, write)?;
        }
        let inputs = task.inputs.iter().copied().zip(buffers.iter().map(Slice::from));
        let slots: Vec<_> = inputs.chain([(task.y, Slice::from(&y))]).collect();
        let bound = self.bind(&task.program, &slots)?;
        let mut encoder = self.encoder();
        bound.encode(&mut encoder, task.program.tokens().most())?;
        bound.hold(&encoder);
        let staging = transfer::stage(self, &mut encoder, &what, &y, count as u64 * 4)?;
        memory::hold(&encoder, buffers.iter().chain([&y]).map(|b| b.reservation().clone()).collect());
        Ok((encoder, staging, count))
    }
}

/// A program with one result.
pub(crate) struct TaskProgram {
    pub program: Program,
    pub inputs: Vec<View>,
    pub y: View,
    /// Elements of the result.
    pub count: usize,
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

impl TaskProgram {
    /// Kernels and variants in order, each once.
    pub fn kernels(&self) -> String {
        let dispatches = self.program.plan().dispatches(self.program.tokens().most());
        let mut names: Vec<_> = dispatches.iter().map(|(dispatch, _)| dispatch.name()).collect();
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.join("+")
    }

    /// True if a kernel rounds weights to f16.
    pub fn rounds_weights(&self) -> bool {
        self.program.plan().all_dispatches().any(|dispatch| dispatch.kernel.rounds_weights)
    }
}
