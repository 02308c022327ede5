//! Where the rows of a weight lie on a device: shards, each in one buffer, that hold whole tiles of
//! rows.

use super::types::Caps;
use crate::error::{Error, Result};
use crate::format::Layout;
pub use crate::format::MAX_PLANES;
use std::ops::Range;

/// Rows of a weight that lie in one device buffer, its planes one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// First word of each plane.
    pub plane_offset: [u32; MAX_PLANES],
    /// Words from one row of a plane to the next.
    pub plane_stride: [u32; MAX_PLANES],
    /// There is room for a multiple of so many rows.
    pub tile: usize,
}

impl Shard {
    /// Bytes of a row in all planes.
    pub fn row_bytes(&self) -> u64 {
        4 * self.plane_stride.iter().map(|words| u64::from(*words)).sum::<u64>()
    }

    /// Bytes of the shard's buffer.
    pub fn bytes(&self) -> u64 {
        self.row_bytes() * self.rows.len().next_multiple_of(self.tile) as u64
    }
}

/// The shape of a weight on a device.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// Number among the weights of a program.
    pub index: usize,
    /// Name, for messages.
    pub name: &'a str,
    /// How it is stored.
    pub layout: &'a DeviceLayout,
    /// Outputs, `m`; of all experts.
    pub rows: usize,
    /// Inputs, `k`.
    pub cols: usize,
    /// Matrices that the rows are a stack of, where columns of a batch are sent to one each.
    pub experts: usize,
    /// Where the rows lie.
    pub shards: &'a [Shard],
}

/// What a shader is told of a weight on a device: how it is stored, and where its rows lie.
#[derive(Clone, Debug)]
pub struct DeviceLayout {
    /// How it is stored on any device.
    pub stored: Layout,
    /// On a software adapter: lanes of its subgroup. Each takes four rows, as far apart as there
    /// are lanes, and these lie side by side in wide planes, 16 bytes of each in turn. 0 where rows
    /// lie one after the other.
    pub lanes: u32,
}

/// A layout whose rows lie one after the other.
impl From<Layout> for DeviceLayout {
    fn from(stored: Layout) -> Self {
        Self { stored, lanes: 0 }
    }
}

impl std::ops::Deref for DeviceLayout {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.stored
    }
}

impl DeviceLayout {
    /// A bit for each plane whose rows lie side by side.
    pub fn interleaved(&self) -> u32 {
        let wide = self.planes.iter().enumerate().filter(|(_, plane)| self.lanes > 0 && plane.is_wide());
        wide.map(|(i, _)| 1 << i).sum()
    }

    /// Rows that lie side by side, and those of other lanes among them: shards have room for a
    /// multiple of so many.
    pub fn tile_rows(&self) -> usize {
        if self.interleaved() == 0 { 1 } else { 4 * self.lanes as usize }
    }
}

/// The rows that shards are cut from.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// Rows in all.
    pub rows: usize,
    /// Weights of a row.
    pub cols: usize,
    /// Rows that stay together: those of an expert, or 1.
    pub unit: usize,
}

/// Cuts the rows into shards that each fit one binding, and decides whether rows lie side by side
/// there.
///
/// # Errors
/// [`Error::LimitExceeded`] if a single row or run does not fit.
pub fn shards(name: &str, layout: &mut DeviceLayout, stack: Stack, caps: &Caps) -> Result<Vec<Shard>> {
    let Stack { rows, cols, unit } = stack;
    let mut plane_stride = [0; MAX_PLANES];
    let mut row_bytes = 0u64;
    for (stride, plane) in plane_stride.iter_mut().zip(&layout.planes) {
        let words = plane.row_words(cols) as u64;
        row_bytes += words * 4;
        *stride = u32::try_from(words).unwrap_or(u32::MAX);
    }
    // The shaders count words in 32 bits.
    let limit = caps.max_binding.min(caps.max_buffer).min(u64::from(u32::MAX));
    if row_bytes > limit {
        let what = format!("one row of `{name}` ({cols} columns of {})", layout.format.name);
        return Err(Error::LimitExceeded { what, wanted: row_bytes, limit });
    }
    let fit = usize::try_from(limit / row_bytes.max(1)).unwrap_or(usize::MAX);
    interleave(layout, rows, unit, fit, caps);
    let tile = layout.tile_rows();
    let most = (fit - fit % tile).min(rows.max(1));
    if most < unit {
        let what =
            format!("one expert of `{name}` ({unit} rows of {cols} columns of {})", layout.format.name);
        return Err(Error::LimitExceeded { what, wanted: row_bytes * unit as u64, limit });
    }
    let most = most / unit.max(1) * unit.max(1);
    let starts = (0..rows).step_by(most);
    Ok(starts.map(|first| shard(first..(first + most).min(rows), plane_stride, tile)).collect())
}

fn shard(rows: Range<usize>, plane_stride: [u32; MAX_PLANES], tile: usize) -> Shard {
    let mut plane_offset = [0; MAX_PLANES];
    for i in 1..MAX_PLANES {
        plane_offset[i] =
            plane_offset[i - 1] + plane_stride[i - 1] * rows.len().next_multiple_of(tile) as u32;
    }
    Shard { rows, plane_offset, plane_stride, tile }
}

/// Sets [`DeviceLayout::lanes`] for a device: on software adapters to those of `matmul_software`,
/// where no more than an eighth of the rows is added to fill the last tile, and a tile, or the runs
/// of `unit` rows that must stay together, still fit.
fn interleave(layout: &mut DeviceLayout, rows: usize, unit: usize, fit: usize, caps: &Caps) {
    layout.lanes = if caps.software { software_lanes(caps) } else { 0 };
    let tile = layout.tile_rows();
    if unit > fit - fit % tile || rows.next_multiple_of(tile) * 8 > rows * 9 {
        layout.lanes = 0;
    }
}

/// Lanes of a software adapter that take rows side by side: one subgroup where those have one size.
pub(super) fn software_lanes(caps: &Caps) -> u32 {
    caps.fixed_subgroup().unwrap_or(8)
}
