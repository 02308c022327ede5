//! The bytes of one weight, and what they mean.

use crate::format::{Blocks, Format, Layout};
use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a weight `[rows, cols]` as its file stores them, and what they mean. Whoever makes
/// one has checked every length; rows and columns are those of the
/// [`PackedTensor`](crate::tensor::PackedTensor) around it.
pub trait Storage: Debug + Send + Sync {
    /// What the shader is told.
    fn layout(&self) -> Layout;

    /// The tensors of the file, the codes first.
    fn parts(&self) -> Vec<Part>;

    /// Decodes one row.
    fn decode_row(&self, row: usize, out: &mut [f32]);

    /// True if every scale of these rows is finite (for plain floats: every weight).
    fn is_finite(&self, rows: Range<usize>) -> bool;

    /// Repacks a row into one row of each plane of the layout.
    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]);

    /// The same with zeros in these columns, where the format can say a zero for one column alone.
    fn without_columns(&self, _columns: &[u32]) -> Option<Arc<dyn Storage>> {
        None
    }
}

/// How scales for runs of columns lie in a row of the device's plane.
pub(super) struct Runs {
    /// Each weight asks for its own scale; otherwise a chunk of 32 has one.
    pub fine: bool,
    /// Columns of a run; 0 for all of a row whatever its length, so that rows of all lengths share
    /// their pipelines.
    pub group: u32,
    /// Scales of a row.
    pub groups: usize,
}

impl Runs {
    /// Runs of so many columns in a row of `cols`.
    pub fn new(cols: usize, run: usize) -> Self {
        let one = run >= cols;
        let fine = !one && !run.is_multiple_of(32);
        // The last chunk asks for its columns behind the last, too.
        let reach = if fine { cols.next_multiple_of(32) } else { cols };
        Self { fine, group: if one { 0 } else { run as u32 }, groups: reach.div_ceil(run.max(1)) }
    }
}

/// One tensor of a file.
#[derive(Clone, PartialEq)]
pub struct Part {
    /// What the file puts behind the weight's name: `.absmax`; nothing for the codes.
    pub suffix: String,
    /// The suffix goes behind the module's name instead, as in `q_proj.SCB` for `q_proj.weight`.
    pub sibling: bool,
    /// Its type in safetensors files, as in `U8`; the format's name where those know no such type.
    pub dtype: &'static str,
    /// Its dimensions there.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("suffix", &self.suffix)
            .field("sibling", &self.sibling)
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

impl Part {
    /// A tensor whose name is that of the weight and more.
    pub(crate) fn new(suffix: &str, dtype: &'static str, shape: Vec<usize>, bytes: Bytes) -> Self {
        Self { suffix: suffix.into(), sibling: false, dtype, shape, bytes }
    }

    /// [`Part::header`] of a tensor beside the weight.
    pub(crate) fn sibling(suffix: &str, dtype: &'static str, shape: Vec<usize>) -> Self {
        Self { sibling: true, ..Self::header(suffix, dtype, shape) }
    }

    /// What a file's header says of it, before its bytes are known.
    pub(crate) fn header(suffix: &str, dtype: &'static str, shape: Vec<usize>) -> Self {
        Self::new(suffix, dtype, shape, Bytes::new())
    }

    /// The same with its bytes.
    pub(crate) fn with_bytes(self, bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), ..self }
    }

    /// Its name for a weight of this name.
    pub fn name(&self, weight: &str) -> String {
        let base = if self.sibling { weight.strip_suffix(".weight").unwrap_or(weight) } else { weight };
        format!("{base}{}", self.suffix)
    }
}

/// Numbers as files keep them.
pub(crate) fn f32_bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Rows of blocks.
#[derive(Debug)]
pub(crate) struct BlockRows {
    pub format: &'static Format,
    pub shape: [usize; 2],
    pub row_bytes: usize,
    pub data: Bytes,
}

impl BlockRows {
    fn blocks(&self) -> &'static Blocks {
        self.format.blocks().expect("made for formats of blocks")
    }

    fn rows(&self, rows: Range<usize>) -> &[u8] {
        &self.data[rows.start * self.row_bytes..rows.end * self.row_bytes]
    }
}

impl Storage for BlockRows {
    fn layout(&self) -> Layout {
        self.format.layout(self.shape[1])
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::new("", self.format.name, self.shape.to_vec(), self.data.clone())]
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        (self.blocks().decode)(self.rows(row..row + 1), out);
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        (self.blocks().is_finite)(self.rows(rows))
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        (self.blocks().pack)(self.rows(row..row + 1), planes);
    }
}

/// Rows picked from several storages of one layout, in any order.
#[derive(Debug)]
pub(crate) struct Picked {
    pub sources: Vec<Arc<dyn Storage>>,
    /// Source and row of it.
    pub rows: Vec<(u32, u32)>,
}

impl Picked {
    fn source(&self, row: usize) -> (&dyn Storage, usize) {
        let (source, row) = self.rows[row];
        (&*self.sources[source as usize], row as usize)
    }
}

impl Storage for Picked {
    fn layout(&self) -> Layout {
        self.sources[0].layout()
    }

    /// None: what was picked lies in no file.
    fn parts(&self) -> Vec<Part> {
        vec![]
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        let (source, row) = self.source(row);
        source.decode_row(row, out);
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        rows.map(|row| self.source(row)).all(|(source, row)| source.is_finite(row..row + 1))
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        let (source, row) = self.source(row);
        source.pack_row(row, planes);
    }

    fn without_columns(&self, columns: &[u32]) -> Option<Arc<dyn Storage>> {
        let sources = self.sources.iter().map(|source| source.without_columns(columns));
        Some(Arc::new(Self { sources: sources.collect::<Option<_>>()?, rows: self.rows.clone() }))
    }
}
