//! A product with activations that are ready for the kernel: tiles of y, in ranges and splits of k,
//! shard by shard. The kernels that multiply have these parameters.

use super::reduce_split_k;
use super::stage::Activated;
use crate::error::Result;
use crate::kernel::limits::{binding_elements, chunk_limit, grid_limit, most_groups};
use crate::kernel::parts;
use crate::kernel::program::{Dispatch, Plan, Step, Units, View, Window, Workgroups, parameters};
use crate::kernel::shard::{MAX_PLANES, Weight};
use crate::kernel::types::{CHUNK, Candidate, Caps, KernelConfig, MatmulOptions, Problem};
use std::ops::Range;

parameters! {
    /// Mirror of `Params` in `shaders/lib/product.wgsl`.
    pub struct Params {
        pub plane_offset: [u32; MAX_PLANES],
        pub plane_stride: [u32; MAX_PLANES],
        pub rows: u32,
        pub cols: u32,
        pub row_groups: u32,
        pub chunk_begin: u32,
        pub chunk_end: u32,
        pub splits: u32,
        pub split_chunks: u32,
        pub split_stride: u32,
        pub accumulate: u32,
        pub finish: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub gate_offset: u32,
        pub gate_stride: u32,
        pub list: u32,
        pub expert_begin: u32,
        pub expert_count: u32,
        pub experts: u32,
        pub per: u32,
        pub padding: [u32; 3],
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub y: View,
    /// Add to what y holds.
    pub accumulate: bool,
    /// Multiply by silu of these, `[n, m]` as y.
    pub gate: Option<View>,
}

impl Output {
    /// Overwrites y with the product.
    pub fn of(y: View) -> Self {
        Self { y, accumulate: false, gate: None }
    }
}

/// A list of columns of the weight, and the word of it where its length is.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct List {
    pub window: Window,
    pub word: usize,
}

/// Which expert each column belongs to.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Routed {
    /// What `route_experts` leaves.
    pub routes: Window,
    /// Columns of y for one of x.
    pub per: usize,
}

/// A product for a block of tokens.
pub(in crate::kernel) struct Product<'a> {
    pub w: Weight<'a>,
    pub block: Range<usize>,
    pub x: Activated,
    pub output: Output,
    /// What a kernel is chosen for.
    pub problem: Problem,
    /// Which columns of the weight, if not all.
    pub list: Option<List>,
    pub options: &'a MatmulOptions,
}

impl Product<'_> {
    /// Adds the product, for any number of tokens.
    pub fn add(&self, plan: &mut Plan) -> Result<()> {
        self.add_for(plan, Units::of(self.block.clone()))
    }

    /// The same for some numbers of tokens.
    pub fn add_for(&self, plan: &mut Plan, units: Units) -> Result<()> {
        let problem = Problem { silu: self.output.gate.is_some(), ..self.problem };
        plan.push_pieces(
            units,
            |planner, left| {
                let format = self.w.layout.format;
                let candidate = planner.choose(format, &Problem { batch: left, ..problem }, self.options)?;
                let multiple = candidate.config.columns as usize;
                let most = grid_limit(&self.w, &candidate.config, &planner.caps);
                Ok((candidate, Step { multiple, most }))
            },
            |plan, candidate, most| {
                let mut dispatches = vec![];
                for shard in 0..self.w.shards.len() {
                    dispatches.append(&mut self.shard(plan, candidate, shard, most)?);
                }
                Ok(dispatches)
            },
        )
    }

    fn shard(
        &self,
        plan: &mut Plan,
        candidate: &Candidate,
        shard: usize,
        most: usize,
    ) -> Result<Vec<Dispatch>> {
        let rows = self.w.shards[shard].rows.clone();
        let tiles =
            Tiles { shard, rows: rows.len(), most, block: self.block.clone(), features: rows, routed: None };
        multiply(plan, self, &tiles, candidate)
    }
}

/// The tiles of one shard.
pub(in crate::kernel) struct Tiles {
    pub shard: usize,
    /// Rows of the matrix, or of each expert.
    pub rows: usize,
    /// Most columns at once.
    pub most: usize,
    /// Columns of y.
    pub block: Range<usize>,
    /// Features of y.
    pub features: Range<usize>,
    pub routed: Option<Routed>,
}

impl Tiles {
    /// The splits of a configuration, fewer where k, a binding or the workgroups hold no more.
    /// Experts are not split: their columns are not known before they run.
    fn splits(&self, config: &KernelConfig, chunks: u32, row_groups: u32, caps: &Caps) -> u32 {
        if self.routed.is_some() {
            return 1;
        }
        let tiles = row_groups as usize * self.most.div_ceil(config.columns as usize);
        let by_binding = binding_elements(caps) / (self.rows * self.most).max(1);
        let by_groups = most_groups(caps) / tiles.max(1);
        config.splits.min(chunks).min(by_binding.min(by_groups).max(1) as u32).max(1)
    }
}

/// The dispatches of one shard: one for each range of k, and one that adds up its splits.
pub(in crate::kernel) fn multiply(
    plan: &mut Plan,
    product: &Product,
    tiles: &Tiles,
    candidate: &Candidate,
) -> Result<Vec<Dispatch>> {
    let Product { w, x, output, .. } = product;
    let caps = plan.planner.caps.clone();
    let (config, shard) = (&candidate.config, &w.shards[tiles.shard]);
    let row_groups = (tiles.rows as u32).div_ceil(config.rows);
    let chunks = w.cols.div_ceil(CHUNK) as u32;
    let splits = tiles.splits(config, chunks, row_groups, &caps);
    let step = chunk_limit(config, &caps).saturating_mul(splits);
    let (y, y_offset) = output.y.window(tiles.block.clone(), tiles.features.clone(), &caps);
    let gate = output.gate.map(|gate| {
        let (window, offset) = gate.window(tiles.block.clone(), tiles.features.clone(), &caps);
        (window, offset, gate.stride as u32)
    });
    let mut dispatches = vec![];
    let mut chunk_begin = 0u32;
    loop {
        let chunk_end = chunks.min(chunk_begin.saturating_add(step));
        let mut params = Params {
            plane_offset: shard.plane_offset,
            plane_stride: shard.plane_stride,
            rows: tiles.rows as u32,
            cols: w.cols as u32,
            row_groups,
            chunk_begin,
            chunk_end,
            splits,
            split_chunks: (chunk_end - chunk_begin).div_ceil(splits).max(1),
            accumulate: u32::from(output.accumulate || chunk_begin > 0),
            finish: u32::from(chunk_end == chunks),
            x_offset: x.offset,
            x_stride: x.stride,
            y_offset,
            y_stride: output.y.stride as u32,
            list: product.list.map_or(0, |list| list.word as u32),
            ..Params::default()
        };
        let mut workgroups = Workgroups::Tiles { rows: row_groups, columns: config.columns, splits };
        if let Some(routed) = &tiles.routed {
            let rows = tiles.rows.max(1);
            params.expert_begin = (shard.rows.start / rows) as u32;
            params.expert_count = (shard.rows.len() / rows) as u32;
            params.experts = w.experts as u32;
            params.per = routed.per as u32;
            let experts = w.experts as u32;
            workgroups = Workgroups::Experts { rows: row_groups, columns: config.columns, experts };
        }
        if let Some((_, offset, stride)) = gate {
            (params.gate_offset, params.gate_stride) = (offset, stride);
        }
        let (mut own, mut to, mut sum) = (candidate.clone(), y, None);
        if splits > 1 {
            let partial = Window::words(
                plan.scratch("results of splits"),
                0..tiles.rows * tiles.most * splits as usize,
            );
            let dispatch = reduce_split_k::dispatch(&sums(&params, tiles), gate.is_some(), &caps);
            params = Params {
                accumulate: 0,
                finish: 0,
                y_offset: 0,
                y_stride: tiles.rows as u32,
                split_stride: (tiles.rows * tiles.most) as u32,
                ..params
            };
            to = partial;
            sum = Some(with_gate(dispatch.slot("x", partial).slot("y", y), gate.map(|g| g.0)));
            own.config.parts.iter_mut().for_each(|part| {
                if *part == &parts::FINISH_SILU {
                    *part = &parts::FINISH_NONE;
                }
            });
        }
        let mut dispatch = Dispatch::new(own, &params, workgroups).decodes(w, tiles.shard);
        dispatch = dispatch.slot("x", x.window).slot("y", to);
        if sum.is_none() {
            dispatch = with_gate(dispatch, gate.map(|g| g.0));
        }
        if let Some(list) = &product.list {
            dispatch = dispatch.slot("list", list.window);
        }
        if let Some(routed) = &tiles.routed {
            dispatch = dispatch.slot("routes", routed.routes);
        }
        dispatches.push(dispatch);
        dispatches.extend(sum);
        chunk_begin = chunk_end;
        if chunk_begin == chunks {
            return Ok(dispatches);
        }
    }
}

/// What adds up the splits of a product with these parameters.
fn sums(product: &Params, tiles: &Tiles) -> reduce_split_k::Params {
    reduce_split_k::Params {
        rows: product.rows,
        accumulate: product.accumulate,
        finish: product.finish,
        y_offset: product.y_offset,
        y_stride: product.y_stride,
        splits: product.splits,
        split_stride: (tiles.rows * tiles.most) as u32,
        gate_offset: product.gate_offset,
        gate_stride: product.gate_stride,
    }
}

fn with_gate(dispatch: Dispatch, gate: Option<Window>) -> Dispatch {
    match gate {
        Some(window) => dispatch.slot("gate", window),
        None => dispatch,
    }
}
